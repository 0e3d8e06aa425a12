"""What the comparison with other projects counts, on sources small enough to count by hand; our own figures, no worse than reached."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.benchmarks.house import PACKAGE, annotations, comments_in, knots, longest_way, measured, says_any, texts_below


def test_a_circle_is_one_group_and_counts_with_all_its_modules() -> None:
    groups = knots({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()})
    assert [sorted(group) for group in groups] == [["d"], ["b", "c"], ["a"]]
    assert longest_way(groups) == 4


def test_imports_are_followed_in_functions_and_by_dots(tmp_path: Path) -> None:
    package = tmp_path / "made"
    package.mkdir()
    (package / "__init__.py").write_text("from .top import go\n")
    (package / "top.py").write_text("import made.middle\n\n\ndef go() -> None:\n    pass\n")
    (package / "middle.py").write_text("def run(x: int) -> None:\n    from . import low\n    low.go()\n")
    (package / "low.py").write_text("class A:\n    pass\n\n\ndef go() -> None: ...\n")
    found = measured(package)
    assert (found.modules, found.chain, found.in_circles, found.twice) == (4, 4, 0, 0)
    assert found.shared == 2 / 3 and found.one_word == 1.0


def test_annotations_and_what_they_say() -> None:
    tree = ast.parse("def f(self, a, b: int, *c: 'dict[str, Any]') -> Any: ...\nx: list[int] = []")
    notes = list(annotations(tree))
    assert [None if note is None else says_any(note) for note in notes] == [None, False, True, True, False]


def test_comments_to_tools_are_none_for_people() -> None:
    assert comments_in("x = 1  # why\ny = 2  # noqa: S101\n# type: ignore\n") == 1
    assert texts_below(ast.parse('x = 1\n"""What."""\n\n\nclass C:\n    y: int = 2\n    """Why."""\n    """More."""\n')) == 2


def test_our_own_figures_are_no_worse_than_reached() -> None:
    ours = measured(PACKAGE)
    assert (ours.in_circles, ours.twice, ours.bare) == (0, 0, 0)
    assert ours.median <= 5 and ours.most <= 17
    assert ours.is_any <= 0.045 and ours.says_any <= 0.105
