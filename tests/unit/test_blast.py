"""The blast radius: what is measured, what is estimated from queries alike, and a list that no spreadsheet obeys."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from bisect_ai.attribution.questions.segments import hits_among
from bisect_ai.facts.blast_radius import as_csv, as_jsonl, blast_radius
from bisect_ai.facts.saved_runs import FirstScores
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings, Sample
from bisect_ai.report.json_edge import as_mapping
from bisect_ai.report.postmortem_values import HitQuery
from tests.reports import report_of

REPORT: dict[str, Any] = {
    "metric": "correct",
    "percent": True,
    "verdict": {
        "kind": "cause",
        "causes": [{"axes": ["tools"], "mode": "alone", "changes": [{"axis": "tools", "path": "get_orders.parameters.id"}]}],
    },
}


def log(*, scored: bool = True, released: bool = True, size: int = 200) -> Sample:
    """Every fourth query uses the tool that is to blame; its logged answer failed in the bad window (the second half)."""

    def record(i: int) -> dict[str, Any]:
        tool, late = i % 4 == 0, i >= size // 2
        more: dict[str, Any] = {"release": "bad" if late else "good"} if released else {}
        more |= {"scores": {"correct": float(not (tool and late))}} if scored else {}
        return {"id": f"q{i}", "input": f"{i}?", "tool_results": [{"name": "get_orders" if tool else "other"}], **more}

    return load_queries([record(i) for i in range(size)], settings=LogSettings(sample=None))


def scores(of: range) -> dict[str, FirstScores]:
    return {f"q{i}": FirstScores(1.0, float(i % 4 != 0)) for i in of}


def test_replayed_queries_are_measured_and_the_others_estimated_from_those_alike() -> None:
    facts, rows = blast_radius(report_of(REPORT), scores(range(100, 140)), log(), bad="bad")
    assert (facts.window, facts.queries, facts.replayed, facts.measured_hits) == ("bad", 100, 40, 10)
    assert {row.id for row in rows if row.basis == "measured"} == {f"q{i}" for i in range(100, 140, 4)}
    likely = {row.id for row in rows if row.basis == "estimated" and row.probability > 0.5}
    assert likely == {f"q{i}" for i in range(140, 200, 4)}
    assert facts.interval[0] <= facts.expected <= facts.interval[1]
    assert facts.expected == pytest.approx(25, abs=3)
    assert "logged answer failed; uses get_orders" in next(row.why for row in rows if row.basis == "estimated")


def test_what_queries_touch_tells_them_apart_when_nothing_was_scored() -> None:
    facts, rows = blast_radius(report_of(REPORT), scores(range(80, 140)), log(scored=False), bad="bad")
    assert not facts.logged_scores
    assert facts.told_apart_by == ("what they touch",)
    assert {r.id for r in rows if r.probability > 0.5} == {f"q{i}" for i in range(100, 200, 4)}


def test_a_log_without_releases_is_taken_whole_and_that_is_known() -> None:
    facts, rows = blast_radius(report_of(REPORT), scores(range(40)), log(released=False, scored=False), bad="bad")
    assert (facts.window, facts.queries) == ("log", 200)
    assert all("is not known" in row.why for row in rows if row.basis == "measured")


def test_without_a_log_only_replayed_queries_are_told_and_no_total() -> None:
    facts, rows = blast_radius(report_of(REPORT), scores(range(40)), None, bad="bad")
    assert (facts.window, facts.queries, facts.expected, facts.interval) == (None, None, None, None)
    assert len(rows) == 10


def test_a_logged_answer_that_passed_was_not_hit() -> None:
    passed = load_queries(
        [{"id": f"q{i}", "input": "?", "release": "bad", "scores": {"correct": 1.0}} for i in range(20)],
        settings=LogSettings(sample=None),
    )
    facts, rows = blast_radius(report_of(REPORT), scores(range(20)), passed, bad="bad")
    assert (facts.measured_hits, rows) == (0, [])


def test_gains_of_queries_alike_make_flips_less_sure() -> None:
    noisy = {f"q{i}": FirstScores(float(i % 2), float(not i % 2)) for i in range(100, 140)}
    _, rows = blast_radius(report_of(REPORT), noisy, log(scored=False), bad="bad")
    measured = [row.probability for row in rows if row.basis == "measured"]
    assert all(p < 0.6 for p in measured)


def test_lower_is_better_and_unbounded_scores() -> None:
    report = {**REPORT, "higher_is_better": False, "percent": False}
    dearer = {f"q{i}": FirstScores(10.0, 900.0 if i % 4 == 0 else 11.0) for i in range(100, 140)}
    facts, _ = blast_radius(report_of(report), dearer, log(scored=False), bad="bad")
    assert facts.measured_hits == 10


def test_no_replayed_query_means_no_number() -> None:
    facts, rows = blast_radius(report_of(REPORT), {}, log(), bad="bad")
    assert (facts.expected, facts.interval, rows) == (None, None, [])
    json.dumps(as_mapping(facts), allow_nan=False)


def test_the_total_of_many_incidents_lies_in_its_interval() -> None:
    """60 seeded incidents: groups with hit rates of 0 to 0.8, 80 of 400 queries replayed; 95 % intervals cover 54 at least."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 3])
        rates = {g: rng.choice([0.0, 0.05, 0.3, 0.8]) for g in range(6)}
        groups = rng.integers(0, 6, 400)
        hit = rng.random(400) < np.array([rates[g] for g in groups])
        paths = [(f"half {g % 2}", f"group {g}") for g in groups]
        found = hits_among(hit[:80].astype(float), paths[:80], paths[80:], seed=seed)
        assert found.interval is not None
        covered += found.interval[0] <= hit[80:].sum() <= found.interval[1]
    assert covered >= 54


def test_nothing_seen_leaves_an_upper_bound() -> None:
    found = hits_among(np.zeros(50), [()] * 50, [()] * 1000)
    assert found.total == 0
    assert found.interval is not None
    assert 40 < found.interval[1] < 160


HOSTILE = ["=cmd|' /C calc'!A0", "+1", "-2", "@SUM(A1)", " =1", "\t=2", "a\nb", 'a,b"c', "\u202egnp", "|x", "%0A=1"]


def test_no_cell_of_the_csv_is_a_formula_or_a_control_character() -> None:
    rows = [HitQuery(id=id_, probability=0.5, basis="estimated", why='=HYPERLINK("x")') for id_ in HOSTILE]
    text = as_csv(rows)
    read = list(csv.reader(io.StringIO(text)))
    assert len(read) == len(HOSTILE) + 1
    for row in read[1:]:
        assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "|", "%")) for cell in row)
        assert all(c.isprintable() for cell in row for c in cell)


def test_json_lines_keep_the_ids_as_they_are() -> None:
    rows = [HitQuery(id=id_, probability=0.5, basis="estimated", why="") for id_ in HOSTILE]
    text = as_jsonl(rows)
    assert text.isascii()
    assert [json.loads(line)["id"] for line in text.splitlines()] == HOSTILE


def test_a_secret_in_an_id_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789abcdef")
    rows = [HitQuery(id="sk-0123456789abcdef", probability=1.0, basis="measured", why="")]
    assert "sk-0123" not in as_csv(rows) + as_jsonl(rows)
