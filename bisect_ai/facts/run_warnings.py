"""What became of the calls, and what a reader must be warned of.

Where calls went and who answered; failed attempts by kind, waits, answers that are none, by cell; what failed to score; what moved
besides the release, or while the run went on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bisect_ai.attribution.problem import Attribution, Estimate
from bisect_ai.attribution.questions.elsewhere import Parts
from bisect_ai.attribution.stats.change_points import Trend, find_trend
from bisect_ai.report.run_blocks import FailedWith, ProviderBlock, ProviderCell, TrendBlock
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.runs.observations import Fate, Observations, Tally
from bisect_ai.runs.outcomes import Outcomes
from bisect_ai.store.recovery import Damage

# A move in the run that is such a part of the loss belongs in the verdict's sentence.
STRONG = 0.5

# Cells whose other outcomes are listed.
MOST_CELLS = 64
# Kinds of errors that are listed, the most frequent first.
MOST_ERRORS = 3
# Characters of an error's text.
ERROR_LIMIT = 200
_DIGITS = re.compile(r"\d+")  # warnings that differ in their numbers alone are one
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
# Parameters of the model axis that say where a call goes; the model's name says it too, before its slash.
_PLACE = ("api_base", "base_url", "api_version", "custom_llm_provider", "region_name", "aws_region_name", "vertex_location")


def provider_block(seen: Observations) -> ProviderBlock | None:
    """What targets and providers did; None when nothing was called or told.

    `requests` for `answers` trials; `faults`: failed attempts by kind (a status, timeout, unknown, malformed, …); `waited_s`:
    seconds held back by limits, outages and backoff, summed over trials; `outcomes` and `cells`: the fates of answers other than ok;
    `endpoints`: where the requests went, where that is known, with the number of answers.
    """
    called, tally = set(seen.called), seen.tally()
    if not called:
        return None
    faults: Counter[str] = Counter()
    for row in called & seen.faults.keys():
        faults.update(seen.faults[row])
    places = _sums_by_name((fate.endpoint, n) for (_, fate), n in tally.items() if fate.endpoint)
    return ProviderBlock(
        answers=len(called),
        requests=sum(seen.attempts[row] for row in called),
        faults=dict(sorted(faults.items())),
        waited_s=round(sum((wait for row, wait in seen.waits.items() if row in called), 0.0), 1),
        outcomes=_fate_counts(tally),
        cells=_provider_cells(tally),
        endpoints=places or None,
        failed=next((told for row, told in sorted(seen.failed.items()) if row in called), None),
        errors=most_frequent_errors(seen.errors[row] for row in sorted(called & seen.errors.keys())),
    )


def most_frequent_errors(errors: Iterable[str]) -> tuple[FailedWith, ...]:
    """What calls failed with: texts that differ in their digits alone are one, told as it came first."""
    first: dict[str, str] = {}
    counted: Counter[str] = Counter()
    for error in errors:
        text = one_line(error, limit=ERROR_LIMIT)
        kind = _DIGITS.sub("#", text)
        first.setdefault(kind, text)
        counted[kind] += 1
    return tuple(FailedWith(error=first[kind], calls=n) for kind, n in counted.most_common(MOST_ERRORS))


def _sums_by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The sum for each name, by name."""
    sums: Counter[str] = Counter()
    for name, n in pairs:
        sums[name] += n
    return dict(sorted(sums.items()))


def _fate_counts(tally: Tally) -> dict[str, int]:
    return _sums_by_name((fate.outcome, n) for (_, fate), n in tally.items() if fate.outcome != "ok")


def _provider_cells(tally: Tally) -> tuple[ProviderCell, ...]:
    trials: Counter[tuple[str, ...]] = Counter()
    others: dict[tuple[str, ...], Tally] = {}
    for (bad, fate), n in tally.items():
        trials[bad] += n
        if fate.outcome != "ok":
            others.setdefault(bad, Counter())[bad, fate] += n
    shown = sorted(others.items())[:MOST_CELLS]
    return tuple(ProviderCell(bad_axes=bad, trials=trials[bad], outcomes=_fate_counts(some)) for bad, some in shown)


def configuration_warnings(seen: Observations, axes: Sequence[str]) -> list[str]:
    """That a configuration was refused: how often, and on which side of an axis when it is on one only."""
    failed = [seen[row] for row in sorted(seen.failed)]
    if not failed:
        return []
    sides = [f"{axis} bad" for axis in axes if all(axis in o.bad_axes for o in failed)]
    sides += [f"{axis} good" for axis in axes if not any(axis in o.bad_axes for o in failed)]
    where = f", all with {' and '.join(sides)}" if sides else ""
    return [
        f"{len(failed)} trials were refused for what was asked, not for who was asked{where}: they count as wrong answers; "
        f"the first: {failed[0].failed}"
    ]


def served_warnings(tally: Tally, good: Any, bad: Any) -> list[str]:
    """That another model, build or host answered than before, within an arm or between the arms: not the release, but who serves it.

    `good` and `bad` are the model axes; where they ask for the same, their trials are one arm.
    """
    named, placed = (part(good) != part(bad) for part in (_model_name, _model_place))
    lines = []
    for what, of, apart in (
        ("the provider's model", attrgetter("model_returned"), named),
        ("the provider's fingerprint", attrgetter("fingerprint"), named),
        ("the endpoint", attrgetter("endpoint"), placed),
    ):
        lines += [
            _changed_warning(what, arm, names) for arm, names in _names_by_arm(tally, of, apart=apart).items() if len(names) > 1
        ]
    return lines


def unencrypted_warnings(tally: Tally) -> list[str]:
    """Where queries went unencrypted to another machine."""
    places = sorted({fate.endpoint for _, fate in tally if fate.endpoint and fate.endpoint.startswith("http://")})
    far = [place for place in places if urlsplit(place.split(" ")[0]).hostname not in _LOCAL]
    return [f"queries were sent to {place} unencrypted; use https" for place in far]


def _model_name(model: Any) -> Any:
    return model.get("model") if isinstance(model, Mapping) else model


def _model_place(model: Any) -> Any:
    given = model if isinstance(model, Mapping) else {}
    return str(_model_name(model)).partition("/")[0], [given.get(name) for name in _PLACE]


def _changed_warning(what: str, arm: str, names: Mapping[str, int]) -> str:
    listed = ", ".join(f"{name} ({n})" for name, n in list(names.items())[:4])
    return f"{what} changed while {arm} ran: {listed}; differences between cells may come from there"


def _names_by_arm(tally: Tally, of: Callable[[Fate], str | None], *, apart: bool) -> dict[str, Counter[str]]:
    """Names counted in the order in which they came up, for the trials with the good and with the bad model, or for all."""
    arms: dict[str, Counter[str]] = {}
    for (axes, fate), n in tally.items():
        if (name := of(fate)) is not None:
            arm = "the model" if not apart else "the bad model" if "model" in axes else "the good model"
            arms.setdefault(arm, Counter())[name] += n
    return arms


def trend_of(outcomes: Outcomes) -> Trend | None:
    """Whether scores of the good and the bad release moved while the run went on; a failed call is left out."""
    prepared, seen = outcomes.prepared, outcomes.ledger.observations
    sign = prepared.metric.sign
    rows = np.array([row for row in seen.called if not seen.repeats[row]], int)
    if not len(rows):
        return None
    scores = sign * seen.scored(prepared.metric.name)[rows]
    full = prepared.problem.full
    queries = np.array(seen.queries)[rows]
    return find_trend(np.array(seen.cells)[rows], scores, queries, corners=(0, full), seed=prepared.config.seed)


def trend_block(trend: Trend, found: Attribution) -> TrendBlock:
    """The report's block: `move` in oriented points, `at` the trial of `trials`; `strong`: at least half as large as the loss."""
    strong = found.kind == "inconclusive" or abs(trend.move) >= STRONG * abs(found.loss.value or 0.0)
    return TrendBlock(move=trend.move, at=trend.at, trials=trend.trials, p=trend.p, strong=strong)


def trend_warning(outcomes: Outcomes, trend: Trend) -> str:
    """What a reader must know of it."""
    direction = "fell" if trend.move < 0 else "rose"
    better = "quality" if not outcomes.prepared.metric.higher_is_better else "scores"
    return (
        f"{better} moved while the run went on: from about trial {trend.at:,} of {trend.trials:,} on the good and the bad release "
        f"{direction} by {abs(trend.move):.3f} (permutation p = {trend.p:.2g}); intervals of what was measured at different times are "
        "wider for it"
    )


def scorer_warnings(outcomes: Outcomes) -> list[str]:
    """Which scorers failed on some answers, and how they said so."""
    ledger, metric = outcomes.ledger, outcomes.prepared.metric.name
    asked = len(ledger.observations.called) + len(ledger.inside.called)
    return [
        f"scorer {name} failed on {n} answers, first with: {ledger.scorer_messages[name]}"
        + ("" if name == metric else f"; of {asked} trials; the verdict does not rest on it")
        for name, n in ledger.scorer_errors.items()
    ]


def damage_warnings(damage: Damage) -> list[str]:
    """What the journal lost."""
    lost = sum(damage.lost.values())
    lines = [f"{lost} damaged records in the journal were left out and will be asked again when needed"] if lost else []
    return lines + ([f"{len(damage.torn)} journal segments end in a torn line (a run was killed there)"] if damage.torn else [])


def environment_warnings(outcomes: Outcomes) -> list[str]:
    """What moved besides the release, when it is not the verdict itself."""
    prepared, environment = outcomes.prepared, outcomes.environment
    seen = outcomes.ledger.observations.tally()
    lines = served_warnings(seen, *(release.axes.get("model") for release in (prepared.good, prepared.bad)))
    lines += unencrypted_warnings(seen) if prepared.target.identity.get("kind") != "http" else []
    if environment.kind != "drift" and environment.drift is not None and environment.drift.interval is not None:
        lines += _drift_warning(environment.drift.value or 0.0, environment.drift.interval, prepared.config.tolerance)
    if environment.kind is None:
        lines += _parts_warning(environment.parts, prepared.config.tolerance)
    return lines + _mix_warning(environment.mix, prepared.config.tolerance)


def _mix_warning(mix: Estimate | None, tolerance: float) -> list[str]:
    """That the queries alone can make a drop, where nothing logged says whether they did."""
    if mix is None or mix.interval is None or mix.interval[0] <= tolerance:
        return []
    return [
        f"the log has no scores to compare, but the good release, replayed now, scores {mix.value:.3f} lower ({mix.interval[0]:.3f} to "
        f"{mix.interval[1]:.3f}) on the queries of the bad release's time than on those of its own: a drop that you saw may come with "
        "the queries"
    ]


def _drift_warning(value: float, interval: tuple[float, float], tolerance: float) -> list[str]:
    if interval[0] <= tolerance and interval[1] >= -tolerance:
        return []
    return [
        f"the good release, replayed now, scores {abs(value):.3f} {'below' if value > 0 else 'above'} what the log says it scored: "
        "something outside the recorded axes moved as well"
    ]


def _parts_warning(parts: Parts, tolerance: float) -> list[str]:
    """Which parts of the logged drop are not the release's."""
    told = [("with the query mix", parts.traffic), ("does not show on replay", parts.rest)]
    drop = parts.drop.value if parts.drop is not None else None
    return [
        f"of the {drop:.3f} that the log's releases differ by, {part.value:.3f} {'goes ' if 'with' in how else ''}{how}"
        for how, part in told
        if drop and part is not None and part.interval is not None and part.value is not None
        if part.interval[0] > 0 and part.value > tolerance
    ]
