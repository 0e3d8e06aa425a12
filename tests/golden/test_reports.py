"""Made-up reports, a diff and a plan, rendered and compared with files that people have read.

After a change on purpose: BISECT_UPDATE_GOLDEN=1 pytest tests/golden, then read the difference.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from bisect_ai.report import html, junit, markdown, terminal
from bisect_ai.report.planning_text import render_diff, render_plan
from bisect_ai.report.tables import side_table
from bisect_ai.report.verdict_sentence import verdict_sentence
from tests.reports import report_of

HERE = Path(__file__).parent / "reports"
REPORTS = [
    "cause_together",
    "cause_two_of_six",
    "cause_latency",
    "cause_either",
    "cause_drilled",
    "no_regression",
    "not_reproduced",
    "drift",
    "inconclusive_hostile",
    "traffic",
    "audit_healthy",
    "audit_regression",
    "audit_undecided",
    "canary_promote",
    "canary_roll_back",
    "canary_wait_hostile",
    "canary_cost",
    "compare_regression",
    "compare_equivalent",
    "compare_undecided_hostile",
]


def without_pictures(report: dict[str, Any]) -> str:
    """The page with a mark in place of every drawing: drawings change with matplotlib, their numbers are tested in test_series."""
    page = html.render(report, pictures=html.sketch_all)
    return re.sub(r"(?s)<style>.*?</style>", "<style>…</style>", re.sub(r"'sha256-[^']*'", "'sha256-…'", page))


PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    **{f"{name}.txt": terminal.render for name in REPORTS},
    **{f"{name}.md": markdown.render for name in REPORTS},
    **{f"{name}.html": without_pictures for name in REPORTS},
    **{f"{name}.xml": junit.render for name in REPORTS},
    "diff.txt": render_diff,
    "plan.txt": render_plan,
}


def load(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("page", PAGES)
def test_page_is_as_read(page: str) -> None:
    rendered = PAGES[page](load(page.partition(".")[0]))
    if os.environ.get("BISECT_UPDATE_GOLDEN"):
        (HERE / page).write_text(rendered, encoding="utf-8")
    assert rendered == (HERE / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REPORTS)
def test_first_line_is_the_verdict(name: str) -> None:
    report = load(name)
    sentence = verdict_sentence(report_of(report))
    assert sentence == report["verdict"]["sentence"]
    head = terminal.render(report, width=80).split("\n\n")[0]
    assert " ".join(head.split()) == sentence


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", REPORTS)
def test_no_line_is_wider_than_the_page_and_no_number_is_cut(name: str, width: int) -> None:
    report = load(name)
    text, wide = (terminal.render(report, width=w) for w in (width, 400))
    assert max(map(cell_len, text.split("\n"))) <= width
    assert _numbers(text) == _numbers(wide)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", REPORTS)
def test_the_card_fits_and_is_what_the_report_ends_with(name: str, width: int) -> None:
    report = load(name)
    card = terminal.card(report, width=width)
    lines = card.splitlines()
    assert len(lines) <= 20
    assert max(map(cell_len, lines)) <= width
    assert terminal.render(report, width=width).endswith(f"\n{card}")
    for title in ("Sure", "Who", "Do now", "Cost", "More"):  # how sure, who, what to type, what it cost, where the rest is
        assert any(line.startswith(f"{title:<10}") and len(line) > 10 for line in lines), (title, card)


@pytest.mark.parametrize("name", REPORTS)
def test_colour_adds_styles_and_nothing_else(name: str) -> None:
    report = load(name)
    plain, coloured = terminal.render(report), terminal.render(report, colour=True)
    assert "\x1b[" in coloured
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_colour_of_the_diff_adds_nothing_else() -> None:
    plain, coloured = render_diff(load("diff")), render_diff(load("diff"), colour=True)
    assert plain != coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize("width", [60, 80])
def test_diff_and_plan_keep_to_the_width(width: int) -> None:
    for text in (render_diff(load("diff"), width=width), render_plan(load("plan"), width=width)):
        assert max(map(cell_len, text.split("\n"))) <= width


def _diff_of(**change: Any) -> list[str]:
    axes = [{"axis": "a", "owner": None, "changes": [{"path": "p", "kind": "changed", **change}], "same": False}]
    return render_diff({"good": "g", "bad": "b", "axes": axes, "suspects": []}).split("a: 1 change, no owner\n")[1].splitlines()


def test_a_change_is_told_once() -> None:
    assert _diff_of(summary="6 → 8", before=6, after=8) == ["  └─ p  6 → 8"]
    long = "x" * 80
    assert _diff_of(summary=f"{long} → y", before=long, after="y") == ["  └─ p", f"     - {'x' * 72}…", "     + y"]
    assert _diff_of(summary="reworded", before="one\n", after="two\n") == [
        "  └─ p  reworded",
        "     - one",
        "     + two",
    ]
    assert _diff_of(summary="end", before="one\n", after="one")[1:] == [r"     - one\n", "     + one"]


def test_long_lines_show_their_first_difference() -> None:
    before, after = ("same " * 40 + word + " same" * 40 for word in ("BEFORE", "AFTER"))
    _, minus, plus = _diff_of(summary="s", before=before, after=after)
    assert "BEFORE" in minus
    assert "AFTER" in plus


def test_six_axes_show_only_the_informative_cells() -> None:
    report = load("cause_two_of_six")
    text = terminal.render(report)
    assert len(report["cells"]) == 64
    assert "48 more combinations in the JSON report." in text
    assert "all but system_prompt and context_assembly" in text  # the rollback
    assert "everything (bad)" in text


def test_nothing_estimated_is_never_a_zero() -> None:
    report = load("no_regression")
    _forget_numbers(report)
    for text in (terminal.render(report), markdown.render(report)):
        assert "the target refused it" not in text  # a table of nothing is not shown
        assert "could not be estimated" in text.replace("`", "").split("\n")[0]
        assert not re.search(r"\b0(\.0)? (%|points)", text)


def test_a_report_without_the_optional_fields_renders() -> None:
    bare = {"metric": "correct", "verdict": {"kind": "inconclusive", "calls_needed": None}, "loss": None}
    for text in (terminal.render(bare), markdown.render(bare)):
        assert "no number of calls can be named that would settle it" in " ".join(text.split())


def test_pages_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    report = load("cause_together")
    before = terminal.render(report)
    for name, value in {"COLUMNS": "40", "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    assert terminal.render(report) == before


def test_a_table_too_wide_for_the_page_becomes_a_list_and_no_number_is_cut() -> None:
    report = load("cause_latency")
    for effect in report["effects"]:
        effect["estimate"], effect["interval"] = -1234567.0, [-123456789.0, 12345678.0]
    text = terminal.render(report, width=60)
    effects = text.split("Effects by axis")[1].split("Cells")[0]
    for number in ("-1,234,567", "[-123,456,789,", "12,345,678]"):
        assert effects.split().count(number) + effects.split().count(f"{number};") == 6
    assert max(map(cell_len, text.split("\n"))) <= 60


@pytest.mark.parametrize(
    ("higher_is_better", "interval", "direction"),
    [
        (True, [0.1, 0.3], "better"),
        (False, [0.1, 0.3], "worse"),
        (None, [0.1, 0.3], "up"),
        (True, [-0.3, 0.5], "unclear"),
        (True, None, ""),
    ],
)
def test_side_metrics_say_which_way_they_went(
    higher_is_better: bool | None, interval: list[float] | None, direction: str
) -> None:
    metric = {"name": "m", "unit": "s", "higher_is_better": higher_is_better, "good": 1.0, "bad": 1.2, "change": 0.2}
    report = report_of({"side_metrics": [metric | {"interval": interval, "n": 9}]})
    assert side_table(report).rows[0][-1] == direction


def _numbers(text: str) -> list[str]:
    """The numbers of the tables and facts (what follows the examples is prose that is cut by lines, and the card has its own test)."""
    body = re.split(r"\n─{60,}\n", text.split("\nFlipped queries")[0])[0]
    return sorted(re.findall(r"(?<![\w.])-?\d[\d,]*\.\d+(?![\w.])", body))


def _forget_numbers(report: dict[str, Any]) -> None:
    report["loss"] = {
        "estimate": None,
        "interval": None,
        "good": None,
        "bad": None,
        "n": 0,
        "method": "too few queries",
    }
    for effect in report["effects"]:
        effect.update(estimate=None, interval=None, p_adjusted=None, method="the target refused it")
    for cell in report["cells"]:
        cell.update(value=None, interval=None)


@pytest.mark.parametrize(
    ("name", "unit", "told"),
    [
        ("latency", "seconds", "latency, seconds"),
        ("tokens", "tokens", "tokens"),
        ("calls of search", "calls", "calls of search"),
    ],
)
def test_a_side_metric_tells_its_unit_once(name: str, unit: str, told: str) -> None:
    metric = {"name": name, "unit": unit, "good": 2.0, "bad": 3.0, "change": 1.0, "interval": [0.5, 1.5], "n": 9}
    assert side_table(report_of({"side_metrics": [metric]})).rows[0][0] == told
