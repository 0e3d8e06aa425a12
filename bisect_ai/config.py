"""bisect.yaml and the keywords of `run` as one checked value; every mistake is one line that names file and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bisect_ai.errors import ConfigError, first_problem, nearest, without_plugins
from bisect_ai.provider.redaction import Secrets, did_you_mean, obey, values_of
from bisect_ai.queries.sample import FIELDS, Format, LogSettings
from bisect_ai.release.source_files import RepositoryRules

FILE = "bisect.yaml"
M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, defer_build=True)


class PerTrial(_Strict):
    """What one trial may spend, the most: requests to the model, USD, tokens in and out, minutes. None: no cap."""

    calls: int | None = Field(default=None, ge=1)
    """Requests to the model."""
    usd: float | None = Field(default=None, gt=0)
    """Money."""
    tokens: int | None = Field(default=None, ge=1)
    """In and out."""
    minutes: float | None = Field(default=None, gt=0)
    """Time."""


class Budget(_Strict):
    """What a run may spend, the most: calls (answers of the target), USD, tokens in and out, minutes (of judges and embeddings too).

    `requests`: of a target on the wire, which makes several for an answer, those that its program may send.
    None: no cap. Never crossed but for minutes: no request leaves after them, what is under way may end.
    """

    calls: int = Field(default=5000, ge=2)
    """Answers of the target, failed ones too."""
    requests: int | None = Field(default=None, ge=1)
    """Of a target on the wire: requests that its program may send."""
    usd: float | None = Field(default=None, gt=0)
    """Money, of judges and embeddings too."""
    tokens: int | None = Field(default=None, ge=1)
    """In and out."""
    minutes: float | None = Field(default=None, gt=0)
    """No request leaves after them."""
    per_trial: PerTrial = Field(default_factory=PerTrial)
    """What one trial may spend."""

    @property
    def settings(self) -> dict[str, Any]:
        """What names a run; caps that later versions brought only where they are set."""
        later = {"requests": self.requests, "tokens": self.tokens, "per_trial": self.per_trial.model_dump(exclude_none=True)}
        return {"calls": self.calls, "usd": self.usd, "minutes": self.minutes, **{k: v for k, v in later.items() if v}}


class Timeouts(_Strict):
    """Seconds that one answer of the target may take, and one score of a scorer; then it is a failed one."""

    target: float = Field(default=600, gt=0)
    """Of one answer."""
    scorer: float = Field(default=30, gt=0)
    """Of one score."""


class LogOptions(_Strict):
    """Where the logged queries are, how their columns are named, how many to sample."""

    path: Any = None
    """A file, or a pattern such as `logs/*.jsonl`."""
    format: Format = "auto"
    """Which tool wrote it; `auto` looks."""
    columns: dict[str, str | dict[str, str] | list[str]] = Field(default_factory=dict)
    """Our field to your column, or to several (`input: context + question`); other names are columns of your own."""
    segment: str | None = None
    """Column whose values are sampled in proportion, and told one by one."""
    cluster: str | None = None
    """Column of what belongs together, as a user: drawn whole."""
    versions: list[str] = Field(default_factory=list)
    """Columns that tell mixed releases apart."""
    sample: int | None = Field(default=2000, ge=2)
    """Queries to draw, at most; null: all."""
    floor: int = Field(default=1, ge=1)
    """At least so many queries of each segment."""
    where: str | None = None
    """A DuckDB condition over the log's columns."""
    since: Any = None
    """No records before this time; UTC when no zone is given."""
    until: Any = None
    """No records from this time on."""
    windows: dict[str, dict[Literal["since", "until"], Any]] = Field(default_factory=dict)
    """When each release ran, for a log that does not say: label to since and until."""
    release: dict[str, str] | None = None
    """Labels by another column: `{by: file, good: "a*.json", bad: "b*.json"}`."""
    on_lost: Literal["drop", "keep"] = "drop"
    """What becomes of questions that lost an image, a file or a part of their text in the log."""
    rows: str | None = None
    """The list that holds the records, in JSON with several."""
    skip_bad: bool = False
    """Count lines that cannot be read, instead of stopping."""
    independent: bool = False
    """Copies of one text are independent queries; else they are a cluster where they are 5 % of the sample or more."""
    reuse: bool = False
    """Take logged scores of the two releases for trials of good and bad, but for a fifth that is replayed to see drift."""

    @field_validator("columns")
    @classmethod
    def _fields(cls, columns: dict[str, Any]) -> dict[str, Any]:
        for name in columns.keys() - FIELDS:
            if near := nearest(name, FIELDS, cutoff=0.75):  # one letter of four may differ
                raise ValueError(f"it maps our fields to your columns, and {name!r} is none of ours; did you mean {near!r}")
        return columns

    def settings(self, seed: int) -> LogSettings:
        """What reading the log needs to know; where it is stays with the caller."""
        kept = {
            name: getattr(self, name) for name in LogSettings.__dataclass_fields__ if name not in ("path", "seed", "windows")
        }
        return LogSettings(**kept, seed=seed, windows=cast("Mapping[str, Mapping[str, Any]]", self.windows))


class Audit(_Strict):
    """How `audit` looks for a regression: the loss (score points) not to miss, with what chance, and audits a year."""

    detect: float = Field(default=0.05, gt=0)
    """The loss that should not be missed, in units of the metric."""
    miss: float = Field(default=0.1, gt=0, lt=1)
    """The chance to miss it."""
    per_year: int = Field(default=52, ge=1)
    """Audits that share one `alpha`."""


class Canary(_Strict):
    """What `canary` compares: the release labels that the log has, and the lowest and highest score there can be."""

    baseline: str | None = None
    """The release to compare with, as the log names it."""
    canary: str | None = None
    """The release to decide about."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest possible score."""
    higher_is_better: bool | None = None
    """False: lower scores are better, as for a cost."""
    unit: str | None = None
    """What one point of the metric is, such as USD; where nothing is said, what its scorer says."""
    guards: list[str] = Field(default_factory=list)
    """Further metrics and what they may move by: `cost:+10%`, `refusal:+1p`, `latency:+0.5`, `helpful:-2p`."""
    share: float | None = Field(default=None, gt=0, lt=1)
    """The part of the traffic that was meant for the canary."""
    ignore: list[str] = Field(default_factory=list)
    """Columns that do not say who asked or what."""


class SecretsOf(_Strict):
    """What is a credential besides what looks like one: variables by name, a file of values; and variables that are none.

    `shapes`: hide what looks like a known service's key, too.
    """

    env: list[str] = Field(default_factory=list)
    """Variables whose values are hidden, whatever they are called."""
    ignore: list[str] = Field(default_factory=list)
    """Variables that are no credential."""
    values_from: str | Path | None = None
    """A file of values: one a line, or NAME=value."""
    shapes: bool = True
    """Hide what looks like a known service's key."""

    def resolved(self, folder: Path) -> Secrets:
        """With the values of the file, whose path starts from `folder`. Raises `ConfigError`: it cannot be read."""
        values = frozenset[str]() if self.values_from is None else values_of(folder / self.values_from)
        return Secrets(frozenset(self.env), frozenset(self.ignore), values, self.shapes)


class CanaryStudy(_Strict):
    """What of bisect.yaml a canary uses."""

    log: LogOptions = Field(default_factory=LogOptions)
    metric: str | None = None
    tolerance: float = Field(default=0.02, gt=0)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    canary: Canary = Field(default_factory=Canary)


class RepositorySettings(_Strict):
    """How git revisions are releases: the axes are paths, or a release file is read at the revision."""

    repo: str = "."
    """A folder of a git repository, from the settings' own: where revisions, and paths below it, are looked up."""
    axes: dict[str, list[str]] = Field(default_factory=dict)
    """Of git revisions: axis to the gitignore patterns of its files."""
    release: str | None = None
    """Of git revisions: the release file that is read at each, from `repo`."""
    pin: dict[Literal["good", "bad"], list[str]] = Field(default_factory=dict)
    """Patterns of changed files that every combination has from one side."""

    @property
    def repository(self) -> RepositoryRules:
        """How a git revision is read as a release."""
        return RepositoryRules(self.repo, self.axes, self.release, {str(side): each for side, each in self.pin.items()})

    @model_validator(mode="after")
    def _one_way_to_read_a_revision(self) -> RepositorySettings:
        if self.axes and self.release is not None:
            raise ValueError("a revision has either `axes` or `release`, not both")
        return self

    @field_validator("axes", "pin", mode="before")
    @classmethod
    def _lists_of_patterns(cls, value: Any) -> Any:
        return (
            {name: [one] if isinstance(one, str) else one for name, one in value.items()} if isinstance(value, dict) else value
        )


class Config(RepositorySettings):
    """Everything that `bisect.yaml` may hold; the same names are keywords of `bisect_ai.run`."""

    good: Any
    """The release that was fine: a release file, `{git: REVISION}`, or a mapping of axes."""
    bad: Any
    """The release that lost quality, likewise."""
    log: LogOptions = Field(default_factory=LogOptions)
    """The logged queries; a path alone stands for `{path: …}`."""
    target: Any
    """What answers: `{kind: litellm}` and the kinds of the targets guide."""
    scorers: Any = None
    """None: the scores that the target's answers bring."""
    metric: str | None = None
    """The score that decides; needed where there are several."""
    tolerance: float = Field(default=0.02, ge=0)
    """Where it is not set and the metric's scale is open (seconds, USD, characters): 5 % of the good release's mean."""
    alpha: float = Field(default=0.05, gt=0, le=0.5)
    """The chance of a wrong verdict that is accepted, over the whole run."""
    budget: Budget = Field(default_factory=Budget)
    """What may be spent, the most."""
    timeouts: Timeouts = Field(default_factory=Timeouts)
    """Seconds for one answer and for one score."""
    keep_going: bool = False
    """Go on although the target or the deciding scorer only fails."""
    design: Literal["adaptive", "full", "fractional"] = "adaptive"
    """Which combinations are tried: chosen as answers come in, all of them, or a balanced part."""
    couplings: list[list[str]] = Field(default_factory=list)
    """Axes that only run together: each list is one unit for naming and rollback."""
    drill: bool = True
    """Search inside the axes that are to blame: for the line, document or field."""
    audit: Audit = Field(default_factory=Audit)
    """How `audit` looks for a regression."""
    canary: Canary = Field(default_factory=Canary)
    """What `canary` compares."""
    secrets: SecretsOf = Field(default_factory=SecretsOf)
    """What is a credential besides what looks like one."""
    store: str | Path | None = ".bisect-ai"
    """The folder that keeps every answer."""
    seed: int = 0
    """Of the sample and of the order of trials."""
    concurrency: int | None = Field(default=None, ge=1, le=1024)
    """Target calls in flight at the same time."""
    jobs: int | None = Field(default=None, ge=1, le=1024)
    """Worker processes that call the target."""
    backend: Literal["loky", "dask", "ray"] = "loky"
    """Where target calls run: this machine, or a cluster."""
    scheduler: str | None = None
    """Address of the cluster."""

    @property
    def target_seconds(self) -> float:
        """How long one answer may take. One that the end of the run's minutes cuts off is no failure of the target's."""
        return float(self.timeouts.target)

    @property
    def scorer_seconds(self) -> float:
        """How long one score may take: as the settings say, else no longer than the run may."""
        seconds, minutes = float(self.timeouts.scorer), self.budget.minutes
        return seconds if minutes is None or "scorer" in self.timeouts.model_fields_set else min(seconds, minutes * 60)

    @property
    def is_away(self) -> bool:
        """Whether the target runs in other processes."""
        return self.backend != "loky" or (self.jobs or 1) > 1

    @field_validator("log", mode="before")
    @classmethod
    def _log_of_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value


def read_config(path: Path, overrides: Mapping[str, Any]) -> Config:
    """The file's settings with `overrides` (keywords, options) on top. Raises `ConfigError`."""
    if not path.is_file():
        raise ConfigError(f"cannot read {path}: no such file; `bisect-ai init` writes a commented one")
    written = heed_secrets_of(path)
    return checked_config({**written, **_with_overrides(written, overrides)}, where=str(path))


def heed_secrets(written: Mapping[str, Any], path: Path) -> None:
    """From now on what the file at `path` calls a credential is hidden, in its own errors too. Raises `ConfigError`."""
    told = written.get("secrets") or {}
    if not isinstance(told, Mapping):
        raise ConfigError(f"{path}: key 'secrets' is a mapping with {', '.join(SecretsOf.model_fields)}")
    obey(checked_part(SecretsOf, told, where=f"{path}: secrets").resolved(path.resolve().parent))


def heed_secrets_of(path: Path) -> Mapping[str, Any]:
    """What a bisect.yaml says, unchecked but for its `secrets`, which hold from now on; nothing where there is no such file."""
    from bisect_ai.release.references import read_mapping

    written = read_mapping(path, error=ConfigError) if path.is_file() else {}
    heed_secrets(written, path)
    return written


def store_of(path: Path) -> Path | None:
    """The store that a bisect.yaml names, whatever else it says; None: there is no such file. Raises `ConfigError`."""
    written = heed_secrets_of(path)
    if not written:
        return None
    named = written.get("store", Config.model_fields["store"].default)
    if not isinstance(named, str):
        what = "null, so that nothing is kept" if named is None else "no path"
        raise ConfigError(f"{path}: store is {what}; name a store with --store")
    return path.parent / named


def checked_config(values: Mapping[str, Any], *, where: str) -> Config:
    """The values as a `Config`. Raises `ConfigError` naming the first key that is wrong."""
    try:
        with without_plugins():
            return Config.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_problem(error.errors(), _suggestion)}") from error


def checked_part(model: type[M], values: Mapping[str, Any], *, where: str) -> M:
    """Some of the settings as their own model. Raises `ConfigError` naming the first key that is wrong."""
    try:
        with without_plugins():
            return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_problem(error.errors(), _suggestion)}") from error


def _with_overrides(written: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings given as overrides are laid over the file's, key by key."""
    merged: dict[str, Any] = {}
    for key, value in overrides.items():
        below = written.get(key)
        both = (
            isinstance(below, Mapping)
            and isinstance(value, Mapping)
            and (
                key in ("budget", "timeouts", "log", "audit", "canary", "secrets")
                or (_is_on_wire(below) and _is_on_wire(value))
            )
        )
        merged[key] = {**below, **value} if both else value  # type: ignore[dict-item]  # both are mappings here
    return merged


def _is_on_wire(target: Any) -> bool:
    """A program after `--` has the file's other settings of the wire."""
    return isinstance(target, Mapping) and target.get("kind") == "wire"


def _suggestion(place: tuple[int | str, ...]) -> str:
    models: dict[str, type[BaseModel]] = {
        "log": LogOptions,
        "budget": Budget,
        "timeouts": Timeouts,
        "audit": Audit,
        "canary": Canary,
        "secrets": SecretsOf,
    }
    model = models.get(str(place[0]), Config) if len(place) > 1 else Config
    model = PerTrial if len(place) > 2 and place[1] == "per_trial" else model
    known = list(model.model_fields)
    return did_you_mean(str(place[-1]), known, f"; known: {', '.join(known)}")
