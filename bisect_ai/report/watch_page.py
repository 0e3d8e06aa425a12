"""The page of `drift` and `onset`."""

from __future__ import annotations

from bisect_ai.report.canary_page import CanaryPage
from bisect_ai.report.page_card import card_view
from bisect_ai.report.page_folds import PageList
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.report.watch_report import parts, watch_sentence

TONES = {"drift": "harm", "onset": "harm", "steady": "help", "inconclusive": "warn"}


def arrange(report: Report, at: Standpoint = HERE) -> CanaryPage:
    """The page of a report of watching; commands on it are typed `at` that place."""
    kind = report.verdict.kind
    name = one_line(report.good) or "the log"
    return CanaryPage(
        title=f"{kind.capitalize()}: {one_line(report.metric)}, {name}",
        run=one_line(report.run),
        releases=(name, name),
        kind=kind.capitalize(),
        tone=TONES[kind],
        card=card_view(report, at),
        sentence=watch_sentence(report),
        facts=(),
        tables={},
        lists=tuple(PageList(part.title, part.lines) for part in parts(report)),
        roles=("then", "now"),
    )
