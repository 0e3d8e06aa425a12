"""What a run observed and what it cost: a row a trial, in columns, without the texts. Those stay in the store."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, overload

from bisect_ai.attribution.problem import Bools, Floats, Trial
from bisect_ai.provider.usage import Usage
from bisect_ai.scoring.metric import Metric
from bisect_ai.targets.answer import MISSING, Answer
from bisect_ai.targets.tool_results import EXACT, signature

_FRESH, _LOGGED, _ESTIMATED, _EMPTY = 1, 2, 4, 8


class Observation:
    """One trial with its scores by scorer name (None: not scored): a view of a row of `Observations`."""

    __slots__ = ("_row", "_table")

    def __init__(self, table: Observations, row: int) -> None:
        self._table, self._row = table, row

    @property
    def query(self) -> str:
        """The query's id."""
        return self._table.ids[self._row]

    @property
    def index(self) -> int:
        """The query's index in the sample."""
        return self._table.queries[self._row]

    @property
    def trial(self) -> Trial:
        """What was asked for."""
        table, row = self._table, self._row
        return Trial(table.queries[row], table.cells[row], table.repeats[row])

    @property
    def bad_axes(self) -> tuple[str, ...]:
        """The names of what was taken from the bad release."""
        return self._table.bad[self._row]

    @property
    def identity(self) -> str:
        """The trial's identity: the store has its answer under it, with texts."""
        return self._table.identities[32 * self._row : 32 * self._row + 32].hex()

    @property
    def scores(self) -> dict[str, float | None]:
        """Scores by scorer name."""
        names = self._table.names
        start = len(names) * self._row
        values = self._table.values[start : start + len(names)]
        return {name: None if math.isnan(value) else value for name, value in zip(names, values, strict=True)}

    @property
    def answer(self) -> Answer:
        """The answer without its text, documents and tool calls."""
        table, row = self._table, self._row
        return Answer(
            steps=table.steps[row],
            usage=Usage(
                table.tokens_in[row], table.tokens_out[row], _or_none(table.usd[row]), bool(table.flags[row] & _ESTIMATED)
            ),
            latency_s=_or_none(table.latencies[row]),
            model_returned=self.model_returned,
            fingerprint=self.fingerprint,
            endpoint=self.endpoint,
            outcome=self.outcome,
            error=table.errors.get(row),
            attempts=table.attempts[row],
            reason=table.failed.get(row),
            waited_s=self.waited_s,
            faults=self.faults,
        )

    @property
    def outcome(self) -> str:
        """The answer's fate."""
        return self._table.fates[self._row].outcome

    @property
    def attempts(self) -> int:
        """Requests that left for it."""
        return self._table.attempts[self._row]

    @property
    def failed(self) -> str | None:
        """Why the configuration itself was refused."""
        return self._table.failed.get(self._row)

    def score(self, name: str) -> float | None:
        """The score by one scorer."""
        names = self._table.names
        return _or_none(self._table.values[len(names) * self._row + names.index(name)]) if name in names else None

    @property
    def row(self) -> int:
        """Which row of the ledger it is."""
        return self._row

    @property
    def usd(self) -> float | None:
        """What the answer cost, where that is known."""
        return _or_none(self._table.usd[self._row])

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self._table.tokens_in[self._row] + self._table.tokens_out[self._row]

    @property
    def latency_s(self) -> float | None:
        """Seconds that the answer took, where that is known."""
        return _or_none(self._table.latencies[self._row])

    @property
    def faults(self) -> Mapping[str, int]:
        """Failed attempts by kind."""
        return self._table.faults.get(self._row, {})

    @property
    def waited_s(self) -> float:
        """Seconds held back."""
        return self._table.waits.get(self._row, 0.0)

    @property
    def model_returned(self) -> str | None:
        """The model that the provider says answered."""
        return self._table.fates[self._row].model_returned

    @property
    def fingerprint(self) -> str | None:
        """The provider's fingerprint of what answered."""
        return self._table.fates[self._row].fingerprint

    @property
    def endpoint(self) -> str | None:
        """Where the requests for it went."""
        return self._table.fates[self._row].endpoint

    @property
    def error(self) -> str | None:
        """Why infrastructure gave no answer."""
        return self._table.errors.get(self._row)

    @property
    def missing(self) -> bool:
        """Whether the trial rests on a tool call whose result nobody knows."""
        return self.outcome == MISSING

    @property
    def is_answered(self) -> bool:
        """Whether the target was asked and answered, be it with nothing."""
        return not self.logged and self.error is None and self.failed is None and self.infeasible is None

    @property
    def is_empty(self) -> bool:
        """Whether the answer has nothing in it: no text, no tool call, no document."""
        return bool(self._table.flags[self._row] & _EMPTY)

    @property
    def infeasible(self) -> str | None:
        """Why the combination cannot run."""
        return self._table.reasons.get(self._row)

    @property
    def fresh(self) -> bool:
        """Called now, rather than answered by the store or the log."""
        return bool(self._table.flags[self._row] & _FRESH)

    @property
    def logged(self) -> bool:
        """The score is the log's: nothing was replayed."""
        return bool(self._table.flags[self._row] & _LOGGED)


class Fate(NamedTuple):
    """What became of a call, and who answered: many rows share one."""

    outcome: str
    model_returned: str | None
    fingerprint: str | None
    endpoint: str | None


Tally = Counter[tuple[tuple[str, ...], Fate]]


class Observations(Sequence[Observation]):
    """Rows of trials in the order they were told; about 140 bytes each."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.ids: list[str] = []
        self.queries, self.repeats = array("l"), array("l")
        self.cells: list[int] = []
        self._of_cell: defaultdict[int, array[int]] = defaultdict(_no_rows)
        self.bad: list[tuple[str, ...]] = []
        self.identities = bytearray()
        self.values, self.latencies, self.usd = array("d"), array("d"), array("d")
        self.tokens_in, self.tokens_out = array("q"), array("q")
        self.steps, self.attempts = array("l"), array("l")
        self.fates: list[Fate] = []
        self.flags = bytearray()
        # Whether any answer has nothing in it.
        self.has_empty = False
        self.errors: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        self.faults: dict[int, Mapping[str, int]] = {}
        self.waits: dict[int, float] = {}
        self.reasons: dict[int, str] = {}
        self.unusual: dict[int, tuple[tuple[str, str], ...]] = {}
        self._one_of: dict[tuple[str | None, ...], Fate] = {}

    def __len__(self) -> int:
        return len(self.flags)

    @overload
    def __getitem__(self, row: int) -> Observation: ...
    @overload
    def __getitem__(self, row: slice) -> list[Observation]: ...
    def __getitem__(self, row: int | slice) -> Observation | list[Observation]:
        rows = range(len(self))[row]
        return Observation(self, rows) if isinstance(rows, int) else [Observation(self, each) for each in rows]

    def __iter__(self) -> Iterator[Observation]:
        return (Observation(self, row) for row in range(len(self)))

    def all(self, cell: int) -> Iterator[Observation]:
        """All runs in a cell."""
        return (Observation(self, row) for row in self._of_cell.get(cell, ()))

    def first(self, cell: int, *, of: Collection[int] | None = None) -> Iterator[Observation]:
        """The first runs (repeat 0) in a cell; `of`: of these queries only."""
        return (Observation(self, row) for row in self._first(cell) if of is None or self.queries[row] in of)

    def first_scores(self, cell: int, name: str, *, logged: bool = True) -> dict[int, float]:
        """Query index to the score of its first run in a cell, where it has one; without `logged` none of the log's."""
        rows, values = self._first(cell), self.scored(name).tolist()
        known = [row for row in rows if values[row] == values[row] and (logged or not self.flags[row] & _LOGGED)]
        return {self.queries[row]: values[row] for row in known}

    def paired_scores(self, full: int, name: str, metric: Metric) -> dict[int, tuple[float, float]]:
        """Query index to its first scores under good and bad (the cell `full`), higher is better; in the order of the sample.

        A query that lacks one of them is left out.
        """
        sign, good, bad = metric.sign, self.first_scores(0, name), self.first_scores(full, name)
        return {query: (sign * good[query], sign * bad[query]) for query in sorted(good.keys() & bad.keys())}

    @property
    def called(self) -> list[int]:
        """The rows of trials that the target was asked for: neither the log's scores nor what cannot run."""
        import numpy as np

        rows: list[int] = np.flatnonzero(~(self.logged | self.unanswerable)).tolist()
        return rows

    def tally(self) -> Tally:
        """The called trials by the names of what was bad and their fate, in the order in which such came up."""
        return Counter((self.bad[row], self.fates[row]) for row in self.called)

    def _first(self, cell: int) -> list[int]:
        return [row for row in self._of_cell.get(cell, ()) if not self.repeats[row]]

    def scored(self, name: str) -> Floats:
        """(rows,) scores by one scorer; NaN: not scored."""
        import numpy as np

        if name not in self.names:
            return np.full(len(self), np.nan)
        return np.array(self.values).reshape(len(self), len(self.names))[:, self.names.index(name)]

    @property
    def erred(self) -> Bools:
        """(rows,) whether infrastructure gave no answer."""
        return self._mask(self.errors)

    @property
    def missed(self) -> Bools:
        """(rows,) whether the trial rests on a tool call whose result nobody knows."""
        import numpy as np

        return np.array([fate.outcome == MISSING for fate in self.fates], dtype=bool)

    @property
    def has_misses(self) -> bool:
        """Whether any trial rests on such a call."""
        return any(fate.outcome == MISSING for fate in self._one_of.values())

    @property
    def refused(self) -> Bools:
        """(rows,) whether the configuration itself was refused."""
        return self._mask(self.failed)

    @property
    def unanswerable(self) -> Bools:
        """(rows,) whether the combination cannot run."""
        return self._mask(self.reasons)

    @property
    def logged(self) -> Bools:
        """(rows,) whether the score is the log's."""
        import numpy as np

        return np.frombuffer(bytes(self.flags), dtype=np.uint8) & _LOGGED > 0

    def _mask(self, rows: Mapping[int, object]) -> Bools:
        import numpy as np

        mask = np.zeros(len(self), dtype=bool)
        mask[list(rows)] = True
        return mask

    def add(self, seen: FinishedTrial) -> None:
        """Append a row."""
        name, (query, cell, repeat), bad, identity, answer, scores, infeasible, fresh, logged, *_ = seen
        row = len(self.flags)
        self.ids.append(name)
        self.queries.append(query)
        self.cells.append(cell)
        self._of_cell[cell].append(row)
        self.repeats.append(repeat)
        self.bad.append(bad)
        self.identities += bytes.fromhex(identity)
        for scorer in self.names:
            value = scores.get(scorer)
            self.values.append(math.nan if value is None else value)
        self._add_answer(answer)
        is_empty = answer.is_empty
        self.flags.append(_FRESH * fresh | _LOGGED * logged | _ESTIMATED * answer.usage.estimated | _EMPTY * is_empty)
        self.has_empty = self.has_empty or is_empty
        if answer.error is not None:
            self.errors[row] = answer.error
        calls = answer.tool_calls
        if calls and (unusual := [call for call in calls if call.answered not in (None, EXACT)]):
            self.unusual[row] = tuple((str(call.answered), signature(call.name, call.arguments)) for call in unusual)
        if answer.reason is not None:
            self.failed[row] = answer.reason
        if answer.faults:
            self.faults[row] = answer.faults
        if answer.waited_s:
            self.waits[row] = answer.waited_s
        if infeasible is not None:
            self.reasons[row] = infeasible

    def _add_answer(self, answer: Answer) -> None:
        usage = answer.usage
        self.latencies.append(math.nan if answer.latency_s is None else answer.latency_s)
        self.usd.append(math.nan if usage.usd is None else usage.usd)
        self.tokens_in.append(usage.input_tokens)
        self.tokens_out.append(usage.output_tokens)
        self.steps.append(answer.steps)
        self.attempts.append(answer.attempts)
        told = answer.outcome, answer.model_returned, answer.fingerprint, answer.endpoint
        self.fates.append(self._one_of.get(told) or self._one_of.setdefault(told, Fate(*told)))


class FinishedTrial(NamedTuple):
    """What a finished trial tells the ledger. `level` says what the bits of its cell are."""

    query: str
    trial: Trial
    bad: tuple[str, ...]
    identity: str
    answer: Answer
    scores: dict[str, float | None]
    infeasible: str | None
    fresh: bool
    logged: bool = False
    level: str = "axes"
    # What it counted for in the cap on calls.
    calls: int = 1


def _no_rows() -> array[int]:
    return array("l")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
