"""What a run asks. Each question is a value: its search, what names its run in the store, and whether it bisects; one loop asks any.

`Bisection`: which axis did it. `AuditQuestion`: is the bad release worse at all. `GateQuestion`: is a change worse than where it began.
`VerifyQuestion`: does a candidate fix mend it. `DriftQuestion`: does one release still score as its log says. What the evidence
comes to is the search's own (`result`, and for those that name nobody `finding`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from bisect_ai.attribution.problem import Problem, Search

if TYPE_CHECKING:
    from bisect_ai.attribution.questions.audit import AuditFinding, AuditRule, AuditSearch
    from bisect_ai.attribution.questions.drift import DriftFinding, DriftRule, DriftSearch
    from bisect_ai.attribution.questions.verify import VerifySearch
    from bisect_ai.attribution.questions.verify_findings import VerifyFinding, VerifyRule


@dataclass(frozen=True, slots=True)
class Composed:
    """A release to replay, its digest, the names of what in it is bad; `level`, when set, stands for the ground's."""

    release: Mapping[str, Any]
    digest: str
    bad: tuple[str, ...]
    # Added to each repeat number: where other runs' trials must not answer.
    repeats_from: int = 0
    level: str | None = None


class Ground(Protocol):
    """What the masks of a search's trials stand for. `level` keeps its observations apart from those of other grounds."""

    @property
    def level(self) -> str:
        """`axes`, or what else the bits of a cell are."""

    def composed(self, cell: int) -> Composed:
        """The release of a cell. Raises `Infeasible` when it cannot be built: its trials then are infeasible, uncalled."""


Finding: TypeAlias = "AuditFinding | VerifyFinding | DriftFinding"


class Question(Protocol):
    """What a run asks."""

    @property
    def bisects(self) -> bool:
        """Whether axes are named, so that what surrounds the release and what is inside an axis are looked at too."""

    @property
    def detect(self) -> float | None:
        """The loss that must not pass unseen, in score points; None: it is about no loss of a given size."""

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
    """Which axis, or which of them together, lowered the metric. `design`: from the user's word for one to its search."""

    design: Callable[[str, Problem], Search]
    bisects: ClassVar[bool] = True
    detect: ClassVar[None] = None
    ground: ClassVar[None] = None
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    record: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def search(self, problem: Problem, design: str) -> Search:
        """The design's search."""
        return self.design(design, problem)


@dataclass(frozen=True)
class AuditQuestion:
    """Whether the bad release is worse than the good one, in few calls; names nobody."""

    rule: AuditRule
    bisects: ClassVar[bool] = False
    ground: ClassVar[None] = None

    @property
    def detect(self) -> float:
        """As its rule says."""
        return self.rule.detect

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
    def detect(self) -> float:
        """As its rule says."""
        return self.rule.detect

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
    # Good, bad and fix on queries drawn at random, and on those that broke.
    ground: Ground
    bisects: ClassVar[bool] = False
    detect: ClassVar[None] = None
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
    def detect(self) -> float:
        """As its rule says."""
        return self.rule.detect

    @property
    def settings(self) -> Mapping[str, Any]:
        """The hour and the rule, but for the scores then, which the log holds."""
        return {"drift": {"hour": self.hour, "detect": self.rule.detect, "miss": self.rule.miss}}

    def search(self, problem: Problem, design: str) -> DriftSearch:  # noqa: ARG002 - as every question is asked
        """The release on the logged queries."""
        from bisect_ai.attribution.questions.drift import DriftSearch

        return DriftSearch(problem, self.rule)
