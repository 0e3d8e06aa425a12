"""A sample of the logged queries, from any log: files, a DataFrame or a list.

The order is a hash of seed and id, so the same seed gives the same sample whatever the order of rows, the number of files
or the format; strata share the sample in proportion. One pass surveys the log, and only sampled rows are read in full.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.errors import QueryError
from bisect_ai.provider.redaction import clear_id
from bisect_ai.queries.files import (
    IMPORTERS,
    file_source,
    instead,
    is_named,
    log_files,
    log_format,
    matching_files,
    rows_in_memory,
    source_of,
)
from bisect_ai.queries.filters import ScoresJoined, filtered, only_scores
from bisect_ai.queries.json_rows import json_lines
from bisect_ai.queries.normalise import KINDS
from bisect_ai.queries.query import Query
from bisect_ai.queries.readers import Listed, separator
from bisect_ai.queries.record_accounting import clusters_of, content_notices, lacking, mixtures, score_notices, unread_notices
from bisect_ai.queries.records import Shape, parts_of, scored_by
from bisect_ai.queries.row_logs import RowLog, StagedLines, stages
from bisect_ai.queries.sample import (
    DUPLICATE,
    NO_INPUT,
    NO_TIME,
    WHERE,
    WINDOW,
    Drawn,
    LogSettings,
    Quota,
    Sample,
    allocate,
    label,
)
from bisect_ai.queries.sandbox import ChildLog, as_json_lines
from bisect_ai.queries.survey import EXAMPLES, Log, Survey
from bisect_ai.queries.unmapped_rows import (
    beside_notices,
    columns_for,
    conversations,
    guess_told,
    guessed_columns,
    message_lines,
    with_instruction,
)

# What orders the queries: a hash of seed and id, and the id.
Place = tuple[int, str]


def load_queries(source: Any = None, *, settings: LogSettings | None = None, folder: Path | None = None) -> Sample:
    """A sample of `source`: a path or pattern (JSONL, CSV, Parquet), a pandas DataFrame, or mappings; default `settings.path`.

    `folder` is what a relative path is relative to. Raises `QueryError` naming file and line.
    """
    settings = settings or LogSettings()
    source = settings.path if source is None else source
    if source is None:
        raise QueryError("no log is named; set log.path, or pass queries")
    folder = folder or Path()
    try:
        sample = _sampled(source, settings, folder)
        return replace(sample, notices=(*_separators(source, folder), *sample.notices))
    except OneMessageEach:
        return _of_lines(source, settings, folder)
    except GuessedColumns as guess:
        named = replace(settings, columns={**guess.columns, **settings.columns})
        sample = load_queries(source, settings=named, folder=folder)
        return replace(sample, notices=(f"the log has {guess}", *sample.notices), guessed={**guess.columns, **sample.guessed})


def _sampled(source: Any, settings: LogSettings, folder: Path, *, joined: bool = False) -> Sample:
    """The sample; where records have only scores, once more with these joined by id."""
    log = _opened_log(source, settings, folder, joined=joined)
    try:
        return _loaded(log, settings, may_join=not joined)
    except LateScores:
        return _sampled(source, settings, folder, joined=True)
    except RepeatedIds:
        return _loaded(_opened_log(source, settings, folder, by_run=True), settings)


def _of_lines(source: Any, settings: LogSettings, folder: Path) -> Sample:
    """The sample of a log of one message a line."""
    _, opened, _ = source_of(source, settings, folder)
    column, others, whole = conversations(row for _, row in opened.rows())
    others += sum(opened.left_out.values())
    said = f"the log has one message a line: those of one {column} are one conversation, whose last question is asked (guessed)"
    said += f"; {others:,} lines are no message and are left out" if others else ""
    sample = load_queries(whole, settings=settings)
    return replace(sample, notices=(said, *sample.notices))


def _separators(source: Any, folder: Path) -> list[str]:
    """That columns are not separated by commas, where a CSV file says so by its first line alone."""
    paths = matching_files(folder / source) if isinstance(source, str | Path) else []
    signs = {path: separator(path) for path in paths[:1] if path.suffix.lower() == ".csv"}
    names = {";": "semicolons", "\t": "tabs", "|": "bars"}
    return [
        f"the columns of {path.name} are read as separated by {names[sign]} (guessed)"
        for path, sign in signs.items()
        if sign in names
    ]


class RepeatedIds(Exception):
    """Ids name different records in different runs: each has to be qualified by its run."""


class LateScores(Exception):
    """Some records ask nothing and have scores, which may be those of others."""


class OneMessageEach(Exception):
    """No record has a question, and each is one message of a conversation."""


class GuessedColumns(Exception):
    """The names of the columns leave no doubt where the question is, and it is not in `input`, or not in `input` alone."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__(guess_told(columns))
        self.columns = columns


def _guess(found: Survey, settings: LogSettings) -> dict[str, str]:
    """Columns to read instead, when not one record has a question and nobody said where it is."""
    return guessed_columns(found.examples) if _asks_nothing(found, settings) else {}


def _refuse_half(rows: Sequence[Mapping[str, Any]], settings: LogSettings, kind: str) -> None:
    """Raise `GuessedColumns` where plain rows have an instruction beside their input."""
    if kind not in IMPORTERS and (together := with_instruction(rows, settings.columns)):
        raise GuessedColumns(together)


def _asks_nothing(found: Survey, settings: LogSettings) -> bool:
    return not found.rows and set(found.dropped) == {NO_INPUT} and not {"input", "messages"} & set(settings.columns)


def _loaded(log: Log, settings: LogSettings, *, may_join: bool = False) -> Sample:
    found, shape = log.survey(), Shape.of(settings, tabular=False)
    if may_join and found.rows and any(only_scores(row, shape) for row in found.examples):
        raise LateScores
    if not found.rows and isinstance(log, ChildLog):
        found.examples = list(log.rows(EXAMPLES))
    if _asks_nothing(found, settings) and message_lines(found.examples):
        raise OneMessageEach
    if not found.rows:
        _refuse_half(found.examples, settings, log.format)
    if guessed := _guess(found, settings):
        raise GuessedColumns(guessed)
    _check_survey(found, settings)
    sizes = _fold(log, found, shape)
    quotas = allocate(sizes, settings.sample, settings.floor)
    drawn = log.draw({name: Quota(wanted, sizes[name]) for name, wanted in quotas.items()})
    _refuse_half([each.record for each in drawn], settings, log.format)
    sample = _sample_of(drawn, found, sizes, settings, log.origin)
    beside = () if log.format in IMPORTERS else tuple(beside_notices(sample.queries, settings.columns))
    return replace(sample, format=log.format, notices=(*sample.notices, *beside))


def _opened_log(source: Any, settings: LogSettings, folder: Path, *, by_run: bool = False, joined: bool = False) -> Log:
    if is_named(source):
        return _file_log(source, settings, folder, by_run=by_run, joined=joined)
    tabular, rows = rows_in_memory(source)
    shape, listed = Shape.of(settings, tabular=tabular), Listed(rows)
    return RowLog(filtered(ScoresJoined(listed, shape) if joined else listed, shape), shape, cap=settings.sample, name="rows")


def _file_log(source: Any, settings: LogSettings, folder: Path, *, by_run: bool, joined: bool) -> Log:
    paths = log_files(source, folder)
    kind = log_format(paths, settings.format)
    shape = replace(Shape.of(settings, tabular=kind in ("csv", "parquet")), by_run=by_run)
    by_row = joined or shape.joins
    if kind == "parquet" and not by_row:
        return ChildLog(paths, shape, cap=settings.sample)
    source = file_source(as_json_lines(paths) if kind == "parquet" else paths, kind, shape, settings)
    if kind == "jsonl" and not by_row and stages(paths, shape, settings) and json_lines(paths, place=settings.rows):
        return StagedLines(paths, source, shape, cap=settings.sample)
    return RowLog(filtered(ScoresJoined(source, shape) if joined else source, shape), shape, cap=settings.sample, name=kind)


def _check_survey(found: Survey, settings: LogSettings) -> None:
    """Refuse a log that cannot give a sample: empty, without a column that was asked for, nothing to replay."""
    if not found.read:
        raise QueryError("the log holds no records; check log.path: is the file empty?")
    known = {*found.columns, *settings.columns, "file"}
    wanted = Shape.of(settings, tabular=False).wanted()
    for column in (part for each in wanted for part in ([each] if each in known else parts_of(each))):
        if column not in known and column.split(".")[0] not in known:
            raise QueryError(f"the log has no column {column!r}{instead(column, found.columns)}")
    if not found.rows:
        counts = ", ".join(f"{n} {reason}" for reason, n in found.dropped.items())
        advice = f"map the question with columns: {{input: …}}{instead('input', found.columns)}"
        advice = columns_for(found.examples) or advice
        if set(found.dropped) & {WHERE, WINDOW, NO_TIME}:
            advice = "widen log.where, since, until or windows, or map the time with columns: {at: …}"
        elif set(found.dropped) <= set(KINDS):
            advice = "ask them without what is lost with log.on_lost: keep"
        elif not found.columns:
            advice = "have the tool log the content of its messages (off by default in many), then export again"
        raise QueryError(f"none of the {found.read} records can be replayed ({counts}); {advice}")


def _fold(log: Log, found: Survey, shape: Shape) -> dict[str, int]:
    """Distinct queries per stratum. Repeated records of one logged id are counted once; differing ones are refused.

    Rows without an id that ask the same are one query that stands for all of them.
    """
    sizes, first = Counter(found.rows), dict[Place, tuple[str, str]]()
    for light, record in log.repeats(found.repeated) if found.repeated else ():
        place = light.place, light.id
        content, run = (_record_digest(record, log.origin), _run_of_record(record)) if light.logged_id else ("", "")
        if place not in first:
            first[place] = content, run
            continue
        if first[place][1] != run and (first[place][0] != content or record.get("run_id")):
            raise RepeatedIds
        if first[place][0] != content:
            raise QueryError(
                f"the id {light.id[:60]!r} names records that differ; map the id to a column that is unique (two answers to each "
                "question are for bisect-ai compare)"
            )
        sizes[light.stratum] -= 1
        if light.logged_id:
            _take_back(found, light.stratum, record, shape)
    return dict(sizes)


def _record_digest(record: Mapping[str, Any], origin: frozenset[str]) -> str:
    return digest({name: value for name, value in record.items() if name not in origin})


def _run_of_record(record: Mapping[str, Any]) -> str:
    return str(record.get("run_id") or record.get("file"))


def _take_back(found: Survey, stratum: str, record: Mapping[str, Any], shape: Shape) -> None:
    found.rows[stratum] -= 1
    found.dropped[DUPLICATE] += 1
    found.logged.add(label(record.get("release")), shape.scores(record), times=-1)
    found.mix(shape.mixture(record), times=-1)


def _sample_of(
    drawn: Iterable[Drawn], found: Survey, sizes: Mapping[str, int], settings: LogSettings, origin: frozenset[str]
) -> Sample:
    copies = defaultdict[Place, list[Drawn]](list)
    for each in drawn:
        copies[each.light.place, each.light.id].append(each)
    quotas = allocate(sizes, settings.sample, settings.floor)
    chosen = [copies[place] for place in _smallest_places(copies, quotas)]
    picked = [min(same, key=lambda each: digest(each.record)) if len(same) > 1 else same[0] for same in chosen]
    queries = tuple(Query(_with_safe_id(each.record), origin) for each in picked)
    segments = tuple(each.light.stratum for each in picked)
    drawn_of = Counter(segments)
    times = [1 if each.light.logged_id else len(same) for each, same in zip(picked, chosen, strict=True)]
    clusters, notices, detected = clusters_of(queries, independent=settings.independent)
    return Sample(
        queries=queries,
        population=sum(found.rows.values()),
        weights=tuple(n * sizes[name] / drawn_of[name] for n, name in zip(times, segments, strict=True)),
        clusters=clusters,
        segments=segments if settings.segment else None,
        read=found.read,
        kept=sum(found.rows.values()),
        dropped={reason: n for reason, n in sorted(found.dropped.items()) if n},
        digest=digest([query.digest for query in queries]),
        logged=found.logged.releases(),
        mixtures=mixtures(found.mixtures),
        missing=lacking(queries),
        notices=(
            *notices,
            *content_notices(queries, found.lost, settings),
            *score_notices(queries, scored_by(settings.columns)),
            *(() if scored_by(settings.columns) else unread_notices(queries)),
        ),
        lost={kind: n for kind, n in sorted(found.lost.items()) if n},
        detected_clusters=detected,
    )


def _with_safe_id(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record by an id that may be stored and shown: where it holds a credential, without it, and still unique."""
    name = str(record["id"])
    clear = clear_id(name)
    return record if clear == name else {**record, "id": clear}


def _smallest_places(copies: Mapping[Place, Sequence[Drawn]], quotas: Mapping[str, int]) -> list[Place]:
    """The places to take, in order: whole clusters by their keys until each stratum has its quota.

    The cluster that fills a quota is not cut, or else large ones were chosen less often; of one that is larger than the quota by
    itself only as many are taken.
    """
    whole = defaultdict[tuple[str, int], list[Place]](list)
    for place in sorted(copies):
        light = copies[place][0].light
        whole[light.stratum, light.key].append(place)
    taken, chosen = Counter[str](), list[Place]()
    for stratum, key in sorted(whole, key=lambda each: each[1]):
        if taken[stratum] < quotas.get(stratum, 0):
            members = whole[stratum, key][: quotas[stratum]]
            taken[stratum] += len(members)
            chosen += members
    return sorted(chosen)
