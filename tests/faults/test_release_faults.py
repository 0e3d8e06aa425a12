"""Hostile releases: paths that lead away, files that are none, texts that explode, code that wants to run."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

import bisect_ai.release
from bisect_ai import canonical
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.release import source_files
from bisect_ai.release.diff import diff
from bisect_ai.release.load import load_release
from bisect_ai.release.strict import parse_strict_json, parse_yaml

SECRET = "canary-7f3a"


STEPS_UP = r"""
../ ..\ ..// ./../ a/../../ ..;/ %2e%2e/ %2e%2e%2f ..%2f %252e%252e/ ..%c0%af ..%5c ．．/ ․․/ ..∕ ..／ ....// %00../ ~/../
"""
"""Spellings of a step up that some system or decoder has taken for one."""

ABSOLUTE = r"""
/etc/passwd //etc/passwd ///etc/passwd /./etc/passwd /../etc/passwd / /dev/null /dev/zero /dev/stdin /dev/fd/0 /dev/tty
/proc/self/environ /proc/self/mem /proc/self/cwd/secret.txt /proc/1/root/etc/passwd ~ ~/.ssh/id_rsa ~root/.bashrc
$HOME/.ssh/id_rsa ${HOME}/x %USERPROFILE%\x `id` $(id) |id ;id - --help
C:\Windows\win.ini C:/Windows/win.ini c:secret.txt C: Z:..\x \\host\share\x //host/share/x \\?\C:\x \\.\pipe\x \Windows\x
\\?\UNC\x NUL CON aux.txt COM1 secret.txt::$DATA a.txt:stream file.txt. x|y x<y x"y
file:///etc/passwd file://localhost/etc/passwd file:/etc/passwd file:etc/passwd FILE:///etc/passwd http://127.0.0.1/x
https://example.org/x ftp://example.org/x s3://bucket/x gs://bucket/x data:text/plain,x jar:file:///x!/y zip://x hf://x/y
smb://host/x ssh://host/x git://host/x gopher://x dict://x ldap://x php://input
"""

ODD = """
. .. ./ ../ ... ./.. a/.. a/../.. sub/../.. sub/../../secret.txt link-out link-out/x link-file link-up link-up/secret.txt
link-abs link-loop link-chain link-dangling sub/link-deep fifo gone sub sub/ folder-link folder-link/../../secret.txt
ok.txt/ ok.txt/.. ok.txt/../../secret.txt ok.txt/. OK.TXT.gone * ? [a-z] ok.* **/ok.txt {ok,secret}.txt ../release/../secret.txt
"""

UNPRINTABLE = [
    "",
    " ",
    "\n",
    "\r",
    "\t",
    "a\nb",
    "a\x00b",
    "\x00",
    "\x1b[2J",
    "\u202esecret.txt",
    "\u200b",
    "\ufeffok.txt",
    "\ud800",
]
UNPRINTABLE += ["ok.txt\x00.md", "ok.txt\n", ". ./x", ".. /x", "../\tsecret.txt", "..\u200b/secret.txt", "..\x00/secret.txt"]
LONG = ["a" * 300, "a/" * 3000, "x" * 5000, "é" * 200, "../" * 500 + "etc/passwd"]


def _ways_up() -> list[str]:
    return [step * times + name for step in STEPS_UP.split() for times in (1, 3) for name in ("secret.txt", "etc/passwd")]


CORPUS = list(dict.fromkeys([*_ways_up(), *ABSOLUTE.split(), *ODD.split(), *UNPRINTABLE, *LONG]))
FIELDS = {
    "file": lambda path: {"file": path},
    "dir": lambda path: {"dir": path},
    "table": lambda path: {"table": path, "id": "id", "text": "text"},
    "git": lambda path: {"git": f"HEAD:{path}"},
}
INSIDE = {".", "./", "a/..", "ok.txt/", "ok.txt/..", "ok.txt/.", "sub", "sub/", "folder-link"}
"""Paths that stay inside the root; some kinds of reference read them, and find no secret."""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A release folder with a secret beside it and links of every kind that lead there."""
    inside = tmp_path / "outer" / "release"
    (inside / "sub").mkdir(parents=True)
    (inside / "a").mkdir()
    for outside in (tmp_path, tmp_path / "outer"):
        (outside / "secret.txt").write_text(SECRET)
        (outside / "etc").mkdir()
        (outside / "etc" / "passwd").write_text(SECRET)
    (inside / "ok.txt").write_text("fine")
    (inside / "sub" / "inside.txt").write_text("fine")
    return inside


def add_links(inside: Path) -> None:
    outer = inside.parent
    (inside / "link-out").symlink_to(outer)
    (inside / "link-up").symlink_to("..")
    (inside / "link-file").symlink_to("../secret.txt")
    (inside / "link-abs").symlink_to(outer / "secret.txt")
    (inside / "link-loop").symlink_to("link-loop")
    (inside / "link-chain").symlink_to("link-file")
    (inside / "link-dangling").symlink_to("nowhere")
    (inside / "sub" / "link-deep").symlink_to("../../secret.txt")
    (inside / "folder-link").symlink_to("sub")
    os.mkfifo(inside / "fifo")


def load(folder: Path, value: object) -> object:
    path = folder / "release.json"
    path.write_text(json.dumps({"axes": {"prompt": value}}))
    return load_release(path).axes["prompt"]


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CORPUS) >= 200


@pytest.mark.parametrize("field", FIELDS)
def test_no_path_of_the_corpus_leaves_the_release_folder(trap: Path, field: str) -> None:
    add_links(trap)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", *command], cwd=trap, check=True, capture_output=True)
    start = time.monotonic()
    for path in CORPUS:
        try:
            found = load(trap, FIELDS[field](path))
        except ReleaseError as refused:
            message = str(refused)
            assert "release.json" in message
            assert "'axes.prompt'" in message
            assert message.isprintable(), path
            assert SECRET not in message
        else:
            assert path in INSIDE, path
            assert SECRET not in json.dumps(found)
    assert time.monotonic() - start < 30


def test_a_path_inside_is_read_however_it_is_written(trap: Path) -> None:
    (trap / "also").symlink_to("ok.txt")
    for path in ("ok.txt", "./ok.txt", "sub/../ok.txt", "also", "sub/.././ok.txt"):
        assert load(trap, {"file": path}) == "fine"
    assert load(trap, {"dir": "sub"}) == {"inside.txt": "fine"}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: (f / "sub" / "out").symlink_to("../../secret.txt"), "leads outside"),
        (lambda f: (f / "sub" / "folder").symlink_to(".."), "symbolic link to a folder"),
        (lambda f: (f / "sub" / "gone").symlink_to("nowhere"), "cannot be read"),
        (lambda f: os.mkfifo(f / "sub" / "fifo"), "no regular file"),
        (lambda f: (f / "sub" / "image.png").write_bytes(b"\x89PNG\x00"), "NUL byte"),
        (lambda f: (f / "sub" / "latin.md").write_bytes(b"caf\xe9"), "not UTF-8"),
        (lambda f: (f / "sub" / "e\x1b[2Jvil").write_text("x"), "control characters"),
        (lambda f: Path(os.fsdecode(os.fsencode(f) + b"/sub/\xff")).write_text("x"), "not UTF-8; rename"),
    ],
)
def test_a_folder_with_anything_but_plain_texts_is_refused(trap: Path, make: object, says: str) -> None:
    make(trap)  # type: ignore[operator]
    with pytest.raises(ReleaseError, match=re.escape(says)) as caught:
        load(trap, {"dir": "sub"})
    assert str(caught.value).isprintable()


def test_a_fifo_does_not_block_and_a_device_does_not_flood(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.yaml")
    done: list[str] = []

    def read(path: str) -> None:
        try:
            load_release(path)
        except ReleaseError as refused:
            done.append(str(refused))

    for path in (str(tmp_path / "r.yaml"), "/dev/zero"):
        thread = threading.Thread(target=read, args=(path,), daemon=True)
        thread.start()
        thread.join(10)
    assert [("no regular file" in message) for message in done] == [True, True]


def test_a_file_swapped_for_a_link_while_it_is_read_is_noticed(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_read = source_files.read_bytes

    def swapping(path: Path) -> bytes:
        path.unlink()
        path.symlink_to(trap.parent / "secret.txt")
        return plain_read(path)

    monkeypatch.setattr(source_files, "read_bytes", swapping)
    with pytest.raises(ReleaseError, match="it was replaced while it was read"):
        source_files.read_inside(trap, source_files.path_inside(trap, trap, "ok.txt"))


def test_sizes_are_limited_before_anything_is_parsed(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (trap / "huge.yaml").open("wb") as file:
        file.truncate(canonical.MAX_BYTES + 1)
    with pytest.raises(ReleaseError, match="larger than 64 MiB"):
        load_release(trap / "huge.yaml")
    with pytest.raises(ReleaseError, match="larger than 64 MiB"):
        load(trap, {"file": "huge.yaml"})
    (trap / "huge.yaml").unlink()
    monkeypatch.setattr(source_files, "MAX_FOLDER_BYTES", 3)
    with pytest.raises(ReleaseError, match="holds more than"):
        load(trap, {"dir": "sub"})


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ReleaseError, match="line 1, column 5: at 'a0': anchors and aliases"):
        parse_yaml("\n".join(rows), "bomb.yaml")
    with pytest.raises(ReleaseError, match="anchors and aliases"):
        parse_yaml("a: &a [*a]", "loop.yaml")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "a:\n" + " " * 100_000 + "b"]
)
def test_deep_yaml_ends_quickly_and_without_a_crash(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(ReleaseError) if not text.endswith("b") else _nothing():
        parse_yaml(text, "deep.yaml")
    assert time.monotonic() - start < 10


class _nothing:  # noqa: N801 (a context that expects no error)
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_nothing_in_a_release_is_run_or_filled_in(trap: Path) -> None:
    hooks = {
        "a.yaml": "!!python/object/apply:os.mkdir [ran]",
        "b.yaml": "!!python/name:os.system ''",
        "c.yaml": "!!timestamp 2020-01-01",
    }
    for name, text in hooks.items():
        (trap / name).write_text(text)
        with pytest.raises(ReleaseError, match="tags"):
            load(trap, {"file": name})
    template = "{{ 'a' * 10**9 }} {% for x in range(10**9) %}{% endfor %} {input.__class__} ${jndi:x} $(mkdir ran)"
    (trap / "t.md").write_text(template)
    assert load(trap, {"file": "t.md"}) == template
    lc = {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "mkdir ran"}}
    assert load(trap, lc) == lc
    assert not (trap / "ran").exists()


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


def test_a_planted_pickle_is_never_loaded(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trap)
    for name in ("p.pkl", "p.yaml", "p.json", "p.parquet", "p.md"):
        (trap / name).write_bytes(pickle.dumps(_Bomb()))
        reference = {"table": name, "id": "id", "text": "text"} if name.endswith("parquet") else {"file": name}
        with pytest.raises(ReleaseError):
            load(trap, reference)
    assert not (trap / "ran").exists()


def test_no_source_of_the_package_part_reads_pickles_or_runs_text() -> None:
    forbidden = re.compile(
        r"\b(pickle|marshal|shelve|joblib|cloudpickle)\b|\b(eval|exec)\(|shell=True|yaml\.(load|unsafe_load)\(|jinja2"
    )
    folder = Path(bisect_ai.release.__file__).parent
    sources = sorted(folder.glob("*.py"))
    assert len(sources) > 10
    assert [source.name for source in sources if forbidden.search(source.read_text())] == []


def test_a_parquet_table_opens_that_file_and_nothing_else(trap: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("COPY (SELECT 'a' AS id, 'b' AS text) TO " + repr(str(trap / "[ok].parquet")))
    with pytest.raises(ReleaseError, match=re.escape("* ? [; rename it")):
        load(trap, {"table": "[ok].parquet", "id": "id", "text": "text"})
    (trap / "[ok].parquet").rename(trap / "it's.parquet")
    assert load(trap, {"table": "it's.parquet", "id": "id", "text": "text"}) == {"a": "b"}
    column = "id\" FROM read_text('/etc/passwd'); --"
    with pytest.raises(ReleaseError, match="is missing"):
        load(trap, {"table": "it's.parquet", "id": column, "text": "text"})


def test_hostile_bytes_of_a_table_end_in_one_line(trap: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        query = "COPY (SELECT i::VARCHAR AS id, repeat('x', i % 50) AS text FROM range(500) r(i)) TO "
        connection.execute(query + repr(str(trap / "t.parquet")))
    whole = (trap / "t.parquet").read_bytes()
    rng = random.Random(5)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged) or 1) : 1] = bytes([rng.randrange(256)])
        (trap / "t.parquet").write_bytes(damaged)
        try:
            load(trap, {"table": "t.parquet", "id": "id", "text": "text"})
        except ReleaseError as bad:
            refused += 1
            assert str(bad).isprintable()
    assert refused > 10


PIECES = [
    "a",
    "b:",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "  ",
    "&x",
    "*x",
    "!t",
    "<<",
    "|",
    ">",
    "'",
    '"',
    "\\",
    "#",
    "%",
    "@",
]
PIECES += [
    "1.10",
    "null",
    "true",
    "1e999",
    "NaN",
    "---",
    "...",
    "\t",
    "\x00",
    "\x1b",
    "\ufeff",
    "\x85",
    "\u2028",
    "é",
    "\ud800",
    "file",
]


@pytest.mark.parametrize("parse", [parse_yaml, parse_strict_json])
def test_random_texts_are_read_or_refused_in_one_line(parse: object) -> None:
    rng = random.Random(11)
    read = 0
    for _ in range(3000):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(12)))
        try:
            value = parse(text, "fuzz")  # type: ignore[operator]
        except InputError as bad:
            assert str(bad).startswith("cannot read fuzz")
            assert "\n" not in str(bad)
        else:
            read += 1
            json.dumps(value, allow_nan=False)
    assert read > 5


def test_random_envelopes_end_in_a_release_or_one_line(trap: Path) -> None:
    rng = random.Random(13)
    shapes = [
        None,
        1,
        "x",
        [],
        {},
        {"file": "ok.txt"},
        {"file": 1},
        {"dir": "sub"},
        {"env": "\x00"},
        {"env": "A=B"},
        {"git": "HEAD:x"},
        {"git": ""},
        "../x",
    ]
    keys = ["release", "axes", "provenance", "file", "a", "a b", "", "\u202e"]
    path = trap / "r.json"
    for _ in range(400):
        envelope = {rng.choice(keys): rng.choice(shapes) for _ in range(rng.randrange(3))}
        axes = {rng.choice(keys): rng.choice(shapes) for _ in range(rng.randrange(4))}
        path.write_text(json.dumps({**envelope, "axes": axes} if rng.random() < 0.9 else envelope))
        try:
            assert load_release(path).axes
        except ReleaseError as bad:
            assert "r.json" in str(bad)
            assert str(bad).isprintable()


def test_hostile_texts_are_compared_in_reasonable_time() -> None:
    rng = random.Random(17)
    pairs = [
        ("\n" * 100_000, "\n" * 99_000 + "x" + "\n" * 1000),
        ("ab" * 500_000, "ba" * 500_000),
        ("a. " * 100_000, "a.  " * 100_000),
        ("\n".join(str(rng.randrange(9)) for _ in range(50_000)), "\n".join(str(rng.randrange(9)) for _ in range(50_000))),
        ([0] * 20_000, [1] * 19_999),
        ([{"a": i % 7} for i in range(3000)], [{"a": i % 5} for i in range(2500)]),
    ]
    start = time.process_time()
    for good, bad in pairs:
        tree = diff(load_release({"x": good}), load_release({"x": bad}))
        assert tree.apply(tree.changes)["x"] == bad
        assert all(len(change.summary) < 500 for change in tree.changes)
    assert time.process_time() - start < 20
