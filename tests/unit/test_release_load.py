"""Releases: loaded, resolved, frozen, hashed, compared."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import pytest

from bisect_ai.canonical import digest
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.release.load import Release, changed_axes, check_pair, compose, load_release


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, "prompts/system.md", "Be brief.\r\n")
    write(tmp_path, "prompts/examples.yaml", "- {input: a, version: 1.10}\n")
    write(tmp_path, "tools.json", '[{"name": "get", "parameters": {"properties": {"file": {"type": "string"}}}}]')
    write(tmp_path, "corpus/b.md", "B")
    write(tmp_path, "corpus/faq/a.md", "A")
    write(tmp_path, "corpus/.hidden", "no")
    write(tmp_path, "corpus/.git/config", "no")
    write(tmp_path, "docs.csv", 'id,text,other\n012,"a ""quoted""\nline",x\n2,NA,\n')
    write(tmp_path, "docs.jsonl", '{"id": 1, "text": "2026-11-20"}\n\n{"id": "b", "text": ""}\n')
    return tmp_path


FULL = """
release: 2026-11-20
axes:
  model: {model: m-2025-01-01, temperature: 0}
  prompt: {system: {file: prompts/system.md}, user: "{input}", examples: {file: prompts/examples.yaml}}
  corpus: {documents: {dir: corpus/}, extra: [{table: docs.csv, id: id, text: text}]}
  tools: {file: tools.json}
provenance:
  prompt: {owner: prompts, at: 2026-11-20T16:02:00Z}
"""


def test_a_release_file_with_every_kind_of_local_reference(project: Path) -> None:
    release = load_release(write(project, "release.yaml", FULL))
    assert release.name == "2026-11-20"
    assert release.source == project / "release.yaml"
    assert list(release.axes) == ["model", "prompt", "corpus", "tools"]
    assert release.axes["prompt"] == {
        "system": "Be brief.\r\n",
        "user": "{input}",
        "examples": [{"input": "a", "version": "1.10"}],
    }
    assert release.axes["corpus"] == {
        "documents": {"b.md": "B", "faq/a.md": "A"},
        "extra": [{"012": 'a "quoted"\nline', "2": "NA"}],
    }
    assert list(release.axes["corpus"]["documents"]) == ["b.md", "faq/a.md"]
    assert release.provenance == {"prompt": {"owner": "prompts", "at": "2026-11-20T16:02:00Z"}}
    assert release.digest == digest(json.loads(json.dumps(dict(release.axes))))


def test_json_and_yaml_give_the_same_digest(project: Path) -> None:
    envelope = {"release": "r", "axes": {"prompt": {"file": "prompts/system.md"}, "model": "m"}}
    a = load_release(write(project, "a.json", json.dumps(envelope)))
    b = load_release(write(project, "b.yaml", "release: r\naxes: {model: m, prompt: {file: prompts/system.md}}\n"))
    assert a == b
    assert a.digest == b.digest


def test_a_release_without_a_name_has_its_file_s(project: Path) -> None:
    assert load_release(write(project, "2026.yaml", "axes: {model: m}")).name == "2026"


def test_a_table_in_parquet_or_json_lines_gives_exact_texts(project: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        target = str(project / "docs.parquet")
        connection.execute("CREATE TABLE t AS SELECT i AS id, 'text ' || i AS text, [1.5] AS e FROM range(3) r(i)")
        connection.execute("COPY t TO " + repr(target))
    axes = "{a: {table: docs.parquet, id: id, text: text}, b: {table: docs.jsonl, id: id, text: text}}"
    release = load_release(write(project, "r.yaml", f"axes: {axes}"))
    assert release.axes["a"] == {"0": "text 0", "1": "text 1", "2": "text 2"}
    assert release.axes["b"] == {"1": "2026-11-20", "b": ""}


def test_references_reach_the_project_root_when_it_is_given(project: Path) -> None:
    path = write(project, "releases/r.yaml", "axes: {prompt: {file: ../prompts/system.md}}")
    assert load_release(path, root=project).axes["prompt"] == "Be brief.\r\n"
    with pytest.raises(ReleaseError, match=r"r\.yaml': 'axes\.prompt': the path '\.\./prompts/system\.md' leads outside"):
        load_release(path)


def test_what_a_reference_brings_in_is_data(project: Path) -> None:
    write(project, "inner.yaml", "{file: tools.json}")
    write(project, "page.md", "{{ 7 * 7 }} {input} ${HOME} {file: x}")
    release = load_release(write(project, "r.yaml", "axes: {a: {file: inner.yaml}, b: {file: page.md}}"))
    assert dict(release.axes) == {"a": {"file": "tools.json"}, "b": "{{ 7 * 7 }} {input} ${HOME} {file: x}"}


def test_only_exactly_the_keys_of_a_reference_make_one(project: Path) -> None:
    text = "axes: {a: {file: {type: string}}, b: {file: x, mode: y}, c: {table: t, id: i}, d: {}}"
    release = load_release(write(project, "r.yaml", text))
    assert release.axes["b"] == {"file": "x", "mode": "y"}
    assert release.axes["a"] == {"file": {"type": "string"}}


def test_env(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(project, "r.yaml", "axes: {model: {env: APP_MODEL}}")
    with pytest.raises(ReleaseError, match=r"'axes\.model': the environment variable 'APP_MODEL' is not set"):
        load_release(path)
    monkeypatch.setenv("APP_MODEL", "m-2025-01-01")
    assert load_release(path).axes["model"] == "m-2025-01-01"
    monkeypatch.setenv("APP_MODEL", "sk-proj-abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(ReleaseError, match="looks like a credential"):
        load_release(path)
    assert load_release(path, allow_env=["APP_MODEL"]).axes["model"].startswith("sk-")


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "aws_secret_access_key", "APP_SECRET"])
def test_env_variables_named_like_credentials_are_refused_and_never_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "canary-value")
    with pytest.raises(ReleaseError, match="looks like a credential") as caught:
        load_release(write(project, "r.yaml", f"axes: {{model: {{env: {name}}}}}"))
    assert "canary-value" not in str(caught.value)


def test_env_max_tokens_is_no_credential(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_TOKENS", "300")
    assert load_release(write(project, "r.yaml", "axes: {model: {env: MAX_TOKENS}}")).axes["model"] == "300"


# -- git ---------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "prompts", "tools.json", "corpus/b.md", "corpus/faq")
    git(project, "commit", "-q", "-m", "one")
    write(project, "prompts/system.md", "Be long.\n")
    git(project, "commit", "-q", "-am", "two")
    return project


def test_git_gives_the_text_of_a_revision_and_records_the_commit(repository: Path) -> None:
    path = write(repository, "releases/r.yaml", "axes: {prompt: {git: 'HEAD~1:prompts/system.md'}}")
    commit = git(repository, "rev-parse", "HEAD~1")
    release = load_release(path)
    assert release.axes["prompt"] == "Be brief.\r\n"
    assert release.provenance["prompt"]["source"] == f"git:{commit}:prompts/system.md"


def test_git_folders_parsed_files_and_paths_from_the_release_s_folder(repository: Path) -> None:
    text = "axes: {corpus: {git: 'main:corpus'}, tools: {git: 'main:tools.json'}, p: {git: 'main:./system.md'}}\n"
    release = load_release(write(repository, "prompts/r.yaml", text + "provenance: {tools: {source: mine}}"))
    assert release.axes["corpus"] == {"b.md": "B", "faq/a.md": "A"}
    assert release.axes["tools"][0]["name"] == "get"
    assert release.axes["p"] == "Be long.\n"
    assert release.provenance["tools"] == {"source": "mine"}


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("HEAD", "is not REV:path"),
        ("HEAD:", "is not REV:path"),
        ("HEAD:/etc/passwd", "is not REV:path"),
        ("nowhere:prompts/system.md", "no such revision"),
        ("--output=x:prompts/system.md", "is no revision"),
        ("-h:prompts/system.md", "is no revision"),
        ("HEAD;ls:prompts", "is no revision"),
        ("HEAD:prompts/gone.md", "is not in commit"),
        ("HEAD:../../etc/passwd", "is not plain"),
        ("HEAD:prompts/*.md", "is not in commit"),
        ("HEAD:link", "is a link"),
    ],
)
def test_git_references_that_name_nothing(repository: Path, reference: str, says: str) -> None:
    (repository / "link").symlink_to("/etc/passwd")
    git(repository, "add", "link")
    git(repository, "commit", "-q", "-m", "three")
    path = write(repository, "r.json", json.dumps({"axes": {"prompt": {"git": reference}}}))
    with pytest.raises(ReleaseError, match=r"r\.json': 'axes\.prompt'") as caught:
        load_release(path)
    assert says in str(caught.value)


# -- wrong files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("axis: {model: m}", "unknown key 'axis'; did you mean 'axes'?"),
        ("axes: {model: m}\nowner: x", "unknown key 'owner'; known here: release, axes, provenance"),
        ("release: x", "the key 'axes' must be a mapping"),
        ("axes: [model]", "the key 'axes' must be a mapping"),
        ("axes: {}", "it has no axes"),
        ("axes: {'my prompt': x}", "the axis name 'my prompt' is odd"),
        ("axes: {'': x}", "the axis name '' is odd"),
        ("axes: {model: m}\nrelease: [a]", "the key 'release' must be the release's name"),
        ("axes: {model: m}\nrelease: true", "the key 'release' must be the release's name"),
        ("axes: {model: m}\nprovenance: {modle: {}}", "unknown axis 'modle'; did you mean 'model'?"),
        ("axes: {model: m}\nprovenance: {model: me}", "provenance.model must be a mapping"),
        ("axes: {model: m}\nprovenance: me", "the key 'provenance' must be a mapping"),
        ("axes: {a: {b: [{file: gone.md}]}}", "'axes.a.b[0]': the path 'gone.md' cannot be read: no such file"),
        ("axes: {a: {file: corpus}}", "it is a folder; name a file"),
        ("axes: {a: {dir: tools.json}}", "is no folder"),
        ("axes: {a: {dir: gone}}", "no such file"),
        ("axes: {a: {table: docs.csv, id: nr, text: text}}", "the column 'nr' is missing"),
        ("axes: {a: {table: docs.csv, id: id, text: txt}}", "did you mean 'text'?"),
        ("axes: {a: {table: docs.xlsx, id: id, text: text}}", "no such file"),
        ("axes: {a: {table: tools.json, id: id, text: text}}", "use one of .parquet, .csv, .jsonl, .ndjson"),
        ("axes: {a: {file: broken.json}}", "'axes.a': cannot read broken.json, line 1, column 2"),
        ("axes: {a: 1, a: 2}", "the key 'axes.a' is there twice"),
    ],
)
def test_a_wrong_release_file_is_one_line_with_file_and_key(project: Path, text: str, says: str) -> None:
    write(project, "broken.json", "{nope}")
    with pytest.raises(ReleaseError) as caught:
        load_release(write(project, "wrong.yaml", text))
    message = str(caught.value)
    assert says in message
    assert "wrong.yaml" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "id,text\n1,a\n1,b\n", "row 2: the id '1' is there twice"),
        ("t.csv", "id,text\n,a\n", "row 1: its 'id' is empty"),
        ("t.csv", "id,text\n", "has no rows"),
        ("t.csv", "", "cannot read the table 't.csv'"),
        ("t.csv", "id,text\n1,a,b,c\n", "cannot read the table 't.csv'"),
        ("t.csv", "id,id,text\n1,2,c\n", "the column 'id' is there twice"),
        ("t.jsonl", '{"id": 1, "text": 2}\n', "row 1: its 'text' is no text"),
        ("t.jsonl", '{"id": true, "text": "a"}\n', "row 1: its 'id' is empty or neither"),
        ("t.jsonl", '{"id": 1, "text": "a"}\n[1]\n', "row 2: it is no JSON object"),
        ("t.jsonl", '{"id": 1, "id": 2, "text": "a"}\n', "the key 'id' is there twice"),
        ("t.parquet", "this is no parquet", "cannot read the table 't.parquet'"),
    ],
)
def test_a_wrong_table_is_named_with_its_row(project: Path, name: str, text: str, says: str) -> None:
    write(project, name, text)
    with pytest.raises(ReleaseError) as caught:
        load_release(write(project, "r.yaml", f"axes: {{a: {{table: {name}, id: id, text: text}}}}"))
    assert says in str(caught.value)


# -- from Python -------------------------------------------------------------------------------------------------


def test_a_plain_mapping_is_axis_to_value_and_resolves_nothing() -> None:
    release = load_release({"model": "m", "prompt": {"file": "gone.md"}, "shots": ("a", "b")})
    assert dict(release.axes) == {"model": "m", "prompt": {"file": "gone.md"}, "shots": ["a", "b"]}
    assert release.name == f"release-{release.digest[:8]}"
    assert release.source is None
    assert load_release(release) is release


def test_an_envelope_from_python_resolves_below_root(project: Path) -> None:
    envelope = {"release": "r", "axes": {"p": {"file": "prompts/system.md"}}, "provenance": {"p": {"owner": "x"}}}
    release = load_release(envelope, root=project)
    assert (release.name, release.axes["p"], release.provenance["p"]["owner"]) == ("r", "Be brief.\r\n", "x")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "it has no axes"),
        ({1: "x"}, "the axis name '1' is odd"),
        ({"a": {1: 2}}, "axes.a has the key 1"),
        ({"a": float("nan")}, "axes.a is nan"),
        ({"a": {"b": object()}}, "axes.a.b is a object"),
        ({"a": {1, 2}}, "axes.a is a set"),
        (12, "a release is a path or a mapping"),
    ],
)
def test_python_values_that_are_no_json_are_named(given: object, says: str) -> None:
    with pytest.raises(InputError, match="release") as caught:
        load_release(given)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ReleaseError, match="nested more than 64 deep"):
        load_release({"a": loop})


def test_a_release_is_read_only_down_to_its_leaves_and_can_be_copied() -> None:
    release = load_release({"tools": [{"name": "a", "tags": ["x"]}]})
    tools = release.axes["tools"]
    for change in (
        lambda: tools.append(1),
        lambda: tools[0].update(name="b"),
        lambda: tools[0]["tags"].sort(),
        lambda: tools[0].pop("name"),
        lambda: tools.__iadd__([1]),
        lambda: release.axes.__setitem__("a", 1),
    ):
        with pytest.raises((TypeError, AttributeError)):
            change()
    own = copy.deepcopy(tools)
    own[0]["tags"].append("y")
    assert type(own[0]) is dict
    assert json.dumps(tools) == '[{"name": "a", "tags": ["x"]}]'


# -- pairs and cells ---------------------------------------------------------------------------------------------


def pair(good: dict, bad: dict) -> tuple[Release, Release]:
    return load_release(good), load_release(bad)


def test_identical_releases_are_refused() -> None:
    good, bad = pair({"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 2, "x": 1}, "a": 1})
    with pytest.raises(ReleaseError, match="identical in every axis: nothing to bisect; check that"):
        check_pair(good, bad)
    check_pair(*pair({"a": 1}, {"a": 2}))


def test_changed_axes_are_told_apart_by_their_json() -> None:
    good, bad = pair(
        {"z": 1, "same": [1], "flag": 1, "float": 1, "only_good": None},
        {"new": 1, "float": 1.0, "flag": True, "same": [1], "z": 2},
    )
    assert changed_axes(good, bad) == ("z", "flag", "float", "only_good", "new")


def test_compose_takes_axes_from_bad_without_copying() -> None:
    good, bad = pair({"a": {"x": 1}, "b": 1, "old": 1}, {"a": {"x": 2}, "b": 2, "new": 1})
    assert dict(compose(good, bad, ())) == dict(good.axes)
    assert dict(compose(good, bad, ("a", "b", "old", "new"))) == dict(bad.axes)
    cell = compose(good, bad, {"a", "new"})
    assert dict(cell) == {"a": {"x": 2}, "b": 1, "old": 1, "new": 1}
    assert cell["a"] is bad.axes["a"]
    assert "old" not in compose(good, bad, ["old"])
    with pytest.raises(TypeError):
        cell["a"] = 1  # type: ignore[index]
    with pytest.raises(ReleaseError, match="neither release has an axis 'c'"):
        compose(good, bad, ["c"])
