"""Programs that the store's fault tests start, in a process of their own: it imports once and forks for every life.

    python tests/faults/loops.py kills FOLDER KILLS SEED
    python tests/faults/loops.py crowd FOLDER PROCESSES
    python tests/faults/loops.py fork FOLDER

Each prints one JSON object. Lines appended to a log with one write are what the world outside saw, whoever was killed when.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.errors import StoreError
from bisect_ai.provider.usage import Usage
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer

RUN = "0123456789abcdef"
TRIALS = 400
CONCURRENCY = 4


class Log:
    """Lines that survive the writer."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def identity(i: int) -> str:
    return digest(["trial", i])


def kept(i: int) -> Kept:
    return Kept(identity(i), RUN, f"q{i}", ("prompt",), 0, Answer(text=f"answer {i} " * (i % 50), usage=Usage(1, 1, 0.001)))


def forked(work: Callable[[], None]) -> int:
    """The pid of a child that does the work and ends; a traceback of it goes to standard error."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def live(folder: Path) -> None:
    """One life of a run: asks what is missing, a few trials at a time, then ends in order."""
    wire, acks = Log(folder / "wire"), Log(folder / "acks")
    with Store(folder / "store") as store:
        store.begin(RUN, {"good": {"name": "a"}, "bad": {"name": "b"}, "metric": "m"})
        missing = [i for i in range(TRIALS) if store.answer(identity(i)) is None]
        for start in range(0, len(missing), CONCURRENCY):
            group = missing[start : start + CONCURRENCY]
            for i in group:
                store.reserve(RUN, identity(i), usd=0.002, tokens=9)
                wire.write(os.getpid(), i)
            store.keep(RUN, [kept(i) for i in group], [Scored(identity(i), "s", float(i)) for i in group])
            acks.write(os.getpid(), *group)
        if missing:
            store.finish(RUN, {"seconds": 1.0, "report": {"verdict": {"kind": "cause", "sentence": "s"}}})


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill `count` lives at random moments; look after each, and let one more come to its end."""
    rng = random.Random(seed)
    store = folder / "store"
    lost = wrong = understated = killed = 0
    while killed < count:
        pid = forked(lambda: live(folder))
        time.sleep(rng.expovariate(1 / 0.012))
        os.kill(pid, signal.SIGKILL)
        killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
        acked = {int(i) for _, *group in lines(folder / "acks") for i in group}
        if not (store / "journal").is_dir():
            continue
        with Store(store) as opened:
            found = {i: opened.answer(identity(i)) for i in range(TRIALS)}
            under_way = opened.spending(RUN).killed.calls
            lost += sum(found[i] is None for i in acked)
            wrong += sum(k is not None and k != kept(i) for i, k in found.items())
            wrong += sum(opened.score(identity(i), "s") != Scored(identity(i), "s", float(i)) for i in acked)
            wrong += sum(opened.damage.lost.values())
        asked = Counter(int(i) for _, i in lines(folder / "wire"))
        understated += under_way < sum(asked.values()) - sum(k is not None for k in found.values())
        if len(acked) == TRIALS:  # a new beginning, so that kills never run out of work
            store.rename(folder / f"done-{killed}")
            (folder / "wire").rename(folder / f"wire-{killed}")
            (folder / "acks").rename(folder / f"acks-{killed}")
    code = os.waitpid(forked(lambda: live(folder)), 0)[1]
    before = len(lines(folder / "wire"))
    again = os.waitpid(forked(lambda: live(folder)), 0)[1]
    asked = Counter(int(i) for _, i in lines(folder / "wire"))
    return {
        "lost": lost,
        "wrong": wrong,
        "understated": understated,
        "killed": killed,
        "asked_again": sum(asked.values()) - len(asked),
        "last_ended": code == again == 0,
        "calls_when_all_is_there": len(lines(folder / "wire")) - before,
    }


def application(folder: Path) -> Callable[[Any, Any], str]:
    wire = Log(folder / "wire")

    def answer(query: Any, release: Any) -> str:
        wire.write(os.getpid(), query.id, release["prompt"], release["model"])
        time.sleep(0.002)
        return "no" if release["prompt"] == "brief" and int(query.id[1:]) % 3 == 0 else "yes"

    answer.version = "1"  # type: ignore[attr-defined]
    return answer


def crowd(folder: Path, processes: int) -> dict[str, Any]:
    """The same run in several processes at once, on one store, with a reader beside them."""
    import bisect_ai

    def correct(query: Any, answer: Any) -> bool:
        return bool(answer.text == query.reference)

    correct.version = "1"  # type: ignore[attr-defined]

    def study(out: Path) -> None:
        result = bisect_ai.run(
            good={"prompt": "exact", "model": "1"},
            bad={"prompt": "brief", "model": "2"},
            queries=[{"id": f"q{i}", "input": "?", "reference": "yes"} for i in range(60)],
            target=application(folder),
            scorers={"correct": correct},
            design="full",
            budget={"calls": 240},
            store=folder / "store",
        )
        out.write_text(json.dumps({"kind": result.verdict.kind, "calls": result.usage.calls, "trials": len(result.trials)}))

    def look() -> None:
        for _ in range(20):
            if (folder / "store" / "journal").is_dir():
                with Store(folder / "store") as opened:
                    assert not opened.damage.lost
            time.sleep(0.02)

    bisect_ai.run(  # imports what a run needs, once for all
        good={"p": 1},
        bad={"p": 2},
        queries=[{"id": str(i), "input": "?"} for i in range(4)],
        target=lambda query, release: "x",
        scorers={"s": lambda query, answer: float(query.id)},
        design="full",
    )
    outs = [folder / f"out-{i}" for i in range(processes)]
    pids = [forked(lambda out=out: study(out)) for out in outs] + [forked(look)]
    codes = [os.waitpid(pid, 0)[1] for pid in pids]
    asked = Counter(tuple(words[1:]) for words in lines(folder / "wire"))
    with Store(folder / "store") as opened:
        calls = [opened.spending(run).calls for run in opened.runs]
    return {
        "codes": codes,
        "results": [json.loads(out.read_text()) for out in outs if out.exists()],
        "distinct": len(asked),
        "calls": sum(asked.values()),
        "calls_on_record": calls,
        "most_for_one": max(asked.values()),
    }


def fork(folder: Path) -> dict[str, Any]:
    """A forked child may not write to its parent's segment; the parent goes on."""
    with Store(folder / "store") as store:
        store.begin(RUN, {})

        def child() -> None:
            try:
                store.keep(RUN, [kept(1)], [])
            except StoreError as error:
                (folder / "said").write_text(str(error))
            store.close()

        code = os.waitpid(forked(child), 0)[1]
        store.keep(RUN, [kept(2)], [])
    with Store(folder / "store") as store:
        return {
            "code": code,
            "said": (folder / "said").read_text(),
            "kept": [store.answered(identity(i)) for i in (1, 2)],
            "lost": store.damage.lost,
        }


if __name__ == "__main__":
    name, place, *numbers = sys.argv[1:]
    print(json.dumps({"kills": kills, "crowd": crowd, "fork": fork}[name](Path(place), *map(int, numbers))))
