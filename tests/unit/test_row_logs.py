"""A large JSONL log that DuckDB surveys gives what our own reader gives: the same sample, counts and errors, in every case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bisect_ai.errors import InputError
from bisect_ai.queries import row_logs
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.row_logs import RowLog
from bisect_ai.queries.sample import LogSettings, Sample


def written(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    return path


def both(monkeypatch: pytest.MonkeyPatch, source: Any, asked: LogSettings) -> tuple[Any, Any]:
    """What the log gives when DuckDB stages it, and when it does not."""
    found = list[Any]()
    for large in (0, 2**60):
        monkeypatch.setattr(row_logs, "LARGE", large)
        try:
            found.append(load_queries(source, settings=asked))
        except InputError as error:
            found.append(str(error))
    return found[0], found[1]


def staged(monkeypatch: pytest.MonkeyPatch, source: Any, **asked: Any) -> Sample | str:
    """What both ways give, which is the same."""
    one, other = both(monkeypatch, source, LogSettings(**asked))
    assert one == other
    return one  # type: ignore[no-any-return]


def plain_rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}",
            "user": f"u{i // 3}",
            "meta": {"plan": "pro" if i % 4 else "free", "n": i},
            "input": f"Question {i}?",
            "release": "good" if i % 2 else "bad",
            "versions": {"model": f"m{i % 3}", "prompt": 7},
            "scores": {"correct": i % 5 > 0, "length": i / 7, "grade": "C"},
        }
        for i in range(n)
    ]


@pytest.fixture
def no_row_survey(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts surveys by the row reader."""
    seen, survey = list[int](), RowLog.survey

    def counted(self: RowLog) -> Any:
        seen.append(1)
        return survey(self)

    monkeypatch.setattr(RowLog, "survey", counted)
    return seen


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"segment": "meta.plan", "cluster": "user", "seed": 3},
        {"columns": {"scores": "scores.length"}, "versions": ["meta.n", "release"]},
        {"columns": {"scores": {"long": "scores.length", "right": "scores.correct"}}},
        {"columns": {"input": "release", "id": "input"}, "segment": "file"},
        {"release": {"by": "user", "good": "u1*", "bad": "u*"}},
        {"release": {"by": "release", "new": "b*", "old": "g*"}},
    ],
)
def test_plain_rows_are_surveyed_by_duckdb_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int], asked: dict[str, Any]
) -> None:
    sample = staged(monkeypatch, written(tmp_path / "log.jsonl", plain_rows(600)), sample=40, **asked)
    assert isinstance(sample, Sample) and sample.read == 600 and len(sample) >= 38
    assert len(no_row_survey) == 1  # the one without staging


def test_doubtful_rows_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int]) -> None:
    rows: list[Any] = plain_rows(300)
    said = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "This."}]
    rows[3:3] = [
        {"id": ["l"], "input": "a list as id"},
        {"input": "no id"},
        {"input": "no id"},
        {"id": "m", "messages": said},
        {"id": "n", "messages": [{"role": "user", "content": ""}]},
        {"id": "o", "input": '["What?"]'},
        {"id": "p", "input": "see data:image/png;base64,AAAA"},
        {"id": "e", "input": ""},
        {"id": "f", "output": "asks nothing"},
        {"id": "g", "input": {"question": "What?"}},
        {"id": "s", "input": "x", "scores": {"correct": [1], "length": "7", "grade": {"score": 2}}},
        {"id": "t", "input": "x", "scores": [{"name": "correct", "value": 1}]},
        {"id": "u", "input": "x", "scores": None, "release": {"a": 1}},
        {"id": 7, "input": 5, "release": True},
        {"id": 1e22, "input": "x"},
        {"id": 12345678901234567890123, "input": "x"},
        '{"id": "v", "input": "\\ud83d\\ude00 ä", "scores": {"correct": 1e400}}',
    ]
    rows.pop()
    del rows[-1]
    rows[19] = {"id": "v", "input": "big", "scores": {"correct": 1e300}}
    sample = staged(monkeypatch, written(tmp_path / "log.jsonl", rows), sample=200)
    assert isinstance(sample, Sample) and len(sample) == 200 and sample.dropped == {"lost image": 1, "no input": 3}
    assert len(no_row_survey) == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "x", "input": "cut',
        '{"id": "x", "id": "y", "input": "twice"}',
        '{"id": "x", "input": "y", "scores": {"correct": NaN}}',
        '{"id": NaN, "input": "y"}',
        '{"id": "x", "input": "y", "scores": {"correct": 1, "correct": 0}}',
        "[1]",
        "null",
        '{"id": "x"} {"id": "y"}',
        '{"id": "x", "input": "\\ud800"}',
        '{"id": "x", "input": "' + "a" * (16 * 2**20) + '"}',
        "",
        "   ",
        '{"id": "q1", "input": "another one"}',
        json.dumps(plain_rows(2)[1]),
    ],
    ids=lambda line: line[:30],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_an_odd_line_is_told_as_in_a_small_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, skip_bad: bool
) -> None:
    rows: list[Any] = plain_rows(50)
    rows.insert(30, line)
    staged(monkeypatch, written(tmp_path / "log.jsonl", rows), sample=20, skip_bad=skip_bad)


def test_plain_scores_beside_objects_that_name_the_same_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int]
) -> None:
    rows = [{"id": f"q{i}", "input": "x", "scores": 0.5 if i % 2 else {"score": 1, "other": 0}} for i in range(400)]
    sample = staged(monkeypatch, written(tmp_path / "log.jsonl", rows), sample=20)
    assert isinstance(sample, Sample)
    (logged,) = sample.logged
    assert {name: (tally.total, tally.n) for name, tally in logged.scores.items()} == {"score": (300, 400), "other": (0, 200)}


def test_a_bad_line_is_named_without_reading_the_log_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int]
) -> None:
    rows: list[Any] = plain_rows(3_000)
    rows[2_000] = '{"id": "x", "input": "cut'
    path = written(tmp_path / "log.jsonl", rows)
    assert str(staged(monkeypatch, path)).startswith(f"cannot read {path} line 2001: column 22")
    assert len(no_row_survey) == 1


def test_files_are_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int]) -> None:
    for name, part in (("a", plain_rows(90)[:45]), ("b", plain_rows(90)[45:])):
        written(tmp_path / f"{name}.jsonl", part)
    sample = staged(monkeypatch, tmp_path / "*.jsonl", sample=20, release={"by": "file", "good": "a*", "bad": "b*"})
    assert isinstance(sample, Sample) and {each.release: each.n for each in sample.logged} == {"good": 45, "bad": 45}
    assert len(no_row_survey) == 1


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["", " ", "nan", "pass", "[1]", "{}", '"x"', "1e3", "0.50", "\u2028", "[truncated]"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from(["a", "b", "score"]), st.one_of(st.integers(0, 3), st.text(max_size=3)), max_size=2),
)
NAMES = ["id", "input", "release", "scores", "messages", "versions", "meta", "other"]


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(NAMES), CELLS, min_size=1), min_size=2, max_size=8),
    asked=st.sampled_from([{}, {"segment": "meta"}, {"columns": {"scores": "meta.a"}}, {"segment": "meta.a"}]),
)
def test_any_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    plain = [{**dict.fromkeys(NAMES), "id": f"p{i}", "input": "hi"} for i in range(3)]
    staged(monkeypatch, written(tmp_path / "log.jsonl", [*plain, *rows]), sample=5, **asked)


def test_columns_and_scores_that_come_late_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int]
) -> None:
    rows: list[Any] = [{"id": f"q{i}", "input": f"Question {i}?", "scores": {"correct": 1}} for i in range(1_200)]
    rows += [{"id": f"m{i}", "messages": [{"role": "user", "content": "Late?"}], "release": "new"} for i in range(200)]
    rows += [{"id": f"s{i}", "input": "x", "scores": {"correct": 0, "other": i}} for i in range(50)]
    sample = staged(monkeypatch, written(tmp_path / "log.jsonl", rows), sample=20)
    assert isinstance(sample, Sample) and sample.population == 1_450 and not sample.dropped
    assert {each.release: (each.n, sorted(each.scores)) for each in sample.logged} == {
        None: (1_250, ["correct", "other"]),
        "new": (200, []),
    }
    assert len(no_row_survey) == 1


@pytest.mark.parametrize("odd", ["0.50", "1e22", "[1]", '{"a": 1}', "NaN"])
def test_odd_segments_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_row_survey: list[int], odd: str
) -> None:
    rows: list[Any] = [{"id": f"q{i}", "input": "x", "segment": "free", "release": f"r{i % 2}"} for i in range(1_200)]
    for name in ("segment", "release"):
        rows[1_100] = f'{{"id": "odd", "input": "x", "segment": "free", "{name}": {odd}}}'.replace(
            '"segment": "free", "segment"', '"segment"'
        )
        staged(monkeypatch, written(tmp_path / "log.jsonl", rows), sample=1_200, segment="segment")
    assert len(no_row_survey) == 2


def test_a_column_that_is_missing_everywhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = staged(monkeypatch, written(tmp_path / "log.jsonl", plain_rows(50)), sample=20, columns={"input": "question"})
    assert str(said).startswith("the log has no column 'question'")
