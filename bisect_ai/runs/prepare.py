"""The Python door: `run`, and the steps behind it that the command line shares."""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bisect_ai.canonical import canonical, digest, plain
from bisect_ai.config import FILE, Budget, Config, checked, read_config
from bisect_ai.errors import ConfigError, InputError, ReleaseError
from bisect_ai.facts.build import recommended, summarise
from bisect_ai.provider.budget import Account, Caps
from bisect_ai.provider.redaction import obey, ready, redact, secret_values
from bisect_ai.provider.redaction.secret_values import is_random
from bisect_ai.queries.load import load_queries
from bisect_ai.queries.sample import Sample
from bisect_ai.release.load import Release, changed_axes, check_pair, load_release
from bisect_ai.replay.engine import GRACE_SECONDS, seldom_collected
from bisect_ai.replay.interrupts import Stop, heeded
from bisect_ai.result import Result
from bisect_ai.runs.study import Prepared, Study, Watch, check_tolerance, metric_of
from bisect_ai.scoring.scorers import Scorer, build_scorers
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.answer import Target
from bisect_ai.targets.callables import callable_identity, import_callable
from bisect_ai.targets.python_target import PythonTarget, RecordedTarget

STOPPING = f"\nstopping: waiting up to {GRACE_SECONDS:.0f} s for the calls under way; Ctrl-C again stops now\n"


class Work(Protocol):
    """What is done with a prepared study."""

    def __call__(self, prepared: Prepared, /, *, folder: Path, watch: Watch | None, stop: Stop | None) -> Result:
        """Run (or resume) it and sum it up."""


SHORTEST_KEY = 12
SHORTEST_RANDOM = 8
"""Characters of a credential, and of one of letters and digits, below which finding it in a release is taken for chance."""


def run(
    config: str | Path | None = None,
    *,
    good: Any = None,
    bad: Any = None,
    queries: Any = None,
    target: Any = None,
    scorers: Any = None,
    metric: str | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
    budget: Mapping[str, Any] | None = None,
    design: str | None = None,
    drill: bool | None = None,
    seed: int | None = None,
    store: str | Path | None = None,
    log: Any = None,
    concurrency: int | None = None,
    jobs: int | None = None,
    backend: str | None = None,
    scheduler: str | None = None,
    timeouts: Mapping[str, float] | None = None,
    keep_going: bool | None = None,
    couplings: Sequence[Sequence[str]] | None = None,
    secrets: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Result:
    """The verdict on a bad release, from replayed queries.

    `config`: a bisect.yaml; keywords override what it says. `good`, `bad`: a path, a `Release` or a mapping of axis to value.
    `queries`: a path, a DataFrame or a list of mappings (all of them, unless `log={"sample": n}`). `target`: a function
    `fn(query, release)`, sync or async, or what bisect.yaml's `target` holds. `scorers`: a mapping of name to
    `fn(query, answer) -> float | bool | None`, or the list of bisect.yaml. `tolerance` is in score points, `alpha` the chance of
    a wrong name over the whole run, `budget` has `calls`, `usd`, `minutes`; `timeouts` seconds for an answer of the
    `target` and a score of a `scorer`.
    `couplings`: lists of axes that only run together (others are found when a mixture cannot run).
    `keep_going`: although the target or the deciding scorer only fails. `jobs`: processes that call the target; `backend`:
    where they run (loky: here; dask, ray: on the cluster at `scheduler`). `secrets`: what is hidden, as in
    bisect.yaml. `store=None` keeps everything in memory (with a `config`: its store). Works inside a running event loop.

    Raises `InputError` (what was given is wrong), `TargetFailure` (it kept failing; what was paid for is kept), `StoreError`.
    Ctrl-C stops dispatch, lets what is under way come in for some seconds, and raises `KeyboardInterrupt`: all answers are kept.
    """
    given = {
        "good": good,
        "bad": bad,
        "target": target,
        "scorers": scorers,
        "metric": metric,
        "tolerance": tolerance,
        "alpha": alpha,
        "budget": budget,
        "design": design,
        "drill": drill,
        "seed": seed,
        "store": store,
        "log": log,
        "concurrency": concurrency,
        "jobs": jobs,
        "backend": backend,
        "scheduler": scheduler,
        "timeouts": timeouts,
        "keep_going": keep_going,
        "couplings": None if couplings is None else [list(c) for c in couplings],
        "secrets": secrets,
    }
    return started(execute, given, config=config, queries=queries, progress=progress)


def started(
    work: Work, given: Mapping[str, Any], *, config: str | Path | None, queries: Any = None, progress: bool = False
) -> Result:
    """What `work` makes of the settings once they are prepared; stops at a signal with everything kept."""
    with seldom_collected(), heeded(announce=STOPPING if progress else None) as stop:
        settings, folder = settle({k: v for k, v in given.items() if v is not None}, config=config, queries=queries)
        prepared = prepare(settings, folder=folder, queries=queries)
        stop.check()
        if not progress:
            return work(prepared, folder=folder, watch=None, stop=stop)
        from bisect_ai.report.progress import live

        with live() as watch:
            return work(prepared, folder=folder, watch=watch, stop=stop)


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
        settled, folder = checked({**defaults, **given}, where="run()"), Path.cwd()
    obey(settled.secrets.resolved(folder))
    return settled, folder


def prepare(config: Config, *, folder: Path, queries: Any = None) -> Prepared:
    """Freeze and check everything; spends nothing. Raises `InputError` for whatever is wrong."""
    good, bad = (load_release(_from(folder, side), root=folder) for side in (config.good, config.bad))
    good, bad = named(good, "good"), named(bad, "bad")
    check_pair(good, bad)
    ready()
    for release in (good, bad):
        check_no_key(release)
    scorers = build_scorers(config.scorers, folder=folder)
    metric = metric_of(scorers, config.metric)
    source = queries if queries is not None else config.log.path
    sample = load_queries(source, settings=config.log.settings(config.seed), folder=folder)
    check_comparable(metric, sample)
    check_tolerance(config, metric)
    make = partial(build_target, config.target, folder=folder, good=dict(good.axes), bad=dict(bad.axes), budget=config.budget)
    target, notices = make()
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
        partial(_first, make),
        (*sample.notices, *notices),
    )


def _first(make: Callable[[], tuple[Target, list[str]]]) -> Target:
    return make()[0]


def execute(prepared: Prepared, *, folder: Path, watch: Watch | None = None, stop: Stop | None = None) -> Result:
    """Run (or resume) a prepared study and sum it up."""
    os.environ.setdefault("BISECT_REPLAY", "1")  # the user's code can tell a replay from production
    store = prepared.config.store
    with Store(None if store is None else folder / store) as opened:
        outcomes = Study(prepared, opened, watch=watch, stop=stop).run()
        report = summarise(outcomes, damage=opened.damage)
        if outcomes.ledger.calls:
            opened.finish(prepared.run_id, {"report": report, "at": time.time_ns() // 1000})
    told = tuple(opened.notices)
    return Result(report, outcomes.ledger.now, outcomes.ledger.observations, told, recommended(prepared, report))


def check_comparable(metric: Scorer, sample: Sample) -> None:
    """Raises `ConfigError` when the deciding score compares with a column that no sampled query has: no answer would be scored."""
    column = metric.compares_with
    if column is not None and all(query.get(column) is None for query in sample.queries):
        there = ", ".join(sorted({name for query in sample.queries for name in query}))
        raise ConfigError(
            f"the metric {metric.name!r} compares answers with the column {column!r}, which no sampled query has; name another with "
            f"`expected`, or map it with log.columns; the log has {there}"
        )


def check_no_key(release: Release) -> None:
    """Raises `ReleaseError` when an axis holds the value of a credential: it would be stored, and shown in reports."""
    for axis, value in release.axes.items():
        text = canonical([axis, plain(value)])
        for where, secrets in secret_values().items():
            if any(_is_telling(secret) and json.dumps(secret)[1:-1] in text for secret in secrets):
                raise ReleaseError(
                    f"the axis {redact(axis)} of release {redact(release.name)} holds the value of {where}; a release is stored and "
                    "shown: take the credential out, targets read it from the environment (what is no credential: name its variable "
                    "under secrets.ignore)"
                )


def _is_telling(secret: str) -> bool:
    return len(secret) >= SHORTEST_KEY or is_random(secret, shortest=SHORTEST_RANDOM)


def build_target(
    spec: Any, *, folder: Path, good: Mapping[str, Any], bad: Mapping[str, Any], budget: Budget | None = None
) -> tuple[Target, list[str]]:
    """The target that the settings name, with notices for the report. Raises `ConfigError` when it could not keep the budget."""
    if callable(spec):
        return _python_target(spec, {})
    settings = {"kind": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    kind = settings.get("kind")
    if kind not in _TARGETS:
        known = ", ".join(_TARGETS)
        raise ConfigError(f"target: the kind {kind!r} is unknown; use one of {known}, or pass a function from Python")
    target, notices = _TARGETS[kind](settings, folder, good, bad, budget or Budget())
    return target, notices


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


def _http(
    settings: dict[str, Any], _: Path, good: Mapping[str, Any], bad: Mapping[str, Any], budget: Budget
) -> tuple[Target, list[str]]:
    from bisect_ai.targets.http_target import HttpTarget

    target = HttpTarget(settings, good=good, bad=bad, minutes=budget.per_trial.minutes)
    return target, target.notices


def _python(settings: dict[str, Any], folder: Path, *_: Any) -> tuple[Target, list[str]]:
    spec = settings.get("function")
    if spec is None or set(settings) - {"kind", "function", "version", "concurrency"}:
        raise ConfigError("target of kind python: it takes `function: module:function`, `version` and `concurrency`")
    function = spec if callable(spec) else import_callable(str(spec), folder=folder)
    return _python_target(function, settings)


def _python_target(function: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[PythonTarget, list[str]]:
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
        from bisect_ai.queries.table import read_table

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


def _from(folder: Path, side: Any) -> Any:
    return folder / side if isinstance(side, str | Path) else side


def named(release: Any, fallback: str) -> Any:
    """A release given as a plain mapping is called by its side."""
    return replace(release, name=fallback) if release.name.startswith("release-") and release.source is None else release


def read_report(store: Path, run_prefix: str) -> dict[str, Any]:
    """The stored report of a finished run. Raises `StoreError` or `InputError` when there is none."""
    with Store(store) as opened:
        run = opened.find_run(run_prefix)
        report = opened.report(run)
    if report is None:
        raise InputError(f"run {run} has no report yet: it was interrupted; run the same command again to finish it")
    return report
