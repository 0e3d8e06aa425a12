"""Mutated logs of every kind: one line or a sample, never a traceback, a hang or a gigabyte (FAULTS.md R7, C2 to C4)."""

from __future__ import annotations

import io
import json
import random
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bisect_ai.errors import InputError, QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import LogSettings, Quota, allocate
from bisect_ai.queries.sandbox import Child, ChildLog
from tests.faults.made_logs import MADE

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"
ODD = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"NaN",
    b"1e999",
    b"-Infinity",
    b"9" * 5_000,
    b"[" * 2_000,
    b"{",
    b'"',
    b"\\ud800",
]
ODD += [b'{"a":1,"a":2}', b"null", b"[]", b"\\u0000", b"true", b'"attachment://x"', b"}", b"]", b",", b"\n"]
FEW, MANY = 500, 20_000
KINDS = {
    "jsonl": b'{"id": "%d", "input": "hi", "scores": {"a": 1}, "messages": [{"role": "user", "content": "x"}]}\n',
    "csv": b'%d,"hi, you",pro\n',
}
FILES = {
    "otlp": "opentelemetry/spans.jsonl",
    "openinference": "openinference/spans.jsonl",
    "langfuse": "langfuse/observations.jsonl",
    "litellm": "litellm/callbacks.jsonl",
    "promptfoo": "promptfoo/results.json",
    "openai": "openai/stored.json",
    "inspect": "inspect/plants.eval",
}
LISTS = {name for name, value in MADE.items() if isinstance(value, list)}
FILES |= {name: f"{name}.json{'l' if name in LISTS else ''}" for name in MADE}
FORMAT_OF = {"openinference": "otlp", "langfuse page": "langfuse", "langfuse download": "langfuse", "held rows": "jsonl"}
"""The formats of files that are not named like theirs."""
SAMPLE_NAME = "samples/q1_epoch_1.json"
GONE = object()
OTHERS = [GONE, None, True, 7, -1.5, "", "text", "[1]", "{}", [], [1], [[]], {}, {"a": [1]}]
"""What any value of a record may turn out to be."""
Place = tuple[str | int, ...]


def mutants(data: bytes, number: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(number):
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(changed))
            kind = rng.randrange(4)
            if kind == 0:
                changed[at] = rng.randrange(256)
            elif kind == 1:
                changed[at:at] = rng.choice(ODD)
            elif kind == 2:
                del changed[at : at + rng.randrange(1, 40)]
            else:
                changed[at : at + rng.randrange(1, 20)] = rng.choice(ODD)
            changed = changed or bytearray(b" ")
        yield bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def plain(kind: str) -> bytes:
    return (b"id,input,plan\n" if kind == "csv" else b"") + b"".join(KINDS[kind] % i for i in range(3))


def packed(sample: Any) -> bytes:
    """An archive with one sample."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("header.json", json.dumps({"version": 2, "eval": {"task": "t", "model": "m"}}))
        target.writestr(SAMPLE_NAME, json.dumps(sample))
    return buffer.getvalue()


def small(name: str) -> bytes:
    """A few records of a tool's file: mutations then hit what matters."""
    if name in MADE:
        return written(name, MADE[name])
    path = LOGS / FILES[name]
    if path.suffix == ".eval":
        with zipfile.ZipFile(path) as source:
            sample = json.loads(source.read(SAMPLE_NAME))
        return packed({key: value for key, value in sample.items() if key not in ("events", "events_data")})
    if path.suffix == ".json":
        whole = json.loads(path.read_text())
        rows = whole["data"] if "data" in whole else whole["results"]["results"]
        del rows[2:]
        return json.dumps(whole, indent=1).encode()
    first = json.loads(path.read_text().splitlines()[0])
    for resource_spans in first.get("resourceSpans", ()):
        for scope in resource_spans["scopeSpans"]:
            del scope["spans"][3:]
    return json.dumps(first).encode() + b"\n"


def written(name: str, value: Any) -> bytes:
    """JSON of a tool's records: several of them one a line."""
    if name in LISTS and isinstance(value, list):
        return b"".join(json.dumps(each).encode() + b"\n" for each in value)
    return json.dumps(value).encode()


def survives(path: Path, data: bytes, *, name: str, skip_bad: bool) -> None:
    path.write_bytes(data)
    try:
        sample = load_queries(path, settings=LogSettings(format=name, skip_bad=skip_bad))  # type: ignore[arg-type]
        assert sample.read == sample.kept + sum(sample.dropped.values())
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1_000


def fuzz(tmp_path: Path, kind: str, number: int, seed: int) -> None:
    data, suffix = (plain(kind), kind) if kind in KINDS else (small(kind), Path(FILES[kind]).suffix[1:])
    named = FORMAT_OF.get(kind, kind)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew: other tests of the process have had theirs
    before = memory("VmRSS")
    for n, mutant in enumerate(mutants(data, number, seed)):
        survives(tmp_path / f"log.{suffix}", mutant, name=named if n % 3 else "auto", skip_bad=n % 2 == 0)
    assert memory("VmHWM") - before < 2**19


def memory(what: str) -> int:
    """KiB of this process, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


@pytest.mark.parametrize("kind", [*KINDS, *FILES])
def test_mutated_text_logs_end_in_one_line_or_a_sample(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, FEW, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *FILES])
def test_many_mutated_text_logs(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, MANY, seed=2)


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Where there is a value inside of this one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*at, key)
        yield from places(each, (*at, key))


def replaced(value: Any, at: Place, other: Any) -> Any:
    """A copy with another value at the place, or none."""
    changed = value.copy()
    changed[at[0]] = replaced(changed[at[0]], at[1:], other) if at[1:] else other
    if changed[at[0]] is GONE:
        del changed[at[0]]
    return changed


def record(kind: str) -> Any:
    """What `small` holds, as JSON."""
    if kind in MADE:
        return MADE[kind]
    data = small(kind)
    if kind == "inspect":
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            data = source.read(SAMPLE_NAME)
    return json.loads(data)


def reads_with(tmp_path: Path, kind: str, value: Any, *, name: str | None = None, skip_bad: bool = False) -> None:
    data = packed(value) if kind == "inspect" else written(kind, value)
    named = name or FORMAT_OF.get(kind, kind)
    survives(tmp_path / f"log{Path(FILES[kind]).suffix}", data, name=named, skip_bad=skip_bad)


def fuzz_types(tmp_path: Path, kind: str, most: int) -> None:
    whole = record(kind)
    cases = [(at, other) for at in places(whole) for other in OTHERS]
    for n, (at, other) in enumerate(random.Random(5).sample(cases, min(most, len(cases)))):
        name = None if n % 3 else "auto"
        reads_with(tmp_path, kind, replaced(whole, at, other), name=name, skip_bad=n % 2 == 0)


SPAN = ("resourceSpans", 0, "scopeSpans", 0, "spans", 0)


@pytest.mark.parametrize(
    ("kind", "at", "other"),
    [
        ("openai", ("data", 0, "id"), [1]),
        ("langfuse", ("id",), "[1]"),
        ("langfuse", ("parentObservationId",), [1]),
        ("langfuse", ("output", "tool_calls"), 7),
        ("litellm", ("litellm_call_id",), {"a": 1}),
        ("litellm", ("response", "choices", 0, "message", "tool_calls"), True),
        ("promptfoo", ("results", "results", 0, "testCase", "assert", 0, "type"), []),
        ("otlp", (*SPAN, "parentSpanId"), []),
        ("openinference", (*SPAN, "parentSpanId"), {}),
    ],
)
def test_a_name_that_is_no_text_and_a_list_that_is_none_are_read(tmp_path: Path, kind: str, at: Place, other: Any) -> None:
    reads_with(tmp_path, kind, replaced(record(kind), at, other))


@pytest.mark.parametrize("kind", FILES)
def test_a_value_of_another_type_ends_in_one_line_or_a_sample(tmp_path: Path, kind: str) -> None:
    fuzz_types(tmp_path, kind, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_every_value_of_every_other_type(tmp_path: Path, kind: str) -> None:
    fuzz_types(tmp_path, kind, MANY)


def parquet(path: Path) -> bytes:
    rows = [{"id": str(i), "input": "hi", "scores": {"a": i}, "at": pd.Timestamp("2026-11-20", tz="UTC")} for i in range(20)]
    pd.DataFrame(rows).to_parquet(path)
    return path.read_bytes()


SHARED = """
from contextlib import contextmanager
from pathlib import Path
import bisect_ai.queries.parquet as parquet

locked, open_for, NAMES = parquet.locked, {}, NUMBER


class Kept:
    def __init__(self, connection):
        self._connection, self._made = connection, set()

    def create_function(self, *given, **how):
        if given[0] not in self._made:
            self._connection.create_function(*given, **how)
        self._made.add(given[0])

    def __getattr__(self, name):
        return getattr(self._connection, name)


@contextmanager
def shared(files=()):
    names = [str(Path(files[0]).with_name(f"log{i}.parquet")) for i in range(NAMES)]
    try:
        if files[0] == names[0]:
            raise KeyError(names[0])
        open_for["all"].execute("SELECT 1")
    except Exception:
        open_for["scope"] = locked(names)
        open_for["all"] = Kept(open_for["scope"].__enter__())
    yield open_for["all"]


parquet.locked = shared
"""
NAMES = 25
"""Files that one connection reads in turn: to open one takes longer than to read a mutant."""


def fuzz_parquet(tmp_path: Path, number: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHARED.replace("NUMBER", str(NAMES)))
    monkeypatch.syspath_prepend(tmp_path)
    shape, child = Shape.of(LogSettings(), tabular=True), Child(seconds=10)
    for n, mutant in enumerate(mutants(parquet(tmp_path / "log.parquet"), number, seed)):
        path = tmp_path / f"log{n % NAMES}.parquet"
        path.write_bytes(mutant)
        try:
            log = ChildLog([path], shape, child=child)
            found = log.survey()
            log.draw({name: Quota(n, found.rows[name]) for name, n in allocate(found.rows, 5).items()})
        except QueryError as error:
            assert "\n" not in str(error)
            if "process that read it ended" in str(error) or "took more than" in str(error):
                child.close()
                child = Child(seconds=10)
    child.close()


def test_mutated_parquet_ends_in_one_line_or_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_parquet(tmp_path, FEW, 3, monkeypatch)


@pytest.mark.slow
def test_many_mutated_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_parquet(tmp_path, MANY, 4, monkeypatch)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"ended by signal 11, so the file is damaged or hostile"),
        ("import time; time.sleep(60)", r"took more than 1 s"),
        ("bytearray(2**33)", r"more memory than a log needs"),
    ],
    ids=["segv", "hang", "memory"],
)
def test_a_child_that_crashes_hangs_or_eats_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    parquet(tmp_path / "log.parquet")
    (tmp_path / "sitecustomize.py").write_text(
        "import bisect_ai.queries.parquet as p\n" + f"def survey(self):\n    {code}\n" + "p.ParquetLog.survey = survey\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    log = ChildLog([tmp_path / "log.parquet"], Shape.of(LogSettings(), tabular=True), child=Child(seconds=60))
    if "took" in message:
        log._child._seconds = 1
    with pytest.raises(QueryError, match=message):
        log.survey()
    log._child.close()


@pytest.mark.parametrize(("text", "place"), [('[\n{"id": 1,}\n]', "line 2, column 10"), ('{"data": [\n{"a": NaN}]}', "NaN")])
def test_an_error_in_a_document_says_where(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "log.json").write_text(text)
    with pytest.raises(QueryError, match=place) as caught:
        load_queries(tmp_path / "log.json", settings=LogSettings(format="langfuse"))
    assert str(tmp_path / "log.json") in str(caught.value)


def test_a_damaged_archive_does_not_put_its_text_into_the_message(tmp_path: Path) -> None:
    data = bytearray(small("inspect"))
    at = data.index(b"header.json") - 4
    data[at : at + 2] = (1_500).to_bytes(2, "little")  # the length of the first name: it now takes in what follows
    (tmp_path / "log.eval").write_bytes(data)
    with pytest.raises(QueryError) as caught:
        load_queries(tmp_path / "log.eval", settings=LogSettings(format="inspect"))
    assert len(str(caught.value)) < 300 and "water" not in str(caught.value)


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return path


SAMPLE = {"id": "q", "epoch": 1, "input": "hi", "messages": [{"role": "user", "content": "hi"}], "scores": {}}
HEADER = json.dumps({"version": 2, "eval": {"task": "t"}}).encode()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "x.eval", {"header.json": HEADER, "samples/a_epoch_1.json": b" " * 30_000_000})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(QueryError, match="unpacks to 30000000 bytes"):
        load_queries(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "samples/../../evil.json", "samples/C:\\evil.json"])
def test_names_in_an_archive_are_no_paths(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    data = json.dumps(SAMPLE).encode()
    path = archive(inside / "x.eval", {"header.json": HEADER, name: data, "samples/q_epoch_1.json": data})
    try:
        assert load_queries(path).queries[0].input == "hi"
    except QueryError as error:
        assert "\n" not in str(error)
    assert [each.name for each in tmp_path.rglob("*")] == ["in", "x.eval"]


def test_not_a_number_in_an_inspect_score_is_no_score(tmp_path: Path) -> None:
    text = json.dumps({**SAMPLE, "scores": {"a": {"value": float("nan")}, "b": {"value": "C"}}})
    query = load_queries(
        archive(tmp_path / "x.eval", {"header.json": HEADER, "samples/q_epoch_1.json": text.encode()})
    ).queries[0]
    assert query.scores == {"b": 1.0}


Mutate = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.decode().encode("utf-16"), "UTF-16"),
        (lambda data: b"\xef\xbb\xbf" + data, None),
        (lambda data: data.replace(b"\n", b"\r\n"), None),
    ],
    ids=["utf-16", "bom", "crlf"],
)
def test_encodings_of_a_tools_file(tmp_path: Path, change: Mutate, message: str | None) -> None:
    (tmp_path / "log.jsonl").write_bytes(change((LOGS / FILES["litellm"]).read_bytes()))
    if message:
        with pytest.raises(QueryError, match=message):
            load_queries(tmp_path / "log.jsonl", settings=LogSettings(format="litellm"))
    else:
        assert load_queries(tmp_path / "log.jsonl").kept == 24
