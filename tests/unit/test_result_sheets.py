"""Result files as people keep them: answers side by side, packed files, questions in messages, scores in words, ids that repeat."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import bisect_ai
from bisect_ai.errors import QueryError
from bisect_ai.queries.result_files import read_results
from bisect_ai.queries.result_rows import SheetSides

N, LOST = 24, 12
SIDES = ("good", "bad")
ASKED = [f"Where is gate {i} of hall {'ABCDE'[i % 5]}?" for i in range(N)]


def right(side: str, i: int) -> bool:
    return side == "good" or i >= LOST


def said(side: str, i: int) -> str:
    return "Left." if right(side, i) else "Unknown."


def lines(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def two_files(
    folder: Path, row: Callable[[str, int], Any], pack: Callable[[bytes], bytes] = bytes, suffix: str = ""
) -> list[Path]:
    paths = [folder / f"{side}.jsonl{suffix}" for side in SIDES]
    for side, path in zip(SIDES, paths, strict=True):
        path.write_bytes(pack(lines([row(side, i) for i in range(N)])))
    return paths


def loses_half(*paths: Path, metric: str, way: str | None = None, **asked: Any) -> Any:
    report = bisect_ai.compare(*paths, tolerance=0.1, **asked).report
    assert (report["verdict"]["kind"], report["metric"]) == ("regression", metric)
    assert (report["loss"]["estimate"], report["loss"]["n"]) == (0.5, N)
    assert way is None or report["compare"]["paired_by"] == way
    return report


SHEETS = {
    "letters": ("answer_a", "answer_b", "score_a", "score_b"),
    "models": ("gpt-4o_output", "gpt-4.1_output", "gpt-4o_score", "gpt-4.1_score"),
    "before the word": ("old_answer", "new_answer", "old_correct", "new_correct"),
    "spaces": ("Response A", "Response B", "Score A", "Score B"),
    "capitals": ("answerA", "answerB", "scoreA", "scoreB"),
}


@pytest.mark.parametrize("names", SHEETS.values(), ids=SHEETS)
@pytest.mark.parametrize("sign", [",", ";"])
def test_answers_side_by_side_are_two_configurations(tmp_path: Path, names: tuple[str, ...], sign: str) -> None:
    sheet = io.StringIO()
    table = csv.writer(sheet, delimiter=sign)
    table.writerow(["id", "question", *names])
    for i, asked in enumerate(ASKED):
        table.writerow([i, asked, *(said(side, i) for side in SIDES), *(int(right(side, i)) for side in SIDES)])
    (tmp_path / "sheet.csv").write_text("\ufeff" + sheet.getvalue(), encoding="utf-8")
    report = loses_half(tmp_path / "sheet.csv", metric="correct" if "old_correct" in names else "score", way="id")
    assert any("side by side (guessed)" in warning for warning in report["warnings"])
    flip = report["compare"]["pairs"][0]["flips"][0]
    assert (flip["good"]["text"], flip["bad"]["text"]) == ("Left.", "Unknown."), flip


def test_answers_in_two_objects_of_a_row(tmp_path: Path) -> None:
    rows = [
        {"id": i, "input": ASKED[i], **{name: {"output": said(side, i), "score": right(side, i)} for name, side in named}}
        for named in [list(zip(("baseline", "candidate"), SIDES, strict=True))]
        for i in range(N)
    ]
    (tmp_path / "pairs.jsonl").write_bytes(lines(rows))
    report = loses_half(tmp_path / "pairs.jsonl", metric="score")
    assert (report["good"], report["bad"]) == ("baseline", "candidate")


@pytest.mark.parametrize("named", ["model_a", "A", "response_a"])
def test_the_winner_of_each_row_is_a_score(tmp_path: Path, named: str) -> None:
    rows = [
        {"prompt": asked, "response_a": said("good", i), "response_b": said("bad", i), "winner": named if i < LOST else "tie"}
        for i, asked in enumerate(ASKED)
    ]
    (tmp_path / "votes.jsonl").write_bytes(lines(rows))
    loses_half(tmp_path / "votes.jsonl", metric="score", way="question")


def test_scores_of_one_answer_are_no_sides() -> None:
    one = {
        "output": "Left.",
        "score_style": 1,
        "score_facts": 0,
        "scores": {"a": 1, "b": 0},
        "answer_length": 3,
        "output_tokens": 2,
    }
    assert SheetSides.of([one], ("score",), (), None) is None
    assert SheetSides.of([{"score_a": 1, "score_b": 0}], ("score",), (), None) is not None


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("export/rows.jsonl", data)
    return buffer.getvalue()


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (zipped, ".zip")])
def test_packed_result_files_are_compared(tmp_path: Path, pack: Callable[[bytes], bytes], suffix: str) -> None:
    row = lambda side, i: {"id": i, "input": ASKED[i], "output": said(side, i), "score": right(side, i)}  # noqa: E731
    loses_half(*two_files(tmp_path, row, pack, suffix), metric="score")


def test_conversations_without_ids_are_paired_by_what_was_asked(tmp_path: Path) -> None:
    """Not by the answer at their end, which would pair those questions alone that both answer alike."""

    def row(side: str, i: int) -> Any:
        talk = [
            ("system", f"Be {side}."),
            ("user", "Hi"),
            ("assistant", "Hello!"),
            ("user", ASKED[i]),
            ("assistant", said(side, i)),
        ]
        return {"messages": [{"role": role, "content": text} for role, text in talk], "score": {"correct": right(side, i)}}

    paths = two_files(tmp_path, row)
    loses_half(*paths, metric="correct", way="question")
    assert {each.question for c in read_results(paths).configurations for each in c.rows} == set(ASKED)


@pytest.mark.parametrize(
    "score",
    [
        lambda ok: {"grade": "pass" if ok else "fail"},
        lambda ok: {"scores": [{"metric": "grade", "score": ok}]},
        lambda ok: {"score": [{"key": "grade", "value": float(ok)}]},
    ],
)
def test_scores_in_words_and_lists_are_scores(tmp_path: Path, score: Callable[[bool], dict[str, Any]]) -> None:
    row = lambda side, i: {"id": i, "input": ASKED[i], "output": said(side, i), **score(right(side, i))}  # noqa: E731
    loses_half(*two_files(tmp_path, row), metric="grade")


MEANT = [("85 %", "0.85"), ("100%", "1"), ("4/5", "0.8"), ("7.5 / 10", "0.75"), ("1,5", "1.5")]


@pytest.mark.parametrize(("wrong", "meant"), [*MEANT, ("5/0", ""), ("1/31/2026", ""), ("fast;good", ""), ("good", "")])
def test_what_is_called_a_score_and_is_no_number_is_shown(tmp_path: Path, wrong: str, meant: str) -> None:
    paths = two_files(tmp_path, lambda side, i: {"id": i, "input": ASKED[i], "score": wrong})
    told = f": write {meant} for it in every row" if meant else ""
    with pytest.raises(QueryError, match=rf"in score stands '{wrong}', which is no number{told}\); name the column"):
        bisect_ai.compare(*paths)


def test_columns_that_are_surely_the_question_pair_rows(tmp_path: Path) -> None:
    row = lambda side, i: {"run": f"{side}-{i}", "prompt": ASKED[i], "completion": said(side, i), "passed": right(side, i)}  # noqa: E731
    report = loses_half(*two_files(tmp_path, row), metric="passed", way="question")
    assert any("read as columns: {input: prompt" in warning for warning in report["warnings"])


def test_ids_that_name_several_questions_pair_none(tmp_path: Path) -> None:
    row = lambda side, i: {"id": i // 2, "input": ASKED[i], "output": said(side, i), "score": right(side, i)}  # noqa: E731
    loses_half(*two_files(tmp_path, row), metric="score", way="question")


def test_one_file_says_which_column_tells_its_configurations_apart(tmp_path: Path) -> None:
    rows = [
        {"id": f"{side}{i}", "input": ASKED[i], "score": right(side, i), "metadata": {"app": side, "user": i % 3}}
        for i in range(N)
        for side in SIDES
    ]
    (tmp_path / "all.jsonl").write_bytes(lines(rows))
    with pytest.raises(QueryError, match=r"--by \(from Python by=…\); perhaps metadata\.app$"):
        bisect_ai.compare(tmp_path / "all.jsonl")
    loses_half(tmp_path / "all.jsonl", metric="score", by="metadata.app")


def promptfoo(side: str, i: int, wrong: str) -> Any:
    ok = right(side, i)
    row = {
        "promptIdx": SIDES.index(side),
        "testIdx": i,
        "vars": {"question": ASKED[i]},
        "prompt": {"raw": ASKED[i], "label": side},
    }
    row |= {"provider": {"id": "echo"}, "response": {"output": said(side, i)}, "success": ok, "score": float(ok)}
    failed = {"error": wrong, "failureReason": 1, "gradingResult": {"pass": False, "reason": wrong}}
    return {**row, **({"failureReason": 0} if ok else failed)}


@pytest.mark.parametrize("is_old", [False, True])
def test_what_an_assertion_objects_to_is_no_failed_call(tmp_path: Path, is_old: bool) -> None:
    """promptfoo writes it as `error` of the row (seen in 0.121.20), older versions without `failureReason`."""
    rows = [promptfoo(side, i, 'Expected output "Unknown." to equal "Left."') for i in range(N) for side in SIDES]
    for row in rows:
        if is_old:
            del row["failureReason"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"evalId": "e", "results": {"version": 3, "results": rows}}))
    report = loses_half(path, metric="success")
    assert [c["failed"] for c in report["compare"]["configurations"]] == [0, 0]


def test_a_failed_call_of_promptfoo_has_no_score(tmp_path: Path) -> None:
    rows = [promptfoo(side, i, "no") for i in range(N) for side in SIDES]
    for row in rows:
        if not row["success"]:
            row |= {"failureReason": 2, "error": "timeout"}
    (tmp_path / "results.json").write_text(json.dumps({"evalId": "e", "results": {"version": 3, "results": rows}}))
    good, bad = read_results([tmp_path / "results.json"]).configurations
    assert ([row.failed for row in good.rows].count(True), [row.failed for row in bad.rows].count(True)) == (0, LOST)
    assert all(not row.scores for row in bad.rows if row.failed)
