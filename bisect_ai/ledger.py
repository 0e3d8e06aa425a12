"""What a run observed and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from bisect_ai.attribution.problem import Trial
from bisect_ai.replay.answer import Answer
from bisect_ai.replay.store import Store


@dataclass(frozen=True, slots=True)
class Observation:
    """One trial with its answer and its scores by scorer name (None: not scored)."""

    query: str
    trial: Trial
    bad_axes: tuple[str, ...]
    answer: Answer
    scores: dict[str, float | None]
    infeasible: str | None
    fresh: bool
    """Called now, rather than answered by the store or the log."""
    logged: bool = False
    """The score is the log's: nothing was replayed."""
    level: str = "axes"
    """What the bits of `trial.cell` and the names in `bad_axes` are."""


@dataclass(frozen=True)
class Spending:
    """Calls, errors, tokens, USD, seconds; `cached` trials were answered without a call."""

    calls: int = 0
    cached: int = 0
    errors: int = 0
    usd: float = 0.0
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Ledger:
    """The observations of a run in the order they were told, and its sums."""

    observations: list[Observation] = field(default_factory=list)
    """Trials of cells of axes."""
    inside: list[Observation] = field(default_factory=list)
    """Trials of any other ground: sets of changes inside axes."""
    scorer_errors: dict[str, int] = field(default_factory=dict)
    scorer_messages: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    """Calls made in this sitting."""
    usd: float = 0.0
    seconds: float = 0.0
    paid: Spending = Spending()
    """What the run has cost in all its sittings, as the store tells it."""
    now: Spending = Spending()
    """What this sitting cost."""

    @property
    def trials(self) -> int:
        """Trials observed, called or not."""
        return len(self.observations) + len(self.inside)

    def add(self, observation: Observation) -> None:
        """Take in one observation."""
        (self.observations if observation.level == "axes" else self.inside).append(observation)
        self.calls += observation.fresh
        if observation.fresh:
            self.usd += observation.answer.usage.usd or 0.0

    def settle(self, store: Store, run: str) -> None:
        """Add up what was paid for in this sitting and in the whole run."""
        fresh = [o.answer for o in [*self.observations, *self.inside] if o.fresh]
        self.now = _sum(fresh, cached=self.trials - len(fresh), seconds=0.0)
        paid = store.spending(run)
        self.paid = Spending(
            calls=paid.calls,
            cached=max(0, self.trials - paid.calls),
            errors=paid.errors,
            usd=round(paid.usd, 6),
            tokens=paid.tokens,
            seconds=paid.seconds,
        )


def _sum(answers: list[Answer], *, cached: int, seconds: float) -> Spending:
    return Spending(
        calls=len(answers),
        cached=cached,
        errors=sum(a.error is not None for a in answers),
        usd=round(sum(a.usage.usd or 0.0 for a in answers), 6),
        tokens=sum(a.usage.input_tokens + a.usage.output_tokens for a in answers),
        seconds=seconds,
    )
