"""What is asked of a log (settings, labels of releases), and what comes out: the sample and the law that shares it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, get_args

from bisect_ai.errors import QueryError
from bisect_ai.queries.query import Query
from bisect_ai.queries.values import missing, text_of

Row = Mapping[str, Any]
WHERE = "left out by where"
WINDOW = "outside the time window"
NO_TIME = "no time"
NO_OBJECT = "no object"
NO_INPUT = "no input"
DUPLICATE = "duplicate"
BAD_LINE = "unreadable"
# The column that marks a question into which a prompt was rendered.
OLD_PROMPT = "prompt_in_question"
# A column with more versions than this is no version.
MAX_MIXTURES = 1_000
# A release label, and (name, version) pairs.
Mixed = tuple[str | None, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Labels:
    """The rule of `release: {by: file, good: "a*.json", bad: "b*.json"}`: a column, and a pattern for each label."""

    by: str
    patterns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, rule: Mapping[str, Any] | None) -> Labels | None:
        """The rule that a setting writes; None for none. Raises `QueryError` for a rule that names no column or no label."""
        if rule is None:
            return None
        by = rule.get("by")
        patterns = tuple((str(name), str(pattern)) for name, pattern in rule.items() if name != "by")
        if not isinstance(by, str) or not by or not patterns:
            raise QueryError(
                'log.release names no column or no label; write release: {by: file, good: "a*.json", bad: "b*.json"}, '
                "where `by` is file, run_id, run_name or a column of the log"
            )
        return cls(by, patterns)

    def label(self, value: str | None) -> str | None:
        """The first label whose pattern the value matches; None for none."""
        if value is None:
            return None
        return next((name for name, pattern in self.patterns if matches(value, pattern, is_path=self.by == "file")), None)


def matches(value: str, pattern: str, *, is_path: bool) -> bool:
    """Whether a value matches a shell pattern; of paths only as many last parts count as both have."""
    if not is_path:
        return fnmatchcase(value, pattern)
    own, wanted = PurePath(value).parts, PurePath(pattern).parts
    depth = min(len(own), len(wanted))
    return bool(depth) and all(fnmatchcase(a, b) for a, b in zip(own[-depth:], wanted[-depth:], strict=True))


Tabular = Literal["jsonl", "csv", "parquet"]
Tool = Literal["otlp", "langfuse", "litellm", "promptfoo", "inspect", "openai", "deepeval", "ragas", "langsmith", "braintrust"]
Harness = Literal["mlflow", "weave", "lm_eval", "openai_evals", "chatgpt"]
# Fields of a query that `log.columns` finds in columns of other names.
FIELDS = ("id", "input", "messages", "history", "documents", "tool_results", "reference", "output", "scores", "release", "at")
Format = Literal["auto", Tabular, Tool, Harness]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class LogSettings:
    """The `log:` part of bisect.yaml. `columns` maps our field to the log's column (dots reach into nested ones)."""

    path: str | None = None
    format: Format = "auto"
    # Of `scores` it may name several: `{correct: grade}` or a list of columns.
    columns: Mapping[str, Any] = field(default_factory=dict)
    # Column to stratify by.
    segment: str | None = None
    # Column naming user or session; None: the `cluster` column, when the log has one.
    cluster: str | None = None
    # Queries to sample; None: all.
    sample: int | None = 400
    seed: int = 0
    # Columns that tell what answered (model, prompt version, …), to group mixed releases by; none: the `versions` column.
    versions: Sequence[str] = ()
    # Queries to draw from each segment, the least, however small its share.
    floor: int = 1
    # A DuckDB condition over the log's columns; other records are left out.
    where: str | None = None
    # The first instant that counts, and (`until`) the first that no longer does; without a zone they are UTC.
    since: Any = None
    until: Any = None
    # `since` and `until` for each release: its records count only then, and records without a release get it then.
    windows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Labels by a pattern for another column: `{by: file, good: "a*.json", bad: "b*.json"}`.
    release: Mapping[str, str] | None = None
    # What becomes of questions that lost an image, a file or a part of their text.
    on_lost: Literal["drop", "keep"] = "drop"
    # Where the rows are in a JSON document: a dotted path.
    rows: str | None = None
    # Queries are independent unless `cluster` says otherwise: copies of one text are not taken as clusters.
    independent: bool = False
    # Leave unreadable lines out and count them, instead of stopping at the first.
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise QueryError(f"log format {self.format!r} is unknown; use one of {', '.join(FORMATS)}")
        if self.sample is not None and self.sample < 1:
            raise QueryError(f"log sample is {self.sample}; use at least 1, or leave it empty for all queries")
        if self.on_lost not in ("drop", "keep"):
            raise QueryError(f"log on_lost is {self.on_lost!r}; use drop or keep")
        if self.floor < 1:
            raise QueryError(f"log floor is {self.floor}; use at least 1 query a segment")


@dataclass(frozen=True)
class ScoreTally:
    """What is needed of one logged score to compare means: sum, sum of squares and count."""

    total: float
    squares: float
    n: int

    @property
    def mean(self) -> float | None:
        """The mean logged score; None when none was logged."""
        return self.total / self.n if self.n else None

    @property
    def variance(self) -> float | None:
        """The unbiased variance of the logged scores; None below two of them."""
        if self.n < 2:
            return None
        return max(0.0, (self.squares - self.total * self.total / self.n) / (self.n - 1))


@dataclass(frozen=True)
class LoggedRelease:
    """What the whole log says of one release label: its queries, and the tally of each logged score."""

    release: str | None
    n: int
    scores: Mapping[str, ScoreTally]


@dataclass(frozen=True)
class Mixture:
    """Logged queries that were answered by one mixture of versions: a release label, and a version for each named axis."""

    release: str | None
    versions: Mapping[str, str]
    n: int


@dataclass(frozen=True)
class Sample:
    """The sampled queries in a deterministic random order: every prefix is a random sample of them.

    `read` = `kept` + the sum of `dropped`: every record of the log is accounted for.
    """

    queries: tuple[Query, ...]
    # Logged queries that can be replayed.
    population: int
    # How many logged queries each sampled one stands for; they add up to `population` when ids are unique.
    weights: tuple[float, ...]
    clusters: tuple[str, ...] | None
    segments: tuple[str, ...] | None
    read: int
    kept: int
    dropped: Mapping[str, int]
    # SHA-256 over the sampled records, in order.
    digest: str
    logged: tuple[LoggedRelease, ...]
    # What answered the kept records, the most frequent first: a rollout shows as several of one release.
    mixtures: tuple[Mixture, ...] = ()
    # What a faithful replay needs, with the number of sampled queries that lack it.
    missing: Mapping[str, int] = field(default_factory=dict)
    format: str = field(default="rows", compare=False)
    # What the report says of the sample: queries that belong together without being declared so.
    notices: tuple[str, ...] = field(default=(), compare=False)
    # Records whose question lost something that cannot be replayed, by kind.
    lost: Mapping[str, int] = field(default_factory=dict, compare=False)
    # Our fields to the log's columns that nobody named and that are read for them.
    guessed: Mapping[str, str] = field(default_factory=dict, compare=False)
    # Whether `clusters` were found by equal texts, not declared.
    detected_clusters: bool = field(default=False, compare=False)

    def __len__(self) -> int:
        return len(self.queries)


def allocate(sizes: Mapping[str, int], sample: int | None, floor: int = 1) -> dict[str, int]:
    """Queries to draw from each stratum: proportional to its size, by largest remainder, never more than it holds.

    Every stratum gets at least `floor` (all it has, if that is less; an even share of a sample too small for that), taken from the
    largest, so long as the sample is no smaller than their number. Ties go by name.
    """
    total = sum(sizes.values())
    if sample is None or sample >= total:
        return dict(sizes)
    shares = {name: Fraction(sample * size, total) for name, size in sizes.items()}
    quotas = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(sizes, key=lambda name: (quotas[name] - shares[name], name))
    for name in by_remainder[: sample - sum(quotas.values())]:
        quotas[name] += 1
    return _raised(quotas, sizes, min(floor, sample // len(sizes))) if sample >= len(sizes) else quotas


def _raised(quotas: dict[str, int], sizes: Mapping[str, int], floor: int) -> dict[str, int]:
    """The quotas with every one below the floor raised to it, taken one by one from the largest."""
    for name in sorted(quotas):
        while quotas[name] < min(floor, sizes[name]):
            richest = min(quotas, key=lambda other: (-quotas[other], other))
            quotas[richest] -= 1
            quotas[name] += 1
    return quotas


class Light(NamedTuple):
    """What sampling needs of one row; `logged_id` tells a logged id from a made one.

    `key` orders what is drawn as a whole (the clusters, or the rows themselves) at random, `place` the rows.
    """

    key: int
    place: int
    id: str
    stratum: str
    logged_id: bool


class Quota(NamedTuple):
    """How many rows a sample wants of a stratum that holds `distinct` ones."""

    wanted: int
    distinct: int


class Drawn(NamedTuple):
    """One row that the sample may hold, in full."""

    light: Light
    record: dict[str, Any]


def label(value: Any) -> str | None:
    """A release label as text; None for none."""
    return None if missing(value) else text_of(value)
