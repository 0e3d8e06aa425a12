"""Imports point one way (DESIGN.md section 12); heavy packages are imported where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bisect_ai"
BASE = {"errors", "canonical", "callables", "interrupts", "redaction", "artefacts"}
# part -> the parts of the package it may import besides itself
ARROWS = {
    "errors": set(),
    "canonical": {"errors"},
    "interrupts": {"errors"},
    "callables": {"errors", "canonical"},
    "redaction": {"errors"},
    "artefacts": {"errors", "redaction"},
    "release": BASE,
    "queries": BASE,
    "replay": BASE | {"release", "queries"},
    "scoring": BASE | {"queries", "replay"},
    "attribution": {"errors", "canonical"},
    "report": {"errors", "canonical", "attribution"},
    "config": BASE | {"queries", "release"},
    "ledger": {"attribution", "replay"},
    "frames": {"ledger"},
    "result": {"artefacts", "errors", "release", "ledger", "report", "frames", ""},
    "reloading": {"attribution", "errors", "ledger", "replay", "result"},
    "tabular": {"attribution", "canonical", "errors", "ledger", "queries", "replay", "report", "result"},
    "environment": {"attribution", "ledger", "queries", "study"},
    "judging": BASE | {"attribution", "ledger", "queries", "replay", "scoring", "study"},
    "replaying": BASE | {"attribution", "judging", "ledger", "queries", "release", "replay", "scoring"},
    "drilling": BASE | {"attribution", "ledger", "release", "replay", "replaying"},
    "study": BASE
    | {"attribution", "config", "drilling", "environment", "judging", "ledger"}
    | {"queries", "release", "replay", "replaying", "scoring", "tape"},
    "inside": {"attribution", "drilling", "ledger", "release", "study"},
    "slices": {"attribution", "queries", "study"},
    "provider": {"ledger"},
    "gaps": {"attribution", "ledger", "study"},
    "tape": {"attribution", "ledger", "replay", "report"},
    "side_metrics": {"attribution", "ledger", "queries", "replay", "scoring", "study"},
    "summary": BASE
    | {
        "attribution",
        "environment",
        "gaps",
        "inside",
        "judging",
        "ledger",
        "provider",
        "queries",
        "release",
        "replay",
        "report",
        "side_metrics",
        "slices",
        "study",
        "tape",
    },
    "compare_releases": {"release"},
    "starter": {"artefacts", "errors"},
    "stored": {"errors", "replay", "report"},
    "api": BASE | {"config", "queries", "release", "replay", "report", "result", "scoring", "study", "summary"},
    "auditing": BASE | {"api", "attribution", "replay", "result", "study", "summary"},
    "verifying": BASE
    | {"api", "attribution", "queries", "release", "reloading", "replay", "replaying", "result", "study", "summary"},
    "canaries": BASE | {"attribution", "config", "ledger", "queries", "release", "replay", "report", "result", "scoring"},
    "blast": {"redaction", "attribution", "queries", "reloading", "replay", "report"},
    "postmortem": BASE | {"api", "blast", "config", "queries", "release", "reloading", "replay", "report"},
    "changelog": {"replay"},
    "runs": BASE
    | {"attribution", "ledger", "queries", "release", "replay", "report", "result", "scoring", "slices", "tabular"},
    "tape_ahead": {"canonical", "errors", "queries", "release", "replay", "study"},
    "planning": {"api", "attribution", "queries", "release", "study", "tape_ahead"},
    "cli": {
        "api",
        "artefacts",
        "config",
        "redaction",
        "errors",
        "interrupts",
        "replay",
        "report",
        "result",
        "starter",
        "stored",
        "compare_releases",
        "planning",
        "auditing",
        "verifying",
        "canaries",
        "postmortem",
        "changelog",
        "runs",
        "",
    },
    "__init__": None,
    "__main__": {"cli"},
}
LITELLM_USERS = {"replay/completion.py"}
HEAVY = ("litellm", "pandas", "sklearn", "statsmodels", "matplotlib", "scipy", "duckdb", "jsonschema", "pydantic", "rich")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str) -> list[str]:
    """Dotted names that the module imports, those for type checking only left out."""
    tree = ast.parse(source)
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.append(str(node.module))
    return names


def broken_arrows(part: str, source: str) -> list[str]:
    allowed = ARROWS[part]
    if allowed is None:
        return []
    ours = [name.split(".")[1] if "." in name else "" for name in imports(source) if name.split(".")[0] == "bisect_ai"]
    return [name for name in ours if name != part and name not in allowed]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    assert broken_arrows(part_of(path), path.read_text()) == []


def test_an_arrow_turned_round_is_seen() -> None:
    assert broken_arrows("attribution", "from bisect_ai.replay.store import Store") == ["replay"]
    assert broken_arrows("errors", "import bisect_ai.canonical") == ["canonical"]
    assert broken_arrows("release", "def f():\n    from bisect_ai.study import Study") == ["study"]
    assert broken_arrows("report", "from bisect_ai.study import Study") == ["study"]


def test_only_the_command_line_knows_click_and_only_replay_knows_litellm() -> None:
    for path in PACKAGE.rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path.read_text())}
        place = path.relative_to(PACKAGE).as_posix()
        assert "click" not in tops or place.startswith("cli/")
        assert "litellm" not in tops or place in LITELLM_USERS
        assert not tops & {"pickle", "shelve", "dill", "cloudpickle"}


def test_attribution_is_pure() -> None:
    for path in (PACKAGE / "attribution").rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path.read_text())}
        assert not tops & {"os", "io", "time", "datetime", "pathlib", "asyncio", "threading", "random", "socket"}, path


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import resource, sys\n"
        "from bisect_ai.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "assert not loaded, loaded\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
