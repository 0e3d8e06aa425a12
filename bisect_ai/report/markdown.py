"""A report as Markdown, fit for a pull request or an incident channel: verdict as heading, short tables, examples in fences.

No HTML, no links, no images. Untrusted text is escaped, in code spans or behind a label inside a fence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bisect_ai.report import change_report, tables
from bisect_ai.report.accounting import judges_told, usage_sentence, with_closing
from bisect_ai.report.blocks import PROSE_LIMIT, TEXT_LIMIT, Block, ReportPart, Table, count, listed
from bisect_ai.report.card import Card, GuiltyText, card_of
from bisect_ai.report.change_report import churn_lines, side_lines
from bisect_ai.report.examples import example_block, examples_of
from bisect_ai.report.json_edge import read
from bisect_ai.report.phrases import candidates_phrase, cause_phrase, logged_phrase, loss_phrase, measured_phrase, share_phrase
from bisect_ai.report.planning_values import NamedChange
from bisect_ai.report.report_values import NamedCause, Report, ReportLike, fine_scale
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.untrusted_text import MARKDOWN, as_text, fence, inline, quote_lines, show
from bisect_ai.report.verdict_sentence import score_parts, verdict_sentence, verified_lines

LINES_PER_TEXT = 12  # an answer of more lines hides the next example


def card(report: ReportLike, *, at: Standpoint = HERE) -> str:
    """The card alone as Markdown."""
    return show("\n\n".join(_card(read(Report, report), at)) + "\n")


def render(report: ReportLike, *, at: Standpoint = HERE) -> str:
    """The report as a Markdown document, the card first."""
    report = read(Report, report)
    top = [*_card(report, at), verdict_sentence(report, quoting=MARKDOWN)]
    if (parts_of := score_parts(report)) is not None:
        return show("\n\n".join([*top, *_parts(report, parts_of(report, quoting=MARKDOWN))]) + "\n")
    parts = [*top, *_verified(report), *_facts(report), *_tables(report)]
    parts += [
        *_judges(report),
        *_examples(report),
        *_parts(report, with_closing(report, (), change_report.decided(report), MARKDOWN)),
    ]
    run = f"; run {MARKDOWN.name(report.run)}" if report.run else ""
    cost = f"Cost: {usage_sentence(report.usage)}{run}"
    return show("\n\n".join([*parts, cost]) + "\n")


def _card(report: Report, at: Standpoint) -> Iterator[str]:
    """The card: headline, rows, the command in a fence, then the guilty texts as diffs, however long they are."""
    told = card_of(report, quoting=MARKDOWN, at=at)
    yield f"## {told.headline}"
    yield "\n".join(_card_rows(told, "Sure", "Loss", "Who", "Innocent", "Beware", "Cost"))
    if told.command:
        yield f"**Do now:**\n\n{fence(told.command)}"
    yield "\n".join(f"- {line}" for line in told.told("Do now")) if told.command else "\n".join(_card_rows(told, "Do now"))
    for each in told.guilty:
        yield f"**Where:** {each.place}"
        if each.before or each.after:
            yield fence("\n".join(_signed(each)))
    if told.where:
        yield "\n".join(_card_rows(told, "Where"))
    if told.more:
        yield f"**The whole report:** {MARKDOWN.name(told.more)}"


def _card_rows(told: Card, *titles: str) -> Iterator[str]:
    for title in titles:
        yield from (f"- **{title}:** {line}" for line in told.told(title))


def _signed(each: GuiltyText) -> Iterator[str]:
    for sign, text in (("-", each.before), ("+", each.after)):
        yield from (f"{sign} {line}" for line in text.split("\n") if text)


def _verified(report: Report) -> Iterator[str]:
    if report.verify:
        yield "### What was verified"
        lines = verified_lines(report, quoting=MARKDOWN)
        yield "\n".join(f"{' ' * (len(line) - len(line.lstrip()))}- {line.strip()}" for line in lines)


def _parts(report: Report, parts: Iterable[ReportPart]) -> Iterator[str]:
    for part in parts:
        yield f"### {part.title}"
        if part.lines:
            yield "\n".join(f"- {line}" for line in part.lines)
        if part.build is not None:
            built = part.build(report, quoting=MARKDOWN)
            yield _table(built)
            yield from built.notes


def _facts(report: Report) -> Iterator[str]:
    lines = [*_loss(report)]
    for cause in report.verdict.causes:
        lines.extend(_cause(report, cause))
    lines.extend(_rollback(report))
    lines.extend(f"- **Churn:** {line}" for line in churn_lines(report, quoting=MARKDOWN))
    lines.extend(f"- **Also moved:** {line}" for line in side_lines(report, quoting=MARKDOWN))
    yield "\n".join(lines)


def _loss(report: Report) -> Iterator[str]:
    loss, scale, name = report.loss, fine_scale(report, MARKDOWN), MARKDOWN.name
    second, what = ("candidate fix", "Queries drawn at random") if report.verify else ("bad", "Loss")
    if report.good:
        yield f"- **Releases:** {name(report.good)} (good) → {name(report.bad)} ({second})"
    if not report.metric:  # nothing was measured
        return
    method = f" ({inline(loss.method)})" if loss.method else ""
    values = f"{scale.value(loss.good)} → {scale.value(loss.bad)}"
    queries = count(loss.n, "query", "queries")
    yield f"- **{what}:** {name(report.metric)} {values}: {loss_phrase(loss, scale)}; {queries}{method}"
    if logged := loss.logged:
        yield f"- **In the log:** {logged_phrase(logged, scale)}"
    if loss.drift:
        yield f"- **Good release, replay against log:** {loss_phrase(loss.drift, scale)}"


def _cause(report: Report, cause: NamedCause) -> Iterator[str]:
    owners = tables.owned(cause.axes, report, MARKDOWN)
    yield f"- **Cause:** {cause_phrase(cause, quoting=MARKDOWN)}: {share_phrase(cause)}; {owners}"
    if axes := change_report.guilty_axes(report, cause, MARKDOWN):
        for axis in axes:
            yield f"  - {axis.headline}"
            for change in axis.named:
                yield from _named(change)
        return
    for title, changes in tables.changes_of(report, cause):
        yield f"  - {title}"
        for change in changes[: tables.MOST_CHANGES]:
            yield f"    - {tables.change_line(change, MARKDOWN)}"
        if (rest := len(changes) - tables.MOST_CHANGES) > 0:
            yield f"    - {count(rest, 'more change', 'more changes')} in the JSON report"


def _named(change: NamedChange) -> Iterator[str]:
    """A named change: where it is, what it was and became, whose it was."""
    yield f"    - {change_report.place(change, MARKDOWN)}"
    for label, text in (("before", change.before), ("after", change.after)):
        if text is not None:
            yield f"      - {label}: {MARKDOWN.name(_excerpt(text))}"
    yield from (f"      - {line}" for line in change_report.facts(change, MARKDOWN))


def _excerpt(value: object) -> str:
    return show(as_text(value).removesuffix("\n"), limit=PROSE_LIMIT)


def _rollback(report: Report) -> Iterator[str]:
    verdict, scale = report.verdict, fine_scale(report, MARKDOWN)
    if rollback := verdict.rollback:
        owners = tables.owned(rollback.axes, report, MARKDOWN)
        yield f"- **Roll back:** {owners}: {measured_phrase(report, rollback, scale)}"
        if finer := change_report.finer(report, MARKDOWN):
            yield f"  - {finer}"
    if others := change_report.innocent(report, MARKDOWN):
        yield f"- **Not to blame:** {others}"
    if keep := verdict.keep:
        yield f"- **Keep:** {listed([MARKDOWN.name(axis) for axis in keep])}"
    if candidates := verdict.candidates:
        yield f"- **Candidates:** {candidates_phrase(candidates, quoting=MARKDOWN)}"


def _tables(report: Report) -> Iterator[str]:
    for title, table in tables.TABLES.items():
        built = table(report, quoting=MARKDOWN)
        if built.rows:
            yield f"### {title}"
            yield _table(built)
            yield from built.notes


def _table(table: Table) -> str:
    head = [_row(table.columns), _row(["---", *["---:"] * (len(table.columns) - 1)])]
    return "\n".join([*head, *(_row(row) for row in table.rows)])


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _judges(report: Report) -> Iterator[str]:
    for title, sentences in judges_told(report, quoting=MARKDOWN):
        yield f"### {title}"
        yield "\n".join(f"- {sentence}" for sentence in sentences)


def _examples(report: Report) -> Iterator[str]:
    title, examples = examples_of(report)
    if examples:
        yield f"### {title}"
    for example in examples:
        block = example_block(example, MARKDOWN, second=tables.second(report))
        yield f"**{block.title}**"
        yield fence("\n".join(_labelled(block)))


def _labelled(block: Block) -> Iterator[str]:
    """Every line of untrusted text behind its label and a bar, so that none starts a line, even in the raw file."""
    width = max(len(label) for label, _ in block.lines)
    for label, text in block.lines:
        lines = quote_lines(text, prefix=f"{'':{width}} │ ", limit=TEXT_LIMIT).split("\n")
        yield f"{label:<{width}}{lines[0][width:]}"
        yield from lines[1:LINES_PER_TEXT]
        if len(lines) > LINES_PER_TEXT:
            yield f"{'':{width}} │ …"
