"""A trial's identity: every leaf of what the target receives changes it, nothing else does (FAULTS G, R18)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bisect_ai
from bisect_ai.store.trial_store import Store

ROOT = Path(__file__).parents[2]
SENT: list[tuple[Any, Any]] = []
GOOD = {
    "model": {"model": "provider/name-2026-01-01", "temperature": 0, "sampling": {"top_p": 0.5, "stop": ["\n", "END"]}},
    "prompt": {"system": "Be exact.", "user": "{input}", "examples": [{"q": "caf\u00e9", "a": "yes"}]},
    "tools": [{"name": "lookup", "parameters": {"customer_id": {"type": "string"}}}],
    "corpus": {"documents": {"a.md": "Alpha", "b.md": "Beta"}},
    "context": {"history": 4, "documents": "before_question", "strict": True, "none": None},
}
BAD = {**GOOD, "prompt": {"system": "Be brief.", "user": "{input}", "examples": []}}
QUERY = {
    "id": "q1",
    "input": "Where is it?",
    "history": [{"role": "user", "content": "Hello"}],
    "documents": ["One"],
    "tool_results": [{"name": "lookup", "arguments": {"customer_id": "7"}, "result": {"name": "A", "old": False}}],
    "reference": "here",
    "plan": "free",
}


def answer(query: Any, release: Mapping[str, Any]) -> str:
    SENT.append((dict(query), dict(release)))
    return "x"


answer.version = "1"  # type: ignore[attr-defined]


def keys(store: Path, good: Any = GOOD, bad: Any = BAD, query: Any = QUERY, version: str = "1") -> dict[tuple[str, ...], str]:
    """Bad axes to identity of the trials that a run of one query makes; calls that were needed are in SENT."""
    answer.version = version  # type: ignore[attr-defined]
    other = {**query, "id": "other", "input": "Another?"}
    bisect_ai.run(
        good=good,
        bad=bad,
        queries=[query, other],
        target=answer,
        scorers=[{"kind": "length", "name": "length"}],
        design="full",
        store=store,
    )
    with Store(store) as opened:
        run = list(opened.runs)[-1]
    found = {}
    for path in sorted((store / "journal").glob(f"{run}-*")):
        for line in path.read_bytes().splitlines():
            head = json.loads(line.split(b" ", 3)[3].split(b"\t")[0])
            if head.get("type") == "trial" and head["query"] == query["id"]:
                found[tuple(head["bad_axes"])] = head["trial"]
    return found


def changed_leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, the whole value with that leaf changed, or that key or item taken away)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for place, changed in changed_leaves(inner, (*path, key)):
                yield place, {**value, key: changed}
            yield (*path, f"without {key}"), {k: v for k, v in value.items() if k != key}
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            for place, changed in changed_leaves(inner, (*path, i)):
                yield place, [*value[:i], changed, *value[i + 1 :]]
        yield (*path, "reversed or longer"), [*reversed(value), value[0] if value else "more"]
    elif isinstance(value, bool) or value is None:
        yield path, "true"
    elif isinstance(value, int | float):
        yield path, value + 1
    else:
        yield path, "assistant" if value == "user" else value + " "  # a blank beside a role is none of it


RELEASES = [(place, changed) for place, changed in changed_leaves(GOOD) if not str(place[0]).startswith("without")]
QUERIES = [
    (place, changed) for place, changed in changed_leaves(QUERY) if place[0] not in ("id", "without id", "without input")
]


def test_every_leaf_of_a_release_changes_the_key(tmp_path: Path) -> None:
    plain = keys(tmp_path / "plain")
    seen = {plain[()]: "as it is", plain[("prompt",)]: "bad"}
    assert len(seen) == 2
    assert len(RELEASES) > 30
    for i, (place, release) in enumerate(RELEASES):
        found = keys(tmp_path / str(i), good=release)[()]
        assert found not in seen, (place, seen[found])
        seen[found] = str(place)


def test_every_leaf_of_a_query_and_the_version_change_the_key(tmp_path: Path) -> None:
    seen = {keys(tmp_path / "plain")[()]: "as it is", keys(tmp_path / "v", version="2")[()]: "version"}
    assert len(seen) == 2
    for i, (place, query) in enumerate(QUERIES):
        found = keys(tmp_path / str(i), query=query)[()]
        assert found not in seen, (place, seen[found])
        seen[found] = str(place)


def test_good_and_bad_never_share_a_key(tmp_path: Path) -> None:
    found = keys(tmp_path / "store")
    assert len(set(found.values())) == len(found) == 2


def test_text_is_hashed_as_it_is_without_folding(tmp_path: Path) -> None:
    composed = keys(tmp_path / "a", query={**QUERY, "input": unicodedata.normalize("NFC", "cafe\u0301")})
    decomposed = keys(tmp_path / "b", query={**QUERY, "input": unicodedata.normalize("NFD", "caf\u00e9")})
    assert composed[()] != decomposed[()]


def turned(value: Any) -> Any:
    """The same value with the keys of its mappings in another order."""
    if isinstance(value, dict):
        return {k: turned(value[k]) for k in reversed(list(value))}
    return [turned(v) for v in value] if isinstance(value, list) else value


def test_the_order_of_keys_asks_nothing_again(tmp_path: Path) -> None:
    keys(tmp_path / "store")
    SENT.clear()
    keys(tmp_path / "store", good=turned(GOOD), bad=turned(BAD), query=turned(QUERY))
    assert SENT == []


def test_another_process_and_hash_seed_give_the_same_keys(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.faults.test_store_identity import keys\n"
        "print(sorted(keys(Path(sys.argv[1])).items()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "theirs")],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(sorted(keys(tmp_path / "ours").items()))


def test_time_limits_and_concurrency_are_no_part_of_it(tmp_path: Path) -> None:
    keys(tmp_path / "store")
    SENT.clear()
    bisect_ai.run(
        good=GOOD,
        bad=BAD,
        queries=[QUERY, {**QUERY, "id": "other", "input": "Another?"}],
        target=answer,
        scorers=[{"kind": "length", "name": "length"}],
        design="full",
        store=tmp_path / "store",
        concurrency=3,
        budget={"calls": 77, "minutes": 5},
        seed=0,
    )
    assert SENT == []
