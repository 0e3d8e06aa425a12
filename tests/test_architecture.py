"""Imports point one way (DESIGN.md section 12); heavy packages are imported where they are used."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bisect_ai.cli import main

PACKAGE = Path(__file__).parent.parent / "bisect_ai"
VALUES = {"errors", "canonical"}
BELOW_RUNS = VALUES | {"provider", "release", "queries", "targets", "store"}
# part -> the parts of the package that it may import besides itself: whatever stands above it in this table, but what it has no need of
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "canonical": {"errors"},
    "provider": VALUES,
    "release": VALUES | {"provider"},
    "queries": VALUES | {"provider"},
    "config": VALUES | {"provider", "release", "queries"},
    "targets": VALUES | {"provider", "release", "queries"},
    "store": VALUES | {"provider", "queries", "targets"},
    "replay": VALUES | {"provider", "queries", "targets"},
    "scoring": BELOW_RUNS,
    "attribution": VALUES,
    "runs": BELOW_RUNS | {"config", "replay", "scoring", "attribution"},
    "report": VALUES,
    "result": BELOW_RUNS | {"runs", "report"},
    "facts": BELOW_RUNS | {"config", "replay", "scoring", "attribution", "runs", "report", "result"},
    "cli": BELOW_RUNS | {"config", "replay", "runs", "report", "result", "facts", ""},
    "__init__": BELOW_RUNS | {"runs", "result", "facts"},
    "__main__": {"cli"},
}
LITELLM_USERS = {"provider/completion.py", "provider/litellm_calls.py"}
HEAVY = ("litellm", "pandas", "sklearn", "statsmodels", "matplotlib", "scipy", "duckdb", "jsonschema", "pydantic", "rich")
SAME_STEM = {"__init__"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(source: str) -> list[str]:
    """Dotted names that the module imports, those inside functions and for type checking only too."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def broken_arrows(part: str, source: str) -> list[str]:
    ours = [name.split(".")[1] for name in imports(source) if name.startswith("bisect_ai.")]
    ours = ["" if name.startswith("__") else name for name in ours]
    return [name for name in ours if name != part and name not in ARROWS[part]]


def graph_of(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module to the modules that it imports."""

    def home(name: str) -> str:
        while name and name not in sources:
            name = name.rpartition(".")[0]
        return name

    found = {module: {home(name) for name in imports(text)} - {"", module, "bisect_ai"} for module, text in sources.items()}
    return {**found, "bisect_ai": set()}  # the public names are imported when they are first used


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that cannot be put in an order in which each imports earlier ones only."""
    left = dict(graph)
    while ready := [module for module, needs in left.items() if not needs & set(left)]:
        for module in ready:
            del left[module]
    while outside := [module for module in left if not any(module in needs for needs in left.values())]:
        for module in outside:  # it imports a circle and is in none
            del left[module]
    return sorted(left)


def twice(names: Iterable[str]) -> dict[str, int]:
    return {name: n for name, n in Counter(names).items() if n > 1 and name not in SAME_STEM}


SOURCES = {module_of(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def test_the_top_of_the_package_is_twelve_folders_six_modules_and_the_guides() -> None:
    there = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__pycache__")} - {"py.typed", "guides"}
    modules = {"__init__.py", "__main__.py", "errors.py", "canonical.py", "config.py", "result.py"}
    folders = {"release", "queries", "targets", "provider", "store", "replay"} | {
        *("scoring", "attribution", "runs", "facts", "report", "cli")
    }
    assert there == modules | folders
    assert {path.suffix for path in (PACKAGE / "guides").iterdir()} == {".md"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    assert broken_arrows(part_of(path), path.read_text()) == []


def test_the_arrows_themselves_have_no_circle() -> None:
    assert circle_in({part: needs - {""} for part, needs in ARROWS.items()}) == []


def test_an_arrow_turned_round_is_seen() -> None:
    assert broken_arrows("attribution", "from bisect_ai.store.trial_store import Store") == ["store"]
    assert broken_arrows("errors", "import bisect_ai.canonical") == ["canonical"]
    assert broken_arrows("release", "def f():\n    from bisect_ai.runs.study import Study") == ["runs"]
    assert broken_arrows("report", "if TYPE_CHECKING:\n    from bisect_ai.facts.build import summarise") == ["facts"]


def test_no_module_imports_one_that_imports_it() -> None:
    assert circle_in(graph_of(SOURCES)) == []


def test_a_circle_is_seen() -> None:
    deferred = {
        "bisect_ai.a": "def f():\n    import bisect_ai.b",
        "bisect_ai.b": "from bisect_ai import a",
        "bisect_ai.c": "import ast",
    }
    assert circle_in(graph_of(deferred)) == ["bisect_ai.a", "bisect_ai.b"]


def test_no_module_stem_and_no_class_name_stands_twice() -> None:
    assert twice(module.rpartition(".")[2] for module in SOURCES) == {}
    classes = [node.name for text in SOURCES.values() for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    assert twice(classes) == {}
    assert twice(["a", "b", "a"]) == {"a": 2}


LONG = {"provider.budget"}
"""Modules above 400 lines: the list may only shrink."""
LONGEST_MODULE, LONGEST_BODY, LONGEST_CHAIN = 400, 57, 14
"""Lines of a module, lines of a function without its docstring, modules that import one another in a row: no worse than reached."""
NAMESAKES, ONE_WORD = 0.09, 0.49
"""Shares: of module-level functions, those whose name stands in several modules; of all functions, those named by one word."""


def over_long(sources: dict[str, str], limit: int) -> set[str]:
    return {module.partition(".")[2] for module, text in sources.items() if text.count("\n") > limit}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def functions(nodes: Iterable[ast.AST]) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The modules of the longest way down the imports."""
    chains: dict[str, list[str]] = {}

    def below(module: str) -> list[str]:
        if module not in chains:
            chains[module] = [module, *max((below(each) for each in sorted(graph[module])), key=len, default=[])]
        return chains[module]

    return max((below(module) for module in graph), key=len)


def share_of_namesakes(sources: dict[str, str]) -> float:
    names = Counter(each.name for text in sources.values() for each in functions(ast.parse(text).body))
    return sum(n for n in names.values() if n > 1) / names.total()


def share_of_one_word(sources: dict[str, str]) -> float:
    names = [each.name for text in sources.values() for each in functions(ast.walk(ast.parse(text)))]
    plain = [name.strip("_") for name in names if not name.startswith("__")]
    return sum("_" not in name for name in plain) / len(plain)


def test_no_further_module_is_long() -> None:
    assert over_long(SOURCES, LONGEST_MODULE) <= LONG
    assert over_long({"bisect_ai.a": "1\n" * 5, "bisect_ai.b": "1\n" * 4}, 4) == {"a"}


def test_no_function_is_long() -> None:
    lines = {
        f"{m}.{each.name}": body_lines(each) for m, text in SOURCES.items() for each in functions(ast.walk(ast.parse(text)))
    }
    assert {name: n for name, n in lines.items() if n > LONGEST_BODY} == {}
    assert body_lines(functions(ast.parse('def f():\n    """What."""\n    a = 1\n    return a').body)[0]) == 2


def test_the_chain_of_imports_is_no_longer() -> None:
    chain = longest_chain(graph_of(SOURCES))
    assert len(chain) <= LONGEST_CHAIN, chain
    assert longest_chain({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ["a", "b", "c"]


def test_names_of_functions_tell_them_apart() -> None:
    assert share_of_namesakes(SOURCES) <= NAMESAKES
    assert share_of_namesakes({"a": "def f(): ...\ndef g(): ...", "b": "def f(): ...\ndef h(): ..."}) == 0.5
    assert share_of_one_word(SOURCES) <= ONE_WORD
    assert share_of_one_word({"a": "def f(): ...\nclass C:\n    def of_two(self): ...\n    def __len__(self): ..."}) == 0.5


def test_only_the_command_line_knows_click_and_only_the_provider_knows_litellm() -> None:
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


OWN_JSON = {
    *("provider.completion", "provider.litellm_calls", "provider.prices", "release.strict", "result"),
    *("cli.notifying", "runs.plan_run", "queries.files", "queries.json_rows", "queries.sandbox", "canonical"),
    *("targets.bounded", "targets.cells", "targets.wire.proxy"),
    *(
        "store.artefacts",
        "store.purge",
        "store.record_lines",
        "store.trial_records",
        "store.trial_store",
    ),
}
"""Modules that read JSON which this package wrote, or that they have checked: the list may only shrink."""


def reads_json_itself(source: str) -> bool:
    """Whether a module reads JSON by Python's own reader."""
    nodes = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    return bool({(node.value.id, node.attr) for node in nodes} & {("json", "load"), ("json", "loads"), ("json", "JSONDecoder")})


def test_json_of_others_comes_in_through_one_door() -> None:
    assert {module.partition(".")[2] for module, text in SOURCES.items() if reads_json_itself(text)} <= OWN_JSON
    assert reads_json_itself("import json\nx = json.loads('1')") and not reads_json_itself("import json\njson.dumps(1)")


JSON_EDGE = {"json_edge.py"}
"""Where a report may still be a mapping."""


def string_keys(source: str) -> list[str]:
    """Constant string keys that a module reads a mapping by: `x["key"]` and `x.get("key")`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        is_get = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        key = node.args[0] if is_get and node.args else node.slice if isinstance(node, ast.Subscript) else None
        is_written = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and not is_written:
            found.append(key.value)
    return found


def anys(source: str) -> int:
    """How often a module's annotations say `Any`."""
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(ast.parse(source)))


KEYS_OF_OTHER_TABLES = {"html.py": {"waterfall", "viewBox", "style"}}
"""Keys of mappings that are no report: labels of figures, attributes of an SVG, parts of a sentence."""


def test_nobody_in_report_reads_a_report_by_string_keys_or_says_any() -> None:
    for path in (PACKAGE / "report").glob("*.py"):
        if path.name not in JSON_EDGE:
            text = path.read_text()
            literals = {"passed", "failure", "error", "skipped"}  # of `Literal[...]`
            assert set(string_keys(text)) - literals <= KEYS_OF_OTHER_TABLES.get(path.name, set()), path
            assert anys(text) == 0, path
    assert string_keys("a = report['x'].get('y', 1)\nb['z'] = 1") == ["y", "x"] and anys("def f(x: Any) -> Any: ...") == 2


def test_facts_read_no_report_by_string_keys() -> None:
    keys = {"verdict", "loss", "causes", "rollback", "changes", "effects", "cells", "audit", "verify", "usage", "tape", "drill"}
    for path in (PACKAGE / "facts").glob("*.py"):
        allowed = {"audit"} if path.name == "audit_facts.py" else {"verify"} if path.name == "postmortem_facts.py" else set()
        assert keys & set(string_keys(path.read_text())) <= allowed, path  # those are keys of the store's own records


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


def test_settings_releases_and_log_are_read_without_numpy(tmp_path: Path) -> None:
    """It takes 0.1 s of processor to import: a fifth of what a check may take in all."""
    incident = shutil.copytree(PACKAGE.parent / "fixtures" / "planted" / "together", tmp_path / "incident")
    assert "nothing is wrong" in _told_without_numpy(incident, "check", "--free")


def test_a_stored_run_is_shown_and_listed_without_numpy(tmp_path: Path) -> None:
    incident = shutil.copytree(PACKAGE.parent / "fixtures" / "planted" / "together", tmp_path / "incident")
    CliRunner().invoke(main, ["run", str(incident / "bisect.yaml"), "--max-calls", "20"])
    listed = _told_without_numpy(incident, "runs", "--history", "--json")
    assert "inconclusive" in _told_without_numpy(incident, "report", json.loads(listed)[0]["run"])


def _told_without_numpy(folder: Path, *words: str) -> str:
    code = (
        "import sys\n"
        "from bisect_ai.cli import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "assert 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dead(folders: list[Path]) -> list[str]:
    """Functions, classes and methods of the first folder whose name stands nowhere else in the folders."""
    from vulture import Vulture

    called_by_others = ["@main.command*", "@*_validator*", "@pass_group*"]
    by_others = [
        "__getattr__",
        "__dir__",
        "readinto",
        "plot_*",
        "case_scores",
    ]  # by Python, zipfile, users and what is written for them
    by_name = ["serve_*", "tfidf", "bm25"]  # by a process's first line, and as a setting says
    vulture = Vulture(ignore_names=[*by_others, *by_name], ignore_decorators=called_by_others)
    vulture.scavenge([str(folder) for folder in folders])
    unused = vulture.unused_funcs + vulture.unused_classes + vulture.unused_methods
    return sorted(f"{item.filename}: {item.name}" for item in unused if folders[0] in Path(item.filename).parents)


def test_nothing_is_defined_that_nobody_calls() -> None:
    assert dead([PACKAGE, Path(__file__).parent]) == []


def test_a_function_that_nobody_calls_is_seen(tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text("def forgotten() -> None: ...\n\n\ndef used() -> None: ...\n\n\nused()\n")
    assert [line.split(": ")[1] for line in dead([tmp_path])] == ["forgotten"]


SLOW = (
    "litellm",
    "statsmodels",
    "sklearn",
    "matplotlib",
    "pandas",
    "scipy",
    "pyDOE3",
    "py3langid",
    "duckdb",
    "requests",
    "aiohttp",
)
"""Packages that take from a tenth of a second to many to import."""


@pytest.mark.parametrize(
    ("command", "also"),
    [
        (["plan", "bisect.yaml"], ()),
        (["check", "--free", "bisect.yaml"], ("rich",)),
        (["diff", "releases/2026-11-13.yaml", "releases/2026-11-20.yaml"], ("numpy", "asyncio", "bisect_ai.config")),
    ],
    ids=["plan", "check", "diff"],
)
def test_commands_that_call_nobody_load_nothing_slow(command: list[str], also: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from bisect_ai.cli import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"loaded = sorted(set({(*SLOW, *also)!r}) & set(sys.modules))\n"
        "assert not loaded, loaded\n"
        "assert not [name for name in sys.modules if name.startswith('detect_secrets.')]\n"
    )
    folder = PACKAGE.parent / "fixtures" / "helpdesk"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout
