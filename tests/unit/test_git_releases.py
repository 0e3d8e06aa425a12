"""Git revisions as releases: axes that are paths, a release file at a revision, the working tree."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import bisect_ai
from bisect_ai.cli import main
from bisect_ai.config import checked_config
from bisect_ai.errors import InputError, ReleaseError
from bisect_ai.facts.change_facts import git_command
from bisect_ai.release.changes import Tree
from bisect_ai.release.check import tree_of
from bisect_ai.release.diff import diff
from bisect_ai.release.pair import ReleasePair, load_beside, load_pair
from bisect_ai.release.provenance import traced
from bisect_ai.release.source_files import RepositoryRules, git_contents
from bisect_ai.report import terminal
from bisect_ai.report.planning_text import render_diff
from bisect_ai.runs.prepare import prepare

SYSTEM = "You answer for a shop.\n\nBe brief.\n\nUse the field names of the tool.\n"
TOOLS = """[
  {
    "name": "get",
    "parameters": {"type": "object", "properties": {"customer_id": {"type": "string"}}, "required": ["customer_id"]}
  }
]
"""
AXES = {"prompt": ["prompts/**"], "tools": ["tools/*.json"], "corpus": ["kb/**"], "model": ["config/model.yaml"]}


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


def commit(folder: Path, files: dict[str, str | bytes | None], subject: str = "Change", author: str = "Ada") -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink()
        elif isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_bytes(text.encode())
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject, author=author)


START: dict[str, str | bytes | None] = {
    "prompts/system.md": SYSTEM,
    "tools/orders.json": TOOLS,
    "kb/returns.md": "Thirty days.\n",
    "kb/shipping.md": "Two days.\n",
    "config/model.yaml": "model: small\ntemperature: 0\n",
    "src/app.py": "print('one')\n",
    "CODEOWNERS": "* @all\nprompts/ @writers\n",
}


WHO = {f"GIT_{role}_{what}": "bot@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = tmp_path / "work"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    commit(top, START, "Start")
    git(top, "tag", "v1.2")
    commit(top, {"prompts/system.md": SYSTEM.replace("Be brief.", "Be friendly.")}, "A friendlier voice", "Bea")
    commit(top, {"prompts/system.md": SYSTEM.replace("Be brief.", "Be friendly.") + "Say thanks.\n"}, "Thanks", "Cyd")
    commit(
        top, {"tools/orders.json": TOOLS.replace("customer_id", "customerId"), "kb/returns.md": "Ten days.\n"}, "House style"
    )
    commit(top, {"config/model.yaml": "model: large\ntemperature: 1\n", "src/app.py": "print('two')\n"}, "Larger")
    git(top, "tag", "v1.3")
    return top


def pair_of(top: Path, good: Any = "v1.2", bad: Any = "v1.3", **rules: Any) -> ReleasePair:
    return load_pair(good, bad, folder=top, rules=RepositoryRules(**({"axes": AXES} | rules)))


def paths(tree: Tree) -> list[str]:
    return [f"{c.axis} {c.path}" for c in tree.changes]


def test_files_belong_to_the_first_axis_that_matches_and_what_is_left_over_is_rest(repo: Path) -> None:
    good, bad, files = pair_of(repo)
    assert list(good.axes) == ["prompt", "tools", "corpus", "model", "rest"]
    assert good.axes["corpus"] == {"kb/returns.md": "Thirty days.\n", "kb/shipping.md": "Two days.\n"}
    assert bad.axes["rest"] == {"src/app.py": "print('two')\n"}
    assert (good.name, bad.name) == ("v1.2", "v1.3")
    assert files is not None and files.axis_of["config/model.yaml"] == "model"
    assert "CODEOWNERS" in files.shared() and "src/app.py" not in files.shared()
    texts = pair_of(repo, axes={"prompt": ["prompts/**"], "texts": ["*.md", "!kb/shipping.md"]}).good.axes["texts"]
    assert list(texts) == ["kb/returns.md"]  # type: ignore[arg-type]


def test_a_change_is_named_by_file_and_line_and_a_renamed_json_field_is_one(repo: Path) -> None:
    good, bad, _ = pair_of(repo)
    assert paths(diff(good, bad)) == [
        "prompt prompts/system.md:3",
        "prompt prompts/system.md:6",
        "tools tools/orders.json:get.parameters.customer_id",
        "corpus kb/returns.md",
        "model config/model.yaml:1",
        "model config/model.yaml:2",
        "rest src/app.py",
    ]


def test_a_renamed_field_of_tools_in_yaml_is_one_change_and_a_note_beside_it_stays(repo: Path) -> None:
    tools = yaml.safe_dump(json.loads(TOOLS), sort_keys=False)
    commit(repo, {"tools/more.yaml": f"# the desk's tools\n{tools}", "config/plain.yaml": "a: 1\n"}, "YAML")
    git(repo, "tag", "yaml")
    worse = f"# tools of the desk\n{tools}".replace("customer_id", "customerId")
    commit(repo, {"tools/more.yaml": worse, "config/plain.yaml": "a: 2 # two\n"}, "House style")
    good, bad, _ = pair_of(repo, good="yaml", bad="HEAD", axes={"tools": ["tools/**"]})
    tree = diff(good, bad)
    assert paths(tree) == ["tools tools/more.yaml:get.parameters.customer_id", "rest config/plain.yaml"]
    assert tree.apply([]) == good.axes and tree.apply(tree.changes) == bad.axes
    found = {c.path: p for c, p in traced(tree, good, bad, tree.changes).items()}["tools/more.yaml:get.parameters.customer_id"]
    assert (found["file"], found["line"]) == ("tools/more.yaml", 6)


def test_a_short_file_of_which_every_line_changed_is_named_by_its_first_line(repo: Path) -> None:
    commit(repo, {"prompts/labels.txt": "invoice=billing\nlogin=account\n", "prompts/one.txt": "old\n"}, "Labels")
    git(repo, "tag", "labels")
    commit(repo, {"prompts/labels.txt": "invoice=long-billing\nlogin=long-account\n", "prompts/one.txt": "new\n"}, "Longer")
    good, bad, _ = pair_of(repo, good="labels", bad="HEAD")
    assert paths(diff(good, bad)) == ["prompt prompts/labels.txt:1", "prompt prompts/one.txt"]


def test_every_mixture_of_files_can_be_built_and_both_ends_are_exact(repo: Path) -> None:
    good, bad, _ = pair_of(repo)
    tree = diff(good, bad)
    assert tree.apply([]) == good.axes and tree.apply(tree.changes) == bad.axes
    for n in range(len(tree.changes) + 1):
        for chosen in itertools.combinations(tree.changes, n):
            tree.apply(chosen)
    model = [c for c in tree.changes if c.path == "config/model.yaml:2"]
    assert tree.apply(model)["model"] == {"config/model.yaml": "model: small\ntemperature: 1\n"}


def test_git_says_who_changed_a_line_and_codeowners_who_owns_it(repo: Path) -> None:
    good, bad, _ = pair_of(repo)
    tree = diff(good, bad)
    found = {c.path: p for c, p in traced(tree, good, bad, tree.changes).items()}
    line = found["prompts/system.md:3"]
    assert (line["author"], line["owner"], line["file"], line["line"]) == ("Bea", "@writers", "prompts/system.md", 3)
    field = found["tools/orders.json:get.parameters.customer_id"]
    assert (field["subject"], field["file"], field["line"]) == ("House style", "tools/orders.json", 4)
    assert found["kb/returns.md"]["subject"] == "House style"
    assert bad.provenance["prompt"]["owner"] == "@writers"


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """An application in a folder of a larger repository."""
    top = tmp_path / "mono"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    started = {f"apps/shop/{name}": text for name, text in START.items() if name != "CODEOWNERS"}
    release = "release: r\naxes:\n  prompt: {system: {file: prompts/system.md}}\n  tools: {file: tools/orders.json}\n"
    commit(
        top, {**started, "apps/shop/release.yaml": release, "lib/x.py": "1\n", "CODEOWNERS": "/apps/shop/prompts/ @writers\n"}
    )
    git(top, "tag", "v1")
    commit(top, {"apps/shop/prompts/system.md": SYSTEM.replace("brief", "kind"), "lib/x.py": "2\n"}, "Kind", "Bea")
    commit(top, {"apps/shop/tools/orders.json": TOOLS.replace("customer_id", "customerId")}, "House style", "Dan")
    git(top, "tag", "v2")
    return top / "apps/shop"


def test_in_a_folder_of_a_larger_repository_paths_are_from_that_folder_and_git_is_asked_from_the_top(monorepo: Path) -> None:
    good, bad, files = pair_of(monorepo, "v1", "v2", axes={"prompt": ["prompts/**"], "tools": ["tools/*.json"]})
    tree = diff(good, bad)
    assert paths(tree) == ["prompt prompts/system.md:3", "tools tools/orders.json:get.parameters.customer_id"]
    found = traced(tree, good, bad, tree.changes)
    line = found[tree.changes[0]]
    assert (line["author"], line["owner"], line["file"]) == ("Bea", "@writers", "apps/shop/prompts/system.md")
    assert files is not None and files.pinned == {"lib/x.py": "bad"}
    assert files.notes == ("lib/x.py: changed outside apps/shop, the same in every cell (as in bad)",)


def test_a_release_file_is_read_at_each_revision_with_its_references_resolved_there(monorepo: Path) -> None:
    good, bad, files = load_pair("v1", "v2", folder=monorepo, rules=RepositoryRules(release="release.yaml"))
    assert (good.name, bad.name) == ("v1", "v2") and files is None
    assert good.axes["prompt"] == {"system": SYSTEM}
    tree = diff(good, bad)
    assert paths(tree) == ["prompt system:3", "tools get.parameters.customer_id"]
    found = traced(tree, good, bad, tree.changes)
    assert [(p["author"], p["file"]) for p in found.values()] == [
        ("Bea", "apps/shop/prompts/system.md"),
        ("Dan", "apps/shop/tools/orders.json"),
    ]


def test_a_release_file_below_the_top_of_its_repository_is_blamed_in_its_own_folder(monorepo: Path) -> None:
    text = (monorepo / "release.yaml").read_text()
    (monorepo / "old.yaml").write_text(text.replace("{file: prompts/system.md}", "old"))
    good, bad, _ = load_pair("old.yaml", "release.yaml", folder=monorepo, rules=RepositoryRules())
    tree = diff(good, bad)
    (found,) = (p for c, p in traced(tree, good, bad, tree.changes).items() if c.axis == "prompt")
    assert (found["file"], found.get("author")) == ("apps/shop/prompts/system.md", "Bea")


def test_the_working_tree_is_a_release_without_what_git_does_not_track(repo: Path) -> None:
    (repo / "prompts/system.md").write_text(SYSTEM.replace("brief", "curt"))
    (repo / "kb/shipping.md").unlink()
    (repo / "kb/new.md").write_text("not added\n")
    _, bad, files = pair_of(repo, "v1.3", "WORKTREE")
    assert files is not None
    assert files.notes == ("kb/new.md: not tracked by git, so not part of WORKTREE; `git add` makes it one",)
    assert bad.axes["corpus"] == {"kb/returns.md": "Ten days.\n"}
    assert "curt" in bad.axes["prompt"]["prompts/system.md"]  # type: ignore[index,call-overload,operator]
    (repo / "kb/returns.md").write_text("Ten days.\n")  # written anew, and the same
    assert pair_of(repo, "v1.3", "WORKTREE").bad.digest == bad.digest


@pytest.mark.parametrize(
    ("good", "rules", "message"),
    [
        ("v1.22", {}, "no such revision 'v1.22'; did you mean 'v1.2'?"),
        ("--output=x", {}, "is no revision"),
        ("v1.2", {"axes": {"prompt": ["prompt/**"]}}, "axes.prompt: no tracked file of either revision matches 'prompt/**'"),
        ("v1.2", {"axes": {"prompt": ["../shared/**"]}}, "'../shared/**' leads out of `repo`"),
        ("v1.2", {"axes": {}}, "say in bisect.yaml what its axes are"),
        ("v1.2", {"repo": "nowhere"}, "is no folder"),
        ("v1.2", {"axes": {}, "release": "release.yaml"}, "'release.yaml' is not in commit"),
        ("v1.2", {"axes": {}, "release": "../release.yaml"}, "leads outside the repository"),
        ({"prompt": "x"}, {}, "axes: patterns are for git revisions, and good is none"),
    ],
)
def test_what_is_wrong_with_a_revision_is_one_line(repo: Path, good: Any, rules: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+$") as raised:
        pair_of(repo, good, "v1.3", **rules)
    assert message in str(raised.value)


def test_outside_a_repository_a_name_that_is_no_file_says_both(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"no such file, and as a git revision: .* lies in no git repository"):
        pair_of(tmp_path)


def test_an_existing_file_is_a_release_file_and_a_number_stays_text(repo: Path) -> None:
    git(repo, "tag", "1.10", "v1.2")
    assert pair_of(repo, "1.10").good.name == "1.10"
    (repo / "v1.2").write_text("release: mine\naxes: {prompt: hello}\n")
    good, bad, _ = load_pair("v1.2", {"file": "v1.2"}, folder=repo, rules=RepositoryRules())
    assert good.name == bad.name == "mine"
    assert pair_of(repo, {"git": "v1.2"}).good.axes["model"] == {"config/model.yaml": "model: small\ntemperature: 0\n"}


def test_a_content_that_git_does_not_have_is_refused(repo: Path) -> None:
    with pytest.raises(ReleaseError, match=r"git has no content for 'kb/a.md' of 'v1'; fetch the whole repository"):
        list(git_contents(repo, [("0" * 40, "kb/a.md")], "v1"))


def test_pinned_files_are_in_no_axis(repo: Path) -> None:
    good, _, files = pair_of(repo, pin={"good": ["src/**"]})
    assert "rest" not in good.axes
    assert files is not None and files.pinned == {"src/app.py": "good"} and files.shared()["src/app.py"][0].name == "v1.2"


def test_line_ends_and_white_space_are_told_apart_from_words(repo: Path) -> None:
    crlf = SYSTEM.replace("brief", "curt").replace("\n", "\r\n")
    commit(repo, {"prompts/system.md": crlf, "config/model.yaml": "model:   large\ntemperature: 1\n"}, "Another editor")
    good, bad, _ = pair_of(repo, "v1.2", "HEAD")
    tree = diff(good, bad)
    told = {c.path: c.summary for c in tree.changes if c.axis == "prompt"}
    assert told == {
        "prompts/system.md:line ends": "only the line ends of the file: LF → CRLF",
        "prompts/system.md:3": "“Be brief.” → “Be curt.”",
    }
    ends = [c for c in tree.changes if c.path == "prompts/system.md:line ends"]
    assert tree.apply(ends)["prompt"] == {"prompts/system.md": SYSTEM.replace("\n", "\r\n")}
    assert tree.apply(tree.changes) == bad.axes
    good, bad, _ = pair_of(repo, "v1.3", "HEAD")
    (space,) = (c for c in diff(good, bad).changes if c.axis == "model")
    assert space.summary.startswith("only white space: ")


def test_a_document_of_which_only_the_line_ends_changed_says_so(repo: Path) -> None:
    commit(repo, {"kb/returns.md": "Thirty days.\r\n"}, "Another editor")
    good, bad, _ = pair_of(repo, "v1.2", "HEAD")
    screen = render_diff(tree_of(good, bad))
    assert "kb/returns.md  only the line ends: LF → CRLF" in screen and "\\r" not in screen


def test_a_field_that_a_tools_file_lost_is_a_suspect_where_a_prompt_still_shows_it(repo: Path) -> None:
    example = 'Call it like this: get {"customer_id": "FH-1"}\n'
    commit(repo, {"tools/orders.json": TOOLS, "prompts/system.md": SYSTEM + example, "tools/note.json": "no data"})
    commit(repo, {"tools/orders.json": TOOLS.replace("customer_id", "customerId")}, "Rename")
    good, bad, _ = pair_of(repo, "HEAD~1", "HEAD")
    found = [(each["axes"], each["message"], each["where"]) for each in tree_of(good, bad)["suspects"]]
    message = "'get' no longer has the field 'customer_id' (now 'customerId'), but prompt still uses it"
    assert (("tools", "prompt"), message, "prompt: prompts/system.md line 6") in found


def test_a_hunk_beside_a_change_of_all_line_ends_is_shown_without_them_and_blamed(repo: Path) -> None:
    commit(repo, {"prompts/system.md": SYSTEM.replace("\n", "\r\n")}, "Another editor")
    git(repo, "tag", "v1.4")
    commit(repo, {"prompts/system.md": SYSTEM.replace("brief", "curt") + "Be kind.\n"}, "Back, and more", "Bea")
    good, bad, _ = pair_of(repo, "v1.4", "HEAD")
    tree = diff(good, bad)
    lines = [c for c in tree.changes if not c.path.endswith("line ends")]
    assert [(c.before, c.after) for c in lines if c.path.endswith(":3")] == [("Be brief.\n", "Be curt.\n")]
    assert "\r" not in repr([(c.before, c.after, c.summary) for c in lines])
    assert {traced(tree, good, bad, lines)[c]["author"] for c in lines} == {"Bea"}
    crlf = tree.apply(lines)["prompt"]["prompts/system.md"]  # type: ignore[index,call-overload]
    assert crlf.count("\r\n") == crlf.count("\n") == 6
    assert (tree.apply([]), tree.apply(tree.changes)) == (good.axes, bad.axes)


def test_what_is_no_text_has_one_clear_line(repo: Path) -> None:
    (repo / "kb/inside.md").symlink_to("returns.md")
    (repo / "kb/outside.md").symlink_to("../../elsewhere.md")
    commit(repo, {"prompts/logo.png": b"\x89PNG\0one", "prompts/big.bin": pointer("1")}, "Pictures")
    git(repo, "tag", "v1.4")
    (repo / "kb/inside.md").unlink()
    (repo / "kb/inside.md").symlink_to("shipping.md")
    commit(repo, {"prompts/logo.png": b"\x89PNG\0two", "prompts/big.bin": pointer("2")}, "Other pictures")
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{git(repo, 'rev-parse', 'HEAD')},vendor/lib")
    git(repo, "commit", "-q", "-m", "A submodule")
    good, bad, files = pair_of(repo, "v1.4", "HEAD")
    told = {c.path: c.summary for c in diff(good, bad).changes}
    assert told.keys() == {"prompts/big.bin", "prompts/logo.png", "kb/inside.md"}
    assert told["prompts/big.bin"].startswith("a Git LFS file of 12 bytes (1111")
    assert told["prompts/logo.png"].startswith("a binary file of 8 bytes (")
    assert good.axes["corpus"]["kb/inside.md"] == {"symlink": "returns.md"}  # type: ignore[index,call-overload]
    assert files is not None and files.notes == (
        "kb/outside.md: a symbolic link that leads outside the repository: left out",
        "vendor/lib: a submodule: cells do not hold its files, and a change of it is not tried",
    )


def pointer(digit: str) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digit * 64}\nsize 12\n"


def test_lines_of_one_hunk_by_several_people_are_several_changes(repo: Path) -> None:
    text = "Alpha one.\nBeta two.\nGamma three.\n"
    commit(repo, {"prompts/n.md": "Head.\n" + text}, "Start of it")
    git(repo, "tag", "v2")
    commit(repo, {"prompts/n.md": "Head.\n" + text.replace("Alpha one", "A quite different line")}, "One", "Bea")
    commit(repo, {"prompts/n.md": "Head.\nA quite different line.\nNothing of the kind.\nGamma three.\n"}, "Two", "Cyd")
    good, bad, _ = pair_of(repo, "v2", "HEAD")
    tree = diff(good, bad)
    assert paths(tree) == ["prompt prompts/n.md:2", "prompt prompts/n.md:3"]
    assert tree.apply(tree.changes) == bad.axes


CONFIG = """
axes: {prompt: prompts/**, tools: tools/*.json, corpus: kb/**, model: config/model.yaml}
log: {path: log.jsonl}
target: {kind: python, function: "answering:answer"}
scorers: [{kind: contains, name: correct, expected: reference}]
"""
ANSWERING = """
def answer(query, release):
    return "no" if "friendly" in release["prompt"]["prompts/system.md"] else query["reference"]
"""


@pytest.fixture
def configured(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (repo / "bisect.yaml").write_text(CONFIG)
    (repo / "answering.py").write_text(ANSWERING)
    (repo / "log.jsonl").write_text("".join(f'{{"id": "q{i}", "input": "{i}?", "reference": "yes {i}"}}\n' for i in range(200)))
    monkeypatch.chdir(repo)
    return repo


@pytest.mark.parametrize("asked", [["v1.2..v1.3"], ["--good", "v1.2", "--bad", "v1.3"]])
def test_run_takes_revisions_and_names_the_line(configured: Path, asked: list[str]) -> None:
    done = CliRunner().invoke(main, ["run", *asked, "--seed", "1"])
    assert done.exit_code == 0, done.output
    assert "prompts/system.md:3" in done.output and "prompt alone causes the drop" in " ".join(done.output.split())


def test_the_only_change_of_an_axis_is_named_with_file_line_and_author(monorepo: Path) -> None:
    queries = [{"id": f"q{i}", "input": f"{i}?", "reference": f"yes {i}"} for i in range(120)]
    result = bisect_ai.run(
        good="v1",
        bad="v2",
        repo=str(monorepo),
        axes={"prompt": "prompts/**", "tools": "tools/*.json"},
        queries=queries,
        target=lambda query, release: "no" if "kind" in str(release["prompt"]) else query.reference,
        scorers={"correct": lambda query, answer: query.reference in answer.text},
        seed=1,
    )
    (change,) = result.to_dict()["verdict"]["causes"][0]["changes"]
    assert change["path"] == "prompts/system.md:3"
    told = change["provenance"]
    assert (told["author"], told["owner"], told["file"]) == ("Bea", "@writers", "apps/shop/prompts/system.md")
    row = result.changes[result.changes["path"] == "prompts/system.md:3"].iloc[0]
    assert row["guilty"] == True  # noqa: E712  # an array of objects or of booleans
    assert (row["author"], row["commit"], row["at"], row["why"]) == ("Bea", told["commit"], told["date"], told["subject"])
    shown = terminal.render(result.to_dict())
    assert "prompt: prompts/system.md:3" in shown and "apps/shop/prompts" not in shown


def test_who_changed_a_guilty_axis_is_told_where_no_single_change_is_named(monorepo: Path) -> None:
    queries = [{"id": f"q{i}", "input": f"{i}?", "reference": f"yes {i}"} for i in range(120)]
    result = bisect_ai.run(
        good="v1",
        bad="v2",
        repo=str(monorepo),
        axes={"prompt": ["prompts/**", "tools/*.json"]},
        queries=queries,
        target=lambda query, release: "no" if "kind" in str(release["prompt"]) else query.reference,
        scorers={"correct": lambda query, answer: query.reference in answer.text},
        drill=False,
        seed=1,
    )
    assert result.verdict.causes[0].changes == () and len(result.changes) == 2
    assert "prompt: Bea, " in terminal.card(result.to_dict()) and "no owner or author recorded" not in terminal.card(
        result.to_dict()
    )


def test_the_command_that_takes_an_axis_back_runs_where_a_file_became_a_folder(repo: Path) -> None:
    commit(repo, {"config/model.yaml": None, "config/model.yaml/x.txt": "in\n"}, "A folder now")
    (repo / "queries.jsonl").write_text(
        '{"id": "a", "input": "x", "reference": "x"}\n{"id": "b", "input": "y", "reference": "y"}\n'
    )
    settings = {
        "good": "v1.2",
        "bad": "HEAD",
        "axes": {"model": ["config/**"], "prompt": ["prompts/**"]},
        "log": "queries.jsonl",
        "target": lambda query, release: "x",
        "scorers": [{"kind": "contains", "name": "correct", "expected": "reference"}],
    }
    prepared = prepare(checked_config(settings, where="here"), folder=repo)
    command = git_command(prepared, ["model"])
    assert command == "git rm --quiet -- config/model.yaml/x.txt && git checkout v1.2 -- config/model.yaml"
    subprocess.run(command, shell=True, cwd=repo, check=True)
    assert (repo / "config/model.yaml").is_file()
    since = prepare(checked_config({**settings, "good": "HEAD~1"}, where="here"), folder=repo)
    before = git(repo, "rev-parse", "HEAD~1")
    tag = git(repo, "tag", "--points-at", before)
    assert tag
    assert f"git checkout {tag} -- " in str(git_command(since, ["model"]))
    by_digits = prepare(checked_config({**settings, "good": before}, where="here"), folder=repo)
    assert f"git checkout {tag} -- " in str(git_command(by_digits, ["model"]))
    git(repo, "tag", "-d", tag)
    assert f"git checkout {before[:12]} -- " in str(git_command(by_digits, ["model"]))


def test_the_command_that_takes_the_working_tree_back_keeps_what_no_commit_has(repo: Path) -> None:
    """Files changed, staged, staged and changed again, new, deleted: git rm refuses them and checkout would lose them."""
    commit(repo, {"kb/later.md": "Of a commit after v1.2.\n"}, "Later")
    (repo / "kb/returns.md").write_text("Five days.\n")
    for name in ("kb/shipping.md", "kb/new.md", "kb/newer.md"):
        (repo / name).write_text("Staged.\n")
        git(repo, "add", name)
    (repo / "kb/newer.md").write_text("And changed again.\n")
    (repo / "kb/notes.txt").write_text("Not tracked.\n")
    for name in ("kb/announced.md", "prompts/announced.md"):
        (repo / name).write_text("Announced.\n")
        git(repo, "add", "--intent-to-add", name)
    (repo / "kb/later.md").write_text("Changed.\n")
    pair = pair_of(repo, bad="WORKTREE")
    settings = {"good": "v1.2", "bad": "WORKTREE", "axes": AXES, "log": "queries.jsonl", "target": lambda query, release: "x"}
    (repo / "queries.jsonl").write_text(
        '{"id": "a", "input": "x", "reference": "x"}\n{"id": "b", "input": "y", "reference": "y"}\n'
    )
    settings["scorers"] = [{"kind": "contains", "name": "correct", "expected": "reference"}]
    command = git_command(prepare(checked_config(settings, where="here"), folder=repo), ["corpus"])
    assert command is not None
    subprocess.run(command, shell=True, cwd=repo, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, **WHO})
    assert pair_of(repo, bad="WORKTREE").bad.axes["corpus"] == pair.good.axes["corpus"]
    assert pair_of(repo, bad="WORKTREE").bad.axes["prompt"] == pair.bad.axes["prompt"]
    assert (repo / "kb/notes.txt").read_text() == "Not tracked.\n"
    kept = git(repo, "stash", "show", "-p", "stash@{0}")
    assert "And changed again." in kept and "Five days." in kept and "Announced." in kept


def test_plan_and_check_say_how_many_stored_answers_an_edit_makes_void(configured: Path) -> None:
    assert CliRunner().invoke(main, ["run", "v1.2..WORKTREE", "--no-drill", "--json", "report.json"]).exit_code == 0
    ran = sum(cell["trials"] for cell in json.loads((configured / "report.json").read_text())["cells"])
    assert "void" not in CliRunner().invoke(main, ["plan", "v1.2..WORKTREE", "--no-drill"]).output
    (configured / "src/app.py").write_text("# a comment\n")  # rest is one of five axes: what has it from good still counts
    planned = CliRunner().invoke(main, ["plan", "v1.2..WORKTREE", "--no-drill", "--json"])
    void = json.loads(planned.stdout)["void"]
    assert void["void"] > 0 and void["kept"] > 0 and void["void"] + void["kept"] == ran
    line = f"{void['void']} stored answers of run {void['run']} void; {void['kept']} still count"
    planned = CliRunner().invoke(main, ["plan", "v1.2..WORKTREE", "--no-drill"])
    assert line in " ".join(planned.output.split()), planned.output
    assert f"{void['void']} stored answers of run" in CliRunner().invoke(main, ["check", "v1.2..WORKTREE", "--no-drill"]).output


def test_diff_and_plan_take_revisions(configured: Path) -> None:
    done = CliRunner().invoke(main, ["diff", "v1.2..v1.3"])
    assert done.exit_code == 0 and "prompts/system.md:3" in done.output
    done = CliRunner().invoke(main, ["plan", "v1.2..v1.3"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ["run", "..v1.3"])
    assert done.exit_code == 2 and "write GOOD..BAD" in done.output
    done = CliRunner().invoke(main, ["run", "v1.2..v1.2"])
    assert done.exit_code == 2 and "identical in every axis" in done.output


def test_a_third_revision_is_divided_as_good_and_bad_are(repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "fix")
    commit(repo, {"prompts/system.md": SYSTEM, "prompts/new.md": "New\n", "CODEOWNERS": "* @fix\n", "kb/returns.md": None})
    rules = RepositoryRules(axes=AXES)
    fix = load_beside("fix", good="v1.2", bad="v1.3", folder=repo, rules=rules)
    bad = pair_of(repo).bad
    assert fix.axes["prompt"] == {"prompts/new.md": "New\n", "prompts/system.md": SYSTEM}
    assert "kb/returns.md" not in fix.axes["corpus"] and fix.axes["tools"] == bad.axes["tools"]
    assert fix.axes["rest"]["CODEOWNERS"] == "* @fix\n"
    commit(repo, {"CODEOWNERS": None})
    with pytest.raises(ReleaseError, match="'fix' lacks CODEOWNERS, which every cell has; name a revision that keeps it"):
        load_beside("fix", good="v1.2", bad="v1.3", folder=repo, rules=rules)
    commit(repo, {"CODEOWNERS": START["CODEOWNERS"], "kb/a.bin": b"\0new"})
    with pytest.raises(ReleaseError, match=r"'fix' changes 'kb/a\.bin' in corpus, which is no text"):
        load_beside("fix", good="v1.2", bad="v1.3", folder=repo, rules=rules)


def test_files_with_names_that_no_report_can_show_are_in_no_cell(repo: Path) -> None:
    commit(repo, {"kb/new\nline.md": "one\n", "kb/with space é🙂.md": "one\n"})
    latin = repo / "kb" / os.fsdecode(b"latin\xe9.md")
    latin.write_text("x\n")
    commit(repo, {"kb/with space é🙂.md": "two\n", "kb/img.png": b"\0one"})
    git(repo, "tag", "odd")
    commit(repo, {"kb/with space é🙂.md": "three\n", "kb/img.png": b"\0two", "kb/new\nline.md": "two\n"})
    pair = pair_of(repo, "odd", "HEAD")
    assert pair.files is not None
    (note,) = [line for line in pair.files.notes if "control characters" in line]
    assert note.startswith("'kb/latin\\udce9.md', 'kb/new\\nline.md': a file name that is no UTF-8 or has control characters")
    assert set(pair.bad.axes["corpus"]) == {"kb/img.png", "kb/returns.md", "kb/shipping.md", "kb/with space é🙂.md"}
    shown = render_diff(tree_of(pair.good, pair.bad))
    assert "a binary file of 4 bytes" in shown and '{"binary"' not in shown
    assert "“two” → “three”" in shown
