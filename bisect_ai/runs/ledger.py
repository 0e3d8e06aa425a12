"""What a run observed and what it cost, added up: the observations of its trials, and calls, tokens and money.

Releases that answer with nothing (no text, no tool call, no document) are told from it too: nothing can be measured where nearly all
answers are so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice

from bisect_ai.attribution.problem import Belief
from bisect_ai.runs.observations import FinishedTrial, Observations
from bisect_ai.targets.answer import Answer


@dataclass(frozen=True)
class Spending:
    """Calls, errors, tokens, USD, seconds; `cached` trials were answered without a call."""

    calls: int = 0
    cached: int = 0
    errors: int = 0
    usd: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    # The most that requests may have cost on top whose answer never came whole.
    unsettled_usd: float = 0.0

    def beside(self, other: Spending) -> Spending:
        """With what else was paid for."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Spending(**{name: round(value, 6) if name.endswith("usd") else value for name, value in sums.items()})

    def after(self, earlier: Spending) -> Spending:
        """With what a run before it cost, of whose answers it found some in the store."""
        return replace(self.beside(earlier), cached=max(self.cached - earlier.calls, earlier.cached))


@dataclass(frozen=True)
class Before:
    """What a run's command did first, at the run's cost: its own id in the store, and the minutes that it took in this sitting."""

    run: str = ""
    minutes: float = 0.0


class Ledger:
    """The observations of a run and its sums. `scorers` are the names that scores come under."""

    def __init__(self, scorers: Sequence[str]) -> None:
        # Trials of cells of axes.
        self.observations = Observations(scorers)
        # Trials of any other ground: sets of changes inside axes.
        self.inside = Observations(scorers)
        self.scorer_errors: dict[str, int] = {}
        self.scorer_messages: dict[str, str] = {}
        # What the run has cost in all its sittings, as the store tells it.
        self.paid = Spending()
        # That this sitting took.
        self.seconds = 0.0
        self._now = _Sums()
        self._earlier = Spending()
        self._doubts: list[str] = []
        self._silent = self._unseen = 0

    @property
    def trials(self) -> int:
        """Trials observed, called or not."""
        return len(self.observations) + len(self.inside)

    @property
    def now(self) -> Spending:
        """What this sitting cost."""
        spent = self._now.rounded(cached=self.trials + self._unseen - self._now.trials, seconds=self.seconds)
        return spent.after(self._earlier)

    @property
    def calls(self) -> int:
        """Trials asked in this sitting."""
        return self._now.trials

    @property
    def usd(self) -> float:
        """Money spent in this sitting."""
        return self._now.usd

    def add(self, seen: FinishedTrial) -> None:
        """Take in one observation."""
        (self.observations if seen.level == "axes" else self.inside).add(seen)
        if seen.fresh:
            self._now.add(seen.answer, seen.calls)
        if seen.answer.usage.doubt is not None:
            self._doubts.append(seen.answer.usage.doubt)
        elif seen.answer.usage.estimated:
            self._silent += 1

    def pay(self, answer: Answer, calls: int) -> None:
        """Count the cost of an answer that is no observation."""
        self._now.add(answer, calls)
        self._unseen += 1

    def hear_doubt(self, doubt: str) -> None:
        """What else says of its cost what cannot be."""
        self._doubts.append(doubt)

    def told(self) -> list[str]:
        """What a reader must know of the sums."""
        rest = "where money or tokens are capped counted as the most that they may have cost"
        lines = []
        if n := len(self._doubts):
            said = f"{n} {'answer says' if n == 1 else 'answers say'} what cannot be of their cost, first: {self._doubts[0]}"
            lines.append(f"{said}; taken as not said, and {rest}")
        if n := self._silent:
            lines.append(f"{n} {'answer does' if n == 1 else 'answers do'} not say what they cost; {rest}")
        return lines

    def follow(self, earlier: Ledger) -> None:
        """Count what the run cost that this one follows, once this one is settled: one command told one price."""
        self.paid = self.paid.after(earlier.paid)
        self._earlier = earlier.now


@dataclass(slots=True)
class _Sums:
    trials: int = 0
    calls: int = 0
    errors: int = 0
    usd: float = 0.0
    tokens: int = 0

    def add(self, answer: Answer, calls: int) -> None:
        usage = answer.usage
        self.trials += 1
        self.calls += calls
        self.errors += answer.is_failure and calls > 0  # what was held back cost no call
        self.usd += usage.usd or 0.0
        self.tokens += usage.input_tokens + usage.output_tokens

    def rounded(self, *, cached: int, seconds: float) -> Spending:
        return Spending(self.calls, cached, self.errors, round(self.usd, 6), self.tokens, seconds)


# Share of answers.
NEARLY_ALL = 0.9
# Answers of a cell that say something of it.
FEWEST = 5
# First answers of a release after which a run need not go on.
ENOUGH = 40


@dataclass(frozen=True)
class EmptyCell:
    """A cell whose answers are nearly all empty."""

    cell: int
    bad_axes: tuple[str, ...]
    answers: int
    empty: int


def empty_cells(seen: Observations) -> list[EmptyCell]:
    """The cells whose answers are nearly all empty."""
    found = []
    for cell in sorted(set(seen.cells)) if seen.has_empty else ():
        answers = [o for o in seen.all(cell) if o.is_answered]
        empty = sum(o.is_empty for o in answers)
        if len(answers) >= FEWEST and empty >= NEARLY_ALL * len(answers):
            found.append(EmptyCell(cell, answers[0].bad_axes, len(answers), empty))
    return found


def is_silent(seen: Observations, full: int, *, fewest: int = FEWEST) -> bool:
    """Whether both releases answer nearly every query with nothing, by their first `ENOUGH` answers, of which there are `fewest`."""
    for cell in (0, full) if seen.has_empty else ():
        first = [o.is_empty for o in islice((o for o in seen.first(cell) if o.is_answered), ENOUGH)]
        if len(first) < fewest or sum(first) < NEARLY_ALL * len(first):
            return False
    return seen.has_empty


@dataclass(frozen=True)
class Progress:
    """What a live view shows after each round."""

    calls: int
    budget: int
    usd: float
    seconds: float
    belief: Belief
    # The cap on time.
    minutes: float | None = None
    # Whether scores lie between 0 and 1, so that differences are points.
    is_share: bool = False
    unit: str = ""


Watch = Callable[[Progress], None]
