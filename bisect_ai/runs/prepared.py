"""What a run is made of, frozen and checked, nothing being spent; and what the cells of its search stand for: the grounds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bisect_ai.attribution.problem import Floats, Problem, cluster_numbers, names_of
from bisect_ai.attribution.stats.smallest_loss import is_open, objection, relative, relative_note, too_fine
from bisect_ai.canonical import digest
from bisect_ai.config import Config
from bisect_ai.errors import ConfigError
from bisect_ai.provider.redaction import redact
from bisect_ai.queries.sample import Sample
from bisect_ai.release.changes import Tree
from bisect_ai.release.load import Release, compose
from bisect_ai.runs.question import Composed, Question
from bisect_ai.scoring.scorer import Scorer
from bisect_ai.targets.target import Target

# The part of the run's alpha that the axes have when there is something to drill; the changes have the rest.
PART = 0.5


def is_worth_drilling(tree: Tree) -> bool:
    """Whether any axis has more than one change to tell apart."""
    return any(len(changes) > 1 for changes in tree.axes.values())


@dataclass(frozen=True)
class Prepared:
    """Everything a run is made of, frozen: nothing has been spent."""

    config: Config
    good: Release
    bad: Release
    axes: tuple[str, ...]
    sample: Sample
    scorers: Mapping[str, Scorer]
    metric: Scorer
    target: Target
    # Makes the target anew in another process.
    make_target: Callable[[], Target]
    question: Question
    # Every change between the two releases.
    tree: Tree
    notices: tuple[str, ...] = ()
    # What the settings said, where the good release's first answers gave another tolerance.
    declared_tolerance: float | None = None
    # Of the budget, gone before the run: what its releases were learnt with.
    calls_before: int = 0

    def __post_init__(self) -> None:
        _ = self._couplings  # one of no axis is refused before a store is opened

    @property
    def columns(self) -> set[str]:
        """The log's columns, which prompt templates may name."""
        # Columns of a log are those of its first rows.
        return {column for query in self.sample.queries[:50] for column in query}

    @property
    def drills(self) -> bool:
        """Whether the run goes on inside the guilty axes: it is asked to, and some axis has more than one change."""
        return self.config.drill and is_worth_drilling(self.tree)

    @property
    def alpha(self) -> float:
        """The error budget of the axes; the changes inside them have the rest of the run's."""
        return self.config.alpha * (PART if self.drills else 1.0)

    @property
    def settings(self) -> dict[str, Any]:
        """What names the run: everything that can change its verdict, and the decision rule."""
        c = self.config
        return {
            "good": {"name": self.good.name, "digest": self.good.digest},
            "bad": {"name": self.bad.name, "digest": self.bad.digest},
            "axes": list(self.axes),
            "sample": self.sample.digest,
            "population": self.sample.population,
            "target": dict(self.target.identity),
            "scorers": {name: scorer.digest or unkept(scorer) for name, scorer in self.scorers.items()},
            "metric": self.metric.name,
            "reuse": c.log.reuse,
            "higher_is_better": self.metric.higher_is_better,
            "tolerance": c.tolerance if self.declared_tolerance is None else self.declared_tolerance,
            "alpha": c.alpha,
            "drill": self.drills,
            "budget": c.budget.settings,
            "design": c.design,
            **({"couplings": c.couplings} if c.couplings else {}),
            "seed": c.seed,
            **({"clusters": "equal texts"} if self.sample.detected_clusters else {}),
            **self.question.settings,
        }

    @property
    def record(self) -> dict[str, Any]:
        """What is written down with the settings: what an audit starts from, and the files of the two releases."""
        sides = (("good", self.good.source), ("bad", self.bad.source))
        return {**self.question.record, "files": {side: str(path.resolve()) for side, path in sides if path is not None}}

    @property
    def run_id(self) -> str:
        """The digest of the settings: the same command resumes the same run."""
        return digest(self.settings)[:16]

    @cached_property
    def basis(self) -> str:
        """The digest of all that a report of the run rests on, but for the answers: settings, log, this program.

        A report of the same basis is what replaying all answers from the store would come to again. Other versions of the program, and
        what only this process can tell (a function without a version), have another.
        """
        code = [(str(f), (at := f.stat()).st_size, at.st_mtime_ns) for f in sorted(Path(__file__).parents[1].rglob("*.py"))]
        queries, rest = [dict(query) for query in self.sample.queries], replace(self.sample, queries=())
        return hashlib.sha256(repr((code, self.settings, self.config, rest, queries)).encode()).hexdigest()

    @cached_property
    def problem(self) -> Problem:
        """The run as attribution sees it."""
        import numpy as np

        sample = self.sample
        weights = np.array(sample.weights, float)
        return replace(
            self.outline,
            weights=None if np.allclose(weights, weights[0]) else weights / weights.mean(),
            clusters=None if sample.clusters is None else cluster_numbers(sample.clusters, range(len(sample))),
        )

    @property
    def outline(self) -> Problem:
        """The problem without its arrays (weights, clusters): all that the size of a design depends on."""
        return Problem(
            axes=self.axes,
            queries=len(self.sample.queries),
            budget=max(self.config.budget.calls - self.calls_before, 2),
            tolerance=self.config.tolerance,
            alpha=self.alpha,
            seed=self.config.seed,
            population=self.sample.population,
            bounds=self.metric.oriented_ends,
            couplings=self._couplings,
        )

    @property
    def _couplings(self) -> tuple[tuple[int, ...], ...]:
        """The declared couplings of changed axes, as numbers. Raises `ConfigError`: an axis of that name is in neither release."""
        known = {*self.good.axes, *self.bad.axes}
        unknown = [name for coupling in self.config.couplings for name in coupling if name not in known]
        if unknown:
            raise ConfigError(f"couplings: no release has an axis {unknown[0]!r}; the axes are {', '.join(sorted(known))}")
        numbers = [tuple(self.axes.index(n) for n in c if n in self.axes) for c in self.config.couplings]
        return tuple(c for c in numbers if len(c) > 1)


def check_tolerance(config: Config, metric: Scorer) -> None:
    """Raises `ConfigError` when the tolerance, or what audits look for, is as large as the metric's scale: no loss would be."""
    if metric.bounded is None:
        return
    low, high = metric.bounded
    losses = {"tolerance": config.tolerance, "audit.detect": config.audit.detect}
    for key in ("tolerance", "audit.detect") if "detect" in config.audit.model_fields_set else ("tolerance",):
        if (wrong := objection(losses[key], metric.name, lowest=low, highest=high, key=key)) is not None:
            raise ConfigError(wrong)


def tolerance_by(scores: Floats, config: Config, metric: Scorer) -> float | None:
    """The tolerance on an open scale, by the good release's first scores, where nobody set one; None: the one of the settings.

    Raises `ConfigError` when the one that was set is as large as a scale on which all scores lie.
    """
    unit = metric.own_unit
    if "tolerance" not in config.model_fields_set:
        return relative(scores) if is_open(scores, unit) else None
    if not is_open(scores, unit) and (wrong := objection(config.tolerance, metric.name, lowest=0, highest=1, seen=True)):
        raise ConfigError(f"{wrong} The answers so far are kept")
    return None


def by_first_scores(scores: Floats, prepared: Prepared) -> tuple[float | None, list[str]]:
    """The tolerance as of `tolerance_by`, for a question that bisects, and what the report says of the scale.

    Raises `ConfigError`, too, when the loss that another question watches for is as large as the scores' scale: all would be well.
    """
    config, metric, question = prepared.config, prepared.metric, prepared.question
    found = tolerance_by(scores, config, metric)
    if question.bisects:
        return found, [] if found is None else [relative_note(found, metric.own_unit)]
    detect = question.detect
    if detect is None:
        return None, []
    is_unit = not is_open(scores, metric.own_unit)
    highest = 1.0 if is_unit else float(scores.max())
    limited = is_unit or (metric.sign > 0 and float(scores.min()) >= 0)  # a cost may always rise
    if limited and (wrong := objection(detect, metric.name, lowest=0, highest=highest, seen=True, key="audit.detect")):
        raise ConfigError(f"{wrong} The answers so far are kept")
    is_set = "detect" in config.audit.model_fields_set
    note = too_fine(detect, scores, metric.name, key="audit.detect" if is_set else "audit.detect, which is not set,")
    return None, [] if is_unit or note is None else [note]


def loss_to_detect(config: Config, metric: Scorer, *, least_counts: bool = False) -> float:
    """The loss that watching must not let pass; `least_counts`: the tolerance, where that is larger.

    Raises `ConfigError` for a metric with a unit of its own, like USD, for which nobody set one: the defaults are made for shares.
    """
    is_share = metric.own_unit is None
    losses = [config.audit.detect] if is_share or "detect" in config.audit.model_fields_set else []
    if (is_share and least_counts) or ("tolerance" in config.model_fields_set and (least_counts or not losses)):
        losses.append(config.tolerance)
    if not losses:
        raise ConfigError(
            f"audit.detect is not set, and its default of {config.audit.detect:g} is made for shares, not for {metric.name!r} in "
            f"{metric.own_unit}: set `audit: {{detect: …}}` to the loss in {metric.own_unit} that must not pass"
        )
    return max(losses)


def metric_of(scorers: Mapping[str, Scorer], wanted: str | None) -> Scorer:
    """The scorer that decides. Raises `ConfigError` when it isn't there or isn't clear."""
    if wanted is None and len(scorers) == 1:
        return next(iter(scorers.values()))
    if wanted is None or wanted not in scorers:
        have = ", ".join(scorers)
        if wanted is None:
            raise ConfigError(
                f"there are {len(scorers)} scorers and no `metric`: set it to the one that decides, one of: {have}"
            )
        raise ConfigError(f"metric {wanted!r}: no scorer has that name; set `metric` to one of: {have}")
    return scorers[wanted]


def unkept(scorer: Scorer) -> str:
    """A key for a scorer without a digest: good in this process only."""
    return f"this-process:{redact(scorer.name)}:{id(scorer.score):x}"


def score_key(scorer: Scorer, run: str) -> str:
    """What a scorer's scores are kept under; a judge's count for the run alone, unless the user says that they may be shared."""
    known = scorer.digest or unkept(scorer)
    return f"{known}:{run}" if scorer.judge is not None and not scorer.judge.reuse else known


# Entries from which on a mapping is hashed entry by entry.
LARGE = 500


class Digests:
    """Digests of composed releases from those of their axes; a value is hashed once: a corpus is long, cells are many."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._held: list[Any] = []  # what has a digest, so that its id is not used again

    def of(self, release: Mapping[str, Any]) -> str:
        """The same digest for the same axes with the same values, whoever composed it."""
        return digest({axis: self._value(value) for axis, value in release.items()})

    def _value(self, value: Any) -> str:
        if _is_large(value):  # entry by entry: mixtures of two corpora share nearly all their documents
            known = map(self._known.get, map(id, value.values()))
            return digest({key: found or self._value(value[key]) for key, found in zip(value, known, strict=True)})
        if id(value) not in self._known:
            self._held.append(value)
            self._known[id(value)] = digest(value)
        return self._known[id(value)]


def _is_large(value: Any) -> bool:
    """A mapping of very many entries, or one that holds such a mapping."""
    if not isinstance(value, dict):
        return False
    return len(value) > LARGE or any(isinstance(inner, dict) and len(inner) > LARGE for inner in value.values())


class Axes:
    """The ground of the main search: bit i takes axis i from the bad release."""

    level = "axes"

    def __init__(self, good: Release, bad: Release, axes: Sequence[str], digests: Digests) -> None:
        self._good, self._bad, self._axes, self._digests = good, bad, axes, digests
        self._cells: dict[int, Composed] = {}

    def composed(self, cell: int) -> Composed:
        """The release with the cell's axes bad."""
        if cell not in self._cells:
            bad = names_of(cell, self._axes)
            release = compose(self._good, self._bad, bad)
            self._cells[cell] = Composed(release, self._digests.of(release), bad)
        return self._cells[cell]


class Anew:
    """The ground of one release asked again: repeat numbers that no earlier run's answers have."""

    level = "axes"

    def __init__(self, release: Release, *, repeats_from: int) -> None:
        composed = compose(release, release, ())
        self._composed = Composed(composed, Digests().of(composed), (), repeats_from)

    def composed(self, cell: int) -> Composed:
        """The release itself."""
        assert cell == 0, "one release has one cell"
        return self._composed
