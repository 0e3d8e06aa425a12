"""How the package is built, in figures, beside other projects: python tests/benchmarks/house.py [FOLDER ...]

Each FOLDER is a package's own, for example those of httpx, sqlite_utils, optuna and picire in a virtual environment made for it.
Everything is read from the source alone: nothing is imported, nothing is run. What the lines mean:

- body: lines of a function without its docstring (median, 95th percentile, longest);
- chain: modules that import one another in a row, imports inside functions and for type checking only included; a circle counts
  with all its modules;
- shared: module-level functions whose name stands in more than one module; one-word: functions and methods named by one word;
- Any: annotations that are `Any` and those that have it inside (`dict[str, Any]`), of all that parameters, returns and fields have;
  bare: parameters and returns without an annotation;
- comments: a hundred lines, those to tools left out; and with them the texts that stand below constants and fields.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.test_architecture import PACKAGE, body_lines, functions, share_of_namesakes, share_of_one_word

TO_TOOLS = re.compile(r"#\s*(?:noqa|type:|pragma|fmt:|mypy:|pylint|ruff|isort|!)")


class House(NamedTuple):
    """A package's figures; shares are parts of 1."""

    modules: int
    lines: int
    median: float
    most: float
    longest: int
    largest: int
    chain: int
    in_circles: int
    shared: float
    twice: int
    one_word: float
    is_any: float
    says_any: float
    bare: float
    comments: float
    notes: float


def measured(folder: Path) -> House:
    """The figures of the package in a folder."""
    sources = {_module_name(path, folder): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}
    packages = {_module_name(path, folder) for path in folder.rglob("__init__.py")}
    trees = {module: ast.parse(text) for module, text in sources.items()}
    bodies = sorted(body_lines(each) for tree in trees.values() for each in functions(ast.walk(tree)))
    groups = knots({module: imported(tree, module, module in packages, set(trees)) for module, tree in trees.items()})
    classes = Counter(node.name for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef))
    notes = [note for tree in trees.values() for note in annotations(tree)]
    there = [note for note in notes if note is not None]
    comments = sum(comments_in(text) for text in sources.values())
    lines = sum(text.count("\n") for text in sources.values())
    return House(
        len(sources),
        lines,
        statistics.median(bodies),
        statistics.quantiles(bodies, n=20)[-1],
        bodies[-1],
        max(text.count("\n") for text in sources.values()),
        longest_way(groups),
        sum(len(group) for group in groups if len(group) > 1),
        share_of_namesakes(sources),
        sum(n > 1 for n in classes.values()),
        share_of_one_word(sources),
        sum(isinstance(note, ast.Name) and note.id == "Any" for note in there) / max(len(there), 1),
        sum(map(says_any, there)) / max(len(there), 1),
        1 - len(there) / max(len(notes), 1),
        100 * comments / lines,
        100 * (comments + sum(map(texts_below, trees.values()))) / lines,
    )


def _module_name(path: Path, folder: Path) -> str:
    return ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.Module, module: str, is_package: bool, known: set[str]) -> set[str]:
    """The package's modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {_home_of(alias.name, known) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".") + [""] * is_package
            base = (
                ".".join(filter(None, [*parents[: len(parents) - node.level], node.module]))
                if node.level
                else node.module or ""
            )
            found |= {_home_of(f"{base}.{alias.name}", known) for alias in node.names}
    return found - {"", module, module.split(".")[0]}


def _home_of(name: str, known: set[str]) -> str:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


class Group(frozenset[str]):
    """Modules that import each other in a circle, or one by itself; `below`: the groups that it imports."""

    below: tuple[Group, ...] = ()


def knots(graph: dict[str, set[str]]) -> list[Group]:
    """The groups of a graph, the lowest first (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    group_of: dict[str, Group] = {}

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in order:
                visit(other)
            if other not in group_of:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == order[module]:
            at = path.index(module)
            group = Group(path[at:])
            del path[at:]
            group_of.update(dict.fromkeys(group, group))
            group.below = tuple({group_of[o] for m in group for o in graph.get(m, ()) if group_of.get(o, group) is not group})

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return list(dict.fromkeys(group_of.values()))


def longest_way(groups: list[Group]) -> int:
    """How many modules the longest way down the imports has."""
    depths: dict[Group, int] = {}
    for group in groups:  # the lowest come first
        depths[group] = len(group) + max((depths[each] for each in group.below), default=0)
    return max(depths.values())


def annotations(tree: ast.Module) -> Iterator[ast.expr | None]:
    """What parameters (but self and cls), returns and fields are annotated with; None: nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
            yield from (each.annotation for each in every if each.arg not in ("self", "cls"))
            yield node.returns


def says_any(annotation: ast.expr) -> bool:
    """Whether `Any` stands in an annotation, as a name or in a text."""
    words = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    words |= {node.attr for node in ast.walk(annotation) if isinstance(node, ast.Attribute)}
    texts = (node.value for node in ast.walk(annotation) if isinstance(node, ast.Constant))
    return "Any" in words or any(isinstance(text, str) and re.search(r"\bAny\b", text) for text in texts)


def comments_in(source: str) -> int:
    """Comments for people."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.COMMENT and not TO_TOOLS.match(token.string) for token in tokens)


def texts_below(tree: ast.Module) -> int:
    """Texts that stand below a constant or a field and say what it is."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)]
    pairs = (pair for body in bodies for pair in itertools.pairwise(body))
    return sum(isinstance(first, ast.Assign | ast.AnnAssign) and _is_text(second) for first, second in pairs)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main(folders: list[Path]) -> None:
    """A row for each package."""
    titles = ("package", "modules", "lines", "body", "largest", "chain", "in circles", "shared", "classes twice", "one-word")
    titles += ("Any / inside", "bare", "comments / all")
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    for folder in folders:
        h = measured(folder)
        cells = [h.modules, f"{h.lines:,}", f"{h.median:g} / {h.most:.0f} / {h.longest}", h.largest, h.chain, h.in_circles]
        cells += [f"{h.shared:.0%}", h.twice, f"{h.one_word:.0%}", f"{h.is_any:.1%} / {h.says_any:.1%}", f"{h.bare:.1%}"]
        cells.append(f"{h.comments:.1f} / {h.notes:.1f}")
        print(f"| {folder.name} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main([PACKAGE, *map(Path, sys.argv[1:])])
