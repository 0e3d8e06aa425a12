"""The HTML page in a real browser: figures there, nothing overflows, no console message, no request, hostile text inert."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.report import html
from bisect_ai.report.planning_values import ShownAnswer
from bisect_ai.report.report_values import AnsweredQuery
from tests.faults.test_output_injection import PAYLOADS, load, poison

REPORTS = ["cause_two_of_six", "cause_drilled", "cause_either", "cause_latency", "drift", "inconclusive_hostile", "traffic"]
REPORTS += ["audit_healthy", "canary_roll_back", "canary_wait_hostile"]
OVERFLOWING = """() => {
  const inside = (e) => e.closest('.scroll, svg, .said') !== null;
  const wide = [...document.body.querySelectorAll('*')].filter((e) => !inside(e) && e.getBoundingClientRect().right > innerWidth + 1);
  return [document.documentElement.scrollWidth - innerWidth, wide.map((e) => e.tagName + '.' + e.className).slice(0, 5)];
}"""
ACTIVE = """() => {
  const all = [...document.querySelectorAll('*')];
  const attributes = all.flatMap((e) => [...e.attributes]);
  return {
    scripts: document.querySelectorAll('script, iframe, object, embed, form, base, link, img, a').length,
    handlers: attributes.filter((a) => a.name.startsWith('on')).length,
    styles: attributes.filter((a) => a.name === 'style').length,
    addresses: attributes.filter((a) => ['href', 'src', 'action', 'xlink:href'].includes(a.name) && !a.value.startsWith('#')).length,
  };
}"""
CLIPPED = """() => [...document.querySelectorAll('svg.figure')].flatMap((svg) => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((t) => {
    const b = t.getBoundingClientRect();
    return b.width > 0 && (b.left < box.left - 24 || b.right > box.right + 24);
  }).map((t) => t.textContent);
})"""


@cache
def page_of(name: str) -> str:
    return html.render(load(name))


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", REPORTS)
def test_nothing_overflows_complains_or_leaves(name: str, width: int, visit: Any) -> None:
    seen = visit(page_of(name), width=width)
    assert seen.ask(OVERFLOWING) == [0, []]
    assert seen.complaints == []


def test_the_figures_are_there_and_drawn(visit: Any) -> None:
    seen = visit(page_of("cause_two_of_six"))
    sizes = seen.ask(
        "() => Object.fromEntries(['waterfall', 'effects', 'interactions', 'cells', 'half-normal'].map((id) => "
        "[id, [...document.querySelectorAll(`#${id} svg`)].map((e) => [e.getBoundingClientRect().width > 300, "
        "e.querySelectorAll('path, use').length > 5, e.querySelectorAll('text').length > 2])]))"
    )
    assert all(drawn == [[True, True, True]] for drawn in sizes.values()), sizes
    assert seen.ask(CLIPPED) == []


def test_a_canary_shows_how_its_interval_tightened_and_hostile_labels_are_inert(visit: Any) -> None:
    seen = visit(page_of("canary_wait_hostile"))
    assert seen.ask("() => document.querySelectorAll('#looks svg').length") == 1
    assert seen.ask(CLIPPED) == []
    assert seen.ask(ACTIVE) == {"scripts": 0, "handlers": 0, "styles": 0, "addresses": 0}


def test_a_figure_without_data_is_not_shown(visit: Any) -> None:
    seen = visit(page_of("not_reproduced"))
    assert seen.ask("() => document.querySelectorAll('#half-normal, #interactions').length") == 0
    assert "Half-normal" not in seen.ask("() => document.body.textContent")


def test_the_card_comes_first_and_answers_the_five_questions_on_two_screens_of_a_phone(visit: Any) -> None:
    seen = visit(page_of("cause_drilled"), width=390)
    said = seen.ask("() => document.querySelector('h1').textContent.replace(/\\s+/g, ' ').trim()")
    assert said == "prompt and tools together cause the drop: correct falls from 91 % to 78 %."
    titles = seen.ask("() => [...document.querySelectorAll('.verdict dt')].map((e) => e.textContent)")
    assert titles == ["Sure", "Loss", "Where", "Do now", "Who", "Innocent", "Cost", "More"]
    assert seen.ask("() => document.querySelector('#card').getBoundingClientRect().bottom") < 2 * 900


KINDS = [
    "cause_drilled",
    "no_regression",
    "drift",
    "inconclusive_hostile",
    "canary_roll_back",
    "compare_regression",
    "audit_regression",
]
SERIOUS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter((v) => ['serious', 'critical'].includes(v.impact))
  .map((v) => v.id + ': ' + v.nodes.map((n) => n.html.slice(0, 120)).join(' | '))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_nothing_serious(name: str, scheme: str, visit: Any, axe: str) -> None:
    report = load(name)
    seen = visit(html.pages(report, answered(report, 12))[0], scheme=scheme)
    seen.ask("() => document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    seen.ask(axe)
    assert seen.ask(SERIOUS) == []


def answered(report: dict[str, Any], many: int, *, text: str = "hello there") -> list[AnsweredQuery]:
    """Made-up answers: every third query broke, every seventh was mended."""
    axes = tuple(report.get("axes") or ())
    rollback = (report["verdict"].get("rollback") or {}).get("axes", axes)
    cells = [(), tuple(axis for axis in axes if axis not in rollback), axes]
    rows = []
    for n in range(many if axes else 0):
        scores = (1.0, 1.0, float(n % 3 > 0)) if n % 7 else (0.0, 1.0, 1.0)
        answers = {
            cell: ShownAnswer(text=f"{text} {score:g} {n}", score=score) for cell, score in zip(cells, scores, strict=True)
        }
        rows.append(AnsweredQuery(f"q{n}", "even" if n % 2 == 0 else "odd", f"what is {n}?", str(n), answers))
    return rows


SHOWN = "() => [...document.querySelectorAll('#answers-table tbody tr')].filter((r) => r.getBoundingClientRect().height > 0)"


def test_the_answers_can_be_filtered_searched_and_sorted(visit: Any) -> None:
    seen = visit(html.pages(load("cause_drilled"), answered(load("cause_drilled"), 240))[0])
    names = f"{SHOWN}.map((r) => r.dataset.query)"
    assert len(seen.ask(names)) == 100
    seen.page.click("#answers-more")
    assert len(seen.ask(names)) == 200
    seen.page.select_option("#answers-outcome", "mended")
    assert set(seen.ask(f"{SHOWN}.map((r) => r.dataset.outcome)")) == {"mended"}
    seen.page.select_option("#answers-segment", "odd")
    seen.page.fill("#answers-text", "what is 21?")
    assert seen.ask(names) == ["q21"]
    seen.page.fill("#answers-text", "")
    seen.page.click("#answers-table th button[data-key=query]")
    assert seen.ask(names)[0] == "q105"
    seen.page.click("#answers-table th button[data-key=query]")
    assert seen.ask(names)[0] == "q91"
    assert seen.complaints == []


def test_without_the_script_every_answer_is_there_to_read(browser: Any, tmp_path: Path) -> None:
    page = html.pages(load("cause_drilled"), answered(load("cause_drilled"), 240))[0]
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((tmp_path / "report.html").as_uri())
    assert opened.locator("#answers-table tbody tr:visible").count() == 240
    assert opened.locator(".controls:visible").count() == 0
    context.close()


def test_hostile_answers_are_inert_and_the_one_script_is_ours(visit: Any) -> None:
    report = load("cause_drilled")
    rows = [each for n, p in enumerate(PAYLOADS[::7]) for each in answered(report, 1, text=p)]
    hostile = [replace(each, query=p, segment=p, input=p, reference=p) for each, p in zip(rows, PAYLOADS[::7], strict=True)]
    seen = visit(html.pages(report, hostile)[0])
    assert seen.ask(ACTIVE) == {"scripts": 1, "handlers": 0, "styles": 0, "addresses": 0}
    seen.page.fill("#answers-text", "<script>")
    seen.page.click("#answers-table th button[data-key=side1]")
    seen.page.wait_for_timeout(200)
    assert seen.complaints == []


def test_two_thousand_queries_open_quickly_and_what_is_too_much_goes_beside(visit: Any) -> None:
    rows = answered(load("cause_drilled"), 2000, text="The order was sent on the second of May and will arrive soon. " * 4)
    first, *more = html.pages(load("cause_drilled"), rows)
    assert len(first.encode()) < 5_000_000
    assert sum(page.count("<tr data-query") + page.count('<tr class="late" data-query') for page in (first, *more)) == 2000
    seen = visit(first)
    told = "() => { const t = performance.getEntriesByType('navigation')[0]; return t.domContentLoadedEventEnd; }"
    empty = visit(page_of("cause_drilled")).ask(told)
    assert seen.ask(told) < max(1000, 12 * empty)  # beside what the machine takes for a page without answers
    assert seen.complaints == []


@pytest.mark.parametrize("name", ["cause_drilled", "cause_two_of_six", "drift", "canary_roll_back", "compare_regression"])
def test_it_prints_on_at_most_four_pages_with_the_card_whole(name: str, visit: Any) -> None:
    seen = visit(html.pages(load(name), answered(load(name), 50))[0])
    printed = seen.page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 4
    seen.page.emulate_media(media="print")
    assert seen.ask("() => document.querySelector('#card').getBoundingClientRect().height") < 1000


def test_dark_and_light_differ_and_both_are_readable(visit: Any) -> None:
    """Text against its background by the contrast formula of WCAG 2.2: at least 4.5 to 1 for body and secondary text."""
    script = """() => {
      const light = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255)
        .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
      const ground = light(getComputedStyle(document.querySelector('.card')).backgroundColor);
      const ratio = (c) => { const l = light(c); return (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05); };
      const styles = ['.card .root', '.absent, .by, small', '.tag.harm'].map((s) => document.querySelector(s)).filter(Boolean);
      return [ground, Math.min(...styles.map((e) => ratio(getComputedStyle(e).color)))];
    }"""
    grounds = []
    for scheme in ("light", "dark"):
        ground, worst = visit(page_of("cause_together"), scheme=scheme).ask(script)
        assert worst >= 4.5, scheme
        grounds.append(ground)
    assert grounds[0] > 0.9 > 0.1 > grounds[1]


def test_hostile_text_is_inert(visit: Any) -> None:
    """All payloads on one page, in every kind of place: no script, no handler, no request, no dialog, no console message."""
    report = load("cause_together")
    report["warnings"] = PAYLOADS
    report["suspects"] = [{"axes": [p], "message": p, "where": p} for p in PAYLOADS]
    report["examples"] = [poison(report["examples"][0], p) for p in PAYLOADS[::60]]
    report["verdict"]["causes"][0]["changes"] = [
        {"axis": axis, "path": p, "summary": p, "before": p, "after": p + "x", "provenance": {"author": p, "why": p}}
        for axis in ("prompt", "tools")
        for p in PAYLOADS
    ]
    seen = visit(html.render(report))
    assert seen.ask(ACTIVE) == {"scripts": 0, "handlers": 0, "styles": 0, "addresses": 0}
    seen.page.keyboard.press("Tab")
    seen.page.mouse.move(300, 300)
    seen.page.wait_for_timeout(200)
    assert seen.complaints == []


@pytest.mark.parametrize("payload", PAYLOADS[:: max(len(PAYLOADS) // 6, 1)], ids=lambda p: ascii(p[:20]))
def test_hostile_names_do_not_break_the_figures(payload: str, visit: Any) -> None:
    seen = visit(html.render(poison(load("cause_together"), payload)), width=390)
    assert seen.ask(ACTIVE) == {"scripts": 0, "handlers": 0, "styles": 0, "addresses": 0}
    assert seen.ask(OVERFLOWING) == [0, []]
    assert seen.complaints == []
