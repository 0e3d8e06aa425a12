"""Whose a change was: blamed to the line, the document and the field; and nothing hostile in a repository acts or fails a run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.release.diff import diff
from bisect_ai.release.load import load_release
from bisect_ai.release.provenance import traced
from bisect_ai.report import terminal

GOOD = "One.\nTwo.\nThree.\nFour.\nFive.\n"


def git(folder: Path, *arguments: str, author: str = "Ada") -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
        "GIT_AUTHOR_NAME": author,
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "Bot",
        "GIT_COMMITTER_EMAIL": "b@example.org",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str | None], subject: str, author: str) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject, author=author)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    tools = '{\n "get": {\n  "field": "customer_id",\n  "limit": 3\n }\n}\n'
    start = {
        "p.md": GOOD,
        "t.json": tools,
        "docs/a.md": "alpha\n",
        "docs/b.md": "beta\n",
        "CODEOWNERS": "* @all\n/docs/ @writers\n",
    }
    commit(tmp_path, start, "start", "Ada")
    git(tmp_path, "tag", "good")
    commit(tmp_path, {"p.md": GOOD.replace("Two.", "2.")}, "Digits are shorter", "Bea")
    commit(tmp_path, {"p.md": GOOD.replace("Two.", "2.").replace("Four.\n", "")}, "Four had to go", "Cyd")
    commit(tmp_path, {"t.json": tools.replace("customer_id", "customerId")}, "House style", "Dan")
    commit(tmp_path, {"docs/a.md": "alpha two\n", "docs/b.md": None}, "Weekly edition", "Eve")
    git(tmp_path, "tag", "bad")
    return tmp_path


def releases(folder: Path) -> tuple[Any, Any]:
    for side in ("good", "bad"):
        values = {"prompt": {"git": f"{side}:p.md"}, "tools": {"git": f"{side}:t.json"}, "corpus": {"git": f"{side}:docs"}}
        envelope = {"axes": values}
        (folder / f"{side}.json").write_text(json.dumps(envelope), encoding="utf-8")
    return load_release(folder / "good.json"), load_release(folder / "bad.json")


def whose(good: Any, bad: Any) -> dict[str, dict[str, Any]]:
    tree = diff(good, bad)
    found = traced(tree, good, bad, tree.changes)
    return {f"{c.axis} {c.path}": p for c, p in found.items()}


def test_the_very_line_document_and_field_are_blamed_and_code_owners_own_them(project: Path) -> None:
    found = whose(*releases(project))
    said = {name: (p["author"], p["subject"], p["owner"]) for name, p in found.items()}
    assert said == {
        "prompt prompt:2": ("Bea", "Digits are shorter", "@all"),
        "prompt prompt:4": ("Cyd", "Four had to go", "@all"),
        "tools get.field": ("Dan", "House style", "@all"),
        "corpus a.md": ("Eve", "Weekly edition", "@writers"),
        "corpus b.md": ("Eve", "Weekly edition", "@writers"),
    }
    line = found["prompt prompt:2"]
    assert (line["file"], line["line"], line["gaps"]) == ("p.md", 2, [])
    assert len(line["commit"]) == 40
    assert line["date"].startswith("20")


def test_the_provenance_block_names_the_revision_of_plain_files(project: Path) -> None:
    for side in ("good", "bad"):
        (project / f"p-{side}.md").write_text(git(project, "show", f"{side}:p.md") + "\n", encoding="utf-8")
    good = load_release({"axes": {"prompt": {"file": "p-good.md"}}, "provenance": {}}, root=project)
    commit(project, {"p-bad.md": (project / "p-bad.md").read_text()}, "a copy", "Gus")
    head = git(project, "rev-parse", "HEAD")
    block = {"prompt": {"owner": "team", "source": f"git:{head[:12]}"}}
    bad = load_release({"axes": {"prompt": {"file": "p-bad.md"}}, "provenance": block}, root=project)
    assert whose(good, bad)["prompt prompt:2"]["subject"] == "a copy"


def test_missing_provenance_is_a_gap_in_words(tmp_path: Path) -> None:
    found = whose(load_release({"prompt": "a\nb\n"}), load_release({"prompt": "a\nc\n"}))
    (only,) = found.values()
    assert only["gaps"][0] == "nobody owns it"
    assert "nobody recorded who changed it" in only["gaps"][1]


def test_the_release_file_s_own_word_stands_where_git_knows_nothing(tmp_path: Path) -> None:
    for side, value in (("good", 1), ("bad", 2)):
        text = f"axes: {{context: {{k: {value}, h: 1}}}}\nprovenance: {{context: {{owner: ops, author: Hal, why: faster}}}}\n"
        (tmp_path / f"{side}.yaml").write_text(text, encoding="utf-8")
    (only,) = whose(load_release(tmp_path / "good.yaml"), load_release(tmp_path / "bad.yaml")).values()
    assert (only["owner"], only["author"], only["why"], only["gaps"]) == ("ops", "Hal", "faster", [])


def test_a_value_in_the_release_file_is_blamed_there(project: Path) -> None:
    commit(
        project,
        {"r-good.yaml": "axes:\n  context:\n    k: 1\n    h: 1\n", "r-bad.yaml": "axes:\n  context:\n    k: 1\n    h: 1\n"},
        "r",
        "Ida",
    )
    commit(project, {"r-bad.yaml": "axes:\n  context:\n    k: 4\n    h: 1\n"}, "more results", "Jon")
    (only,) = whose(load_release(project / "r-good.yaml"), load_release(project / "r-bad.yaml")).values()
    assert (only["author"], only["subject"], only["line"]) == ("Jon", "more results", 3)


def test_an_uncommitted_line_and_a_file_outside_any_repository_are_gaps(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for folder in (project, outside):
        for side in ("x", "y"):
            (folder / f"{side}.yaml").write_text(f"axes: {{context: {{k: {side}, h: 1}}}}\n", encoding="utf-8")
        (only,) = whose(load_release(folder / "x.yaml"), load_release(folder / "y.yaml")).values()
        assert "author" not in only
        assert len(only["gaps"]) == 2


@pytest.mark.parametrize(("where", "told"), [("../prompts/b.md", "prompts/b.md"), ("b.md", "b.md"), ("p/b.md", "p/b.md")])
def test_a_file_beside_the_folder_of_the_release_file_is_named_from_the_folder_above(
    tmp_path: Path, where: str, told: str
) -> None:
    (tmp_path / "releases").mkdir()
    for side, text in (("good", "one\ntwo\n"), ("bad", "one\nthree\n")):
        file = tmp_path / "releases" / where.replace("b.md", f"{side}.md")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        release = f"axes: {{prompt: {{file: {where.replace('b.md', f'{side}.md')}}}}}\n"
        (tmp_path / "releases" / f"{side}.yaml").write_text(release, encoding="utf-8")
    (only,) = whose(*(load_release(tmp_path / "releases" / f"{side}.yaml", root=tmp_path) for side in ("good", "bad"))).values()
    assert (only["file"], only["line"]) == (told.replace("b.md", "bad.md"), 2)


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for side, k in (("v1", 6), ("v2", 3)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "release.yaml").write_text(f"release: {side}\naxes:\n  retriever: {{k: {k}}}\n")
    good, bad = (load_release(tmp_path / side / "release.yaml") for side in ("v1", "v2"))
    (known,) = whose(good, bad).values()
    assert (known["file"], known["line"]) == ("v2/release.yaml", 3)


def test_a_file_beside_the_folder_of_the_release_file_is_blamed(project: Path) -> None:
    for side, text in (("good", "one\ntwo\n"), ("bad", "one\nthree\n")):
        release = f"axes: {{prompt: {{file: ../prompts/{side}.md}}}}\n"
        commit(project, {f"prompts/{side}.md": text, f"releases/{side}.yaml": release}, f"the {side} one", "Mia")
    (only,) = whose(*(load_release(project / "releases" / f"{side}.yaml", root=project) for side in ("good", "bad"))).values()
    assert (only["author"], only["file"], only["line"], only["gaps"]) == ("Mia", "prompts/bad.md", 2, [])


@pytest.mark.parametrize("name", ["-rf.md", "a b.md", "p*.md", ":(top)p.md", "$(touch hacked).md", "\u202etxt.md", "ü.md"])
def test_odd_file_names_are_names(project: Path, name: str) -> None:
    commit(project, {f"odd/{name}": "alpha\n"}, "odd", "Kim")
    commit(project, {f"odd/{name}": "beta\n"}, "odder", "Lou")
    good, bad = (
        load_release({"axes": {"corpus": {"git": f"{rev}:odd"}}, "provenance": {}}, root=project) for rev in ("HEAD~1", "HEAD")
    )
    (only,) = whose(good, bad).values()
    assert (only["author"], only["subject"]) == ("Lou", "odder")
    assert not list(project.rglob("hacked"))


def test_nothing_that_a_repository_configures_is_run(project: Path) -> None:
    trap = project / "trap.sh"
    trap.write_text('#!/bin/sh\ntouch sprung\ncat "$1" 2>/dev/null\n', encoding="utf-8")
    trap.chmod(0o755)
    (project / ".gitattributes").write_text("* diff=trap\n", encoding="utf-8")
    for key in ("diff.trap.textconv", "core.fsmonitor", "core.pager", "diff.trap.command", "gpg.program", "core.sshCommand"):
        git(project, "config", key, str(trap))
    git(project, "config", "log.showSignature", "true")
    assert whose(*releases(project))["prompt prompt:2"]["author"] == "Bea"
    assert not list(project.rglob("sprung"))


def test_hostile_names_and_subjects_are_shown_and_not_obeyed(project: Path) -> None:
    bad_text = GOOD.replace("One.", "1.")
    commit(project, {"p.md": bad_text}, "\x1b[2J::error::<script>alert(1)</script> [x](http://evil)", "Eve\x1b[31m\u202e")
    git(project, "tag", "-f", "bad")
    provenance = whose(*releases(project))["prompt prompt:1"]
    change = {"axis": "prompt", "path": "prompt:1", "summary": "s", "before": "a", "after": "b", "group": [], "share": None,
              "interval": None, "mode": "alone", "with": [], "queries": [], "provenance": provenance}  # fmt: skip
    cause = {"axes": ["prompt"], "mode": "alone", "share": None, "interval": None, "changes": [change]}
    drill = {"kind": "found", "axes": [{"axis": "prompt", "kind": "found", "changes": 1, "named": 1, "reason": ""}]}
    report = {"run": "r", "good": "g", "bad": "b", "metric": "m", "drill": drill,
              "verdict": {"kind": "cause", "causes": [cause], "rollback": None, "keep": []}}  # fmt: skip
    text = terminal.render(report)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]


def test_a_missing_git_is_a_gap(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = releases(project)
    monkeypatch.setenv("PATH", str(project))
    assert all("nobody owns it" in p["gaps"] for p in whose(good, bad).values())


def test_hostile_code_owners_neither_hang_nor_fail(project: Path) -> None:
    rules = "\n".join(["*a" * 200 + "b @x", "[z-a @y", "!/docs/ @z", "\\", "/p.md"] + ["*" * 7 + "q @w"] * 3)
    commit(project, {"CODEOWNERS": rules}, "owners", "Mal")
    git(project, "tag", "-f", "bad")
    found = whose(*releases(project))
    assert found["prompt prompt:2"]["author"] == "Bea"
    assert "nobody owns it" in found["prompt prompt:2"]["gaps"]
