"""The facts of a post-mortem: from a stored run, the releases it compared, and the log of the incident. Nothing is called.

What cannot be read any more (a log that moved, a release file that changed) is said under `unknown`, never guessed. The same store
and files give the same facts: the run's own time is the one that the store noted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest, plain
from bisect_ai.config import Config
from bisect_ai.errors import BisectError, InputError
from bisect_ai.facts.blast_radius import as_csv, as_jsonl, blast_radius
from bisect_ai.facts.saved_runs import first_scores, stored_trials
from bisect_ai.provider.redaction import redact, redact_all
from bisect_ai.queries.load import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import Sample
from bisect_ai.queries.times import microseconds
from bisect_ai.release.load import Release
from bisect_ai.release.pair import load_pair, load_side
from bisect_ai.runs.prepare import settle
from bisect_ai.store.trial_store import Store

SCHEMA = "bisect-ai/postmortem@1"
MOST_LOGGED = 200_000
"""Logged queries that are looked at, the most: a random part of more."""


@dataclass(frozen=True)
class Postmortem:
    """The run's report, the facts beside it (plain JSON), and the queries that were probably hit, the likeliest first."""

    report: Mapping[str, Any]
    facts: Mapping[str, Any]
    hits: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Files:
    """What the settings still lead to; None with a reason under `unknown`."""

    config: Config | None = None
    good: Release | None = None
    bad: Release | None = None
    sample: Sample | None = None
    unknown: tuple[str, ...] = ()


def gather(run: str, *, store: Path, config: Path | None = None, log: str | None = None) -> Postmortem:
    """The facts of a stored run's post-mortem. Raises `StoreError` or `InputError` when there is no such finished run."""
    with Store(store) as opened:
        found = opened.find_run(run)
        report, runs = opened.report(found), {name: begun["settings"] for name, begun in opened.runs.items()}
        ended, verified = dict(opened.ended), _verifications(opened, found)
    if report is None:
        raise InputError(f"run {found} has no report yet: it was interrupted; run the same command again to finish it")
    settings = runs[found]
    files = _files(settings, config, log)
    windows = _windows(files.sample, settings)
    blast, hits = blast_radius(report, first_scores(store, found, runs), files.sample, bad=settings["bad"]["name"])
    facts = {
        "schema": SCHEMA,
        "run": found,
        "made_at": _instant(ended.get(found)),
        "timeline": _timeline(report, windows, ended.get(found), verified),
        "windows": windows,
        "releases": {side: _release(settings[side], getattr(files, side)) for side in ("good", "bad")},
        "model": _model(store, found, settings, files),
        "scorers": _scorers(settings, files.config),
        "traffic": _traffic(files, settings),
        "blast": blast,
        "verifications": verified,
        "unknown": [*files.unknown, *_unknown(report, windows, ended.get(found))],
    }
    return Postmortem(redact_all(report), redact_all(facts), redact_all(hits))


# -- what can still be read ---------------------------------------------------------------------------------------------
def _files(settings: Mapping[str, Any], config: Path | None, log: str | None) -> Files:
    if config is None or not config.is_file():
        named = "bisect.yaml" if config is None else str(config)
        return Files(unknown=(f"{named} was not found, so releases and log could not be read: name it with --config",))
    try:
        read, folder = settle({} if log is None else {"log": {"path": str(Path(log).absolute())}}, config=config)
    except BisectError as error:
        return Files(unknown=(f"the settings could not be read: {error}",))
    files = Files(config=read)
    for side in ("good", "bad"):
        files = _with_release(files, side, settings[side], read, folder)
    try:
        sample = load_queries(read.log.path, settings=replace(read.log.settings(read.seed), sample=MOST_LOGGED), folder=folder)
    except (BisectError, OSError) as error:
        return replace(files, unknown=(*files.unknown, f"the log could not be read: {error}; name it with --log"))
    if len(sample) < sample.population:
        line = f"the log is large: a random {len(sample):,} of its {sample.population:,} queries were looked at"
        files = replace(files, unknown=(*files.unknown, line))
    return replace(files, sample=sample)


def _with_release(files: Files, side: str, known: Mapping[str, Any], config: Config, folder: Path) -> Files:
    rules = config.repository
    try:
        if rules.axes:
            release: Release = getattr(load_pair(config.good, config.bad, folder=folder, rules=rules), side)
        else:
            release = load_side(getattr(config, side), folder=folder, rules=rules)
    except (BisectError, OSError) as error:
        return replace(files, unknown=(*files.unknown, f"the {side} release could not be read: {error}"))
    if release.digest != known["digest"]:
        line = f"the {side} release on disk is not the one that the run compared: its axes are told by the run's report alone"
        return replace(files, unknown=(*files.unknown, line))
    return replace(files, good=release) if side == "good" else replace(files, bad=release)


def _verifications(store: Store, run: str) -> list[dict[str, Any]]:
    """What `verify` said of fixes of this run, oldest first."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for name, begun in store.runs.items():
        report = store.report(name) if (begun["settings"].get("verify") or {}).get("run") == run else None
        if report is not None:
            told = {
                "run": name,
                "fix": report["bad"],
                "kind": report["verify"]["kind"],
                "sentence": report["verdict"]["sentence"],
            }
            rows.append((store.ended.get(name) or 0, {"at": _instant(store.ended.get(name)), **told}))
    return [row for _, row in sorted(rows, key=lambda each: (each[0], each[1]["run"]))]


# -- facts ------------------------------------------------------------------------------------------------------------------
def _windows(sample: Sample | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """For each side the logged queries that its release answered: how many, the first and last instants (None: not logged)."""
    found = {}
    for side in ("good", "bad"):
        queries = [] if sample is None else [q for q in sample.queries if q.release == settings[side]["name"]]
        times = sorted(at for q in queries if (at := microseconds(q.get("at"))) is not None)
        ends = (_instant(times[0]), _instant(times[-1])) if times else (None, None)
        found[side] = {"release": settings[side]["name"], "queries": len(queries), "first": ends[0], "last": ends[1]}
    return found


def _timeline(
    report: Mapping[str, Any], windows: Mapping[str, Any], ended: int | None, verified: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Instants in order, each with what it was; texts of others are kept apart from ours."""
    rows = [_event(w[end], f"{end} logged answer of", w["release"]) for w in windows.values() for end in ("first", "last")]
    rows += [_event(at, f"{axis} changed{by}", why) for at, axis, by, why in _authored(report)]
    rows.append(_event(_instant(ended), "this run was finished", report["run"]))
    rows += [_event(v["at"], f"a fix was verified: {v['kind'].replace('_', ' ')}", v["fix"]) for v in verified]
    return sorted((row for row in rows if row["at"]), key=lambda row: (row["at"], row["what"]))


def _event(at: str | None, what: str, of: Any) -> dict[str, Any]:
    return {"at": at, "what": what, "of": None if of is None else str(of)}


def _authored(report: Mapping[str, Any]) -> Iterator[tuple[str | None, str, str, Any]]:
    """When whoever changed an axis did so, as the release file or git says: once for each author and time."""
    seen = set()
    for change in report.get("changes") or ():
        known = change.get("provenance") or {}
        at = microseconds(known.get("date") or known.get("at"))
        key = at, change["axis"], str(known.get("author"))
        if at is not None and key not in seen:
            seen.add(key)
            yield _instant(at), str(change["axis"]), f" by {known['author']}" if known.get("author") else "", known.get("why")


def _release(known: Mapping[str, Any], release: Release | None) -> dict[str, Any]:
    axes = None if release is None else {axis: digest(plain(value)) for axis, value in release.axes.items()}
    return {"name": known["name"], "digest": known["digest"], "axes": axes}


def _model(store: Path, run: str, settings: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """The model that each release asks for, and those that answered in the run's trials under each, with fingerprints."""
    trials = stored_trials(store, run, settings)
    full = (1 << len(settings["axes"])) - 1
    returned = {}
    for side, cell in (("good", 0), ("bad", full)):
        counts = Counter((o.model_returned, o.fingerprint) for o in trials.all(cell) if not o.error)
        rows = sorted(counts.items(), key=lambda row: (-row[1], str(row[0])))
        returned[side] = [{"model": model, "fingerprint": mark, "n": n} for (model, mark), n in rows]
    releases = {"good": files.good, "bad": files.bad}
    requested = {s: None if r is None or "model" not in r.axes else plain(r.axes["model"]) for s, r in releases.items()}
    return {"requested": requested, "returned": returned}


def _scorers(settings: Mapping[str, Any], config: Config | None) -> list[dict[str, Any]]:
    """The scorers with their digests, and how they are set where the settings still say so."""
    listed = config.scorers if config is not None and isinstance(config.scorers, list) else []
    known = {str(s.get("name") or s.get("kind")): plain(dict(s)) for s in listed if isinstance(s, Mapping)}
    return [
        {"name": name, "digest": mark, "decides": name == settings["metric"], "settings": known.get(name)}
        for name, mark in settings["scorers"].items()
    ]


def _traffic(files: Files, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the queries of both windows spread over the segments; None: no column, or no log."""
    sample, config = files.sample, files.config
    if sample is None or config is None or sample.segments is None:
        return None
    sides = {settings[side]["name"]: side for side in ("bad", "good")}
    counts: dict[str, Counter[str]] = {"good": Counter(), "bad": Counter()}
    for query, segment in zip(sample.queries, sample.segments, strict=True):
        if (side := _side(query, sides)) is not None:
            counts[side][segment] += 1
    totals = {side: sum(counts[side].values()) for side in counts}
    if not all(totals.values()):
        return None
    shares = {s: {side: counts[side][s] / totals[side] for side in counts} for s in {*counts["good"], *counts["bad"]}}
    ordered = sorted(shares, key=lambda s: (-abs(shares[s]["bad"] - shares[s]["good"]), s))
    rows = [{"segment": s, **shares[s]} for s in ordered]
    return {"column": config.log.segment, **{f"{side}_queries": n for side, n in totals.items()}, "segments": rows}


def _side(query: Query, sides: Mapping[str, str]) -> str | None:
    return None if query.release is None else sides.get(query.release)


def _unknown(report: Mapping[str, Any], windows: Mapping[str, Any], ended: int | None) -> Iterator[str]:
    if not windows["bad"]["queries"]:
        yield "which logged queries the bad release answered: the log that could be read names none"
    elif windows["bad"]["first"] is None:
        yield "when the bad release answered: the log has no times"
    if ended is None:
        yield "when this run was made: the store did not note it"
    if any(not owner for owner in (report.get("owners") or {}).values()):
        unowned = [axis for axis, owner in report["owners"].items() if not owner]
        yield f"who owns {', '.join(map(str, unowned))}"
    yield "when the drop was noticed, and by whom"
    yield "when the rollback or fix went live"
    yield "what was told to those who were hit"


def _instant(us: int | None) -> str | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def render(found: Postmortem) -> str:
    """The post-mortem as Markdown, without credentials."""
    from bisect_ai.report.postmortem import render as markdown

    return redact(markdown(found.report, found.facts, found.hits))


def write_hits(found: Postmortem, path: str) -> str:
    """The text of the list of queries that were probably hit: JSON lines for a name in .jsonl or .json, else CSV."""
    return as_jsonl(found.hits) if Path(path).suffix.lower() in (".jsonl", ".json") else as_csv(found.hits)
