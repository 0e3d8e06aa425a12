"""A report in any of its file formats, by the format's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import cast

from bisect_ai.report.json_edge import to_json
from bisect_ai.report.report_values import ReportLike

_RENDERERS = {"markdown": "markdown", "html": "html", "junit": "junit"}


def render_as(name: str, report: ReportLike) -> str:
    """The report's text in the format `name`: json, markdown, html or junit. A renderer is imported when it is used."""
    if name == "json":
        return json_text(report)
    module = import_module(f"bisect_ai.report.{_RENDERERS[name]}")
    return cast(Callable[[ReportLike], str], module.render)(report)


def json_text(report: ReportLike) -> str:
    """A report's JSON text, ASCII, one key a line: the same bytes for the same report."""
    return json.dumps(to_json(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
