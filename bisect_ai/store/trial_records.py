"""What the store keeps: a trial with its answer, a trial's score, and what a run has spent, each with its journal record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bisect_ai.canonical import canonical
from bisect_ai.provider.redaction import redact
from bisect_ai.store.record_lines import NANO, Entry
from bisect_ai.targets.answer import Answer


class Kept(NamedTuple):
    """A trial in the store: its answer, and the run that paid for it."""

    identity: str
    run: str
    query: str
    bad_axes: tuple[str, ...]
    repeat: int
    answer: Answer
    infeasible: str | None = None
    # What it counts for in the cap on calls: one, and one more for each request that was sent again; 0: none left.
    calls: int = 1

    def to_entry(self, scores: Iterable[Scored] = ()) -> Entry:
        """Its journal record, with the scores that were known when it was written."""
        return self.head(scores), self.answer.to_dict()

    def head(self, scores: Iterable[Scored] = ()) -> dict[str, Any]:
        """The journal record without the answer."""
        usage = self.answer.usage
        head: dict[str, Any] = {
            "type": "trial",
            "trial": self.identity,
            "run": self.run,
            "query": self.query,
            "bad_axes": list(self.bad_axes),
            "repeat": self.repeat,
            "infeasible": self.infeasible,
            "failed": self.answer.is_failure,
            "usd": usage.usd,
            "tokens": usage.tokens,
        }
        if self.calls != 1:
            head["calls"] = self.calls
        if usage.unsettled_tokens or usage.unsettled_usd:
            head["doubtful"] = [usage.unsettled_usd, usage.unsettled_tokens]
        if rows := [[s.scorer, s.value, s.error] for s in scores]:
            head["scores"] = rows
        return head

    def copied(self) -> Kept:
        """The trial as the journal would give it back: what happens to its answer's parts from now on does not touch it.

        Raises `InputError` for what JSON cannot hold.
        """
        if self.answer.is_text:
            return self
        return self._replace(answer=Answer.from_dict(json.loads(canonical(self.answer.to_dict()))))

    @classmethod
    def from_record(cls, head: Mapping[str, Any], payload: bytes) -> Kept:
        """What `to_entry` wrote."""
        return cls(
            identity=head["trial"],
            run=head["run"],
            query=head["query"],
            bad_axes=tuple(head["bad_axes"]),
            repeat=head["repeat"],
            answer=Answer.from_dict(json.loads(payload)),
            infeasible=head.get("infeasible"),
            calls=_calls_in(head),
        )


class Scored(NamedTuple):
    """A trial's score by one scorer; `value` None with `error`: could not be scored, without: does not apply."""

    trial: str
    scorer: str
    value: float | None
    error: str | None = None

    def without_keys(self) -> Scored:
        """The same, with no credential in its error."""
        return self if self.error is None else self._replace(error=redact(self.error))

    def to_entry(self) -> Entry:
        """Its journal record."""
        head = {"type": "score", "trial": self.trial, "scorer": self.scorer, "value": self.value, "error": self.error}
        return head, None


def kept_in(record: tuple[Mapping[str, Any], bytes] | None, identity: str) -> Kept | None:
    """The trial that a record of the journal holds; None when it is none, or not of this identity."""
    try:
        if record is not None and record[0]["trial"] == identity:
            return Kept.from_record(*record)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):  # a checksum is no signature
        pass
    return None


def scores_in(head: Mapping[str, Any]) -> list[Scored]:
    """The scores that a record holds: of a trial, written with it, or written later."""
    if head["type"] == "score":
        return [Scored(head["trial"], head["scorer"], head["value"], head["error"])]
    return [Scored(head["trial"], *row) for row in head.get("scores", ())]


def _calls_in(head: Mapping[str, Any]) -> int:
    """What a record counts for in the cap on calls; those of older stores count for one."""
    return int(head.get("calls", 1))


@dataclass(frozen=True)
class Unsettled:
    """Calls that were started and of which no outcome is known, with the most that they may have cost.

    `unpriced` of them had no upper bound in USD. `counted`: what they count for in the cap on calls.
    """

    calls: int = 0
    usd: float = 0.0
    tokens: int = 0
    unpriced: int = 0
    counted: int = 0

    def without(self, part: Unsettled) -> Unsettled:
        """All but a part of it."""
        return Unsettled(
            self.calls - part.calls,
            max(round(self.usd - part.usd, 9), 0.0),
            self.tokens - part.tokens,
            self.unpriced - part.unpriced,
            self.counted - part.counted,
        )

    def told(self) -> str:
        """What a run says of the calls that were under way when it was killed.

        Each was on record before it left, so some may not have: a run killed while 32 calls waited for a rate limit had sent 2 of 35.
        """
        if self.unpriced == self.calls:
            cost = "what they cost is not known"
        else:
            cost = f"at most {self.usd:.4g} USD" + (f", {self.unpriced} of them at an unknown price" if self.unpriced else "")
        calls = "1 call was" if self.calls == 1 else f"{self.calls} calls were"
        return f"{calls} under way or about to leave when the run was stopped or killed and may be billed: {cost}"


@dataclass(frozen=True)
class Spent:
    """What a run has cost in all its sittings, by the journal.

    `calls`: what counts against the cap on them: a trial, whatever came of it, is one, and each request that was sent again one
    more; what was held back and never left is none. `trials`: all that were asked. `errors`: those that failed with a call, `held`:
    those of which nothing left.
    `usd`, `tokens`: of settled calls, other charges (judges) included. `seconds`: of the sittings that ended in order.
    `unsettled`: what is under way or was when its process was killed:
    add its upper bounds when a cap must hold. `killed`: the part of it whose process is gone.
    """

    calls: int = 0
    errors: int = 0
    charges: int = 0
    usd: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    unsettled: Unsettled = Unsettled()
    killed: Unsettled = Unsettled()
    # USD by the scorer that spent them (judges, embeddings): part of `usd`.
    scorers: Mapping[str, float] = field(default_factory=dict)
    trials: int = 0
    # Requests of settled calls whose answer never came whole: they may have been billed too.
    doubtful: Unsettled = Unsettled()
    dearest_usd: float = 0.0
    # The most that one trial has said that it cost.
    dearest_tokens: int = 0
    # On the wire, also those that failed or were under way in a process that was killed.
    requests: int = 0
    held: int = 0


@dataclass
class Outlay:
    """What a run has laid out, as the journal adds it up. Money is whole nano-USD, so that the order of additions does not matter."""

    calls: int = 0
    errors: int = 0
    charges: int = 0
    nano: int = 0
    tokens: int = 0
    seconds: float = 0.0
    trials: int = 0
    scorers: dict[str, int] = field(default_factory=dict)
    doubtful: list[Unsettled] = field(default_factory=list)
    # The most that one trial has cost, in nano-USD and in tokens.
    dearest: tuple[int, int] = (0, 0)
    # (segment, identity) to the reservations, in USD, tokens and calls, that have no outcome yet.
    open: dict[tuple[str, str], list[tuple[float | None, int, int]]] = field(default_factory=dict)
    requests: int = 0
    held: int = 0

    def take(self, segment: str, head: Mapping[str, Any]) -> None:
        """Add a record of the run, read from or written to `segment`."""
        kind = head["type"]
        if kind == "attempt":
            self.open.setdefault((segment, head["trial"]), []).append((head["usd"], head["tokens"], _calls_in(head)))
        elif kind in ("trial", "purged"):
            calls = _calls_in(head)
            self.trials += 1
            self.calls += calls
            self.errors += head["failed"] and calls > 0
            self.held += head["failed"] and not calls
            self._has_cost(round((head["usd"] or 0.0) * NANO), head["tokens"])
            self._settle(segment, head)
        elif kind == "charge":
            self.charges += head["calls"]
            if isinstance(who := head.get("who"), str):
                self.scorers[who] = self.scorers.get(who, 0) + round((head["usd"] or 0.0) * NANO)
            self._settle(segment, head)
        elif kind == "finished":
            self.seconds += float(head.get("seconds", 0.0))
        elif kind == "requests":
            self.requests += head["sent"]
        elif kind == "exchange":  # older stores counted only those that were answered
            self.requests += not head.get("counted")

    def add_settled(self, calls: int, nano: int, tokens: int, most_nano: int, most_tokens: int) -> None:
        """Add trials that were answered, in sum, and the most that one of them cost."""
        self.trials += calls
        self.calls += calls
        self.nano += nano
        self.tokens += tokens
        self._has_cost(most_nano, most_tokens)

    def _has_cost(self, nano: int, tokens: int) -> None:
        self.dearest = max(self.dearest[0], nano), max(self.dearest[1], tokens)

    def _settle(self, segment: str, head: Mapping[str, Any]) -> None:
        if head["usd"]:
            self.nano += round(head["usd"] * NANO)
        self.tokens += head["tokens"]
        if "doubtful" in head:
            usd, tokens = head["doubtful"]
            self.doubtful.append(Unsettled(1, usd, tokens))
        self.open.pop((segment, head["trial"]), None)

    def spent(self, alive: Mapping[str, bool]) -> Spent:
        """The sums as they stand; `alive`: whether the writer of a segment still lives."""
        gone = [_reserved_sum(rs) for (segment, _), rs in self.open.items() if not alive.get(segment, False)]
        every = [_reserved_sum(rs) for rs in self.open.values()]
        usd, seconds = self.nano / NANO, round(self.seconds, 3)
        sums = (self.calls, self.errors, self.charges, usd, self.tokens, seconds)
        scorers = {who: nano / NANO for who, nano in self.scorers.items()}
        dearest = self.dearest[0] / NANO, self.dearest[1]
        rest = (self.trials, _total_of(self.doubtful), *dearest, self.requests, self.held)
        return Spent(*sums, _total_of(every), _total_of(gone), scorers, *rest)

    def copied(self) -> Outlay:
        """The sums as they stand; what is added from now on does not touch them."""
        return replace(
            self,
            scorers=dict(self.scorers),
            doubtful=list(self.doubtful),
            open={key: list(reservations) for key, reservations in self.open.items()},
        )

    def reserved(self, identity: str) -> Unsettled:
        """What is set aside for a trial that has no outcome yet."""
        return _total_of(_reserved_sum(rs) for (_, trial), rs in self.open.items() if trial == identity)


def outlay_of(outlays: dict[str, Outlay], run: str) -> Outlay:
    """What a run has laid out so far, to be added to; it is found for every record, so none is made in vain."""
    return outlays.get(run) or outlays.setdefault(run, Outlay())


def _reserved_sum(reservations: list[tuple[float | None, int, int]]) -> Unsettled:
    """Of one trial. One without money or tokens only counts a call, whose requests have reservations of their own."""
    requests = [r for r in reservations if r[0] is None or r[0] or r[1]]
    usd, tokens = sum(r[0] or 0.0 for r in requests), sum(r[1] for r in requests)
    return Unsettled(len(requests), usd, tokens, sum(r[0] is None for r in requests), sum(r[2] for r in reservations))


def _total_of(some: Iterable[Unsettled]) -> Unsettled:
    listed = list(some)
    return Unsettled(
        sum(u.calls for u in listed),
        round(sum(u.usd for u in listed), 9),
        sum(u.tokens for u in listed),
        sum(u.unpriced for u in listed),
        sum(u.counted for u in listed),
    )
