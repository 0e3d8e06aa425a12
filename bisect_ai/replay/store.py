"""Answers and scores by identity, kept in the journal (or in memory only), so that nothing is paid for twice.

A trial is known by the digest of everything the target receives; errors are kept but never answer a later call. Scores are kept
beside trials by (trial, scorer digest). A run's settings and decision rule are written before its first call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisect_ai.errors import StoreError
from bisect_ai.replay.answer import Answer
from bisect_ai.replay.journal import Damage, Segment, open_folder, read_folder


@dataclass(frozen=True)
class Kept:
    """A trial in the store: its answer, and the run that paid for it."""

    identity: str
    run: str
    query: str
    bad_axes: tuple[str, ...]
    repeat: int
    answer: Answer
    infeasible: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The journal's record of it."""
        return {
            "type": "trial",
            "trial": self.identity,
            "run": self.run,
            "query": self.query,
            "bad_axes": list(self.bad_axes),
            "repeat": self.repeat,
            "answer": self.answer.to_dict(),
            "infeasible": self.infeasible,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Kept:
        """What `to_record` wrote."""
        return cls(
            identity=record["trial"],
            run=record["run"],
            query=record["query"],
            bad_axes=tuple(record["bad_axes"]),
            repeat=record["repeat"],
            answer=Answer.from_dict(record["answer"]),
            infeasible=record.get("infeasible"),
        )


@dataclass(frozen=True)
class Scored:
    """A trial's score by one scorer; `value` None with `error`: could not be scored, without: does not apply."""

    trial: str
    scorer: str
    value: float | None
    error: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The journal's record of it."""
        return {"type": "score", "trial": self.trial, "scorer": self.scorer, "value": self.value, "error": self.error}


class Store:
    """A store of one folder, or of memory when `path` is None. Use as a context manager, or `close` it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.damage = Damage()
        self.runs: dict[str, dict[str, Any]] = {}
        self.spent: dict[str, list[Kept]] = {}
        self._answers: dict[str, Kept] = {}
        self._scores: dict[tuple[str, str], Scored] = {}
        self._segment: Segment | None = None
        self._folder = None if path is None else open_folder(path)
        if self._folder is not None:
            for record in read_folder(self._folder, self.damage):
                self._take(record)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the segment being written."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def begin(self, run: str, settings: Mapping[str, Any]) -> None:
        """Write a run's settings and decision rule before its first call; a run already there is resumed."""
        if run not in self.runs:
            self._write(run, [{"type": "run", "run": run, "settings": dict(settings)}])

    def finish(self, run: str, facts: Mapping[str, Any]) -> None:
        """Note the end of a sitting that made calls (its seconds, its report)."""
        self._write(run, [{"type": "finished", "run": run, **facts}])

    def answer(self, identity: str) -> Kept | None:
        """The trial that answers for this identity, None when it was never answered."""
        return self._answers.get(identity)

    def score(self, trial: str, scorer: str) -> Scored | None:
        """The kept score of a trial by a scorer."""
        return self._scores.get((trial, scorer))

    def keep(self, run: str, trials: Iterable[Kept], scores: Iterable[Scored]) -> None:
        """Make trials and scores durable: when this returns, they are on the disk."""
        trials, scores = list(trials), list(scores)
        if self._folder is not None:
            self._append(run, [*(t.to_record() for t in trials), *(s.to_record() for s in scores)])
        for kept in trials:
            self._index_trial(kept)
        for scored in scores:
            self._scores.setdefault((scored.trial, scored.scorer), scored)

    def _write(self, run: str, records: list[dict[str, Any]]) -> None:
        if self._folder is not None:
            self._append(run, records)
        for record in records:
            self._take(record)

    def _append(self, run: str, records: list[dict[str, Any]]) -> None:
        if records and self._folder is not None:
            self._segment = self._segment or Segment(self._folder, run=run)
            self._segment.append(records)

    def _take(self, record: Mapping[str, Any]) -> None:
        match record.get("type"):
            case "run":
                self.runs.setdefault(record["run"], {"settings": record["settings"], "finished": []})
            case "finished":
                if record["run"] in self.runs:
                    self.runs[record["run"]]["finished"].append(record)
            case "trial":
                self._index_trial(Kept.from_record(record))
            case "score":
                scored = Scored(record["trial"], record["scorer"], record["value"], record["error"])
                self._scores.setdefault((scored.trial, scored.scorer), scored)

    def _index_trial(self, kept: Kept) -> None:
        self.spent.setdefault(kept.run, []).append(kept)
        if kept.answer.error is None:
            self._answers.setdefault(kept.identity, kept)

    def find_run(self, prefix: str) -> str:
        """The run whose id begins with `prefix`. Raises `StoreError` when none or several do."""
        found = [run for run in self.runs if run.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        have = ", ".join(run[:12] for run in self.runs) or "none"
        what = "no run" if not found else "more than one run"
        raise StoreError(f"{what} in {self.path} begins with {prefix!r}; it has: {have}")
