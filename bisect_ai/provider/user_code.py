"""The user's own functions: importing `module:function`, and telling one version of it from another."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from bisect_ai.errors import ConfigError
from bisect_ai.provider.redaction import describe


def import_callable(spec: str, *, folder: Path) -> Callable[..., Any]:
    """The function that `module:function` names, its module looked for in `folder` first. Raises `ConfigError`.

    Two folders may each have a module of the same name: the one in `folder` is meant.
    """
    module_name, _, path = spec.partition(":")
    if not path or not module_name:
        raise ConfigError(f"cannot import {spec!r}: it is not of the form module:function, for example app:answer")
    found: Any = _module(module_name, spec, folder.absolute())
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigError(
                f"cannot import {spec!r}: {module_name} in {folder} has no {name!r}; define it, or correct the name"
            )
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(f"cannot use {spec!r}: it is a {type(found).__name__}, which cannot be called; name a function")
    return found  # type: ignore[no-any-return]  # callable() narrows Any to a type that returns object


def _module(name: str, spec: str, folder: Path) -> ModuleType:
    with _first_on_path(folder):
        _forget_namesake(name, spec, folder)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise ConfigError(
                    f"cannot import {spec!r}: no module {name!r} in {folder} or installed; correct the name, or put "
                    f"{name.partition('.')[0]}.py there"
                ) from None
            raise ConfigError(
                f"cannot import {spec!r}: {name} needs {error.name!r}, which is not installed; install it where bisect-ai is"
            ) from error
        except (Exception, SystemExit) as error:  # a user's module may raise anything as it is imported, or exit
            raise ConfigError(f"cannot import {spec!r}: {name} raised {describe(error)}; correct the module") from error


def check_takes(function: Callable[..., Any], *names: str) -> None:
    """Raises `ConfigError` when a function cannot be called with so many arguments: seen before a call is made for nothing."""
    try:
        inspect.signature(function).bind(*names)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise ConfigError(f"cannot use {name}: {error}; define {name}({', '.join(names)})") from None
    except ValueError:  # a function without a signature, written in C
        return


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """`folder` first on the path while a module is imported, and last afterwards, for imports inside its functions."""
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _forget_namesake(name: str, spec: str, folder: Path) -> None:
    """Drop a module of the same name that came from another folder, so that the one in `folder` is imported."""
    top = name.partition(".")[0]
    here, loaded = PathFinder.find_spec(top, [str(folder)]), sys.modules.get(top)
    if here is None or here.origin is None or loaded is None or getattr(loaded, "__file__", None) == here.origin:
        return
    if top in sys.stdlib_module_names:
        raise ConfigError(f"cannot import {spec!r}: {top} is the name of a module of Python itself; rename {here.origin}")
    for module in [each for each in sys.modules if each == top or each.startswith(f"{top}.")]:
        del sys.modules[module]


def callable_identity(function: Callable[..., Any]) -> Mapping[str, Any] | None:
    """Plain JSON that tells this function from every other and from its later versions; None when nothing can.

    A function of a module is known by its module's source. What holds state (a closure, a lambda, a method, an object)
    is known only by a `version` that its author sets on it.
    """
    version = getattr(function, "version", None)
    versioned = {} if version is None or callable(version) else {"version": str(version)}
    source = _source_digest(function)
    if source is None and not versioned:
        return None
    return {**_function_name(function), **({"source": source} if source else {}), **versioned}


def _function_name(function: Any) -> dict[str, str]:
    named = function if hasattr(function, "__qualname__") else type(function)
    return {"module": str(named.__module__), "qualname": str(named.__qualname__)}


def _source_digest(function: Any) -> str | None:
    """SHA-256 of the source file of a plain function of a module; None for all else."""
    if not inspect.isfunction(function) or function.__closure__ or not _is_in_module(function):
        return None
    try:
        return hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return None


def _is_in_module(function: Any) -> bool:
    """Whether the module of the function still has it under its name (no lambda, no inner or replaced function)."""
    module = sys.modules.get(function.__module__)
    try:
        return functools.reduce(getattr, function.__qualname__.split("."), module) is function
    except AttributeError:
        return False


def code_identity(spec: Any, folder: Path) -> dict[str, str]:
    """What names code in a trial's identity: the spec, and the digest of its file when it lies in the folder."""
    if not isinstance(spec, str):
        return {"spec": f"{getattr(spec, '__module__', '')}:{getattr(spec, '__qualname__', type(spec).__name__)}"}
    file = folder / (spec.partition(":")[0].replace(".", "/") + ".py")
    return {"spec": spec, **({"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if file.is_file() else {})}


def imported(spec: Any, folder: Path) -> Any:
    """What `module:object` names in `folder`; anything else as it is."""
    if not isinstance(spec, str):
        return spec
    return import_callable(spec, folder=folder)
