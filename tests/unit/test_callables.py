"""The user's own functions: found in the right folder, and told apart from their other versions."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

from bisect_ai.errors import ConfigError
from bisect_ai.provider.user_code import callable_identity, import_callable


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith("tried"):
            del sys.modules[name]


def module(folder: Path, text: str, name: str = "tried_app") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder


def test_each_folder_has_its_own_module(tmp_path: Path) -> None:
    one = import_callable("tried_app:f", folder=module(tmp_path / "one", "def f(): return 1\n"))
    two = import_callable("tried_app:f", folder=module(tmp_path / "two", "def f(): return 2\n"))
    assert (one(), two()) == (1, 2)
    assert import_callable("tried_app:f", folder=tmp_path / "two") is two
    assert import_callable("tried_app:f", folder=tmp_path / "one")() == 1


def test_a_module_finds_its_neighbours_also_later(tmp_path: Path) -> None:
    module(tmp_path, "X = 3\n", "tried_near")
    module(tmp_path, "Y = 4\n", "tried_late")
    module(tmp_path, "import tried_near\ndef f():\n    import tried_late\n    return tried_near.X + tried_late.Y\n")
    assert import_callable("tried_app:f", folder=tmp_path)() == 7


def test_attributes_may_be_nested(tmp_path: Path) -> None:
    module(tmp_path, "class A:\n    @staticmethod\n    def f(): return 5\n")
    assert import_callable("tried_app:A.f", folder=tmp_path)() == 5


@pytest.mark.parametrize(
    ("spec", "text", "message"),
    [
        ("tried_app", "", "not of the form module:function"),
        ("tried_app:", "", "not of the form module:function"),
        (":f", "", "not of the form module:function"),
        ("tried_gone:f", "", "no module 'tried_gone' in"),
        ("tried_app.sub:f", "", "no module 'tried_app.sub' in"),
        ("tried_app:f", "", "has no 'f'"),
        ("tried_app:f", "f = 3\n", "it is a int, which cannot be called"),
        ("tried_app:f", "import tried_missing\n", "tried_app needs 'tried_missing', which is not installed"),
        ("tried_app:f", "1/0\n", "tried_app raised ZeroDivisionError: division by zero; correct the module"),
        ("tried_app:f", "def f(:\n", "tried_app raised SyntaxError"),
        ("tried_app:f", "raise SystemExit(3)\n", "tried_app raised SystemExit: 3"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line(tmp_path: Path, spec: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        import_callable(spec, folder=module(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_module_must_not_hide_one_of_python(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="json is the name of a module of Python itself"):
        import_callable("json:f", folder=module(tmp_path, "def f(): pass\n", "json"))
    assert sys.modules["json"].dumps


def test_a_source_file_is_an_identity(tmp_path: Path) -> None:
    one = callable_identity(import_callable("tried_app:f", folder=module(tmp_path / "a", "def f(): return 1\n")))
    again = callable_identity(import_callable("tried_app:f", folder=module(tmp_path / "b", "def f(): return 1\n")))
    other = callable_identity(import_callable("tried_app:f", folder=module(tmp_path / "c", "def f(): return 2\n")))
    assert one == again and one != other
    assert one is not None and set(one) == {"module", "qualname", "source"}


class Stateful:
    def __init__(self, version: str | None = None) -> None:
        if version:
            self.version = version

    def __call__(self) -> None: ...

    def method(self) -> None: ...


def closure(value: int) -> Any:
    def inner() -> int:
        return value

    return inner


@functools.wraps(closure)
def wrapped() -> None: ...


@pytest.mark.parametrize(
    "function", [lambda: 1, closure(1), Stateful(), Stateful().method, functools.partial(int), print, Stateful]
)
def test_what_holds_state_has_no_identity(function: Any) -> None:
    assert callable_identity(function) is None


def test_a_function_under_another_ones_name_has_no_identity() -> None:
    assert callable_identity(wrapped) is None


def test_a_version_is_an_identity() -> None:
    assert callable_identity(Stateful("2")) != callable_identity(Stateful("3"))
    inner = closure(1)
    inner.version = 7
    identity = callable_identity(inner)
    assert identity is not None and identity["version"] == "7" and "source" not in identity
