"""A report in any of its file formats, by the format's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from bisect_ai.report.json_edge import to_json
from bisect_ai.report.report_values import ReportLike
from bisect_ai.report.standpoint import HERE, Standpoint

_RENDERERS = {"markdown": "markdown", "html": "html", "junit": "junit"}


def render_as(name: str, report: ReportLike, *, at: Standpoint = HERE) -> str:
    """The report's text in the format `name`: json, markdown, html or junit; `at`: where its commands will be typed.

    A renderer is imported when it is used.
    """
    if name == "json":
        return json_text(report)
    module = import_module(f"bisect_ai.report.{_RENDERERS[name]}")
    render = cast(Callable[..., str], module.render)
    return render(report) if name == "junit" else render(report, at=at)


def sibling(path: Path, number: int) -> Path:
    """Where a page's answers go on: `report-answers-2.html` beside `report.html`."""
    return path.with_name(f"{path.stem}-answers-{number}{path.suffix or '.html'}")


def json_text(report: ReportLike) -> str:
    """A report's JSON text, ASCII, one key a line: the same bytes for the same report."""
    return json.dumps(to_json(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
