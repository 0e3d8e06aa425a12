"""Reports of a few fields as values: what a test is not about may be left out."""

from __future__ import annotations

from typing import Any

from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report


def report_of(given: dict[str, Any]) -> Report:
    """`given` as a report, of some metric and verdict where it names none."""
    return read(Report, {"metric": "m", "verdict": {"kind": "cause"}, **given})
