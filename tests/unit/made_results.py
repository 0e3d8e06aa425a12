"""Made-up result files of evaluation tools, with a planted difference between their configurations."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INTENTS = ("refund", "hours", "delivery")


def passes(queries: int, *, share: float = 0.9, seed: int = 0) -> list[bool]:
    """Which questions the baseline answers right."""
    rng = random.Random(seed)
    return [rng.random() < share for _ in range(queries)]


def broken(good: Sequence[bool], every: int, *, among: int = 0) -> list[bool]:
    """The same with every `every`-th right answer wrong; `among`: only in this segment."""
    right = [i for i, ok in enumerate(good) if ok and (not among or i % len(INTENTS) == among)]
    lost = set(right[::every])
    return [ok and i not in lost for i, ok in enumerate(good)]


def question(i: int) -> str:
    return f"What about {INTENTS[i % len(INTENTS)]} number {i}?"


def inspect_log(
    path: Path, results: Sequence[bool | None], *, model: str = "acme/one", run: str = "r", epochs: int = 1, **task: Any
) -> Path:
    """An Inspect log of one task: a sample for each question and epoch, None: the sample failed."""
    samples = [
        {
            "id": i,
            "epoch": epoch,
            "input": question(i),
            "target": "yes",
            "messages": [
                {"role": "user", "content": question(i), "source": "input"},
                {"role": "assistant", "content": "yes" if ok else "no"},
            ],
            "output": {"model": model, "choices": [{"message": {"role": "assistant", "content": "yes" if ok else "no"}}]},
            "scores": {} if ok is None else {"match": {"value": "C" if ok else "I", "answer": "yes" if ok else "no"}},
            **({"error": {"message": "timeout"}} if ok is None else {}),
            "metadata": {"intent": INTENTS[i % len(INTENTS)]},
        }
        for i, ok in enumerate(results)
        for epoch in range(1, epochs + 1)
    ]
    head = {"eval_id": run, "run_id": run, "created": "2026-05-01", "task": "desk", "task_version": 0, "model": model, **task}
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": head, "samples": samples}))
    return path


Grid = Mapping[tuple[str, str], Sequence[bool | None]]
"""(provider, prompt) to the results by question."""


def promptfoo(path: Path, grid: Grid, *, config: Mapping[str, Any] | None = None) -> Path:
    """A promptfoo result file: every provider with every prompt on every question."""
    rows = [
        {
            "id": f"{path.stem}-{p}-{i}",
            "promptIdx": p,
            "testIdx": i,
            "provider": {"id": provider, "label": ""},
            "prompt": {"raw": f"{prompt}: {question(i)}", "label": prompt},
            "vars": {"question": question(i), "intent": INTENTS[i % len(INTENTS)]},
            "testCase": {"vars": {"question": question(i)}, "assert": [{"type": "equals", "value": "yes"}]},
            "response": {"output": "yes" if ok else "no"} if ok is not None else {},
            "success": bool(ok),
            "score": float(bool(ok)),
            "failureReason": 2 if ok is None else 0 if ok else 1,
            **({"error": "429"} if ok is None else {}),
            "latencyMs": 100 + (i * 7) % 50,
            "cost": 0.001,
        }
        for p, ((provider, prompt), results) in enumerate(grid.items())
        for i, ok in enumerate(results)
    ]
    body = {"evalId": path.stem, "results": {"version": 3, "results": rows}, "config": dict(config or {})}
    path.write_text(json.dumps(body))
    return path


def table(path: Path, columns: Mapping[str, Sequence[bool | None]], **extra: Any) -> Path:
    """A JSONL table: one row for each model and question."""
    rows = [
        {"id": i, "input": question(i), "model": model, "intent": INTENTS[i % 3], "correct": ok, **extra}
        for model, results in columns.items()
        for i, ok in enumerate(results)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
