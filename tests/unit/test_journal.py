"""The journal keeps what it acknowledged, and says what it could not read."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisect_ai.errors import InputError, StoreError
from bisect_ai.provider.usage import Usage
from bisect_ai.store.journal import JournalSegment, closed_segments, open_folder
from bisect_ai.store.record_lines import decode, encode
from bisect_ai.store.recovery import Damage, Folder
from bisect_ai.store.trial_store import Kept, Scored, Store
from bisect_ai.targets.answer import Answer, ToolCall


def kept(i: int, *, run: str = "run", error: str | None = None) -> Kept:
    answer = Answer(text=f"answer {i}", tool_calls=(ToolCall("f", {"a": 1}, "r"),), usage=Usage(3, 4, 0.5), error=error)
    return Kept(f"identity-{i}", run, f"q{i}", ("prompt",), 0, answer)


def records(folder: Path) -> tuple[list[tuple[dict[str, object], bytes]], Damage]:
    journal = Folder(folder)
    found = [(head, payload) for _, (_, head, payload) in journal.read()]
    return found, journal.damage()


def written(tmp_path: Path, n: int = 5) -> Path:
    folder = open_folder(tmp_path / "store")
    segment = JournalSegment(folder, run="run")
    segment.append([({"type": "x", "i": i, "text": "é\ud83d\x00"}, {"i": i}) for i in range(n)])
    segment.close()
    return segment.path


def test_records_come_back_in_order_whatever_the_text(tmp_path: Path) -> None:
    path = written(tmp_path)
    found, damage = records(path.parent)
    assert [head.get("i") for head, _ in found] == [None, 0, 1, 2, 3, 4, None]
    assert found[1][0]["text"] == "é\ud83d\x00"
    assert found[1][1] == b'{"i":0}'
    assert found[-1][0] == {"type": "end", "records": 6}
    assert closed_segments(path.parent) == {path.name: 6}
    assert (damage.lost, damage.torn) == ({}, [])


@given(st.text(st.characters(codec=None)), st.integers(2, 2**40))
def test_any_text_passes_through_a_line(text: str, sequence: int) -> None:
    line = encode(sequence, ({"type": "x", "t": text}, [text]))
    assert line.count(b"\n") == 1
    found = decode(line)
    assert found is not None
    assert (found[0], found[1], json.loads(found[2])) == (sequence, {"type": "x", "t": text}, [text])


def test_ten_megabytes_and_a_lone_surrogate_pass(tmp_path: Path) -> None:
    long = "\ud83d\x00\u2028" + "x" * (10 << 20)
    with Store(tmp_path / "store") as store:
        store.keep("run", [Kept("i", "run", "q\x00", (), 0, Answer(text=long))], [])
        assert store.answer("i").answer.text == long  # type: ignore[union-attr]
    with Store(tmp_path / "store") as again:
        assert again.answer("i").answer.text == long  # type: ignore[union-attr]


def test_modes_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = written(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_a_failed_write_is_final_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = JournalSegment(open_folder(tmp_path / "store"), run="run")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"No space left.*kept"):
            segment.append([({"type": "x"}, None)])
    with pytest.raises(StoreError, match="no more records"):
        segment.append([({"type": "x"}, None)])


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "store")
    segment = JournalSegment(folder, run="run")
    segment.append([({"type": "segment", "schema": "bisect-ai/journal@99", "needs": "9.1", "run": "r"}, None)])
    with pytest.raises(StoreError, match=r"upgrade bisect-ai to 9\.1"):
        records(folder)


def test_a_store_opens_again_with_all_it_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        store.begin("run", {"seed": 1})
        store.keep("run", [kept(0), kept(1)], [Scored("identity-0", "s", 1.0), Scored("identity-1", "s", None, "why")])
    with Store(tmp_path / "store") as again:
        assert again.answer("identity-1") == kept(1)
        assert again.score("identity-1", "s") == Scored("identity-1", "s", None, "why")
        assert again.runs["run"]["settings"] == {"seed": 1}
        assert again.spending("run").calls == 2


def test_an_error_is_kept_but_never_answers(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        store.begin("run", {})
        store.keep("run", [kept(0, error="Timeout: no answer")], [])
        assert store.answer("identity-0") is None
        assert (store.spending("run").calls, store.spending("run").errors) == (1, 1)


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot create the store"):
        Store(tmp_path / "file")


def test_a_run_is_found_by_the_beginning_of_its_id() -> None:
    store = Store(None)
    store.begin("abc1", {})
    store.begin("abd2", {})
    assert store.find_run("abc") == "abc1"
    with pytest.raises(StoreError, match="more than one"):
        store.find_run("ab")
    with pytest.raises(StoreError, match="no run"):
        store.find_run("x")


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_kept_is_out_of_reach(tmp_path: Path, on_disk: bool) -> None:
    arguments = {"ids": [1]}
    given = kept(1)._replace(answer=Answer(text="a", tool_calls=(ToolCall("find", arguments),), documents=(["d"],)))
    with Store(tmp_path if on_disk else None) as store:
        store.keep("run", [given, kept(2)._replace(answer=Answer.of_text("b", 0.5))], [Scored("identity-1", "s", 1.0)])
        arguments["ids"].append(2)
        found = store.answer("identity-1")
        assert found is not None
        assert found.answer.tool_calls[0].arguments == {"ids": [1]}
        assert store.score("identity-1", "s") == Scored("identity-1", "s", 1.0)
        assert store.answer("identity-2") == kept(2)._replace(answer=Answer(text="b", latency_s=0.5))
        assert store.spending("run").calls == 2


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("answer", [Answer(latency_s=float("nan")), Answer(documents=(object(),)), Answer(text=b"a")])  # type: ignore[arg-type]  # a user's mistake
def test_what_json_cannot_hold_is_refused(tmp_path: Path, on_disk: bool, answer: Answer) -> None:
    with Store(tmp_path if on_disk else None) as store, pytest.raises(InputError, match="plain JSON"):
        store.keep("run", [kept(1)._replace(answer=answer)], [])


def test_an_answer_survives_its_plain_form() -> None:
    answer = kept(3).answer
    assert Answer.from_dict(json.loads(json.dumps(answer.to_dict()))) == answer
