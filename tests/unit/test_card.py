"""The card and its words: how sure in numbers, whole guilty texts, nothing beyond all of it, no word that needs a statistician."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main
from bisect_ai.report import html, markdown, terminal
from bisect_ai.report.accounting import usage_sentence
from bisect_ai.report.card import GuiltyText, card_of, differing, shortened
from bisect_ai.report.figure_data import waterfall
from bisect_ai.report.figure_values import Waterfall
from bisect_ai.report.headline import sureness
from bisect_ai.report.json_edge import read
from bisect_ai.report.phrases import restored_phrase
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import Standpoint
from bisect_ai.report.terminal import pasteable, render_card
from bisect_ai.report.verdict_sentence import verdict_sentence
from bisect_ai.report.vocabulary import MEANINGS, odds
from tests.faults.test_output_injection import PAYLOADS, poison
from tests.reports import report_of

GOLDEN = Path(__file__).parents[1] / "golden" / "reports"
VERDICTS = sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem not in ("diff", "plan"))
REPLACED = re.compile(r"Shapley|introduced alone|reverted alone|\binner cells?\b|\bcells\b", re.I)


def load(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return told


@pytest.mark.parametrize(
    ("chance", "told"), [(0.05, "1 in 20"), (0.01, "1 in 100"), (0.03, "1 in 33"), (0.5, "1 in 2"), (0.7, "7 in 10")]
)
def test_a_chance_is_told_as_people_say_it_never_smaller_than_it_is(chance: float, told: str) -> None:
    assert odds(chance) == told
    first, _, second = told.partition(" in ")
    assert int(first) / int(second) >= chance - 1e-9


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ({"verdict": {"kind": "cause"}, "alpha": 0.01}, "proved: less than 1 in 100 to be wrong"),
        (
            {"verdict": {"kind": "no_regression"}, "tolerance": 0.02, "loss": {"interval": [-0.03, 0.01]}},
            "proved that any loss is below 2 points: less than 1 in 20",
        ),
        ({"verdict": {"kind": "no_regression"}, "tolerance": 0.02, "loss": {"interval": [-0.03, 0.05]}}, "likely, not proved"),
        ({"verdict": {"kind": "inconclusive", "candidates": [{"axes": ["a"], "belief": 0.9}]}}, "likely: a (9 in 10"),
        ({"verdict": {"kind": "inconclusive", "candidates": [{"axes": ["a"], "belief": 0.5}]}}, "not known yet"),
        (
            {"verdict": {"kind": "inconclusive"}, "effects": [{"axes": ["a"], "kind": "net", "proved": True}]},
            "proved that a costs quality on average; not known whether",
        ),
        (
            {"verdict": {"kind": "cause", "causes": [{"axes": ["a", "b"], "mode": "unsettled"}]}},
            "proved that each costs quality",
        ),
    ],
)
def test_how_sure_is_said_by_numbers(report: dict[str, Any], told: str) -> None:
    assert sureness(report_of(report)).startswith(told)


@pytest.mark.parametrize("name", VERDICTS)
def test_words_that_need_a_statistician_are_not_used(name: str) -> None:
    report = load(name)
    for text in (terminal.render(report), markdown.render(report), html.render(report, pictures=html.sketch_all)):
        shown = re.sub(r"(?s)<style>.*?</style>", "", text)
        for line in shown.splitlines():
            if not re.search(r"method|decided|class=|id=|Fixed before", line):
                assert not REPLACED.search(line), line


def test_every_word_has_a_meaning_of_one_sentence() -> None:
    assert all(meaning and "\n" not in meaning and len(meaning.split()) <= 30 for meaning in MEANINGS.values())


def test_only_the_guilty_sentences_of_a_hunk_are_shown_whole() -> None:
    before = "Be brief. Use the documents. Never guess.\n"
    after = "Be brief. Use whatever you know. Never guess.\n"
    assert differing(before, after) == ("Use the documents. ", "Use whatever you know. ")
    assert differing("one\n", "two\n") == ("one", "two")
    assert differing("same\n", "same\nmore\n") == ("", "more")
    assert differing("Say it.\n", "Say it. Be brief.\n") == ("", "Be brief.")


def test_an_added_line_is_followed_by_no_empty_one() -> None:
    change = {"axis": "prompt", "path": "prompt:3", "summary": "added", "before": None, "after": "Be brief.\n"}
    cause = {"axes": ["prompt"], "mode": "alone", "changes": [change]}
    card = card_of(report_of({"metric": "m", "verdict": {"kind": "cause", "causes": [cause]}}))
    assert [(each.before, each.after) for each in card.guilty] == [("", "Be brief.")]


def test_a_release_that_cannot_run_at_all_is_told_with_the_reason_and_no_more_calls_are_asked_for() -> None:
    """As a service does that refuses every body with 422."""
    cell = {"status": "infeasible", "reason": "body.question: Field required\x1b[31m"}
    cells = [{"bad_axes": [], **cell}, {"bad_axes": ["kb", "prompt"], **cell}]
    report = report_of(
        {"good": "g1", "metric": "m", "axes": ["prompt", "kb"], "cells": cells, "loss": {}, "verdict": {"kind": "inconclusive"}}
    )
    card = card_of(report)
    assert card.headline == verdict_sentence(report)
    assert card.headline == "inconclusive: g1 cannot run: body.question: Field required\\x1b[31m."
    assert card.command == "bisect-ai run" and "target.version" in card.todo[0]


def test_a_fixed_design_that_was_cut_short_says_how_many_calls_it_lacks() -> None:
    """20 of 300 queries lack some of 8 combinations: as many calls more as the 280 took, and nothing against the loss."""
    net = {"axes": ["prompt"], "kind": "net", "estimate": 0.28, "interval": [0.26, 0.29], "proved": True}
    report = report_of(
        {
            "metric": "m",
            "design": "full",
            "tolerance": 0.02,
            "loss": {"estimate": 0.28, "interval": [0.26, 0.29], "good": 0.94, "bad": 0.66, "n": 280},
            "effects": [net],
            "log": {"format": "jsonl", "read": 300, "kept": 300, "sampled": 300},
            "usage": {"calls": 2400},
            "verdict": {"kind": "inconclusive", "stopped": "stopped at the call cap"},
        }
    )
    card = card_of(report)
    assert card.command == "bisect-ai run --max-calls 2572"
    assert "20 of 300 queries have not run in all combinations of the design; answers are not paid twice" in card.todo
    assert card.sure == "proved that prompt costs quality on average; all of the design tells the cause"
    told = verdict_sentence(report)
    assert (
        told.endswith("the design names its cause only once all of its combinations have run.") and "no loss worth" not in told
    )


def test_a_long_guilty_text_is_wrapped_and_not_cut_while_the_card_has_room() -> None:
    report = load("cause_drilled")
    long = " ".join(f"word{n}" for n in range(36))
    report["verdict"]["causes"][0]["changes"][0]["after"] = long
    flat = " ".join(terminal.card(report).split())
    assert len(terminal.card(report).splitlines()) <= 20
    assert long in flat
    report["verdict"]["causes"][0]["changes"][0]["after"] = " ".join(f"word{n}" for n in range(2000))
    assert len(terminal.card(report).splitlines()) <= 20


def test_nothing_is_beyond_all_of_it_or_below_nothing() -> None:
    report = load("cause_together")
    report["verdict"]["rollback"] |= {"restores": 1.32, "restores_interval": [0.82, 2.26]}
    report["verdict"]["causes"][0] |= {"share": 1.4, "interval": [0.7, 2.0]}
    for text in (terminal.render(report), markdown.render(report), html.render(report, pictures=html.sketch_all)):
        assert not re.search(
            r"\b(1[0-9]{2}|[2-9][0-9]{2}) ?%|to (132|226)\b", re.sub(r"(?s)<style>.*?</style>|100 %", "", text)
        )
    assert "recovers all of the loss (82 % or more)" in " ".join(terminal.card(report).split())


def test_commands_name_what_must_be_named_where_they_are_typed() -> None:
    report = report_of(load("cause_together"))
    assert card_of(report).command == "bisect-ai report 7c1e09ab --write-rollback rollback.yaml"
    elsewhere = Standpoint(config="my demo/bisect.yaml")
    assert shlex.split(card_of(report, at=elsewhere).command)[3:5] == ["--config", "my demo/bisect.yaml"]
    assert "--store kept" in card_of(report, at=Standpoint(store="kept")).more
    assert card_of(report, at=Standpoint(in_python=True)).command == 'result.write_rollback("rollback.yaml")'
    git = report.model_copy(
        update={
            "verdict": report.verdict.model_copy(
                update={"rollback": report.verdict.rollback.model_copy(update={"command": "git checkout v1.2 -- p/a.md"})}  # type: ignore[union-attr]
            )
        }
    )
    assert card_of(git).command == "git checkout v1.2 -- p/a.md"
    assert card_of(git, at=elsewhere).command == "git -C 'my demo' checkout v1.2 -- p/a.md"


def test_a_long_command_is_broken_where_a_shell_goes_on() -> None:
    command = "bisect-ai report 282c6592 --config 'a folder/bisect.yaml' --write-rollback rollback.yaml"
    lines = pasteable(command, 40)
    assert len(lines) > 1
    assert shlex.split("".join(line.removesuffix("\\") for line in lines)) == shlex.split(command)


@pytest.mark.parametrize("payload", PAYLOADS[::9])
def test_hostile_text_on_the_card_is_text(payload: str) -> None:
    for name in ("cause_drilled", "inconclusive_hostile"):
        card = terminal.card(poison(load(name), payload))
        assert len(card.splitlines()) <= 20
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", card)
        typed = [line for line in card.splitlines() if line.startswith("Do now")]
        assert all(re.search(r"Do now +(bisect-ai|[a-z])", line) for line in typed)


def test_what_a_cause_was_measured_beside_and_what_goes_back_along_is_on_the_card() -> None:
    report = load("cause_together")
    cause, rollback = report["verdict"]["causes"][0], report["verdict"]["rollback"]
    cause["beside"] = [{"axes": ["code"], "version": "new", "reason": "no module named x"}]
    rollback["along"] = ["code"]
    told = card_of(read(Report, report))
    assert "measured beside the new code, cause the drop" in told.headline
    assert "prompt and tools: alone it cannot start: no module named x" in told.where
    assert "takes tools back (code cannot run without the new version): measured" in told.todo[0]
    said = (
        "throw new Error(`prompts/extract.mustache has no {{${name}}}`);",
        "Error: prompts/extract.mustache has no {{today}}",
    )
    cause["beside"][0]["reason"] = f"exit code 1: {' | '.join(said)} | Node.js v20.20.2"
    where = card_of(read(Report, report)).where
    assert "prompt and tools: alone it cannot start: Error: prompts/extract.mustache has no {{today}}" in where, (
        "the error's line"
    )


def test_a_guard_that_decides_is_in_the_first_sentence_of_a_canary() -> None:
    report = load("canary_promote")
    guard = report["canary"]["guards"][0]
    guard |= {"kind": "violated", "rise": 0.377, "interval": [0.349, 0.405]}
    report["canary"] |= {"kind": "roll_back", "by_guard": guard["name"], "safe_to_revert": True}
    report["verdict"]["kind"] = "roll_back"
    told = card_of(read(Report, report))
    assert told.headline.startswith(
        "roll back 2026-11-20: cost rises by 37.7 % [34.9 %, 40.5 %], more than the 10 % allowed; correct "
    )
    assert told.where == ()
    assert told.todo == (
        "send all traffic to release 2026-11-13",
        "it may be automated (--on-rollback): at most 1 in 100 to be wrong",
    )


@pytest.mark.parametrize(
    ("withheld", "headline", "todo"),
    [
        (
            {"by": "segment", "name": "lang = fr"},
            "the segment lang = fr is proved to lose",
            "see what the canary does to lang = fr",
        ),
        (
            {"by": "split", "name": "10.0 %", "why": "the canary got 30.0 %"},
            "the canary was to get 10.0 % of the traffic and got 30.0 %",
            "see why the canary did not get 10.0 % of the traffic",
        ),
        (
            {"by": "column", "name": "lang", "why": "no value that both answered"},
            "lang differs between the releases and cannot be adjusted for: no value that both answered",
            "see why lang differs; name it with --ignore if it does not say who asked or what",
        ),
    ],
)
def test_why_promoting_is_withheld_is_the_first_sentence(withheld: dict[str, str], headline: str, todo: str) -> None:
    report = load("canary_promote")
    report["canary"] |= {"kind": "wait", "withheld": [withheld]}
    report["verdict"]["kind"] = "wait"
    told = card_of(read(Report, report))
    assert told.headline.startswith("wait: promoting is withheld because ")
    assert headline in told.headline
    assert told.todo[0] == todo
    assert told.sure == "not known yet: neither verdict is proved"


def test_a_path_longer_than_a_line_stays_whole_and_the_rest_goes_on_after_it() -> None:
    config = "/srv/" + "deploys of a team/" * 6 + "bisect.yaml"
    card = terminal.card(load("cause_drilled"), at=Standpoint(config=config))
    assert shlex.quote(config) in card
    start = card.index("bisect-ai report")
    pasted = card[start:].replace("\\\n", " ").splitlines()[0]
    assert shlex.split(pasted) == ["bisect-ai", "report", "2e1dbedf", "--config", config, "--write-rollback", "rollback.yaml"]
    assert len(card.splitlines()) <= 20


@pytest.mark.parametrize("name", ["it's here/bisect.yaml", 'a "b" c/bisect.yaml', "plain/" * 20 + "b.yaml"])
def test_a_command_of_any_path_is_the_same_command_when_it_is_pasted(name: str) -> None:
    command = Standpoint(config=name).report("282c6592", "--write-rollback rollback.yaml")
    lines = pasteable(command, 40)
    assert shlex.split("\n".join(lines).replace("\\\n", " ")) == shlex.split(command)


def test_what_was_not_told_is_no_price_and_calls_that_failed_are_counted() -> None:
    report = load("cause_drilled")
    report["usage"] = {"calls": 40, "cached": 0, "errors": 6, "usd": 0.0, "tokens": 0, "seconds": 3.0}
    assert card_of(read(Report, report)).cost == "40 calls (6 failed), no price known, 3.0 s"
    report["usage"] |= {"errors": 0, "tokens": 900}
    assert card_of(read(Report, report)).cost == "40 calls, no price known, 3.0 s"
    assert usage_sentence(read(Report, report).usage) == "40 calls, 900 tokens, no price known, 3.0 s"
    report["usage"] |= {"calls": 0, "cached": 7, "tokens": 0}
    assert usage_sentence(read(Report, report).usage) == "0 calls, 7 answers from the store, 3.0 s"


def test_more_than_the_loss_that_came_back_is_told_as_more() -> None:
    assert restored_phrase(1.2, (0.8, 1.6)) == "recovers all of the loss (80 % or more)"
    assert restored_phrase(1.0, (1.0, 1.0)) == "recovers all of the loss"
    report = load("cause_drilled")
    report["loss"] |= {"good": 0.6, "good_interval": [0.55, 0.65]}
    rollback = report["verdict"]["rollback"]
    rollback |= {"value": 0.62, "interval": [0.5, 0.7], "restores": 1.0, "restores_interval": [1.0, 1.0], "finer": None}
    assert "recovers all of the loss" in " ".join(terminal.card(report).split())
    assert "and more" not in markdown.render(report)
    rollback |= {"value": 0.8, "interval": [0.7, 0.9]}
    assert "recovers all of the loss and more" in " ".join(terminal.card(report).split())
    assert "all of the loss and more" in markdown.render(report)


@pytest.mark.parametrize("name", VERDICTS)
def test_what_to_type_is_in_the_first_lines_of_the_markdown(name: str) -> None:
    """Two causes have two texts, which stood before it: it was line 27."""
    command = card_of(read(Report, load(name))).command
    assert command in "\n".join(markdown.render(load(name)).splitlines()[:20])


def test_a_gate_that_measured_nothing_says_so_in_a_line_and_the_last_words_beside_it() -> None:
    frames = "".join(f'  File "/srv/app/step_{i}.py", line {i}, in ask | ' for i in range(30))
    end = "ConnectionError: search.internal refused the connection; mend it, run again"
    reason = f"the program of the bad release does not run: exit code 1: Traceback | {frames}{end}"
    report = load("cause_drilled")
    report["gate"] = {"outcome": "failed", "base": "main", "head": "pr", "reason": reason}
    report["verdict"] = {"kind": "failed", "reason": reason}
    card = card_of(read(Report, report))
    assert card.headline == "no verdict on pr, neither worse nor fine: the program of the bad release does not run."
    assert card.where[0] == end
    assert "step_29.py" in terminal.render(report)


def test_a_fall_that_chance_could_make_is_not_asked_for_its_cause() -> None:
    report = load("inconclusive_hostile")
    assert "whether that is more than chance is not known yet" in card_of(read(Report, report)).headline
    report["loss"]["interval"] = [0.02, 0.28]
    assert "what did it is not known yet" in card_of(read(Report, report)).headline


def test_the_page_has_no_decimals_that_its_interval_makes_meaningless() -> None:
    page = html.render(load("cause_drilled"))
    facts = re.search(r'(?s)<dl class="facts">.*?</dl>', page)
    assert facts is not None
    assert ">13 points<" in facts[0] and "95 % interval 3 to 22" in facts[0]
    assert not re.search(r"\d\.\d+ (%|points)", facts[0])


def test_a_small_fall_is_not_told_as_one_beside_no_regression() -> None:
    loss = {"estimate": 0.01, "interval": [-0.01, 0.019], "good": 0.87, "bad": 0.86, "n": 300}
    report = {"metric": "correct", "verdict": {"kind": "no_regression"}, "loss": loss, "tolerance": 0.02}
    told = card_of(report_of(report)).headline
    assert told == "no regression: correct is 86.0 % where it was 87.0 %, below the tolerance of 2.0 points."
    audit = {"kind": "healthy", "evidence": 1, "detect": 0.05, "bound": 20, "per_year": 1, "queries": 300, "calls": 600}
    assert card_of(report_of({**report, "audit": audit})).headline.endswith("a loss of 5.0 points would have shown.")


def test_an_open_verdict_whose_log_is_hardly_used_says_what_to_type() -> None:
    loss = {"estimate": 0.08, "interval": [-0.05, 0.2], "good": 0.9, "bad": 0.82, "n": 24}
    log = {"format": "jsonl", "read": 600, "kept": 600, "sampled": 600}
    report = {"verdict": {"kind": "inconclusive"}, "loss": loss, "log": log, "usage": {"calls": 140, "cached": 0}}
    card = card_of(report_of(report))
    assert card.command == "bisect-ai run --max-calls 420"
    assert card.todo[0].startswith("24 of 600 queries were asked: too few to say how many calls it takes")
    assert card_of(report_of({**report, "log": {**log, "sampled": 30}})).command == ""
    verdict, usage = {"kind": "inconclusive", "stopped": "stopped at the time cap of 2 minutes"}, {"calls": 140, "usd": 0.7}
    assert card_of(report_of({**report, "verdict": verdict})).command == "bisect-ai run"
    verdict = {**verdict, "stopped": "stopped at the money cap: 0.7 of 0.7 USD spent, and the next call may cost up to 0.01"}
    assert card_of(report_of({**report, "verdict": verdict, "usage": usage})).command == "bisect-ai run --max-usd 2.3"
    assert "bisect-ai" not in card_of(report_of(report), at=Standpoint(in_python=True)).command


def test_a_commit_is_told_by_its_first_ten_digits() -> None:
    report = {"bad": "0123456789" * 4, "verdict": {"kind": "no_regression"}}
    assert card_of(report_of(report)).who == ("nobody: nothing in 0123456789 is to blame",)


def test_short_texts_make_room_for_a_long_one() -> None:
    long = "The policy code is left out unless the customer asks for it. " * 9
    changes = [
        {"axis": "prompt", "path": "system:1", "summary": "", "before": "Short.", "after": long},
        {"axis": "tools", "path": "customer_id", "summary": "", "before": "customer_id", "after": "customerId"},
    ]
    cause = {"axes": ["prompt", "tools"], "mode": "together", "changes": changes}
    report = {
        "axes": ["prompt", "tools"],
        "verdict": {"kind": "cause", "causes": [cause]},
        "usage": {"calls": 9},
        "run": "ad04e0f6",
    }
    told = " ".join(render_card(report_of(report)).split())
    assert "customer_id → customerId" in told
    assert told.count("The policy code") == 9


def test_a_release_that_surely_loses_goes_back_while_its_cause_is_open() -> None:
    told = load("inconclusive_hostile") | {"tolerance": 0.02}
    told["loss"] |= {"estimate": 0.2, "interval": [0.1, 0.3], "good": 0.9, "bad": 0.7, "n": 40}
    told["verdict"] |= {"candidates": []}
    told["log"] |= {"kept": 40, "sampled": 40}
    card = card_of(read(Report, told))
    assert card.sure.startswith("likely that it is worse, as the whole interval is a loss; what did it: not known yet")
    assert re.fullmatch(r"for now go back to .+: it scored 90 % on the same queries", card.todo[-1]), card.todo
    told["loss"]["interval"] = [0.0, 0.4]
    assert not any("go back" in line for line in card_of(read(Report, told)).todo)


def test_a_log_that_is_used_up_is_not_to_be_sampled_more() -> None:
    told = load("inconclusive_hostile")
    told["verdict"] |= {"calls_needed": None, "stopped": None}
    told["loss"] |= {"n": 40}
    told["log"] |= {"kept": 40, "sampled": 40}
    assert card_of(read(Report, told)).todo[0].startswith("all 40 queries of the log were asked: log more")


def test_answers_from_the_store_are_told_beside_the_calls() -> None:
    told = load("cause_together")
    told["usage"] |= {"calls": 0, "cached": 372}
    assert card_of(read(Report, told)).cost == "no calls: 372 answers read from the store"
    told["usage"] |= {"calls": 4, "cached": 248, "seconds": 1.0}
    assert card_of(read(Report, told)).cost.endswith("; 248 answers more from the store")


def test_a_command_that_keeps_nothing_repeats_what_was_typed(tmp_path: Path) -> None:
    lines = [{"input": f"q{i}", "release": "ab"[i % 2], "scores": {"ok": float(i % 3 > 0)}, "plan": "pro"} for i in range(40)]
    log = tmp_path / "live log.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)))
    typed = ["canary", str(log), "--baseline", "a", "--canary", "b", "--metric", "ok", "--where", "plan = 'pro'", "--bounds"]
    written = ["--html", str(tmp_path / "r.html"), "-v", "--on-rollback", "./back", "--notify", "webhook:http://127.0.0.1:9/x"]
    done = CliRunner().invoke(main, [*typed, "0", "1", *written])
    assert done.exit_code == 3, done.output
    card = done.stdout.rpartition("────\n")[2]
    again = re.search(r"^Do now +(.+?)\n +this again when the log has grown", card, re.S | re.M)
    assert again and sorted(shlex.split(again[1].replace("\\\n", ""))) == sorted(["bisect-ai", *typed, "0.0", "1.0"]), card
    assert "--where \"plan = 'pro'\"" in " ".join(again[1].replace("\\\n", "").split())
    assert card.endswith("More      that command with -v\n")
    page = (tmp_path / "r.html").read_text()
    assert "127.0.0.1:9" not in page and "--on-rollback" not in page and "this again when the log has grown" in page


def test_the_picture_agrees_with_the_rollback_where_causes_are_not_told_apart() -> None:
    told = load("cause_two_of_six")
    causes, rollback = told["verdict"]["causes"], told["verdict"]["rollback"]
    named = [axis for cause in causes for axis in cause["axes"]]
    told["effects"] = [each for each in told["effects"] if each["kind"] != "shapley"]
    for cause in causes:
        cause |= {"share": 0.3, "interval": [0.1, 0.5]}
    rollback |= {"axes": named, "restores": 0.95}
    fall = waterfall(read(Report, told))
    assert isinstance(fall, Waterfall) and len(causes) == 2
    steps = {step.label: step.cost.value / told["loss"]["estimate"] for step in fall.steps}
    assert steps["these, not told apart"] == pytest.approx(0.35) and steps["everything else"] == pytest.approx(0.05)
    assert fall.steps[-1].end == pytest.approx(told["loss"]["bad"], abs=1e-6)


def test_changes_whose_texts_have_no_room_are_named_by_their_places() -> None:
    card = card_of(read(Report, load("cause_drilled")))
    places = [GuiltyText(f"axis{i}: file{i}.md:{i}", "a", "b") for i in range(6)]
    told = shortened(replace(card, where=(), guilty=tuple(places)), sides=None, texts=1, is_brief=True)
    assert told.where == ("and axis1: file1.md:1, axis2: file2.md:2, axis3: file3.md:3 and 2 more",)


def test_axes_that_nobody_owns_are_not_told_one_by_one() -> None:
    report = load("inconclusive_hostile")
    report["owners"] = {"model": None, "prompt": None}
    assert any(line.endswith("nobody is recorded as owner of model and prompt") for line in card_of(read(Report, report)).who)
    report["owners"]["prompt"] = "writers"
    assert any("model (nobody) and prompt (writers)" in line for line in card_of(read(Report, report)).who)
