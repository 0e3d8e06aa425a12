"""Which change in the release of an LLM application lowered its quality?

`run` gives the verdict, `load` that of a stored run, `attribute` that on a table of scores from elsewhere; `Release`, `Answer` and
`Infeasible` are what targets and callers exchange. Everything is imported when it is first used, so that `import bisect_ai` costs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisect_ai.errors import BisectError, Infeasible, InputError, StoreError, TargetFailure
    from bisect_ai.facts.attribute_table import attribute
    from bisect_ai.facts.audit_facts import audit, gate
    from bisect_ai.facts.canary_facts import canary
    from bisect_ai.facts.compare_files import compare
    from bisect_ai.facts.drift_facts import drift
    from bisect_ai.facts.onset_facts import onset
    from bisect_ai.facts.run_facts import load, run
    from bisect_ai.facts.saved_runs import history
    from bisect_ai.facts.verify_facts import verify
    from bisect_ai.provider.usage import Usage
    from bisect_ai.queries.query import Query
    from bisect_ai.release.load import Release, load_release
    from bisect_ai.result import Result
    from bisect_ai.targets.answer import Answer, ToolCall

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "BisectError",
    "Infeasible",
    "InputError",
    "Query",
    "Release",
    "Result",
    "StoreError",
    "TargetFailure",
    "ToolCall",
    "Usage",
    "attribute",
    "audit",
    "canary",
    "compare",
    "drift",
    "gate",
    "history",
    "load",
    "load_release",
    "onset",
    "run",
    "verify",
]

_HOMES = {
    "run": "bisect_ai.facts.run_facts",
    "load": "bisect_ai.facts.run_facts",
    "attribute": "bisect_ai.facts.attribute_table",
    "audit": "bisect_ai.facts.audit_facts",
    "canary": "bisect_ai.facts.canary_facts",
    "compare": "bisect_ai.facts.compare_files",
    "drift": "bisect_ai.facts.drift_facts",
    "gate": "bisect_ai.facts.audit_facts",
    "history": "bisect_ai.facts.saved_runs",
    "onset": "bisect_ai.facts.onset_facts",
    "verify": "bisect_ai.facts.verify_facts",
    "Release": "bisect_ai.release.load",
    "load_release": "bisect_ai.release.load",
    "Answer": "bisect_ai.targets.answer",
    "ToolCall": "bisect_ai.targets.answer",
    "Usage": "bisect_ai.provider.usage",
    "Query": "bisect_ai.queries.query",
    "Result": "bisect_ai.result",
    **dict.fromkeys(("BisectError", "Infeasible", "InputError", "StoreError", "TargetFailure"), "bisect_ai.errors"),
}


def __getattr__(name: str) -> Any:
    """The public name, imported from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bisect_ai' has no attribute {name!r}")
    import gc
    import importlib

    before = gc.get_threshold()
    gc.set_threshold(500_000, *before[1:])  # as in `__main__`: imports make no garbage
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    finally:
        if gc.isenabled() and gc.get_count()[0] > before[0]:
            gc.collect(1)  # else it comes at once, and once more in the middle of a run
        gc.set_threshold(*before)


def __dir__() -> list[str]:
    """The public names, though most are not imported yet: what a notebook offers after a dot."""
    return [*__all__, "__version__"]
