"""What `gate` says of a change, beside the evidence that an audit block holds."""

from __future__ import annotations

from bisect_ai.report.json_edge import Number, Value


class GateBlock(Value, frozen=True):
    """A change against the commit that it began from. `outcome`: not_worse, worse, undecided, or failed: nothing was measured."""

    outcome: str
    base: str = ""
    """As it was asked for: a branch, most often."""
    head: str = ""
    base_commit: str = ""
    head_commit: str = ""
    detect: Number | None = None
    """The loss that it should not let pass."""
    most_calls: int | None = None
    most_usd: Number | None = None
    """What was said beforehand that it may cost at the most."""
    config: str = ""
    """The settings file, from the top of the repository."""
    reason: str = ""
    """Why nothing was measured, or what is open."""
