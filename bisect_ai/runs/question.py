"""What a run asks. Each question is a value: its search, what names its run in the store, and whether it bisects; one loop asks any.

`Bisection`: which axis did it. `AuditQuestion`: is the bad release worse at all. `GateQuestion`: is a change worse than where it began.
`VerifyQuestion`: does a candidate fix mend it. `DriftQuestion`: does one release still score as its log says. What the evidence
comes to is the search's own (`result`, and for those that name nobody `finding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from bisect_ai.attribution.designs.choice import design_search
from bisect_ai.attribution.problem import Problem, Search, names_of
from bisect_ai.canonical import digest
from bisect_ai.release.load import Release, compose

if TYPE_CHECKING:
    from bisect_ai.attribution.questions.audit import AuditFinding, AuditRule, AuditSearch
    from bisect_ai.attribution.questions.drift import DriftFinding, DriftRule, DriftSearch
    from bisect_ai.attribution.questions.verify import VerifySearch
    from bisect_ai.attribution.questions.verify_findings import VerifyFinding, VerifyRule

# Entries from which on a mapping is hashed entry by entry.
LARGE = 500


@dataclass(frozen=True, slots=True)
class Composed:
    """A release to replay, its digest, the names of what in it is bad; `level`, when set, stands for the ground's."""

    release: Mapping[str, Any]
    digest: str
    bad: tuple[str, ...]
    repeats_from: int = 0
    """Added to each repeat number: where other runs' trials must not answer."""
    level: str | None = None


class Ground(Protocol):
    """What the masks of a search's trials stand for. `level` keeps its observations apart from those of other grounds."""

    @property
    def level(self) -> str:
        """`axes`, or what else the bits of a cell are."""

    def composed(self, cell: int) -> Composed:
        """The release of a cell. Raises `Infeasible` when it cannot be built: its trials then are infeasible, uncalled."""


class Digests:
    """Digests of composed releases from those of their axes; a value is hashed once: a corpus is long, cells are many."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def of(self, release: Mapping[str, Any]) -> str:
        """The same digest for the same axes with the same values, whoever composed it."""
        return digest({axis: self._value(value) for axis, value in release.items()})

    def _value(self, value: Any) -> str:
        if _is_large(value):  # entry by entry: mixtures of two corpora share nearly all their documents
            return digest({key: self._value(inner) for key, inner in value.items()})
        held, known = self._known.get(id(value), (None, ""))
        if held is not value or not known:
            known = digest(value)
            self._known[id(value)] = (value, known)  # holding the value keeps its id from being used again
        return known


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


Finding: TypeAlias = "AuditFinding | VerifyFinding | DriftFinding"


class Question(Protocol):
    """What a run asks."""

    @property
    def bisects(self) -> bool:
        """Whether axes are named, so that what surrounds the release and what is inside an axis are looked at too."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What names the run besides releases, log, target and scorers: plain JSON."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What is written down at the start beside the settings and does not name the run."""

    @property
    def ground(self) -> Ground | None:
        """What the cells of its trials stand for; None: combinations of the two releases' axes."""

    def search(self, problem: Problem, design: str) -> Search:
        """A fresh search; one that names nobody has a `finding` besides its `result`."""


@dataclass(frozen=True)
class Bisection:
    """Which axis, or which of them together, lowered the metric."""

    bisects: ClassVar[bool] = True
    ground: ClassVar[None] = None
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    record: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def search(self, problem: Problem, design: str) -> Search:
        """The design's search."""
        return design_search(design, problem)


BISECTION = Bisection()


@dataclass(frozen=True)
class AuditQuestion:
    """Whether the bad release is worse than the good one, in few calls; names nobody."""

    rule: AuditRule
    bisects: ClassVar[bool] = False
    ground: ClassVar[None] = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """The rule, but for the evidence that it starts from: a resumed audit is the same run."""
        return {"audit": asdict(replace(self.rule, carried=()))}

    @property
    def record(self) -> Mapping[str, Any]:
        """The evidence that it starts from."""
        return {"carried": list(self.rule.carried)}

    def search(self, problem: Problem, design: str) -> AuditSearch:  # noqa: ARG002 - as every question is asked
        """The good and the bad release on the same queries."""
        from bisect_ai.attribution.questions.audit import AuditSearch

        return AuditSearch(problem, self.rule)


@dataclass(frozen=True)
class GateQuestion:
    """Whether a change is worse than what it began from; asked once, and of answers only: a call that failed says nothing."""

    rule: AuditRule
    bisects: ClassVar[bool] = False
    ground: ClassVar[None] = None
    record: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @property
    def settings(self) -> Mapping[str, Any]:
        """The rule."""
        return {"gate": {"alpha": self.rule.alpha, "detect": self.rule.detect, "miss": self.rule.miss}}

    def search(self, problem: Problem, design: str) -> AuditSearch:  # noqa: ARG002 - as every question is asked
        """The base and the change on the same queries."""
        from bisect_ai.attribution.questions.audit import AuditSearch

        return AuditSearch(problem, self.rule, failures_count=False)


@dataclass(frozen=True)
class VerifyQuestion:
    """Whether `bad`, a candidate fix of the run `run`, is one."""

    run: str
    rule: VerifyRule
    ground: Ground
    """Good, bad and fix on queries drawn at random, and on those that broke."""
    bisects: ClassVar[bool] = False
    record: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @property
    def settings(self) -> Mapping[str, Any]:
        """The run that it is to fix, and the rule."""
        from bisect_ai.attribution.questions.verify import RESTORE

        return {"verify": {"run": self.run, "broken": self.rule.broken, "others": self.rule.others, "restore": RESTORE}}

    def search(self, problem: Problem, design: str) -> VerifySearch:  # noqa: ARG002 - as every question is asked
        """Good, bad and fix side by side."""
        from bisect_ai.attribution.questions.verify import VerifySearch

        return VerifySearch(problem, self.rule)


@dataclass(frozen=True)
class DriftQuestion:
    """Whether one release still scores as its log says; `hour` makes each check a run of its own, whose answers are asked anew."""

    rule: DriftRule
    ground: Ground
    hour: int
    bisects: ClassVar[bool] = False
    record: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hour and the rule, but for the scores then, which the log holds."""
        return {"drift": {"hour": self.hour, "detect": self.rule.detect, "miss": self.rule.miss}}

    def search(self, problem: Problem, design: str) -> DriftSearch:  # noqa: ARG002 - as every question is asked
        """The release on the logged queries."""
        from bisect_ai.attribution.questions.drift import DriftSearch

        return DriftSearch(problem, self.rule)
