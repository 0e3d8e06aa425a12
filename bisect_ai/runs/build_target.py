"""The target that bisect.yaml or a caller names, built and checked against the budget."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import Budget
from bisect_ai.errors import ConfigError
from bisect_ai.provider.budget import Account, Caps
from bisect_ai.provider.user_code import callable_identity, check_takes, import_callable
from bisect_ai.release.file_axes import FileSplit
from bisect_ai.targets.answer import Target
from bisect_ai.targets.python_target import PythonTarget, RecordedTarget


def build_target(
    spec: Any,
    *,
    folder: Path,
    good: Mapping[str, Any],
    bad: Mapping[str, Any],
    budget: Budget | None = None,
    files: FileSplit | None = None,
) -> tuple[Target, list[str]]:
    """The target that the settings name, with notices for the report. Raises `ConfigError` when it could not keep the budget."""
    if callable(spec):
        return _python_target(spec, {})
    settings = {"kind": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    kind = settings.get("kind")
    if kind == "command":
        return _command(settings, files, {"good": good, "bad": bad})
    if kind not in _TARGETS:
        known = ", ".join((*_TARGETS, "command"))
        near = get_close_matches(str(kind), (*_TARGETS, "command"), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; use one of {known}, or pass a function from Python"
        raise ConfigError(f"target: the kind {kind!r} is unknown{meant}")
    target, notices = _TARGETS[kind](settings, folder, good, bad, budget or Budget())
    return target, notices


def _command(
    settings: dict[str, Any], files: FileSplit | None, releases: Mapping[str, Mapping[str, Any]]
) -> tuple[Target, list[str]]:
    if files is None:
        raise ConfigError(
            "target of kind command: it runs in folders with mixtures of files, so good and bad are git revisions whose axes are paths "
            "(axes: {prompt: prompts/**, code: src/**}); for release files use python or http"
        )
    if "serve" in settings:
        from bisect_ai.targets.served_target import ServedTarget

        served = ServedTarget(settings, files=files, releases=releases)
        return served, served.notices
    from bisect_ai.targets.command_target import CommandTarget

    target = CommandTarget(settings, files=files, releases=releases)
    return target, target.notices


def _litellm(
    settings: dict[str, Any], folder: Path, good: Mapping[str, Any], bad: Mapping[str, Any], budget: Budget
) -> tuple[Target, list[str]]:
    from bisect_ai.targets.litellm_target import LitellmTarget

    own = budget.per_trial
    target = LitellmTarget(settings, folder=folder, per_trial=Caps(own.calls, own.usd, own.tokens, own.minutes))
    target.pay_from(Account(Caps(usd=budget.usd, tokens=budget.tokens)))
    target.check_tools(good, bad)
    target.check_caps(good, bad)
    return target, []


def _wire(
    settings: dict[str, Any], folder: Path, good: Mapping[str, Any], bad: Mapping[str, Any], budget: Budget
) -> tuple[Target, list[str]]:
    from bisect_ai.targets.wire.wire_target import WireTarget

    return WireTarget(settings, folder=folder, good=good, bad=bad, requests=budget.requests), []


def _promptfoo(settings: dict[str, Any], folder: Path, *_: Any) -> tuple[Target, list[str]]:
    from bisect_ai.targets.promptfoo_target import PromptfooTarget

    return PromptfooTarget(settings, folder=folder), []


def _http(
    settings: dict[str, Any], _: Path, good: Mapping[str, Any], bad: Mapping[str, Any], budget: Budget
) -> tuple[Target, list[str]]:
    from bisect_ai.targets.http_target import HttpTarget

    target = HttpTarget(settings, good=good, bad=bad, minutes=budget.per_trial.minutes)
    return target, target.notices


def _python(settings: dict[str, Any], folder: Path, *_: Any) -> tuple[Target, list[str]]:
    spec = settings.get("function")
    if unknown := sorted(set(settings) - {"kind", "function", "version", "concurrency"}):
        raise ConfigError(
            f"target of kind python: unknown key {unknown[0]!r}; it takes `function: module:function`, `version` and `concurrency`"
        )
    if spec is None:
        raise ConfigError(
            "target of kind python: `function` is missing; write function: module:function, for example app:answer"
        )
    function = spec if callable(spec) else import_callable(str(spec), folder=folder)
    return _python_target(function, settings)


def _python_target(function: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[PythonTarget, list[str]]:
    check_takes(function, "query", "release")
    identity, notices = _identity_of(function)
    if settings.get("version") is not None:
        identity, notices = {**identity, "version": str(settings["version"])}, []
    target = PythonTarget(function, identity=identity, concurrency=int(settings.get("concurrency", 8)))
    return target, notices


def _recorded(
    settings: dict[str, Any], folder: Path, good: Mapping[str, Any], bad: Mapping[str, Any], _: Any
) -> tuple[Target, list[str]]:
    records: Any = settings.get("records")
    if isinstance(records, str | Path):
        from bisect_ai.queries.recorded_table import read_table

        records = read_table(folder / records)
    if hasattr(records, "to_dict"):
        records = records.to_dict("records")
    if not records or set(settings) - {"kind", "records"}:
        raise ConfigError("target of kind recorded: it takes `records`, a table with query, bad_axes and text")
    return RecordedTarget(records, good=good, bad=bad), []


_TARGETS: dict[str, Callable[..., tuple[Target, list[str]]]] = {
    "litellm": _litellm,
    "python": _python,
    "http": _http,
    "wire": _wire,
    "promptfoo": _promptfoo,
    "recorded": _recorded,
}


_in_process: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def _identity_of(function: Callable[..., Any]) -> tuple[dict[str, Any], list[str]]:
    """A function's identity; of a stateful one it holds in this process only, and the report says so."""
    known = callable_identity(function)
    if known is not None:
        return dict(known), []
    owner = getattr(function, "__self__", function)
    try:
        nonce = _in_process.setdefault(owner, digest(os.urandom(16).hex())[:16])
    except TypeError:  # an owner that cannot be referred to weakly: never the same twice
        nonce = digest(os.urandom(16).hex())[:16]
    name = getattr(function, "__qualname__", type(function).__name__)
    notice = (
        f"the target {name} is a closure, a method or an object: its answers are reused in this process only; "
        "give it a `version` attribute to reuse them later"
    )
    return {"callable": name, "process": nonce}, [notice]
