"""`canary`: promote, roll back or wait, from the logged scores of a canary and of the baseline beside it. Calls nothing.

`attribution.questions.canary` has the rule; here the log's answers become its arrays (scores; guards as users write them, `cost:+10%`,
`refusal:+1p`; the columns that say what both releases were asked, for their balance and for sharper estimates), and its finding a
report. Nothing is remembered between two looks: the log is the memory, and the same log with more lines at its end goes on where it
was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import Floats
from bisect_ai.attribution.questions.balance import MOST_LEVELS, LoggedColumn
from bisect_ai.attribution.questions.canary import find
from bisect_ai.attribution.questions.canary_looks import FEW, Answers, CanaryFinding, CanaryRule, Guard
from bisect_ai.attribution.stats.smallest_loss import is_open
from bisect_ai.canonical import digest
from bisect_ai.config import FILE, Canary, CanaryStudy, Config, checked_part, heed_secrets
from bisect_ai.errors import ConfigError, QueryError
from bisect_ai.facts.canary_view import CanaryFacts, GuardRule, build
from bisect_ai.facts.onset_facts import answer_clusters, deploys_of, since_when
from bisect_ai.facts.report_view import told_report
from bisect_ai.queries.live_scores import DeployEvent, ScoredAnswer, ScoredLog, Wanted, read_scored
from bisect_ai.queries.query import Query
from bisect_ai.queries.shape_facts import SHAPES, Told
from bisect_ai.queries.values import told_time
from bisect_ai.report.canary_report import canary_sentence
from bisect_ai.report.planning_values import LogBlock
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending
from bisect_ai.scoring.metric import Metric
from bisect_ai.targets.answer import Answer

# The keys of bisect.yaml that a canary uses, besides the names of the two releases and what the metric's scorer says of it.
FROM_RUN = ("log", "metric", "tolerance", "alpha", "canary")


def canary(
    log: Any = None,
    *,
    config: str | Path | None = None,
    baseline: str | None = None,
    canary: str | None = None,
    metric: str | None = None,
    tolerance: float | None = None,
    alpha: float | None = None,
    bounds: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    unit: str | None = None,
    guards: Sequence[str] = (),
    share: float | None = None,
    ignore: Sequence[str] = (),
    events: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Whether to promote the canary, roll it back or wait, by the scores that a log has of both releases' live answers.

    `log`: a path or pattern in any format that is read, a DataFrame, or mappings; `baseline` and `canary` are release labels in it,
    `metric` the score that decides. `tolerance` is in the metric's units, `alpha` the chance of a wrong verdict over all looks,
    `bounds` the lowest and the highest score there can be (scores beyond count as the bound; default: 0 and 1, others are refused),
    `unit` what one point of it is, such as USD: then bounds and tolerance have to be given.
    `guards`: further metrics with what they may move by, like `cost:+10%` or `refusal:+1p`; `share`: the part of the traffic that was
    meant for the canary; `ignore`: columns that do not say who asked or what, so that they are not compared.
    `events`: a file of deploys, or "git" for the tags of this repository, told beside since when a canary that is rolled back loses.
    `settings`: what bisect.yaml's `log` takes (columns, segment, cluster, where, since, …). With `config`, what bisect.yaml says of
    all these holds where nothing is given. The report has a `canary` block; its verdict's `kind` is promote, roll_back or
    wait.

    Raises `InputError` for what is wrong.
    """
    named: dict[str, Any] = {"baseline": baseline, "canary": canary, "bounds": bounds, "higher_is_better": higher_is_better}
    listed = {"guards": guards, "ignore": ignore}
    named["unit"] = unit
    named |= {key: [each] if isinstance(each, str) else list(each) or None for key, each in listed.items()} | {"share": share}
    given = {"metric": metric, "tolerance": tolerance, "alpha": alpha}
    study, folder = _settled(config, _known(given), _known(named), settings or {})
    place = Path.cwd() if log is not None else folder
    return _look(study, study.log.path if log is None else log, place, deploys_of(events, place))


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _settled(
    config: str | Path | None, given: Mapping[str, Any], named: Mapping[str, Any], log: Mapping[str, Any]
) -> tuple[CanaryStudy, Path]:
    """The settings, and the folder that the log's path starts from."""
    written, folder = ({}, Path.cwd()) if config is None else _written(Path(config), named)
    below = written.get("log")
    logged = {"path": below} if isinstance(below, str | Path) else dict(below or {})
    values = {**written, **given, "log": {**logged, **log}, "canary": {**_known(dict(written.get("canary") or {})), **named}}
    study = checked_part(CanaryStudy, values, where="canary" if config is None else str(config))
    for which in ("baseline", "canary"):
        if getattr(study.canary, which) is None:
            raise ConfigError(f"which release is the {which}? name its label in the log with --{which} (from Python {which}=…)")
    if study.canary.baseline == study.canary.canary:
        raise ConfigError(f"baseline and canary are both {study.canary.baseline!r}; name two releases")
    return study, folder


def _written(path: Path, named: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """What the file says that a canary uses; labels are the releases' names and bounds the scorer's where nothing else is said."""
    from bisect_ai.release.references import read_mapping

    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"cannot read {path}: no such file; name a log, or a bisect.yaml")
    told, folder = read_mapping(path, error=ConfigError), path.resolve().parent
    heed_secrets(told, path)
    for key in told:
        if key not in Config.model_fields:
            raise ConfigError(f"{path}: unknown key {key!r}; a canary uses {', '.join(FROM_RUN)}")
    own = {**_named_releases(told, folder), **_known(dict(told.get("canary") or {})), **named}
    return {**{key: told[key] for key in FROM_RUN if key in told}, "canary": {**_scale(told, folder), **own}}, folder


def _named_releases(told: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    own = told.get("canary") or {}
    wanted = {"baseline": told.get("good"), "canary": told.get("bad")}
    return {which: _name_of(side, told, folder) for which, side in wanted.items() if side is not None and not own.get(which)}


def _name_of(side: Any, told: Mapping[str, Any], folder: Path) -> str:
    """What a release is called; a revision whose axes are paths as the settings write it."""
    from bisect_ai.release.pair import load_side, revision_of
    from bisect_ai.release.source_files import RepositoryRules

    revision = revision_of(side, folder=folder)
    if revision is not None and told.get("axes"):
        return revision
    rules = RepositoryRules(repo=str(told.get("repo", ".")), release=told.get("release"))
    return load_side(side, folder=folder, rules=rules).name


def _scale(told: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The bounds, the direction and the unit of the metric, by its scorer."""
    from bisect_ai.scoring.scorers import build_scorers

    if not told.get("scorers"):
        return {}
    scorers = build_scorers(told["scorers"], folder=folder)
    metric = told.get("metric") or (next(iter(scorers)) if len(scorers) == 1 else None)
    if metric not in scorers:
        return {}
    found = scorers[metric]
    return {"bounds": found.bounded, "higher_is_better": found.higher_is_better, "unit": found.own_unit}


def _look(study: CanaryStudy, source: Any, folder: Path, deploys: Sequence[DeployEvent]) -> Result:
    """Read, decide, report."""
    own = study.canary
    if source is None:
        raise ConfigError("which log? name it, or set log.path in bisect.yaml")
    guards = tuple(guard_of(text) for text in own.guards)
    ignored = tuple(name for name in own.ignore if name != HISTORY)
    wanted = Wanted(str(own.baseline), str(own.canary), study.metric, tuple(g.name for g in guards), ignored, DERIVED)
    log, name = read_scored(source, wanted, settings=study.log.settings(0), folder=folder)
    if name in wanted.others:
        raise ConfigError(f"--guard {name}: it is the metric that decides; guard other metrics")
    metric = _checked_metric(own)
    answers, clipped = _arrays(log, name, metric, guards, study)
    rule = CanaryRule(_tolerated_share(study.tolerance, metric), study.alpha, own.share)
    found = find(answers, rule)
    facts = CanaryFacts(
        run=digest([study.model_dump(mode="json", exclude={"log"}), name, *metric.scale, log.digest])[:16],
        baseline=str(own.baseline),
        canary=str(own.canary),
        name=name,
        metric=metric,
        tolerance=study.tolerance,
        rule=rule,
        found=found,
        segment=study.log.segment,
        guards=guards,
        onset=since_when(answers, [a.at for a in log.answers], deploys, alpha=study.alpha)
        if found.kind == "roll_back"
        else None,
        spans=_spans(log),
        log=LogBlock(format=log.format, read=log.read, kept=len(log.answers), dropped=dict(log.dropped)),
        warnings=[*_log_warnings(log, clipped, name, metric), *_missing_warnings(found), *_column_warnings(found)],
    )
    return Result(told_report(build(facts), canary_sentence), Spending())


def _checked_metric(own: Canary) -> Metric:
    metric = Metric(higher_is_better=own.higher_is_better is not False, bounded=own.bounds, unit=own.unit or "")
    low, high = metric.scale
    if not -1e100 < low < high < 1e100:  # sums of squares stay finite
        raise ConfigError(f"the bounds {low:g} and {high:g} are not the lowest and then the highest score")
    return metric


def _tolerated_share(tolerance: float, metric: Metric) -> float:
    """The tolerance as a part of the scale."""
    share = tolerance / metric.span
    if not share < 1:
        low, high = metric.scale
        raise ConfigError(
            f"a tolerance of {tolerance:g} is no less than the whole scale from {low:g} to {high:g}; "
            f"did you mean {tolerance / 100:g}?"
        )
    return share


def _arrays(log: ScoredLog, name: str, metric: Metric, guards: Sequence[GuardRule], study: CanaryStudy) -> tuple[Answers, int]:
    """The answers as the rule sees them, and how many scores lay outside the bounds."""
    scores = np.array([np.nan if a.score is None else a.score for a in log.answers])
    outside = (scores < metric.scale[0]) | (scores > metric.scale[1])
    if outside.any() and metric.bounded is None:
        raise QueryError(
            f"the score {name!r} has the value {scores[outside][0]:g}, and a canary is judged by scores between two bounds (0 and 1 "
            "unless others are given); name the lowest and the highest that there can be, for example --bounds 0 30: what lies beyond "
            "counts as the bound"
        )
    known = scores[~np.isnan(scores)]
    lacks_bounds = metric.bounded is None and is_open(known, metric.own_unit)
    if (lacks_bounds or metric.own_unit is not None) and "tolerance" not in study.model_fields_set:
        span = f"all values of the score {name!r} lie between {known.min():.3g} and {known.max():.3g}"
        low = f"{span}, so no loss could ever be above the tolerance of {study.tolerance:g}, which"
        why = low if metric.own_unit is None else f"{span} {metric.own_unit}, and the tolerance of {study.tolerance:g}"
        bounds = "the lowest and the highest that there can be (--bounds), and " if lacks_bounds else ""
        raise QueryError(f"{why} is made for scores between 0 and 1; name {bounds}the loss that counts (--tolerance)")
    is_canary = np.array([a.is_canary for a in log.answers], int)
    watched = tuple(
        Guard(rule.name, rule.turned([a.others[i] for a in log.answers]), rule.turned_limit, rule.relative)
        for i, rule in enumerate(guards)
    )
    told = columns_of(log.answers, segment=study.log.segment, cluster=study.log.cluster)
    columns = tuple(column for column in told if column.always or column.name not in study.canary.ignore)
    return Answers(is_canary, metric.to_unit(scores), answer_clusters(log.answers), columns, watched), int(outside.sum())


def _spans(log: ScoredLog) -> tuple[tuple[str | None, str | None], ...]:
    """When the first and the last answer of baseline and canary were given."""
    found = []
    for side in (False, True):
        times = [a.at for a in log.answers if a.is_canary is side and a.at is not None]
        found.append((told_time(min(times)), told_time(max(times))) if times else (None, None))
    return tuple(found)


# -- warnings --------------------------------------------------------------------------------------------------------
def _log_warnings(log: ScoredLog, clipped: int, name: str, metric: Metric) -> Iterator[str]:
    if log.untimed:
        yield f"{log.untimed:,} of {len(log.answers):,} answers have no time: the order of the log's lines was taken for that of time"
    if clipped:
        yield f"{clipped:,} scores of {name} lie outside {metric.scale[0]:g} to {metric.scale[1]:g} and count as the bound"


def _missing_warnings(found: CanaryFinding) -> Iterator[str]:
    if not any(side.unscored for side in found.sides):
        return
    parts = " and ".join(
        f"{side.unscored:,} of {side.answers:,} of the {name}"
        for name, side in zip(("baseline", "canary"), found.sides, strict=True)
    )
    how = "they are left out"
    if found.bounded:
        why = "they lean to one release" if found.leans else f"that is more than {FEW:.0%}"
        how = f"{why}, so a verdict must hold whatever their scores would have been"
    yield f"answers without a score: {parts}; {how}"


def _column_warnings(found: CanaryFinding) -> Iterator[str]:
    for column in found.balance:
        if column.fate == "assigned" and column.why:
            yield f"{column.name}: {column.why}; name it with --cluster, so that its answers do not count as independent"


# A guard as users write it: cost:+10%, refusal:+2p, latency_s:+0.5.
_WRITTEN = re.compile(r"(?P<name>.+):(?P<sign>[+-])(?P<size>\d+(\.\d+)?)(?P<unit>%|p|)\s*")


def refuses(text: str) -> float | None:
    """1 where an answer refuses, 0 else: what the guard `refusal` reads where a log has no such score."""
    from bisect_ai.scoring.scorer import score_answer
    from bisect_ai.scoring.scorers import build_scorers

    scorer = build_scorers([{"kind": "refusal", "name": "refusal"}])["refusal"]
    return score_answer(scorer, Query({"id": ""}), Answer(text=text)).value


DERIVED = {"refusal": refuses}


def guard_of(text: str) -> GuardRule:
    """The guard that a text spells. Raises `ConfigError` when it spells none."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or not 0 <= float(found["size"]) < 1e6:
        raise ConfigError(
            f"cannot use the guard {text[:60]!r}: write METRIC:+10% (of the baseline's mean), METRIC:+1p (points of 100) or "
            "METRIC:+0.5 (its own units) for what may rise by that much, and - for what may fall"
        )
    scale = 1.0 if found["unit"] == "" else 0.01
    return GuardRule(
        found["name"].strip(), float(found["size"]) * scale, found["unit"] == "%", found["sign"] == "-", found["unit"] == "p"
    )


HISTORY = "earlier scores of the question"
# Values of a column for each of its answers, from which on it is text, or names single answers.
OWN = 0.5
# Part of the answers whose question was asked before, from which on its history is worth a column.
ASKED_BEFORE = 0.2


def columns_of(answers: Sequence[ScoredAnswer], *, segment: str | None, cluster: str | None = None) -> tuple[LoggedColumn, ...]:
    """Every column that says something of more than a few answers, by name; the named segment is always adjusted for."""
    names = sorted({name for answer in answers for name in answer.facts})
    found = [_column(name, [answer.facts.get(name) for answer in answers]) for name in names]
    history = _history(answers)
    own = [] if history is None else [LoggedColumn(HISTORY, history)]
    named = [] if segment is None else [_coded(segment, [answer.segment or None for answer in answers], always=True)]
    return (*named, *(each for each in found if each is not None), *own, *_units(answers, cluster or "cluster"))


def _units(answers: Sequence[ScoredAnswer], name: str) -> Iterator[LoggedColumn]:
    """Users or sessions, where answers are clustered by them."""
    names = [answer.cluster for answer in answers]
    if any(names):
        yield replace(_coded(name, names), is_unit=True)


def _column(name: str, values: Sequence[Told | None]) -> LoggedColumn | None:
    known = [value for value in values if value is not None]
    distinct = len(set(known))
    if distinct < 2:
        return None
    if all(isinstance(value, float) for value in known):
        numbers = np.array([np.nan if value is None else value for value in values], float)
        if name not in SHAPES and _looks_scored(numbers):
            return None
        if distinct > MOST_LEVELS or name in SHAPES:
            return LoggedColumn(name, numbers)
    if distinct > OWN * len(known):
        return None
    return _coded(name, [value if value is None or isinstance(value, str) else f"{value:g}" for value in values])


def _looks_scored(numbers: Floats) -> bool:
    """Whether numbers lie between 0 and 1 without being a flag: what an unnamed score would look like."""
    known = numbers[~np.isnan(numbers)]
    return bool(known.min() >= 0 and known.max() <= 1 and (known != np.round(known)).any())


def _coded(name: str, values: Sequence[str | None], *, always: bool = False) -> LoggedColumn:
    names = tuple(dict.fromkeys(value for value in values if value is not None))
    numbers = {value: number for number, value in enumerate(names)}
    codes = np.array([-1 if value is None else numbers[value] for value in values], int)
    return LoggedColumn(name, codes=codes, names=names, always=always)


def _history(answers: Sequence[ScoredAnswer]) -> Floats | None:
    """(n,) the mean score that the baseline gave the same question before; NaN where it did not."""
    told: dict[str, tuple[float, int]] = {}
    found = np.full(len(answers), np.nan)
    for i, answer in enumerate(answers):
        if answer.asked is None:
            continue
        total, n = told.get(answer.asked, (0.0, 0))
        if n:
            found[i] = total / n
        if not answer.is_canary and answer.score is not None:
            told[answer.asked] = total + answer.score, n + 1
    return found if (~np.isnan(found)).mean() >= ASKED_BEFORE else None
