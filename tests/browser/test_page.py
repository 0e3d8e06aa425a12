"""The HTML page in a real browser: figures there, nothing overflows, no console message, no request, hostile text inert."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from bisect_ai.report import html
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


def test_a_figure_without_data_says_why(visit: Any) -> None:
    seen = visit(page_of("not_reproduced"))
    assert "too few for a line to stand out from" in seen.ask(
        "() => document.querySelector('#half-normal .absent').textContent"
    )
    assert seen.ask("() => document.querySelectorAll('#half-normal svg').length") == 0


def test_the_verdict_comes_first_and_is_the_sentence(visit: Any) -> None:
    report = load("cause_together")
    said = visit(page_of("cause_together")).ask("() => document.querySelector('h1').textContent.replace(/\\s+/g, ' ').trim()")
    assert said == report["verdict"]["sentence"]


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


def test_it_prints_with_everything_unfolded(visit: Any) -> None:
    seen = visit(page_of("cause_two_of_six"))
    seen.page.emulate_media(media="print")
    heights = seen.ask(
        "() => [...document.querySelectorAll('details > *:not(summary)')].map((e) => e.getBoundingClientRect().height)"
    )
    assert heights
    assert min(heights) > 0
