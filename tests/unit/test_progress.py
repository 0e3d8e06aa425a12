"""The live view: what holds at every look, spend, time left; plain and sparse where there is no terminal."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from typing import Any

import pytest

from bisect_ai.attribution.problem import Belief, Estimate
from bisect_ai.report import progress
from bisect_ai.runs.ledger import Progress

KNOWN = Estimate(0.13, (0.03, 0.23), 90, "confidence sequence")
NOT_YET = Estimate(None, None, 0, "too few")


def at(calls: int, *, loss: Estimate = KNOWN, stage: str = "localise", **harm: float) -> Progress:
    return Progress(calls=calls, budget=1000, usd=0.25, seconds=10.0, belief=Belief(stage, loss, harm), is_share=True)


def test_every_axis_says_what_it_is_known_to_cost_strongest_first_within_the_width() -> None:
    lines = progress.picture(at(250, prompt=0.2, tools=0.97), width=80)
    assert re.fullmatch(r"  tools +suspected", lines[2])
    assert re.fullmatch(r"  prompt +not known yet", lines[3])
    assert "loss 13 points (3 to 23)" in lines[1]
    assert max(map(len, lines)) <= 80
    assert max(map(len, progress.picture(at(250, **{"x" * 200: 0.5}), width=60))) <= 60


def test_the_time_left_is_that_of_the_rest_at_this_pace() -> None:
    assert progress.picture(at(250, prompt=0.5), width=80)[1].endswith("; 10 s, at most 30 s left")
    assert progress.picture(at(20), width=80)[0].endswith("20 of at most 1,000 calls, 0.25 USD")
    assert progress.spent(at(250)) == "250 of at most 1,000 calls, 0.25 USD, 10 s, at most 30 s left"


def test_every_axis_has_its_cost_with_an_interval_once_there_is_one() -> None:
    seen = at(250, prompt=0.2, tools=0.97)
    costs = {"tools": Estimate(0.41, (0.12, 0.7), 30, "sequence"), "prompt": NOT_YET}
    lines = progress.picture(replace(seen, belief=replace(seen.belief, costs=costs)), width=80)
    assert lines[2].endswith("costs 41 points (12 to 70), proved")
    assert lines[3].endswith("not known yet")
    assert max(map(len, lines)) <= 80


def test_nothing_beside_an_interval_that_holds_zero_reads_as_certain() -> None:
    seen = at(250, prompt=1.0)
    unsure = replace(seen, belief=replace(seen.belief, costs={"prompt": Estimate(0.11, (-0.05, 0.27), 30, "sequence")}))
    for text in (progress.line(unsure), "\n".join(progress.picture(unsure, width=80)[1:])):
        assert "no cost shown yet: 11 points (-5 to 27)" in text
        assert "%" not in text
        assert "proved" not in text


def test_a_loss_without_an_always_valid_interval_is_not_shown() -> None:
    assert progress.loss_so_far(at(10, loss=NOT_YET)) == ""
    assert "not yet known" in progress.picture(at(10, loss=NOT_YET), width=80)[1]
    assert "loss" not in progress.line(at(10, loss=NOT_YET))


def test_a_log_gets_a_line_a_stage_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    with progress.live(file=out) as update:
        for second in range(80):
            clock[0] = float(second)
            update(at(second, stage="reproduce" if second < 5 else "localise"))
    lines = out.getvalue().splitlines()
    assert [re.search(r"reproduce|localise", each)[0] for each in lines] == ["reproduce", "localise", "localise"]  # type: ignore[index]  # each line has its stage
    assert "\x1b" not in out.getvalue()


def test_no_more_time_is_left_than_the_cap_allows() -> None:
    assert progress.time_left(replace(at(250), minutes=0.5)) == "10 s, at most 20 s left"
    assert progress.time_left(replace(at(250), minutes=5)) == "10 s, at most 30 s left"


def test_nothing_goes_to_standard_output_and_a_terminal_is_left_clean(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with progress.live(file=out) as update:
        update(at(100, prompt=0.5))
        update(at(200, prompt=0.7))
    assert "prompt" in out.getvalue()
    assert out.getvalue().rstrip("\n").endswith("\x1b[2K")  # the view was wiped
    assert capsys.readouterr().out == ""
    assert sys.stdout is not out


@pytest.mark.parametrize("axis", ["\x1b]0;owned\x07", "a\u202eb", "[/x]", "::error::x", "a\nb"])
def test_hostile_names_stay_names(axis: str) -> None:
    for text in (*progress.picture(at(100, **{axis: 0.9}), width=80), progress.line(at(100, **{axis: 0.9}))):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", text)


def test_a_notebook_sees_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich import console

    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    out = io.StringIO()
    shown: list[Any] = []
    monkeypatch.setattr("rich.jupyter.display", lambda *a, **k: shown.append(a))
    with progress.live(file=out) as update:
        update(at(100, prompt=0.5))
    assert shown == []


def test_a_loss_is_in_points_only_where_scores_are_shares_and_never_beyond_all() -> None:
    wide = at(10, loss=Estimate(0.125, (-0.83, 1.08), 9, "sequence"))
    assert progress.loss_so_far(wide) == "no loss shown yet: 12 points (-83 to 100)"
    assert progress.loss_so_far(replace(wide, is_share=False)) == "no loss shown yet: 0.125 (-0.830 to 1.08)"
    assert progress.loss_so_far(replace(wide, is_share=False, unit="USD")) == "no loss shown yet: 0.125 USD (-0.830 to 1.08)"
