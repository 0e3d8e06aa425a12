"""Pure functions from a report to what its figures show (`figure_values`), apart from drawing them.

Every function gives its series, or `Absent` with the reason in one sentence: a figure without data says why.
Values are in the units of the metric; costs are positive when the change lowers quality.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist, median

from bisect_ai.report.blocks import Scale, count
from bisect_ai.report.change_report import churn_of
from bisect_ai.report.figure_values import (
    Absent,
    AxisEffects,
    CellPoints,
    CellRow,
    Effects,
    HalfNormal,
    Pair,
    Point,
    SegmentRow,
    Segments,
    Step,
    Waterfall,
    point_of,
)
from bisect_ai.report.measured_values import NetChurn, ReportedCell, ReportedEffect
from bisect_ai.report.phrases import cause_phrase
from bisect_ai.report.report_values import Report, fine_scale, scale_of
from bisect_ai.report.tables import (
    cell_name,
    interactions_that_matter,
    segment_name,
    segments_told,
    side_interval,
    valued_cells,
)
from bisect_ai.report.untrusted_text import PLAIN, one_line

MOST_CHURN = 4  # bars
MOST_PAIRS = 6  # panels
MOST_CELLS = 20  # rows
# A half-normal plot of fewer effects shows no line to stand out from.
FEWEST_EFFECTS = 7
NAME_LIMIT = 40
SHARED, ELSE = "these, not told apart", "everything else"  # brought back by all causes beyond their shares, and by none
ADAPTIVE = (
    "the adaptive design spends its calls on finding the cause, not on measuring every combination; the design “full” does"
)


def waterfall(report: Report) -> Waterfall | Absent:
    """From good to bad by Shapley share of each axis; else by the share of each cause that was measured."""
    loss, scale = report.loss, fine_scale(report, PLAIN)
    good, bad = (point_of(value, side_interval(report, side)) for side, value in (("good", loss.good), ("bad", loss.bad)))
    if good is None or bad is None:
        return Absent("Good and bad were not both measured.")
    shares = _shapley(report)
    if shares is not None:
        basis = "fair share of each axis: its cost averaged over every order in which the axes could have changed"
        return _fall(report, good, bad, shares, basis, scale)
    causes = _cause_costs(report, loss.estimate)
    if isinstance(causes, Absent):
        return causes
    return _fall(report, good, bad, causes, "share of each cause as its rollback measured it", scale)


def effects(report: Report) -> Effects | Absent:
    """Introduced alone against reverted alone, for the axes that have one of them."""
    single = {(e.axes[0], e.kind): point_of(e.estimate, e.interval) for e in report.effects if len(e.axes) == 1}
    axes = list(report.axes or dict.fromkeys(axis for axis, _ in single))
    rows = [AxisEffects(_name(a), single.get((a, "introduced")), single.get((a, "reverted"))) for a in axes]
    known = [row for row in rows if row.introduced or row.reverted]
    if not known:
        return Absent(f"No axis was introduced or reverted alone on a random sample of the queries{_why(report)}.")
    known.sort(key=lambda row: -max(p.value for p in (row.introduced, row.reverted) if p))
    missing = tuple(row.axis for row in rows if row not in known)
    return Effects(one_line(report.metric), tuple(known), missing, fine_scale(report, PLAIN))


def interactions(report: Report) -> tuple[Pair, ...] | Absent:
    """The pairs that matter (adjusted p < 0.05, or named as one cause) whose four cells were measured."""
    effects_of = {frozenset(e.axes): e for e in report.effects if e.kind == "interaction"}
    wanted = [tuple(e.axes) for e in interactions_that_matter(report) if len(e.axes) == 2]
    for cause in report.verdict.causes:
        wanted += [pair for pair in itertools.combinations(cause.axes, 2) if set(pair) not in [set(w) for w in wanted]]
    pairs = [_pair(report, pair, effects_of.get(frozenset(pair))) for pair in wanted]
    found = tuple(pair for pair in pairs if pair is not None)[:MOST_PAIRS]
    if found:
        return found
    if not wanted and effects_of:
        return Absent("No pair of axes acts together beyond what each does alone.")
    return Absent(f"No pair of axes was measured in all four combinations{_why(report)}.")


def cells(report: Report) -> CellPoints | Absent:
    """Every cell with a population value, from the good release to the bad one."""
    axes, valued = list(report.axes), valued_cells(report)
    if not valued:
        return Absent("No combination was measured on a random sample of the queries.")
    rollback = report.verdict.rollback
    back = frozenset(axes) - frozenset(rollback.axes) if rollback else None
    rows = [_cell_row(cell, axes, back) for cell in valued]
    return CellPoints(
        one_line(report.metric),
        tuple(_name(a) for a in axes),
        tuple(_most_telling(rows)),
        max(len(rows) - MOST_CELLS, 0),
        fine_scale(report, PLAIN),
    )


def half_normal(report: Report) -> HalfNormal | Absent:
    """All main effects and interactions of a full factorial by size; the effects of nothing lie on a line through 0."""
    axes = list(report.axes)
    by_cell = {frozenset(cell.bad_axes): cell.value for cell in valued_cells(report) if cell.value is not None}
    if len(by_cell) < 1 << len(axes):
        return Absent(f"It needs a value for every combination of the axes; {len(by_cell)} of {1 << len(axes)} have one.")
    terms = [term for size in range(1, len(axes) + 1) for term in itertools.combinations(axes, size)]
    if len(terms) < FEWEST_EFFECTS:
        return Absent(
            f"{count(len(axes), 'axis gives', 'axes give')} {count(len(terms), 'effect')}: too few for a line to stand out from."
        )
    sizes = {term: abs(_factorial(by_cell, term, len(axes))) for term in terms}
    if max(sizes.values()) < 1e-9:
        return Absent("No combination differs from another: every effect is zero.")
    return _ranked(sizes, scale_of(report))


def segments(report: Report) -> Segments | Absent:
    """The loss inside each segment of the queries."""
    rows = [
        SegmentRow(_name(segment_name(row)), row.share, point, row.n)
        for row in segments_told(report)
        if (point := point_of(row.loss, row.interval)) is not None
    ]
    if not rows:
        return Absent("The log declares no segments, and none was found.")
    rows.sort(key=lambda row: -row.loss.value)
    return Segments(
        one_line(report.metric), tuple(rows), point_of(report.loss.estimate, report.loss.interval), fine_scale(report, PLAIN)
    )


def _churn_bars(report: Report) -> tuple[NetChurn, ...]:
    """The largest few axes that are not named and move answers."""
    worth = sorted(churn_of(report), key=lambda each: -max(each.breaks, each.mends))
    return tuple(replace(each, axis=_name(each.axis)) for each in worth[:MOST_CHURN])


def _shapley(report: Report) -> list[tuple[str, Point]] | None:
    """(axis, share of the loss in points) for every axis, or None when one is undefined."""
    rows = [e for e in report.effects if e.kind == "shapley"]
    points = [(_name(e.axes[0]), point_of(e.estimate, e.interval)) for e in rows]
    known = [(name, point) for name, point in points if point is not None]
    return known if known and len(known) == len(points) else None


def _cause_costs(report: Report, size: float | None) -> list[tuple[str, Point]] | Absent:
    causes = report.verdict.causes
    if not causes:
        return Absent(f"No cause was named, and no axis has a fair share{_why(report)}.")
    shares = [cause.share for cause in causes if cause.share is not None]
    if size is None or len(shares) < len(causes):
        return Absent(f"The shares of the causes were not measured apart{_why(report)}.")
    costs = []
    for cause, share in zip(causes, shares, strict=True):
        ends = cause.interval
        interval = None if ends is None or ends[0] == ends[1] or size <= 0 else (ends[0] * size, ends[1] * size)
        costs.append(
            (_name(cause_phrase(cause, quoting=PLAIN).partition(" (")[0].partition(",")[0]), Point(share * size, interval))
        )
    rest = size - sum(point.value for _, point in costs)
    if (shared := _not_told_apart(report, rest, size)) is not None:
        costs.append((SHARED, Point(shared, None)))
        rest -= shared
    return [*costs, (ELSE, Point(rest, None))] if abs(rest) > 1e-9 else costs


def _not_told_apart(report: Report, rest: float, size: float) -> float | None:
    """What taking all causes back brings back beyond their own shares; None where it is nothing or was not measured."""
    causes, rollback = report.verdict.causes, report.verdict.rollback
    named = {axis for cause in causes for axis in cause.axes}
    if len(causes) < 2 or rollback is None or rollback.restores is None or set(rollback.axes) != named:
        return None
    return max(rest - (1 - rollback.restores) * size, 0.0) or None


def _fall(report: Report, good: Point, bad: Point, costs: Sequence[tuple[str, Point]], basis: str, scale: Scale) -> Waterfall:
    sign, is_cause = report.sign, not any(e.kind == "shapley" for e in report.effects)
    steps, at = [], good.value
    rest = [item for item in costs if item[0] in (SHARED, ELSE)]
    for label, cost in [*sorted((c for c in costs if c not in rest), key=lambda item: -item[1].value), *rest]:
        steps.append(Step(label, at, at - sign * cost.value, cost, is_cause and label not in (SHARED, ELSE)))
        at -= sign * cost.value
    return Waterfall(one_line(report.metric), good, bad, tuple(steps), basis, scale, _churn_bars(report))


def _why(report: Report) -> str:
    return f": {ADAPTIVE}" if report.design == "adaptive" else ""


def _pair(report: Report, axes: Sequence[str], effect: ReportedEffect | None) -> Pair | None:
    values = {frozenset(cell.bad_axes): point_of(cell.value, cell.interval) for cell in valued_cells(report)}
    first, second = axes
    corners = [values.get(frozenset(bad)) for bad in ((), (first,), (second,), (first, second))]
    neither, first_bad, second_bad, both = corners
    if neither is None or first_bad is None or second_bad is None or both is None:
        return None
    point = None if effect is None else point_of(effect.estimate, effect.interval)
    names = (_name(first), _name(second))
    return Pair(*names, neither, first_bad, second_bad, both, point, one_line(report.metric), scale_of(report))


def _cell_row(cell: ReportedCell, axes: Sequence[str], rollback: frozenset[str] | None) -> CellRow:
    bad = frozenset(cell.bad_axes)
    role = "good" if not bad else "bad" if len(bad) == len(axes) else "rollback" if bad == rollback else ""
    point = point_of(cell.value, cell.interval)
    assert point is not None, "only cells with a value come here"
    name = cell_name(cell.bad_axes, axes)
    return CellRow(tuple(a in bad for a in axes), name, point, cell.trials or 0, cell.errors or 0, role)


def _most_telling(rows: list[CellRow]) -> list[CellRow]:
    """All rows, or when they are too many those next to good and to bad."""
    if len(rows) <= MOST_CELLS:
        return rows
    width = len(rows[0].bad)
    nearest = sorted(rows, key=lambda row: (row.role == "", min(sum(row.bad), width - sum(row.bad))))[:MOST_CELLS]
    return [row for row in rows if row in nearest]


def _factorial(by_cell: Mapping[frozenset[str], float], term: Sequence[str], k: int) -> float:
    """The effect of a term in the textbook's scale: mean where its sign is +, minus mean where it is -."""
    signs = {bad: -1.0 if (len(term) - len(bad & set(term))) % 2 else 1.0 for bad in by_cell}
    signed = sum(signs[bad] * value for bad, value in by_cell.items())
    return signed / (1 << (k - 1))


def _ranked(sizes: Mapping[tuple[str, ...], float], scale: Scale) -> HalfNormal:
    from scipy.special import stdtrit  # not scipy.stats, which takes longer to import than a run

    ranked = sorted(sizes.items(), key=lambda item: item[1])
    m, normal = len(ranked), NormalDist()
    quantiles = tuple(normal.inv_cdf(0.5 + 0.5 * (i + 0.5) / m) for i in range(m))
    spread = _pseudo_error([size for _, size in ranked])
    labels = tuple(" × ".join(_name(axis) for axis in term) for term, _ in ranked)
    return HalfNormal(
        labels, tuple(size for _, size in ranked), quantiles, spread, spread * float(stdtrit(m / 3, 0.975)), scale
    )


def _pseudo_error(sizes: Sequence[float]) -> float:
    """Lenth's pseudo standard error: 1.5 times the median size, outliers trimmed once (Technometrics 31, 1989)."""
    first = 1.5 * median(sizes)
    kept = [size for size in sizes if size < 2.5 * first] or list(sizes)
    return 1.5 * median(kept)


def _name(text: object) -> str:
    return one_line(text, limit=NAME_LIMIT)
