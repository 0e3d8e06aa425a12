"""From settings to what is prepared: releases, scorers, log and target loaded, frozen and checked. Nothing is spent before it is.

The target that bisect.yaml or a caller names is built and checked against the budget. `make_plan` and `check_settings` say what a run
would do, and what is wrong with it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from bisect_ai.canonical import digest
from bisect_ai.config import (
    FILE,
    Budget,
    Config,
    checked_config,
    heed_secrets_of,
    read_config,
)
from bisect_ai.errors import ConfigError
from bisect_ai.provider.budget import Account, Caps
from bisect_ai.provider.redaction import did_you_mean, obey, ready
from bisect_ai.provider.user_code import callable_identity, check_takes, import_callable
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import Sample
from bisect_ai.release.checkout import FileSplit
from bisect_ai.release.diff import diff
from bisect_ai.release.load import changed_axes, check_pair
from bisect_ai.release.pair import load_pair
from bisect_ai.replay.interrupts import heeded, seldom_collected
from bisect_ai.runs.prepared import Prepared, check_tolerance, metric_of
from bisect_ai.runs.question import Bisection
from bisect_ai.runs.release_writer import check_no_key
from bisect_ai.scoring.scorer import Scorer
from bisect_ai.scoring.scorers import build_scorers
from bisect_ai.targets.target import PythonTarget, RecordedTarget, Target

if TYPE_CHECKING:
    from bisect_ai.attribution.problem import Problem, Search
    from bisect_ai.runs.ledger import Watch
    from bisect_ai.runs.preflight import Objection


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
        settled, folder = checked_config({**defaults, **given}, where="settings"), Path.cwd()
    obey(settled.secrets.resolved(folder))
    return settled, folder


def releases_of_run(settings: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """Good and bad of a run as settings, where its settings file names none: then the command line did."""
    written = heed_secrets_of(config)
    return {side: release for side, release in compared_by_run(settings).items() if side not in written}


def compared_by_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Good and bad as the run had them: the files that it read, else git revisions."""
    files = {side: path for side, path in (settings.get("files") or {}).items() if Path(path).is_file()}
    return {side: files.get(side, {"git": settings[side]["name"]}) for side in ("good", "bad")}


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
    given: dict[str, Any] = {
        "good": dict(good.axes),
        "bad": dict(bad.axes),
        "budget": config.budget,
        "concurrency": config.concurrency,
    }
    make = partial(build_target, config.target, folder=folder, files=files, **given)
    target, notices = make()
    if config.is_away and getattr(target, "is_local", False):
        kind = target.identity.get("kind", "command")
        raise ConfigError(f"target of kind {kind}: it runs programs of its own, so leave out jobs and backend (concurrency: n)")
    embedding = getattr(target, "embedding", None)
    if config.is_away and embedding is not None and embedding(good.axes, bad.axes) is not None:
        raise ConfigError("corpus.retriever of kind embedding: this process keeps its vectors, so leave out jobs and backend")
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
        Bisection(_search_of_design),
        diff(good, bad),
        (*(files.notes if files else ()), *sample.notices, *notices),
    )


STOPPING = "\nstopping: waiting up to {seconds:.0f} s for the calls under way, which are paid for; Ctrl-C again stops now\n"
# What is done with a prepared study: `work(prepared, folder=…, watch=…, stop=…)`.
R = TypeVar("R")
# What gives a function to call with the progress of a run.
Watching: TypeAlias = "Callable[[], AbstractContextManager[Watch]]"


def started(
    work: Callable[..., R],
    given: Mapping[str, Any],
    *,
    config: str | Path | None,
    queries: Any = None,
    watching: Watching | None = None,
    alone: bool = False,
    known: Callable[[Prepared, Path], R | None] | None = None,
) -> R:
    """What `work` makes of the settings once they are prepared, unless it is `known`; stops at a signal with everything kept."""
    from bisect_ai.runs.preflight import refuse

    with seldom_collected(), heeded(announce=STOPPING if watching else None) as stop:
        settings, folder = settle({k: v for k, v in given.items() if v is not None}, config=config, queries=queries)
        prepared = prepare(settings, folder=folder, queries=queries, alone=alone)
        if known is not None and (result := known(prepared, folder)) is not None:
            return result
        prepared = replace(prepared, notices=(*prepared.notices, *refuse(prepared, folder=folder)))
        stop.check()
        with watching() if watching else nullcontext() as watch:
            return work(prepared, folder=folder, watch=watch, stop=stop)


def make_plan(config: str | Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as plain JSON: calls, tokens and USD (None: not known), smallest visible effect, and the other designs'."""
    from bisect_ai.runs.plan_run import plan_of, void_answers

    settings, folder = settle(overrides, config=config)
    prepared = prepare(settings, folder=folder)
    void = void_answers(prepared, folder=folder)
    return {**plan_of(prepared), **({} if void is None else {"void": void})}


def check_settings(config: Path, overrides: Mapping[str, Any]) -> tuple[list[Objection], Prepared, Path]:
    """What is wrong or odd with a bisect.yaml and what it names; what it prepares, and its folder.

    Raises `InputError` for what cannot even be read.
    """
    from bisect_ai.runs.plan_run import void_answers
    from bisect_ai.runs.preflight import Objection, objections

    settings, folder = settle(overrides, config=config)
    prepared = prepare(settings, folder=folder)
    found, void = objections(prepared, folder=folder), void_answers(prepared, folder=folder)
    if void is not None:
        cost = f", which cost {void['usd']:g} USD" if void["usd"] else ""
        told = f"{void['void']} stored answers of run {void['run']} are void since an edit{cost}; {void['kept']} still count"
        found.append(Objection(told, is_fatal=False))
    return found, prepared, folder


def _settled_scorers(config: Config) -> Any:
    """The scorers that the settings name; without any, what the answers of a target of the user's bring themselves."""
    if config.scorers is not None:
        return config.scorers
    if isinstance(config.target, Mapping) and config.target.get("kind") == "litellm":
        raise ConfigError("the key 'scorers' is missing: answers of kind litellm bring no scores of their own")
    return [{"kind": "answer", "name": config.metric or "score", "score": config.metric}]


def _first_target(make: Callable[[], tuple[Target, list[str]]]) -> Target:
    return make()[0]


def _search_of_design(design: str, problem: Problem) -> Search:
    """A fresh search of the named design; what searches take is imported when one begins."""
    from bisect_ai.attribution.search.coupled import design_search

    return design_search(design, problem)


def check_comparable(metric: Scorer, sample: Sample) -> None:
    """Raises `ConfigError` when the deciding score compares with a column that no sampled query has: no answer would be scored."""
    column = metric.compares_with
    if column is not None and all(query.get(column) is None for query in sample.queries):
        there = ", ".join(sorted({name for query in sample.queries for name in query}))
        raise ConfigError(
            f"the metric {metric.name!r} compares answers with the column {column!r}, which no sampled query has; name another with "
            f"`expected`, or map it with log.columns; for a text that is the same for all queries use kind regex with `pattern`; the "
            f"log has {there}"
        )


def named(release: Any, fallback: str) -> Any:
    """A release given as a plain mapping is called by its side."""
    return replace(release, name=fallback) if release.name.startswith("release-") and release.source is None else release


@dataclass(frozen=True)
class _Wanted:
    """What a target is built from: its settings, both releases' axes, and what limits it."""

    settings: dict[str, Any]
    folder: Path
    good: Mapping[str, Any]
    bad: Mapping[str, Any]
    budget: Budget
    files: FileSplit | None


def build_target(
    spec: Any,
    *,
    folder: Path,
    good: Mapping[str, Any],
    bad: Mapping[str, Any],
    budget: Budget | None = None,
    files: FileSplit | None = None,
    concurrency: int | None = None,
) -> tuple[Target, list[str]]:
    """The target that the settings name, with notices for the report. Raises `ConfigError` when it could not keep the budget."""
    if callable(spec):
        return _python_target(spec, {})
    settings = {"kind": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    kind = settings.get("kind")
    if kind not in _TARGETS:
        meant = did_you_mean(str(kind), _TARGETS, f"; use one of {', '.join(_TARGETS)}, or pass a function from Python")
        raise ConfigError(f"target: the kind {kind!r} is unknown{meant}")
    if concurrency is not None and kind in ("litellm", "http"):  # theirs would rise
        settings["concurrency"] = concurrency
    target = _TARGETS[kind](_Wanted(settings, folder, good, bad, budget or Budget(), files))
    return target if isinstance(target, tuple) else (target, list(getattr(target, "notices", ())))


def _command(wanted: _Wanted) -> Target:
    if wanted.files is None:
        raise ConfigError(
            "target of kind command: it runs in folders with mixtures of files, so good and bad are git revisions whose axes are paths "
            "(axes: {prompt: prompts/**, code: src/**}); for release files use python or http"
        )
    from bisect_ai.targets.command_target import CommandTarget
    from bisect_ai.targets.served_target import ServedTarget

    kind = ServedTarget if "serve" in wanted.settings else CommandTarget
    return kind(wanted.settings, files=wanted.files, releases={"good": wanted.good, "bad": wanted.bad})


def _litellm(wanted: _Wanted) -> tuple[Target, list[str]]:
    from bisect_ai.targets.litellm_target import LitellmTarget
    from bisect_ai.targets.pipeline import unread_keys

    own = wanted.budget.per_trial
    caps = Caps(own.calls, own.usd, own.tokens, own.minutes)
    target = LitellmTarget(wanted.settings, folder=wanted.folder, per_trial=caps)
    target.pay_from(Account(Caps(usd=wanted.budget.usd, tokens=wanted.budget.tokens)))
    target.check_tools(wanted.good, wanted.bad)
    target.check_caps(wanted.good, wanted.bad)
    return target, unread_keys(wanted.good, wanted.bad)


def _wire(wanted: _Wanted) -> Target:
    from bisect_ai.targets.wire.wire_target import WireTarget

    sides = {"good": wanted.good, "bad": wanted.bad}
    return WireTarget(wanted.settings, folder=wanted.folder, **sides, requests=wanted.budget.requests)


def _promptfoo(wanted: _Wanted) -> Target:
    from bisect_ai.targets.promptfoo_target import PromptfooTarget

    return PromptfooTarget(wanted.settings, folder=wanted.folder)


def _http(wanted: _Wanted) -> Target:
    from bisect_ai.targets.http_target import HttpTarget

    return HttpTarget(wanted.settings, good=wanted.good, bad=wanted.bad, minutes=wanted.budget.per_trial.minutes)


def _python(wanted: _Wanted) -> tuple[Target, list[str]]:
    settings = wanted.settings
    spec = settings.get("function")
    if unknown := sorted(set(settings) - {"kind", "function", "version", "concurrency"}):
        raise ConfigError(
            f"target of kind python: unknown key {unknown[0]!r}; it takes `function: module:function`, `version` and `concurrency`"
        )
    if spec is None:
        raise ConfigError(
            "target of kind python: `function` is missing; write function: module:function, for example app:answer"
        )
    function = spec if callable(spec) else import_callable(str(spec), folder=wanted.folder)
    return _python_target(function, settings)


def _python_target(function: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[PythonTarget, list[str]]:
    check_takes(function, "query", "release")
    identity, notices = _identity_of(function)
    if settings.get("version") is not None:
        identity, notices = {**identity, "version": str(settings["version"])}, []
    target = PythonTarget(function, identity=identity, concurrency=int(settings.get("concurrency", 8)))
    return target, notices


def _recorded(wanted: _Wanted) -> Target:
    records: Any = wanted.settings.get("records")
    if isinstance(records, str | Path):
        from bisect_ai.queries.files import read_table

        records = read_table(wanted.folder / records)
    if hasattr(records, "to_dict"):
        records = records.to_dict("records")
    if not records or set(wanted.settings) - {"kind", "records"}:
        raise ConfigError(
            "target of kind recorded: it takes `records`, a table with query, bad_axes and text; write records: answers.jsonl"
        )
    return RecordedTarget(records, good=wanted.good, bad=wanted.bad)


_TARGETS: dict[Any, Callable[[_Wanted], Target | tuple[Target, list[str]]]] = {
    "litellm": _litellm,
    "python": _python,
    "http": _http,
    "wire": _wire,
    "promptfoo": _promptfoo,
    "recorded": _recorded,
    "command": _command,
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
