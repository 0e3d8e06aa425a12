"""Answers and scores by identity, kept in the journal (or in memory only), so that nothing is paid for twice.

A trial is known by the digest of everything the target receives; errors are kept but never answer a later call. Scores are kept
beside trials by (trial, scorer digest). A run's settings and decision rule are written before its first call.

Before a call is paid for, `reserve` writes what it may cost, to the kernel and without waiting for the disk: after a kill the run
knows how many calls were under way. When the journal is in trouble `reserve` refuses, so that no further call is paid for, while
the answers of those under way are still kept. `spending` is computed from the journal alone: restarts forget nothing.

Memory holds a digest, a place in the journal and the scores of each trial, some 200 bytes; answers stay on the disk and are
read when they are asked for. Several processes may share a store: each writes a segment of its own, `refresh` reads what
the others have added, and `claim` tells who is at a trial now.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bisect_ai.errors import StoreError
from bisect_ai.provider.redaction import redact, redact_all
from bisect_ai.store.journal import JournalSegment, open_folder
from bisect_ai.store.locks import Claims, Presence, Turn, is_locked, place_notices
from bisect_ai.store.offsets import Places, key_of
from bisect_ai.store.record_lines import Collector, Contents, Entry
from bisect_ai.store.recovery import Damage, Folder
from bisect_ai.store.trial_records import Kept, Outlay, Scored, Spent, Unsettled, kept_in, outlay_of

__all__ = ["Kept", "Scored", "Spent", "Store"]

# The turn of a store in memory: no other process can look.
_NO_OTHERS = contextlib.nullcontext(False)


class Store:
    """A store of one folder, or of memory when `path` is None. Use as a context manager, or `close` it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        # Run id to {"settings": …}, in the order in which they were begun.
        self.runs: dict[str, dict[str, Any]] = {}
        # What the user should know about the folder itself.
        self.notices: list[str] = []
        self._outlays: dict[str, Outlay] = {}
        # Run to the trials for which this sitting has noted a call that has no outcome yet.
        self._open: dict[str, set[str]] = {}
        # All the rest of it, of the runs of this process's sittings in the order in which they began.
        self.sittings: dict[str, Outlay] = {}
        # The sums of that, as long as nothing new is heard.
        self._told: dict[str, Spent] = {}
        # What finished audits noted of themselves, in no order: `at` tells when (microseconds UTC).
        self.audits: list[dict[str, Any]] = []
        # Run id to when its last report was made (microseconds UTC), where that was noted.
        self.ended: dict[str, int] = {}
        self._reports: dict[str, tuple[str, int]] = {}
        self._exchanges: dict[str, tuple[str, int]] = {}  # identity of a request on the wire to the place of its answer
        self._segment: JournalSegment | None = None
        self._collector = Collector()
        self._guard = threading.RLock()
        self._folder = None if path is None else Folder(open_folder(path))
        self._places = Places(None if self._folder is None else self._folder.path)
        self._failures: dict[bytes, tuple[str, int]] = {}
        if path is not None:
            self._presence, self._claims, self._turn = Presence(path), Claims(path), Turn(path)
            self.notices = place_notices(path)
            self.refresh()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the segment being written and give all locks back."""
        if self._segment is not None:
            self._segment.close(self._collector.entries())
            self._segment = None
        if self.path is not None:
            self._claims.close()
            self._turn.close()
            self._presence.close()
        self._places.close()

    # -- runs --------------------------------------------------------------------------------------------------------
    def begin(self, run: str, settings: Mapping[str, Any]) -> None:
        """Write a run's settings and decision rule before its first call; a run already there is resumed."""
        if run not in self.runs:
            self._write(run, [({"type": "run", "run": run, "settings": redact_all(settings)}, None)])

    def finish(self, run: str, facts: Mapping[str, Any]) -> None:
        """Note the end of a sitting that made calls (its seconds, its report)."""
        told = redact_all(facts)
        head = {"type": "finished", "run": run, **{k: v for k, v in told.items() if k != "report"}}
        self._write(run, [(head, told.get("report"))])

    def report(self, run: str, *, basis: str | None = None) -> dict[str, Any] | None:
        """The last report of a run, of this `basis` where one is given; None: it has not come to its end, or not on that basis."""
        place = self._reports.get(run)
        report: dict[str, Any] | None = None
        if place is not None and self._folder is None:
            report = self._places.held(place[1])
        elif place is not None and (found := self._places.read(*place)) and basis in (None, found[0].get("basis")):
            report = json.loads(found[1])
        return report

    def find_run(self, prefix: str) -> str:
        """The run whose id begins with `prefix`. Raises `StoreError` when none or several do."""
        found = [run for run in self.runs if run.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        have = ", ".join(run[:12] for run in self.runs) or "none"
        what = "no run" if not found else "more than one run"
        raise StoreError(f"{what} in {self.path} begins with {prefix!r}; it has: {have}")

    # -- trials and scores -------------------------------------------------------------------------------------------
    def answer(self, identity: str) -> Kept | None:
        """The trial that answers for this identity, read from the journal; None when it was never answered, or is lost."""
        key = key_of(identity)
        place = self._places.get(key)
        kept = None if place is None else self._kept_at(place, identity)
        if place is not None and kept is None:
            self._places.forget(key)
        return kept

    def failure(self, identity: str) -> Kept | None:
        """How the trial failed when it was last asked; None when it never did, or the record is lost."""
        place = self._failures.get(key_of(identity))
        return None if place is None else self._kept_at(place, identity)

    def _kept_at(self, place: tuple[str, int], identity: str) -> Kept | None:
        if self._folder is None:
            kept: Kept = self._places.held(place[1])
            return kept
        return kept_in(self._places.read(*place), identity)

    def exchange(self, identity: str) -> dict[str, Any] | None:
        """What a provider answered on the wire to a request with this identity; None: nothing was kept, or it is lost."""
        place = self._exchanges.get(identity)
        if place is None:
            return None
        if self._folder is None:
            held: dict[str, Any] = self._places.held(place[1])
            return held
        found = self._places.read(*place)
        if found is None or found[0].get("exchange") != identity:
            return None
        record = json.loads(found[1])
        return record if isinstance(record, dict) else None

    def keep_exchange(self, run: str, identity: str, query: str, record: Mapping[str, Any]) -> None:
        """Keep what a provider answered; a killed process does not lose it. Raises `StoreError`."""
        head = {"type": "exchange", "exchange": identity, "run": run, "query": query, "counted": True}
        self._write(run, [(head, redact_all(record))], wait=False)

    def answered(self, identity: str) -> bool:
        """Whether a trial answers for this identity, without reading it."""
        return self._places.get(key_of(identity)) is not None

    def score(self, trial: str, scorer: str) -> Scored | None:
        """The kept score of a trial by a scorer."""
        found = self._places.get_score(key_of(trial), scorer)
        return None if found is None else Scored(trial, scorer, *found)

    def keep(self, run: str, trials: Iterable[Kept], scores: Iterable[Scored]) -> None:
        """Make trials and scores durable: when this returns, they are on the disk. Raises `StoreError`: they may not be.

        Afterwards look at `trouble`: there may be no room for more.
        """
        trials = list(trials)
        late: dict[str, list[Scored]] = {}
        for scored in scores:
            late.setdefault(scored.trial, []).append(scored.without_keys())
        entries = [self._entry(kept, late.pop(kept.identity, ())) for kept in trials]
        self._write(run, [*entries, *(s.to_entry() for some in late.values() for s in some)])
        if self.path is not None:
            for kept in trials:
                self._claims.drop(key_of(kept.identity))

    def _entry(self, kept: Kept, scores: Iterable[Scored]) -> Entry:
        """A trial's record; its payload is what the disk holds of the answer, or what memory holds of the trial."""
        return kept.to_entry(scores) if self._folder is not None else (kept.head(scores), kept.copied())

    # -- money -------------------------------------------------------------------------------------------------------
    def reserve(self, run: str, identity: str, *, usd: float | None = None, tokens: int = 0, calls: int = 1) -> None:
        """Note that a call for this trial is about to start, and the most that it may cost (`usd` None: no price known).

        `calls`: what it counts for in the cap on them; 0: a further request of a call that is counted already.

        The trial's record, or a `charge` of the same identity, settles all its reservations. Raises `StoreError` when the
        journal is in trouble: then the call must not be made.
        """
        if self._segment is not None:
            self._segment.check_room(len(self._open.get(run, ())) + 1)
        if self.trouble is None:
            self._note(run, {"type": "attempt", "run": run, "trial": identity, "usd": usd, "tokens": tokens, "calls": calls})
            if self.trouble is not None:  # it came up while this waited to write: the call is not made after all
                with contextlib.suppress(StoreError):
                    self.charge(run, identity, calls=0)
        if self.trouble is not None:
            raise StoreError(str(self.trouble))

    def charge(
        self, run: str, identity: str, *, usd: float | None = None, tokens: int = 0, calls: int = 1, who: str = ""
    ) -> None:
        """Note what calls cost that are no trial of their own (a judge's, a cancelled one's), and settle their reservations.

        `who`: the scorer that made them.

        It does not wait for the disk: the next `keep` takes it along, and until then the reservation stands.
        """
        head = {"type": "charge", "run": run, "trial": identity, "usd": usd, "tokens": tokens, "calls": calls}
        head |= {"who": redact(who)} if who else {}
        self._note(run, head)

    def sends(self, run: str, requests: int) -> None:
        """Note requests on the wire that are about to leave; fewer than none: so many did not after all. Raises `StoreError`."""
        self._note(run, {"type": "requests", "run": run, "sent": requests})

    def spending(self, run: str) -> Spent:
        """What a run has cost in all its sittings, by the journal; calls of killed processes at their upper bound."""
        with self._guard:
            outlay = self._outlays.get(run, Outlay())
            names = {segment for segment, _ in outlay.open}
            return outlay.spent({name: self._is_alive(name) for name in names})

    def reserved(self, run: str, identity: str) -> Unsettled:
        """What is set aside for a trial that has no outcome yet."""
        with self._guard:
            return outlay_of(self._outlays, run).reserved(identity)

    def turn(self) -> contextlib.AbstractContextManager[bool]:
        """Inside, no other process looks at what is spent or notes a call; True: what others have noted is to be looked at."""
        return _NO_OTHERS if self.path is None else self._locked_turn()

    @contextlib.contextmanager
    def _locked_turn(self) -> Iterator[bool]:
        with self._turn as entered:
            if entered:
                self.refresh()
            yield entered

    def new_sitting(self, run: str) -> None:
        """From now on what was written so far counts as that of others."""
        with self._guard:
            self.sittings[run], self._open[run] = outlay_of(self._outlays, run).copied(), set()
            self._told.pop(run, None)

    def spending_of_others(self, run: str) -> Spent:
        """What a run has cost in earlier sittings and in other processes: all that this sitting did not write."""
        with self._guard:
            if run not in self.sittings:
                self.new_sitting(run)
            known = self._told.get(run)
            if known is None:
                theirs = self.sittings[run]
                known = theirs.spent({name: self._is_alive(name) for name in {segment for segment, _ in theirs.open}})
                if not theirs.open:  # else it also depends on who lives
                    self._told[run] = known
            return known

    @property
    def trouble(self) -> StoreError | None:
        """Why no further call may be paid for (the disk is full, or failed); None: all is well."""
        return None if self._segment is None else self._segment.trouble

    # -- other processes ---------------------------------------------------------------------------------------------
    def claim(self, identity: str) -> bool:
        """Whether this process should ask this trial now; False when another process is at it, or has answered it.

        `keep` or `release` ends a claim, and so does the end of the process.
        """
        if self.path is None:
            return True
        key = key_of(identity)
        if not self._claims.take(key):
            return False
        try:
            self.refresh()  # it may have been answered between the last look and the claim
        except StoreError:
            self._claims.drop(key)
            raise
        if self._places.get(key) is None:
            return True
        self._claims.drop(key)
        return False

    def release(self, identity: str) -> None:
        """Give a claim back without an answer."""
        if self.path is not None:
            self._claims.drop(key_of(identity))

    def refresh(self) -> None:
        """Take in what other processes have written since. Raises `StoreError`: the folder is gone, or cannot be read."""
        if self._folder is None:
            return
        with self._guard:
            own = None if self._segment is None else self._segment.path.name
            try:
                for reader, (place, head, payload) in self._folder.read(skip=own, contents=True):
                    self._take(reader.path.name, place, head, payload)
                    self._hear(reader.path.name, head, payload)
            except OSError as error:
                raise StoreError(
                    f"cannot read the store {self.path} any more: {error.strerror or error}; it was deleted or moved while it was in "
                    "use: put it back if you can, then run the same command again"
                ) from error

    @property
    def damage(self) -> Damage:
        """What of the journal could not be read."""
        return Damage() if self._folder is None else self._folder.damage()

    def _is_alive(self, name: str) -> bool:
        own = self._segment is not None and name == self._segment.path.name
        return own or self._folder is None or is_locked(self._folder.path / name)

    # -- records -----------------------------------------------------------------------------------------------------
    def _note(self, run: str, head: dict[str, Any]) -> None:
        """Keep what is only counted: in memory its sum is enough."""
        if self._folder is not None:
            self._write(run, [(head, None)], wait=False)
            return
        with self._guard:
            outlay_of(self._outlays, run).take("", head)

    def _write(self, run: str, entries: list[Entry], *, wait: bool = True) -> None:
        if not entries:
            return
        if self._folder is None:
            with self._guard:
                self._take_all("", [self._places.hold(payload) for _, payload in entries], entries)
            return
        with self._guard:
            self._segment = self._segment or JournalSegment(self._folder.path, run=run)
        places = self._segment.append(entries, wait=wait)
        with self._guard:
            self._take_all(self._segment.path.name, places, entries)
            for place, (head, _) in zip(places, entries, strict=True):
                self._collector.take(place, key_of(head["trial"]) if "trial" in head else b"", head)

    def _take_all(self, segment: str, places: list[int], entries: list[Entry]) -> None:
        for place, (head, payload) in zip(places, entries, strict=True):
            self._take(segment, place, head, payload)
            if segment and "run" in head and "trial" in head:
                under_way = self._open.setdefault(head["run"], set())
                (under_way.add if head["type"] == "attempt" else under_way.discard)(head["trial"])

    def _take(self, segment: str, place: int, head: Mapping[str, Any], payload: Any) -> None:
        """Take in a record that was read or written."""
        kind = head["type"]
        if kind == "trial":
            row = self._places.row(key := key_of(head["trial"]))
            if head["failed"]:
                self._failures[key] = segment, place
            else:
                self._places.set(row, segment, place)
            for scorer, value, error in head.get("scores", ()):
                self._places.set_score(row, scorer, value, error)
        elif kind == "score":
            self._places.set_score(self._places.row(key_of(head["trial"])), head["scorer"], head["value"], head["error"])
        elif kind == "contents" and isinstance(payload, Contents):
            self._take_contents(segment, payload)
        elif kind == "exchange":
            self._exchanges.setdefault(head["exchange"], (segment, place))
        elif kind == "run":
            self.runs.setdefault(head["run"], {"settings": head["settings"]})
        elif kind == "finished" and payload:
            self._reports[head["run"]] = segment, place
            self.audits += [dict(head)] if "audit" in head else []
            self.ended |= {head["run"]: head["at"]} if "at" in head else {}
        if "run" in head:
            outlay_of(self._outlays, head["run"]).take(segment, head)

    def _hear(self, segment: str, head: Mapping[str, Any], payload: Any) -> None:
        """Count what another process wrote, where a sitting is at work on its run."""
        if head["type"] == "contents" and isinstance(payload, Contents):
            for run, sums in payload.sums.items():
                if run in self.sittings:
                    self.sittings[run].add_settled(*sums)
                    self._told.pop(run, None)
        elif head.get("run") in self.sittings:
            self.sittings[head["run"]].take(segment, head)
            self._told.pop(head["run"], None)

    def _take_contents(self, segment: str, contents: Contents) -> None:
        places = self._places
        rows = [places.row(contents.key(i)) for i in range(len(contents.offsets))]
        for row, offset in zip(rows, contents.offsets, strict=True):
            places.set(row, segment, offset)
        for scorer, (some, values) in contents.scores.items():
            for i, value in zip(some, values, strict=True):
                places.set_score(rows[i], scorer, None if math.isnan(value) else value, None)
        for run, sums in contents.sums.items():
            outlay_of(self._outlays, run).add_settled(*sums)
