"""A row of any log as a query record: the column map, the id, the stratum, and whether it can be replayed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bisect_ai.canonical import digest
from bisect_ai.errors import QueryError
from bisect_ai.queries.messages import asked_at, read_messages, text_of_content
from bisect_ai.queries.normalise import (
    KINDS,
    NO_QUESTION,
    Exchange,
    documents_of,
    exchange_of,
    lost_in,
    lost_in_text,
    output_text,
    score_of,
    scores_of,
    tools_after,
    unread_scores,
)
from bisect_ai.queries.sample import NO_INPUT, Labels, Light, LogSettings, Mixed, Row, label
from bisect_ai.queries.values import Window, decoded, embedded, missing, refuse_overlap, text_of, tidy, window

NESTED = ("messages", "history", "documents", "tool_results", "scores", "versions", "params")
TEXTS = frozenset({"id", "input", "output", "release", "at", "cluster"})
# Columns that say where a record comes from: no part of what is asked.
ORIGIN = ("file", "run_id", "run_at", "run_name")
# The id that the log gives a record, where ids repeat over runs and had to be told apart.
ID_IN_RUN = "id_in_run"
# Between the columns of which a question is put together.
PLUS = " + "
# The texts of logged scores that are no numbers.
UNREAD = "unread_scores"


@dataclass(frozen=True)
class Shape:
    """How the rows of one log become records. `tabular`: nested columns may hold JSON as text (CSV, Parquet, DataFrame)."""

    columns: Mapping[str, str]
    segment: str | None
    seed: int
    tabular: bool
    versions: tuple[str, ...] = ()
    where: str | None = None
    # Microseconds since 1970 in UTC; so are `until`, and the bounds of `windows`.
    since: int | None = None
    until: int | None = None
    windows: Mapping[str, Window] = field(default_factory=dict)
    # Scores that have columns of their own: name to column.
    scored: Mapping[str, str] = field(default_factory=dict)
    labels: Labels | None = None
    # Whether questions that lost an image, a file or a part of their text are asked all the same.
    keeps_lost: bool = False
    # Whether ids repeat over runs, so that each is qualified by its run.
    by_run: bool = False

    @classmethod
    def of(cls, settings: LogSettings, *, tabular: bool) -> Shape:
        """The shape that the settings ask for; `cluster` is one more column to map."""
        cluster = {"cluster": settings.cluster} if settings.cluster else {}
        since, until = window(settings.since, settings.until, "log")
        windows = {name: window(each.get("since"), each.get("until"), name) for name, each in settings.windows.items()}
        refuse_overlap(windows)
        columns, scored = mapped({**settings.columns, **cluster})
        return cls(
            columns,
            settings.segment,
            settings.seed,
            tabular,
            tuple(settings.versions),
            settings.where,
            since,
            until,
            windows,
            scored,
            Labels.of(settings.release),
            settings.on_lost == "keep",
        )

    @property
    def filters(self) -> bool:
        """Whether any row may be left out by `where` or by its time."""
        return self.where is not None or self.timed

    @property
    def timed(self) -> bool:
        """Whether rows are told apart by their time."""
        return self.since is not None or self.until is not None or bool(self.windows)

    def wanted(self) -> list[str]:
        """The log's columns that the settings name: each must be there."""
        named = [*self.columns.values(), *self.scored.values(), *([self.segment] if self.segment else []), *self.versions]
        return [*named, *([self.labels.by] if self.labels else [])]

    @property
    def joins(self) -> bool:
        """Whether a field may be put together of several columns."""
        return any(PLUS in column for column in self.columns.values())

    @property
    def reads_origin(self) -> bool:
        """Whether file or run decide anything before a row is drawn."""
        condition = self.where or ""
        return self.by_run or any(name in self.wanted() or name in condition for name in ORIGIN) or self.timed

    def get(self, row: Row, name: str) -> Any:
        """The value of our field `name`, through the column map; None when the row has no such column."""
        return self._labelled(self.labels, row) if name == "release" and self.labels else self._logged(row, name)

    def _logged(self, row: Row, name: str) -> Any:
        column = self.columns.get(name, name)
        if name == "at" and missing(row.get(column)) and "run_at" in row and "." not in column:
            return row["run_at"]
        return cell_of(row, column)

    def _labelled(self, labels: Labels, row: Row) -> str | None:
        value = self._logged(row, labels.by)
        return labels.label(None if missing(value) else text_of(value))

    def scores(self, row: Row) -> dict[str, float]:
        """The row's scores by name, as finite numbers: those of the column of scores, and those that have their own columns."""
        if not self.scored:
            value = self.get(row, "scores")
            return {} if missing(value) else scores_of(value, self.columns.get("scores", "score").rpartition(".")[2])
        found = {name: score_of(self.get(row, column), cell=True) for name, column in self.scored.items()}
        return {name: score for name, score in found.items() if score is not None}

    def stratum(self, row: Row) -> str:
        """The row's segment as text; empty without one."""
        if self.segment is None:
            return ""
        value = self.get(row, self.segment)
        return "" if missing(value) else text_of(value)

    def mixture(self, row: Row) -> Mixed:
        """What answered the row: its release label and its versions by name."""
        return label(self.get(row, "release")), self.versions_of(row)

    def versions_of(self, row: Row) -> tuple[tuple[str, str], ...]:
        """The row's versions by name."""
        if self.versions:
            named = [(name, self.get(row, name)) for name in self.versions]
        else:
            found = embedded(self.get(row, "versions"))
            if not found or not isinstance(found, Mapping):
                return ()
            named = sorted((str(name), value) for name, value in found.items())
        return tuple((name, text_of(each)) for name, each in named if not missing(each))

    def content(self, row: Row) -> RowContent:
        """What a row asks, and why it cannot be replayed."""
        given, messages = self.get(row, "input"), self.get(row, "messages")
        if isinstance(given, str) and given[:1] not in ("", "[", "{", '"', "<") and missing(messages):  # nearly all
            return self._judged(Exchange(given if given.strip(NO_QUESTION) else None), lost_in_text(given))
        asked = exchange_of(given, messages)
        if asked.messages and asked.question and "input" in self.columns and "messages" not in self.columns:
            asked = _exchange_asking(asked, asked.question)
        return self._judged(asked, lost_in(given, asked))

    def _judged(self, asked: Exchange, lost: frozenset[str]) -> RowContent:
        if asked.question is None:
            return RowContent(NO_INPUT, frozenset(), asked)
        if not lost:
            return RowContent("", lost, asked)
        return RowContent("" if self.keeps_lost else first_lost(lost), lost, asked)

    def light(self, row: Row) -> Light | None:
        """What sampling needs of a row; None when it cannot be replayed."""
        return None if self.content(row).reason else self.placed_by_id(row)

    def placed_by_id(self, row: Row) -> Light:
        """What sampling needs of a row that can be replayed."""
        stratum, logged = self.stratum(row), self.get(row, "id")
        if missing(logged):
            name = content_id(self.get(row, "input"), self.get(row, "history"), self.get(row, "messages"), stratum)
            return self.placed(row, name, stratum, logged=False)
        name = text_of(logged)
        return self.placed(row, self._in_run(row, name) if self.by_run else name, stratum, logged=True)

    def _in_run(self, row: Row, name: str) -> str:
        run = next((text_of(each) for column in ("run_id", "file") if not missing(each := row.get(column))), None)
        return name if run is None else f"{name} @ {run}"

    def placed(self, row: Row, name: str, stratum: str, *, logged: bool) -> Light:
        """A row of this id where sampling puts it: at its cluster's key, when it has one."""
        place, cluster = order_key(self.seed, name), self.get(row, "cluster")
        key = place if missing(cluster) else order_key(self.seed, text_of(cluster))
        return Light(key, place, name, stratum, logged)

    def record(self, row: Row, light: Light, where: str) -> dict[str, Any]:
        """The whole row as a plain JSON record: mapped fields under our names, all other columns kept."""
        record = {str(column): self._value(str(column), value, where) for column, value in row.items()}
        for name in self.columns:
            record[name] = self._value(name, self.get(row, name), where)
        if self.labels is not None:
            record["release"] = self.get(row, "release")
        if self.by_run and light.logged_id:
            record[ID_IN_RUN] = text_of(self.get(row, "id"))
        record["id"] = light.id
        self._fill(record, row)
        _check_messages(record, where)
        return record

    def _fill(self, record: dict[str, Any], row: Row) -> None:
        """The record's content in our form."""
        asked = self.content(row).asked or Exchange(None)
        if not missing(record.get("input")):
            record["input"] = asked.question
        if asked.messages:
            record["messages"] = asked.messages
        elif asked.question is not None and not missing(record.get("messages")) and missing(record.get("input")):
            record["messages"] = [{"role": "user", "content": asked.question}]
        if history := read_messages(record.get("history")):
            record["history"] = history
        if (said := output_text(self.get(row, "output"))) is not None or record.get("output") is not None:
            record["output"] = said
        elif asked.answer is not None:
            record["output"] = text_of_content(asked.answer.get("content"))
        if record.get("documents") is not None:
            record["documents"] = documents_of(record["documents"])
        if asked.after and record.get("tool_results") is None:
            record["tool_results"] = tools_after(asked)
        if self.scored or record.get("scores") is not None:
            scores = self.scores(row)
            if not self.scored and (unread := unread_scores(record["scores"])):
                record[UNREAD] = unread
            record["scores"] = record["scores"] if record.get("scores") == scores else scores

    def _value(self, name: str, value: Any, where: str) -> Any:
        if name in NESTED or (self.tabular and name not in TEXTS):
            value = embedded(value)
        if value is None or isinstance(value, str):  # nearly all: it needs no name
            return value
        return tidy(value, where=f"{where}: {name}")


def _exchange_asking(asked: Exchange, question: str) -> Exchange:
    """The exchange with the question that a setting names, where the logged messages ask another."""
    if asked.messages and text_of_content(asked.messages[-1].get("content")) != question:
        return Exchange(question, [{"role": "user", "content": question}], asked.answer, asked.after)
    return asked


def mapped(columns: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The map of columns without the scores that have columns of their own, and those: name to column."""
    scores = columns.get("scores")
    for name, column in columns.items():
        if name != "scores" and not isinstance(column, str):
            raise QueryError(
                f"log.columns maps {name} to a {type(column).__name__}; name one column (only scores may have several)"
            )
    if isinstance(scores, str) or scores is None:
        return {name: str(column) for name, column in columns.items()}, {}
    named = scores.items() if isinstance(scores, Mapping) else ((str(each).rpartition(".")[2], each) for each in scores)
    rest = {name: str(column) for name, column in columns.items() if name != "scores"}
    return rest, {str(name): str(column) for name, column in named}


def scored_by(columns: Mapping[str, Any]) -> dict[str, str]:
    """The scores that the settings name by a column: name to column."""
    plain, own = mapped(columns)
    return own or ({plain["scores"].rpartition(".")[2]: plain["scores"]} if plain.get("scores", "scores") != "scores" else {})


def first_lost(lost: frozenset[str]) -> str:
    """The kind of loss that a record is counted under; empty for none."""
    return next((kind for kind in KINDS if kind in lost), "")


def parts_of(column: str) -> list[str]:
    """The columns that a setting names together, as `instruction + input` names two."""
    return [part.strip() for part in column.split(PLUS)]


def cell_of(row: Row, column: str) -> Any:
    """The value of a column, of a key inside one (`vars.question`), or the text of several (`instruction + input`); None for none."""
    if column in row:
        return row[column]
    if PLUS in column:
        texts = [_part_text(cell) for part in parts_of(column) if not missing(cell := cell_of(row, part))]
        return "\n\n".join(text for text in texts if text.strip()) or None
    return _reach(row, column) if "." in column else None


def _part_text(cell: Any) -> str:
    """A cell as a part of a question: a list of texts, such as choices, has one a line."""
    found = decoded(cell)
    labels, listed = (found.get("label"), found.get("text")) if isinstance(found, Mapping) else (None, found)
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return text_of(cell)
    is_labelled = isinstance(labels, list) and len(labels) == len(listed)
    return (
        "\n".join(f"{mark}. {each}" for mark, each in zip(labels or (), listed, strict=True))
        if is_labelled
        else "\n".join(listed)
    )


def _reach(row: Row, column: str) -> Any:
    head, _, rest = column.partition(".")
    if head not in row:
        return None
    value: Any = embedded(row[head])
    for step in rest.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _check_messages(record: Mapping[str, Any], where: str) -> None:
    for name in ("messages", "history", "tool_results"):
        value = record.get(name)
        if value and not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
            raise QueryError(f"{where}: {name} must be a list of mappings; map another column to it, or correct the log")
    if record.get("scores") and not isinstance(record["scores"], dict):
        raise QueryError(f"{where}: scores must be a mapping of name to number; correct the log")


def order_key(seed: int, name: str) -> int:
    """64 bits that put ids in a random order: one order for one seed, in every process, format and file order."""
    hashed = hashlib.md5(f"{seed}:{name}".encode(errors="surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(hashed[:8], "little")


def content_id(asked: Any, history: Any, messages: Any, stratum: str) -> str:
    """The id of a row that has none: what was asked, within its stratum. Equal questions share it."""
    parts = [
        _without_empty_keys(tidy(embedded(value), where="input")) or None for value in (asked, history, _unanswered(messages))
    ]
    return "content-" + digest([*parts, stratum])[:32]


def content_fault(given: str | None, messages: str | None, is_json: bool) -> str | None:
    """What is wrong with a row's content: `no input`, or the kinds of loss joined by |; None for nothing."""
    asked = exchange_of(embedded(given) if is_json else given, messages)
    if asked.question is None:
        return NO_INPUT
    lost = lost_in(given, asked)
    return "|".join(kind for kind in KINDS if kind in lost) or None


def _unanswered(messages: Any) -> Any:
    """The messages up to the question, where an answer follows it: who asks the same asks the same, whatever was answered."""
    listed = None if missing(messages) else read_messages(messages)
    at = asked_at(listed) if listed else None
    return messages if at is None or not listed or at + 1 == len(listed) else listed[: at + 1]


def _without_empty_keys(value: Any) -> Any:
    """The value without empty keys: in Parquet all messages of a column have the same keys, in JSONL each its own."""
    if isinstance(value, dict):
        return {key: _without_empty_keys(each) for key, each in value.items() if each is not None}
    return [_without_empty_keys(each) for each in value] if isinstance(value, list) else value


class RowContent(NamedTuple):
    """What a row asks, why it cannot be replayed (empty: it can), and what of it is lost."""

    reason: str
    lost: frozenset[str] = frozenset()
    asked: Exchange | None = None
