"""A comparison's report: its facts as one plain JSON value, its verdict in one sentence, and the parts that every format arranges."""

from __future__ import annotations

from collections.abc import Iterator

from bisect_ai.report import tables
from bisect_ai.report.accounting import with_closing
from bisect_ai.report.blocks import ReportPart, Scale, Table, count, listed, rough
from bisect_ai.report.measured_values import CompareBlock, ComparedConfiguration, ReportedPair, ScoredFlip
from bisect_ai.report.phrases import moved_phrase
from bisect_ai.report.report_values import Report, scale_of
from bisect_ai.report.untrusted_text import PLAIN, Quoting, cut


# -- the sentence --------------------------------------------------------------------------------------------------------
def comparison_sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict in one sentence: what moved, with its interval, how many queries flipped, and what the comparison can see."""
    block, scale = compared(report), scale_of(report, quoting=quoting)
    pairs = block.pairs
    lead = pairs[block.lead]
    same = sum(pair.kind == block.kind for pair in pairs)
    head = WORDS[block.kind]
    if len(pairs) > 1:
        head += f" in {same} of {len(pairs)} ({quoting.name(lead.bad)})"
    return f"{head}: {_moved(report, lead, scale, quoting)}{_rest(lead, block, scale)}.{_blamed(block, quoting)}"


def _moved(report: Report, pair: ReportedPair, scale: Scale, quoting: Quoting) -> str:
    loss, metric = pair.loss, quoting.name(report.metric)
    moved = moved_phrase(loss, metric, scale)
    return f"{moved} on {count(loss.n, 'paired query', 'paired queries')}" if moved else f"{metric} could not be compared"


def _rest(pair: ReportedPair, block: CompareBlock, scale: Scale) -> str:
    limit = scale.difference(block.tolerance)
    if pair.kind == "equivalent":
        return f"; a loss and a gain of {limit} or more are excluded"
    if pair.kind == "no_worse":
        return f"; a loss of {limit} or more is excluded, a gain is not"
    if pair.kind == "undecided":
        return f"; {pair.reason}{power(pair, block, scale)}"
    return f"; {flipped(pair)}"


def flipped(pair: ReportedPair) -> str:
    """How many queries score otherwise: "24 queries score lower, 0 higher"."""
    verb = "scores" if pair.lost == 1 else "score"
    return f"{count(pair.lost, 'query', 'queries')} {verb} lower, {count(pair.gained)} higher"


def power(pair: ReportedPair, block: CompareBlock, scale: Scale) -> str:
    """What the comparison can see, and how many queries would see the tolerance."""
    if pair.sees is None:
        return ""
    if scale.share and pair.sees >= 1:
        told = "; so few queries show no loss of any size"
    else:
        told = f"; this comparison can see {scale.difference(pair.sees)}"
    if pair.queries_needed is None or pair.sees <= block.tolerance:
        return told
    return (
        f"{told}, about {count(rough(pair.queries_needed), 'query', 'queries')} would see {scale.difference(block.tolerance)}"
    )


def _blamed(block: CompareBlock, quoting: Quoting) -> str:
    found = block.attribution
    return f" By axis: {quoting.prose(found.sentence)}" if found and found.kind == "cause" else ""


# -- what every format arranges ------------------------------------------------------------------------------------------
def parts(report: Report, *, quoting: Quoting = PLAIN) -> list[ReportPart]:
    """The report in reading order, after its sentence; parts that say nothing are left out."""
    decided = (report.verdict.reason, report.decision, f"run {report.run}")
    found = (
        ReportPart("Loss", tuple(_loss_lines(report, quoting))),
        ReportPart("Configurations", build=configurations_table),
        ReportPart("By axis", tuple(_axis_lines(report, quoting))),
        ReportPart("Effects by axis", build=tables.effects_table),
        ReportPart("Values of the combinations", build=cells_table),
        ReportPart("Other metrics", build=tables.side_table),
        ReportPart("Segments", build=tables.segments_table),
        ReportPart("Queries that score lower", build=lost_table),
        ReportPart("Queries that score higher", build=gained_table),
    )
    return with_closing(report, found, decided, quoting, log="Files")


def _loss_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    pair, scale, block = leading(report), scale_of(report, quoting=quoting), compared(report)
    yield f"{quoting.name(report.good)} → {quoting.name(report.bad)}, paired by {quoting.prose(block.paired_by)}"
    if narrow := pair.equivalence.interval:
        low, high = (scale.number(end) for end in narrow)
        level, limit = 100 * (1 - 2 * block.alpha), scale.number(block.tolerance)
        yield f"{level:g} % interval {low} to {high}: equivalence needs it inside -{limit} to {limit}"
    yield f"{flipped(pair)}{power(pair, block, scale)}"
    if bounds := pair.loss.bounds:
        low, high = (scale.number(end) for end in bounds)
        yield f"whatever the missing scores would have been, the loss lies between {low} and {high}"
    yield f"method: {quoting.prose(pair.loss.method)}"


def _axis_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    pair, found = leading(report), compared(report).attribution
    for each in pair.differs:
        yield f"{quoting.name(each.axis)}: {quoting.name(each.good or 'none')} → {quoting.name(each.bad or 'none')}"
    if found:
        yield quoting.prose(found.sentence)
    elif len(pair.differs) == 1 and pair.kind in ("regression", "improvement"):
        yield "nothing else that the files record differs"
    elif pair.differs and pair.kind in ("regression", "improvement"):
        names = listed([quoting.name(each.axis) for each in pair.differs])
        yield f"{names} changed at once: no configuration between the two says which of them did it"


# -- tables --------------------------------------------------------------------------------------------------------------
# The verdicts in words.
WORDS = {kind: kind.replace("_", " ") for kind in ("regression", "improvement", "equivalent", "no_worse", "undecided")}
# Queries that a table names; the JSON report has all.
MOST_FLIPS = 20
# Characters of a question and of an answer in a table.
QUESTION, ANSWER = 70, 40


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
    shown = 5 if any(flip.good.text or flip.bad.text for flip in found) else 3
    columns = ("query", "good", "bad", "answer of good", "answer of bad")
    return Table(columns[:shown], tuple(row[:shown] for row in rows), notes)


def _flip_row(flip: ScoredFlip, scale: Scale, quoting: Quoting) -> tuple[str, ...]:
    name = flip.query if flip.query == flip.input or not flip.input else f"{flip.query}: {flip.input}"
    scores = (scale.number(getattr(flip, side).score) for side in ("good", "bad"))
    texts = (quoting.name(text) if (text := _shortened(getattr(flip, side).text, ANSWER)) else "–" for side in ("good", "bad"))
    return quoting.name(_shortened(name, QUESTION)), *scores, *texts


def _shortened(text: object, limit: int) -> str:
    return cut(" ".join(str(text or "").split()), limit)
