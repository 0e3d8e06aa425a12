"""The tables of a comparison: its configurations, and the queries that score differently."""

from __future__ import annotations

from bisect_ai.report import tables
from bisect_ai.report.measured_values import CompareBlock, ComparedConfiguration, ReportedPair, ScoredFlip
from bisect_ai.report.phrases import Scale, count, scale_of
from bisect_ai.report.report_values import Report
from bisect_ai.report.tables import Table
from bisect_ai.report.untrusted_text import PLAIN, Quoting

WORDS = {kind: kind.replace("_", " ") for kind in ("regression", "improvement", "equivalent", "no_worse", "undecided")}
"""The verdicts in words."""
MOST_FLIPS = 20
"""Queries that a table names; the JSON report has all."""
QUESTION, ANSWER = 70, 40
"""Characters of a question and of an answer in a table."""


def compared(report: Report) -> CompareBlock:
    """The block on the comparison."""
    return report.compare or CompareBlock()


def leading(report: Report) -> ReportedPair:
    """The pair that the verdict speaks of."""
    block = compared(report)
    return block.pairs[block.lead]


def configurations_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """Every configuration with its value; those beside the first with loss, verdict, and how many queries differ."""
    block, scale = compared(report), scale_of(report, quoting=quoting)
    first, *others = block.configurations
    values, losses = ("%", "points") if scale.share else (scale.unit or "units",) * 2
    columns = ("configuration", f"in {values}", "verdict", f"loss in {losses}", "paired", "lower", "higher", "sees")
    base = (quoting.name(first.name), scale.number(first.value), "baseline", "", "", "", "", "")
    rows = [_configuration_row(side, pair, scale, quoting, join) for side, pair in zip(others, block.pairs, strict=True)]
    note = "lower, higher: paired queries that score so; sees: the smallest loss that would show in 4 of 5 such comparisons."
    return Table(columns, (base, *rows), (note,))


def _configuration_row(
    side: ComparedConfiguration, pair: ReportedPair, scale: Scale, quoting: Quoting, join: str
) -> tuple[str, ...]:
    return (
        quoting.name(side.name),
        scale.number(side.value),
        WORDS[pair.kind],
        scale.bracket(pair.loss.estimate, pair.loss.interval, join=join),
        count(pair.loss.n),
        count(pair.lost),
        count(pair.gained),
        "–" if scale.share and (pair.sees or 0) >= 1 else scale.number(pair.sees),
    )


def cells_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """The combinations of the files' own axes; none without a design."""
    return tables.cells_table(report, quoting=quoting, join=join) if report.cells else Table((), ())


def metrics_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:
    """The scores that do not decide, and what the answers took."""
    return tables.side_table(report, quoting=quoting, join=join)


def lost_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """The queries that score lower in the leading pair."""
    return _flips(report, quoting, -1.0)


def gained_table(report: Report, *, quoting: Quoting = PLAIN, join: str = " ") -> Table:  # noqa: ARG001 - as every table is built
    """Those that score higher."""
    return _flips(report, quoting, 1.0)


def _flips(report: Report, quoting: Quoting, sign: float) -> Table:
    found = [flip for flip in leading(report).flips if flip.change * sign > 0]
    scale, rest = scale_of(report, quoting=quoting), len(found) - MOST_FLIPS
    rows = tuple(_flip_row(flip, scale, quoting) for flip in found[:MOST_FLIPS])
    notes = (f"{count(rest, 'more query', 'more queries')} in the JSON report.",) if rest > 0 else ()
    table = Table(("query", "good", "bad", "answer of good", "answer of bad"), rows, notes)
    return table if any(getattr(flip, side).text for flip in found for side in ("good", "bad")) else _first_columns(table, 3)


def _first_columns(table: Table, n: int) -> Table:
    return Table(table.columns[:n], tuple(row[:n] for row in table.rows), table.notes)


def _flip_row(flip: ScoredFlip, scale: Scale, quoting: Quoting) -> tuple[str, ...]:
    name = flip.query if flip.query == flip.input or not flip.input else f"{flip.query}: {flip.input}"
    scores = (scale.number(getattr(flip, side).score) for side in ("good", "bad"))
    texts = (quoting.name(text) if (text := _cut(getattr(flip, side).text, ANSWER)) else "–" for side in ("good", "bad"))
    return quoting.name(_cut(name, QUESTION)), *scores, *texts


def _cut(text: object, limit: int) -> str:
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
