"""From settings to what is prepared: releases, scorers, log and target loaded, frozen and checked. Nothing is spent.

The target that bisect.yaml or a caller names is built and checked against the budget.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import (
    FILE,
    Budget,
    Config,
    checked_config,
    read_config,
)
from bisect_ai.errors import ConfigError
from bisect_ai.provider.budget import Account, Caps
from bisect_ai.provider.redaction import obey, ready
from bisect_ai.provider.user_code import callable_identity, check_takes, import_callable
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import Sample
from bisect_ai.release.file_axes import FileSplit
from bisect_ai.release.load import changed_axes, check_pair
from bisect_ai.release.pair import load_pair
from bisect_ai.runs.prepared import Prepared, check_tolerance, metric_of
from bisect_ai.runs.release_files import check_no_key
from bisect_ai.scoring.scorers import Scorer, build_scorers
from bisect_ai.targets.answer import Target
from bisect_ai.targets.python_target import PythonTarget, RecordedTarget


def settle(given: Mapping[str, Any], *, config: str | Path | None, queries: Any = None) -> tuple[Config, Path]:
    """The checked settings and the folder that their paths start from."""
    if config is not None:
        path = Path(config)
        path = path / FILE if path.is_dir() else path
        settled, folder = read_config(path, given), path.resolve().parent
    else:
        defaults: dict[str, Any] = {"store": None}
        if queries is not None and "log" not in given:
            defaults["log"] = {"sample": None}
        settled, folder = checked_config({**defaults, **given}, where="run()"), Path.cwd()
    obey(settled.secrets.resolved(folder))
    return settled, folder


def prepare(config: Config, *, folder: Path, queries: Any = None, alone: bool = False) -> Prepared:
    """Freeze and check everything; spends nothing. `alone`: the good release against its own log, so that nothing has to differ.

    Raises `InputError` for whatever is wrong.
    """
    good, bad, files = load_pair(config.good, config.bad, folder=folder, rules=config.repository)
    good, bad = named(good, "good"), named(bad, "bad")
    if not alone:
        check_pair(good, bad)
    ready()
    for release in (good, bad):
        check_no_key(release)
    scorers = build_scorers(_settled_scorers(config), folder=folder)
    metric = metric_of(scorers, config.metric)
    source = queries if queries is not None else config.log.path
    sample = load_queries(source, settings=config.log.settings(config.seed), folder=folder)
    check_comparable(metric, sample)
    check_tolerance(config, metric)
    sides = {"good": dict(good.axes), "bad": dict(bad.axes)}
    make = partial(build_target, config.target, folder=folder, **sides, budget=config.budget, files=files)
    target, notices = make()
    if config.is_away and getattr(target, "is_local", False):
        kind = target.identity.get("kind", "command")
        raise ConfigError(f"target of kind {kind}: it runs programs of its own, so leave out jobs and backend (concurrency: n)")
    for scorer in scorers.values():
        if scorer.batch is not None:
            scorer.batch.check_caps(Account(Caps(usd=config.budget.usd, tokens=config.budget.tokens)))
    return Prepared(
        config,
        good,
        bad,
        changed_axes(good, bad),
        sample,
        scorers,
        metric,
        target,
        partial(_first_target, make),
        (*(files.notes if files else ()), *sample.notices, *notices),
    )


def _settled_scorers(config: Config) -> Any:
    """The scorers that the settings name; without any, what the answers of a target of the user's bring themselves."""
    if config.scorers is not None:
        return config.scorers
    if isinstance(config.target, Mapping) and config.target.get("kind") == "litellm":
        raise ConfigError("the key 'scorers' is missing: answers of kind litellm bring no scores of their own")
    return [{"kind": "answer", "name": config.metric or "score", "score": config.metric}]


def _first_target(make: Callable[[], tuple[Target, list[str]]]) -> Target:
    return make()[0]


def check_comparable(metric: Scorer, sample: Sample) -> None:
    """Raises `ConfigError` when the deciding score compares with a column that no sampled query has: no answer would be scored."""
    column = metric.compares_with
    if column is not None and all(query.get(column) is None for query in sample.queries):
        there = ", ".join(sorted({name for query in sample.queries for name in query}))
        raise ConfigError(
            f"the metric {metric.name!r} compares answers with the column {column!r}, which no sampled query has; name another with "
            f"`expected`, or map it with log.columns; the log has {there}"
        )


def named(release: Any, fallback: str) -> Any:
    """A release given as a plain mapping is called by its side."""
    return replace(release, name=fallback) if release.name.startswith("release-") and release.source is None else release


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
        return _command_target(settings, files, {"good": good, "bad": bad})
    if kind not in _TARGETS:
        known = ", ".join((*_TARGETS, "command"))
        near = get_close_matches(str(kind), (*_TARGETS, "command"), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; use one of {known}, or pass a function from Python"
        raise ConfigError(f"target: the kind {kind!r} is unknown{meant}")
    target, notices = _TARGETS[kind](settings, folder, good, bad, budget or Budget())
    return target, notices


def _command_target(
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


def _promptfoo_target(settings: dict[str, Any], folder: Path, *_: Any) -> tuple[Target, list[str]]:
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


def _recorded_target(
    settings: dict[str, Any], folder: Path, good: Mapping[str, Any], bad: Mapping[str, Any], _: Any
) -> tuple[Target, list[str]]:
    records: Any = settings.get("records")
    if isinstance(records, str | Path):
        from bisect_ai.queries.recorded_table import read_table

        records = read_table(folder / records)
    if hasattr(records, "to_dict"):
        records = records.to_dict("records")
    if not records or set(settings) - {"kind", "records"}:
        raise ConfigError(
            "target of kind recorded: it takes `records`, a table with query, bad_axes and text; write records: answers.jsonl"
        )
    return RecordedTarget(records, good=good, bad=bad), []


_TARGETS: dict[str, Callable[..., tuple[Target, list[str]]]] = {
    "litellm": _litellm,
    "python": _python,
    "http": _http,
    "wire": _wire,
    "promptfoo": _promptfoo_target,
    "recorded": _recorded_target,
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
