"""Live answers of a log with their logged scores, in the order of time: what a canary and its baseline are compared by.

Nothing is replayed, so a record needs no question: a release label and a score do. Every record is accounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from bisect_ai.canonical import canonical, digest
from bisect_ai.errors import QueryError
from bisect_ai.queries.files import instead, source_of
from bisect_ai.queries.filters import filtered
from bisect_ai.queries.normalise import logged_number, output_text
from bisect_ai.queries.readers import Source, Spot
from bisect_ai.queries.records import Shape, order_key
from bisect_ai.queries.sample import DUPLICATE, LogSettings, Row, label
from bisect_ai.queries.shape_facts import SHAPES, Told, logged_facts, shape_facts
from bisect_ai.queries.values import embedded, microseconds, missing, text_of, tidy

OTHER = "another release"
NO_RELEASE = "no release"
# Where a log holds what has no score of its own, the likeliest first.
ELSEWHERE = {
    "cost": ("cost", "usd", "cost_usd", "usage.usd", "usage.cost", "total_cost"),
    "latency": ("latency", "latency_s", "latency_ms", "duration_s", "duration_ms", "duration", "elapsed"),
    "tokens": ("tokens", "total_tokens", "usage.total_tokens", "usage.tokens"),
}
# Labels and scores that are told apart when a message lists them.
MOST_NAMES = 1_000


class ScoredAnswer(NamedTuple):
    """One live answer; `score` is None where it has none, `at` microseconds since 1970 (None: not logged)."""

    is_canary: bool
    score: float | None
    at: int | None
    place: int
    cluster: str | None
    segment: str | None
    # Facts of the question by name, and the record's own columns.
    facts: Mapping[str, Told] = MappingProxyType({})
    # The further metrics that were asked for, in that order.
    others: tuple[float | None, ...] = ()
    # What tells the question apart.
    asked: str | None = None


@dataclass(frozen=True)
class ScoredLog:
    """The answers of both releases in the order of time. `read` = answers + the sum of `dropped`."""

    answers: tuple[ScoredAnswer, ...]
    read: int
    dropped: Mapping[str, int]
    format: str
    # Whether the order is that of the logged times; else it is the log's own.
    timed: bool
    # Answers without a time, in a log that has times.
    untimed: int
    # SHA-256 of the answers, in order.
    digest: str


# An answer without its score yet, the scores that its record has, and where that is.
Kept = tuple[ScoredAnswer, dict[str, Any], Spot]


@dataclass(frozen=True)
class Wanted:
    """What to look for: the labels of the two releases, and the name of the score.

    Without `canary` the answers of one release, without both those of all.
    """

    baseline: str | None = None
    canary: str | None = None
    metric: str | None = None
    # Further metrics.
    others: tuple[str, ...] = ()
    # Columns that are no facts of the question.
    ignored: tuple[str, ...] = ()
    # Further metrics that the text of an answer gives, where a record does not.
    derived: Mapping[str, Callable[[str], float | None]] = field(default_factory=dict)


def read_scored(
    source: Any, wanted: Wanted, *, settings: LogSettings | None = None, folder: Path | None = None
) -> tuple[ScoredLog, str]:
    """The two releases' answers in `source` (a path or pattern in any format, a DataFrame, mappings), and the score's name.

    Raises `QueryError` for a log that cannot be read, a label or a score that it does not have, a score that is no number.
    """
    settings = settings or LogSettings()
    shape, rows, format_ = source_of(source, settings, folder or Path())
    reading = _Reading(shape, wanted, filtered(rows, shape))
    kept = reading.kept()
    metric = reading.chosen()
    return reading.log(kept, metric, format_), metric


class _Reading:
    """One pass over a log."""

    def __init__(self, shape: Shape, wanted: Wanted, source: Source) -> None:
        self._shape, self._wanted, self._source = shape, wanted, source
        self._labels, self._names, self._dropped = Counter[str](), Counter[str](), Counter[str]()
        self._columns = set[str]()
        self._same = Counter[str]()
        segment = () if shape.segment is None else (shape.segment,)
        own = () if wanted.metric is None else (wanted.metric,)
        self._ignored = frozenset((*wanted.ignored, *wanted.others, *own, *segment))
        self._lines = 0

    def kept(self) -> list[Kept]:
        """The answers of both releases as they stand in the log, each id once, with their scores and their spots."""
        kept: dict[Any, Kept] = {}
        for spot, row in self._source.rows():
            self._lines += 1
            self._columns.update(row)
            if self._is_wanted(row):
                scores = self._raw(row)
                self._names.update(name for name in scores if name in self._names or len(self._names) < MOST_NAMES)
                self._keep(kept, (self._answer(row), scores, spot), row)
        self._check()
        return list(kept.values())

    def log(self, kept: Sequence[Kept], metric: str, format_: str) -> ScoredLog:
        """The answers in order, with what became of all records."""
        answers = [self._scored(*each, metric) for each in kept]
        self._refuse_unscored(answers)
        if all(answer.score is None for answer in answers):
            whose = f" of {' or '.join(map(repr, self._sides))}" if self._sides else ""
            raise QueryError(f"no answer{whose} has a score {metric!r}{self._scores()}")
        untimed = sum(answer.at is None for answer in answers)
        if untimed and format_ == "parquet":
            raise QueryError("a Parquet log has no order of lines, and some answers have no time; map it with columns: {at: …}")
        ordered = tuple(answers if untimed else sorted(answers, key=lambda a: (a.at or 0, a.place)))
        counts = self._dropped + self._source.left_out
        dropped = {reason: n for reason, n in sorted(counts.items()) if n}
        told = digest([[*map(_hashable_value, answer)] for answer in ordered])
        untold = 0 if untimed == len(answers) else untimed
        return ScoredLog(ordered, len(answers) + sum(dropped.values()), dropped, format_, not untimed, untold, told)

    def _refuse_unscored(self, answers: Sequence[ScoredAnswer]) -> None:
        for i, name in enumerate(self._wanted.others):
            if all(answer.others[i] is None for answer in answers):
                raise QueryError(f"--guard {name}: no answer of either release has a value {name!r}{self._scores()}")

    def chosen(self) -> str:
        """The name of the score that decides: the one that was asked for, else the only one."""
        if self._wanted.metric is not None:
            return self._wanted.metric
        names = self._names.keys() - set(self._wanted.others)
        if len(names) != 1:
            raise QueryError(f"which score decides? name it with metric{self._scores()}")
        return next(iter(names))

    def _is_wanted(self, row: Row) -> bool:
        named = label(self._shape.get(row, "release"))
        if named is not None and (named in self._labels or len(self._labels) < MOST_NAMES):
            self._labels[named] += 1
        if self._wanted.baseline is None or named in self._sides:
            return True
        self._dropped[NO_RELEASE if named is None else OTHER] += 1
        return False

    @property
    def _sides(self) -> list[str]:
        """The labels that are looked for."""
        return [each for each in (self._wanted.baseline, self._wanted.canary) if each is not None]

    def _raw(self, row: Row) -> dict[str, Any]:
        """The scores that the record has, by name: those in `scores`, and the column that is named like the metric."""
        shape, metric = self._shape, self._wanted.metric
        found = {name: shape.get(row, column) for name, column in shape.scored.items()} or embedded(shape.get(row, "scores"))
        alone = {} if missing(found) else {shape.columns.get("scores", "score").rpartition(".")[2]: found}
        known = {str(name): value for name, value in (found if isinstance(found, Mapping) else alone).items()}
        if metric is not None and metric not in known:
            known[metric] = self._shape.get(row, metric)
        known |= {name: self._elsewhere(row, name) for name in self._wanted.others if name not in known}
        return {name: value for name, value in known.items() if not missing(value)}

    def _elsewhere(self, row: Row, name: str) -> Any:
        """What a record says of a further metric beside its scores."""
        places = (self._shape.get(row, place) for place in ELSEWHERE.get(name, (name,)))
        found = next((value for value in places if not missing(value)), None)
        if found is None and name in self._wanted.derived and (text := output_text(self._shape.get(row, "output"))) is not None:
            return self._wanted.derived[name](text)
        return found

    def _keep(self, kept: dict[Any, Kept], new: Kept, row: Row) -> None:
        """One more answer; a record with scores takes the place of one with the same id that has none yet."""
        logged = self._shape.get(row, "id")
        if missing(logged):
            kept[self._lines] = new
            return
        key = text_of(logged), new[0].is_canary
        if key in kept:
            self._dropped[DUPLICATE] += 1
            if not new[1] or kept[key][1] == new[1]:
                return
            if kept.pop(key)[1]:
                raise QueryError(
                    f"{self._source.where(new[2])}: the id {key[0][:60]!r} names answers of one release with different scores; map the "
                    "id to a column that is unique"
                )
        kept[key] = new

    def _answer(self, row: Row) -> ScoredAnswer:
        shape, at = self._shape, microseconds(self._shape.get(row, "at"))
        cluster = shape.get(row, "cluster")
        question = shape.content(row).asked
        return ScoredAnswer(
            self._wanted.canary is not None and label(shape.get(row, "release")) == self._wanted.canary,
            None,
            at,
            self._lines if at is None else order_key(0, self._name(row)),
            None if missing(cluster) else text_of(cluster),
            shape.stratum(row) if shape.segment else None,
            {**logged_facts(shape, row, self._ignored), **self._shaped(row, at)},
            asked=question.question if question else None,
        )

    def _shaped(self, row: Row, at: int | None) -> dict[str, Told]:
        return {name: told for name, told in shape_facts(self._shape, row, at).items() if name not in self._wanted.ignored}

    def _name(self, row: Row) -> str:
        """What tells the record apart: its id and release; without an id what it holds, and how many before held the same."""
        logged = self._shape.get(row, "id")
        if not missing(logged):
            return f"{text_of(logged)}\0{label(self._shape.get(row, 'release'))}"
        held = canonical(tidy(dict(row), where="a record"))
        self._same[held] += 1
        return f"{held}\0{self._same[held]}"

    def _scores(self) -> str:
        names = ", ".join(sorted(name[:40] for name in self._names)[:12])
        return f"; the log has the scores {names}" if names else "; the log has none: add a column of that name, or `scores`"

    def _check(self) -> None:
        if not self._lines:
            raise QueryError("the log holds no records that count; check its path, and where, since and until")
        for column in (*self._shape.wanted(), *(name for name in self._wanted.ignored if name not in SHAPES)):
            if column not in self._columns and column.split(".")[0] not in self._columns:
                raise QueryError(f"the log has no column {column!r}{instead(column, self._columns)}")
        for which in self._sides:
            if which not in self._labels:
                unnamed = "; no record names its release: map it with columns: {release: …}"
                known = instead(which, self._labels) if self._labels else unnamed
                raise QueryError(f"the log has no answer of the release {which!r}{known}")

    def _scored(self, answer: ScoredAnswer, scores: Mapping[str, Any], spot: Spot, metric: str) -> ScoredAnswer:
        try:
            name = metric
            score, others = logged_number(scores.get(metric)), []
            for name in self._wanted.others:
                others.append(logged_number(scores.get(name)))
            return answer._replace(score=score, others=tuple(others))
        except (TypeError, ValueError):
            raise QueryError(
                f"{self._source.where(spot)}: the score {name!r} is {str(scores[name])[:40]!r}, not a number; write numbers, true "
                "or false, and nothing where there is no score"
            ) from None


def _hashable_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hashable_value(each) for name, each in sorted(value.items())}
    if isinstance(value, tuple):
        return [_hashable_value(each) for each in value]
    return value.hex() if isinstance(value, float) else value


TIMES = ("at", "time", "timestamp", "date", "deployed_at", "created_at")
WORDS = ("what", "name", "title", "message", "service", "release", "version", "ref", "sha", "commit", "environment")
# Where an event holds its time, what it was and who did it, the likeliest first.
WHO = ("who", "author", "by", "user", "actor", "deployed_by", "owner")
MOST_EVENTS = 100_000  # a file of deploys has thousands: more is a log that was named by mistake
LONGEST = 80  # characters of a deploy's name in a sentence


class DeployEvent(NamedTuple):
    """Something that was deployed: `at` in microseconds since 1970; `who` did it, empty where that is not recorded."""

    at: int
    what: str
    who: str = ""


def read_events(source: Any, folder: Path | None = None) -> tuple[DeployEvent, ...]:
    """The events of a file, in order of time. Raises `QueryError` for one that cannot be read, or an event without a time."""
    try:
        _, rows, _ = source_of(source, LogSettings(), folder or Path())
    except QueryError as error:
        raise QueryError(str(error).replace("the log", "the events", 1)) from error
    found = []
    for spot, row in rows.rows():
        at = next((at for name in TIMES if (at := microseconds(row.get(name))) is not None), None)
        if at is None:
            raise QueryError(f"{rows.where(spot)}: the event has no time; name it `at`, like 2026-11-12T09:32:00Z")
        told = [text_of(row[name])[:LONGEST] for name in WORDS if not missing(row.get(name))]
        who = next((text_of(row[name])[:LONGEST] for name in WHO if not missing(row.get(name))), "")
        found.append(DeployEvent(at, " ".join(dict.fromkeys(told[:3])) or "a deploy", who))
        if len(found) > MOST_EVENTS:
            raise QueryError(f"more than {MOST_EVENTS:,} events; name a file of deploys, not a log")
    return tuple(sorted(found))
