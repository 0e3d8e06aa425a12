"""What a finished run knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bisect_ai.attribution.problem import Attribution
from bisect_ai.runs.drilling import Drilled
from bisect_ai.runs.environment import Environment
from bisect_ai.runs.judging import ScoreDesk
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.question import Finding
from bisect_ai.targets.answer import Answer


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
