"""What a finished run knows, and what its drill-down ended with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bisect_ai.attribution.problem import Attribution, Estimate, Mode
from bisect_ai.attribution.search.drill_problem import Finer
from bisect_ai.release.changes import Change
from bisect_ai.runs.environment import Environment
from bisect_ai.runs.judging import ScoreDesk
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.question import Finding
from bisect_ai.targets.answer import Answer

Kind = Literal["found", "no_single_change", "inconclusive", "not_run"]


@dataclass(frozen=True)
class Blamed:
    """A named change: how it acts (`others`: with, or instead of which), its share of the loss, and queries that it breaks."""

    change: Change
    mode: Mode
    others: tuple[Change, ...]
    share: Estimate
    p_adjusted: float | None
    """Chance at most of such evidence for any innocent change; None: it follows from the axis being guilty."""
    queries: tuple[int, ...]
    """Numbers of queries in the sample, the clearest first."""


@dataclass(frozen=True)
class Inside:
    """What is known inside one changed axis."""

    axis: str
    kind: Kind
    changes: int
    named: int
    reason: str


@dataclass(frozen=True)
class Drilled:
    """What the drill-down ends with."""

    kind: Kind
    reason: str
    axes: tuple[Inside, ...] = ()
    blamed: tuple[Blamed, ...] = ()
    calls: int = 0
    unexplained: float | None = None
    """Share of what the changes cost that reverting the named ones leaves."""
    back: tuple[Change, ...] = ()
    """Changes whose reversion alone was measured."""
    measured: Finer | None = None


@dataclass
class Outcomes:
    """What a finished run knows: attribution, environment, observations, the ledger, and answers (while the store is open)."""

    prepared: Prepared
    attribution: Attribution
    environment: Environment
    ledger: Ledger
    answer_of: Callable[[Observation], Answer]
    drill: Drilled | None = None
    """None: not asked for, or nothing to tell apart in any axis."""
    warnings: list[str] = field(default_factory=list)
    desks: Mapping[str, ScoreDesk] = field(default_factory=dict)
    """What gave the scores that are given many at a time, by scorer."""
    finding: Finding | None = None
    """What a question that names nobody found."""
    stopped: str | None = None
    """The cap that cut the search short."""


def with_what_is_left(prepared: Prepared, audited: Outcomes) -> Prepared:
    """The ordinary run that follows, with what the audit left of the budget; it finds the audit's answers in the store."""
    budget, paid = prepared.config.budget, audited.ledger.paid
    left = budget.model_copy(
        update={
            "calls": max(2, budget.calls - paid.calls),
            "usd": None if budget.usd is None else max(budget.usd - paid.usd, 1e-9),
            "tokens": None if budget.tokens is None else max(budget.tokens - paid.tokens, 1),
        }
    )
    return replace(prepared, config=prepared.config.model_copy(update={"budget": left}))
