"""A post-mortem in Markdown: what a run and its files know, in the order that a reader asks; what nobody recorded is said as unknown.

No HTML, no links, no images; untrusted text is escaped, in code spans or in fences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bisect_ai.report import change_report, tables
from bisect_ai.report.blocks import WHOLE, count, listed
from bisect_ai.report.json_edge import read
from bisect_ai.report.measured_values import LossParts
from bisect_ai.report.phrases import cause_phrase, loss_phrase, measured_phrase, share_phrase
from bisect_ai.report.planning_values import NamedChange
from bisect_ai.report.postmortem_values import (
    BlastRadius,
    HitQuery,
    PostmortemFacts,
    ReturnedModel,
)
from bisect_ai.report.report_values import Report, ReportLike, fine_scale, scale_of
from bisect_ai.report.run_blocks import JudgeBlock
from bisect_ai.report.untrusted_text import MARKDOWN, as_text, fence, inline, show
from bisect_ai.report.verdict_sentence import verdict_sentence

MOST_CHANGES = 12  # a document that people read to its end
MOST_SEGMENTS = 12
MOST_LISTED = 10  # times and people in a list
TEXT_LIMIT = 1500  # characters of a text that is quoted
UNKNOWN = "**unknown**"
_HOW = "What is measured and what is estimated is said each time; what nobody recorded is listed at the end."
name = MARKDOWN.name


def render(
    report: ReportLike, facts: PostmortemFacts | Mapping[str, object], hits: Sequence[HitQuery | Mapping[str, object]]
) -> str:
    """The post-mortem as a Markdown document."""
    report, facts = read(Report, report), read(PostmortemFacts, facts, what="the facts of the post-mortem")
    rows = [read(HitQuery, hit, what="a query that was hit") for hit in hits]
    titles = {
        "Summary": _summary(report, facts),
        "Impact: which queries were hit": _blast(facts.blast, rows, report),
        "Timeline": _timeline(facts),
        "Cause": _cause(report),
        "Prompt": _axis(report, facts, "prompt", "The prompt"),
        "Model": _model(report, facts),
        "Documents": _axis(report, facts, "corpus", "The corpus"),
        "Tools": _axis(report, facts, "tools", "The tool schemas"),
        "Other axes": _other_axes(report, facts),
        "How answers were scored": _scorers(report, facts),
        "Traffic": _traffic(report, facts),
        "Rollback and fix": _rollback(report, facts),
        "What is unknown": _unknown(report, facts),
    }
    head = f"# Post-mortem: {name(report.metric)} in release {name(report.bad)}"
    parts = [head, f"From run {name(report.run)}. {_HOW}"]
    for title, lines in titles.items():
        if found := list(lines):
            parts += [f"## {title}", *found]
    return show("\n\n".join(parts) + "\n")


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruled = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return "\n".join([*ruled, *(f"| {' | '.join(row)} |" for row in rows)])


def _summary(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    loss, scale = report.loss, fine_scale(report, MARKDOWN)
    yield verdict_sentence(report, quoting=MARKDOWN)
    lines = []
    for side, release in (("Good", facts.releases.good), ("Bad", facts.releases.bad)):
        lines.append(f"{side} release: {name(release.name)}, digest {name(release.digest[:12])}")
    values = f"{scale.value(loss.good)} → {scale.value(loss.bad)}"
    lines.append(f"Measured on replay: {values}, {loss_phrase(loss, scale)}, {count(loss.n, 'query', 'queries')}")
    yield _bullets(lines)


# -- who was hit ----------------------------------------------------------------------------------------------------------
def _blast(blast: BlastRadius, hits: Sequence[HitQuery], report: Report) -> Iterator[str]:
    if report.verdict.kind != "cause":
        yield (
            f"The verdict is {name(report.verdict.kind)}, so what follows are queries that lost, "
            "whether or not the release is to blame."
        )
    yield _bullets(list(_blast_lines(blast)))
    if hits:
        rows = [(name(row.id), f"{row.probability:.2f}", inline(row.basis), inline(row.why)) for row in hits[:MOST_LISTED]]
        yield _table(("query", "probability", "basis", "why"), rows)
    if (rest := len(hits) - MOST_LISTED) > 0:
        yield f"{count(rest, 'more query', 'more queries')}: `bisect-ai report RUN --blast-radius FILE` writes them all."


def hit_in_all(blast: BlastRadius, *, mark: str = "") -> str:
    """How many queries were hit: "about 58 queries were hit, 95 % interval 43 to 65"; empty when that is not known."""
    if blast.expected is None or blast.interval is None:
        return ""
    low, high = blast.interval
    return f"about {mark}{blast.expected:.0f}{mark} queries were hit, 95 % interval {low:.0f} to {high:.0f}"


def _blast_lines(blast: BlastRadius) -> Iterator[str]:
    window, queries = blast.window, count(blast.queries, "query", "queries")
    if window is None:
        yield f"How many queries the bad release answered is {UNKNOWN}: the log could not be read. Only replayed ones are told."
    elif window == "log":
        yield f"Which queries the bad release answered is {UNKNOWN}: the log names no release, so all {queries} are taken for it."
    else:
        yield f"The bad release answered {queries} of the log."
    sure = f" (about {blast.expected_measured:.1f} of them not by chance)" if blast.measured_hits else ""
    replayed = count(blast.replayed, "query was", "queries were")
    yield f"Measured: {replayed} replayed under both releases, {count(blast.measured_hits)} broke{sure}."
    if blast.expected_others is not None and blast.others:
        apart = f", told apart by {listed([inline(each) for each in blast.told_apart_by])}" if blast.told_apart_by else ""
        learnt = count(blast.learnt_from, "replayed query", "replayed queries")
        yield (
            f"Estimated: of {count(blast.others, 'query that was', 'queries that were')} not replayed, about "
            f"{blast.expected_others:.0f} were hit (learnt from {learnt}{apart})."
        )
    if told := hit_in_all(blast, mark="**"):
        yield f"In all {told}."
    yield f"Method: {inline(blast.method)}."


# -- when and why -----------------------------------------------------------------------------------------------------------
def _timeline(facts: PostmortemFacts) -> Iterator[str]:
    if not facts.timeline:
        yield f"Times are {UNKNOWN}: neither log nor releases name any."
        return
    rows = [(name(e.at), inline(e.what), "" if e.of is None else inline(e.of, limit=300)) for e in facts.timeline]
    yield _table(("when (UTC)", "what", "of"), rows)


def _cause(report: Report) -> Iterator[str]:
    causes = report.verdict.causes
    if not causes:
        yield f"No cause was named: {inline((report.verdict.reason or report.verdict.kind).rstrip('.'))}."
    for cause in causes:
        owners = tables.owned(cause.axes, report, MARKDOWN)
        yield f"{cause_phrase(cause, quoting=MARKDOWN)}: {share_phrase(cause)}; {owners}."
        for change in cause.changes:
            yield _bullets([change_report.place(change, MARKDOWN), *change_report.facts(change, MARKDOWN)])
            yield from _texts(change)


def _texts(change: NamedChange) -> Iterator[str]:
    sides = {"before": change.before, "after": change.after}
    texts = {label: as_text(side) for label, side in sides.items() if side is not None}
    lines = [f"{label}: {line}" for label, text in texts.items() for line in text.rstrip("\n").split("\n")]
    if lines:
        yield fence("\n".join(lines), limit=TEXT_LIMIT)


# -- the state of each part ---------------------------------------------------------------------------------------------------
def _axis(report: Report, facts: PostmortemFacts, axis: str, words: str) -> Iterator[str]:
    """What changed in an axis, with its digests and owner; nothing where no release has it."""
    changes = [c for c in report.changes if c.axis == axis]
    digests = [(release.axes or {}).get(axis) for release in (facts.releases.good, facts.releases.bad)]
    if not changes and not any(digests):
        if facts.releases.good.axes is None:
            yield f"{words} did not change; what they were is {UNKNOWN}: the releases could not be read."
        return
    yield _bullets(list(_state(report, axis, words, changes, digests)))
    yield from _changes(changes)


def _state(
    report: Report, axis: str, words: str, changes: Sequence[NamedChange], digests: Sequence[str | None]
) -> Iterator[str]:
    shown = [UNKNOWN if digest is None else name(digest[:12]) for digest in digests]
    if not changes:
        yield f"{words} did not change; digest {shown[0]}"
        return
    owner = report.owners.get(axis)
    yield f"{words} changed in {count(len(changes), 'place')}; owner {name(owner) if owner else UNKNOWN}"
    yield f"Digest {shown[0]} → {shown[1]}"
    whose = {change_report.whose(change, MARKDOWN) for change in changes}
    yield from sorted(whose)[:3]


def _changes(changes: Sequence[NamedChange]) -> Iterator[str]:
    """The changes, the guilty ones first; what a prompt line was and became is under Cause for those that were named."""
    if not changes:
        return
    ordered = sorted(changes, key=lambda change: not change.guilty)
    rows = [(name(c.path or c.axis), _verdict_on(c), inline(c.summary or c.kind, limit=200)) for c in ordered[:MOST_CHANGES]]
    yield _table(("change", "to blame", "before → after"), rows)
    if (rest := len(changes) - MOST_CHANGES) > 0:
        yield f"{count(rest, 'more change', 'more changes')} in the JSON report."


def _verdict_on(change: NamedChange) -> str:
    return "not known" if change.guilty is None else "**yes**" if change.guilty else "no"


def _model(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    model, lines = facts.model, []
    requested, returned = model.requested, model.returned
    for side, asked, rows in (("Good", requested.good, returned.good), ("Bad", requested.bad, returned.bad)):
        lines.append(f"{side} release asks for: {UNKNOWN if asked is None else name(as_text(asked))}")
        named = [f"{_returned(row)} in {count(row.n, 'answer')}" for row in rows[:6]]
        lines.append(f"What answered in its trials: {listed(named) if named else UNKNOWN}")
    yield _bullets(lines)
    yield from _changes([c for c in report.changes if c.axis == "model"])


def _returned(row: ReturnedModel) -> str:
    model = "a model that named itself not" if row.model is None else name(row.model)
    return f"{model} (fingerprint {name(row.fingerprint)})" if row.fingerprint else model


def _other_axes(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    shown = {"prompt", "model", "corpus", "tools"}
    others = dict.fromkeys(c.axis for c in report.changes if c.axis not in shown)
    for axis in others:
        yield from _axis(report, facts, axis, f"Axis {name(axis)}")


def _scorers(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    lines = []
    for scorer in facts.scorers:
        told = UNKNOWN if scorer.settings is None else name(as_text(scorer.settings))
        decides = " decides" if scorer.decides else ""
        lines.append(f"{name(scorer.name)}{decides}: {told}, digest {name(scorer.digest[:12])}")
    judges = list(report.judges)
    lines += [_judge(judge) for judge in judges]
    if not judges:
        lines.append("No model judged the answers")
    yield _bullets(lines)


def _judge(judge: JudgeBlock) -> str:
    answered = listed([name(model) for model in judge.answered_by]) or UNKNOWN
    people, agreement = UNKNOWN, judge.agreement
    if agreement is not None and agreement.kappa is not None:
        people = f"kappa {agreement.kappa:.2f} on {count(agreement.n, 'answer')}"
    state = "reliable on answers whose verdict is known" if judge.reliable else "**unreliable** on known answers"
    return f"Judge {name(judge.name)}: model {name(judge.model)}, answered by {answered}; {state}; with people: {people}"


def _traffic(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    traffic = facts.traffic
    if traffic is None:
        yield f"How the queries of the two windows differ is {UNKNOWN}: it takes a log with releases and a segment column."
    else:
        rows = [
            (
                name(row.segment),
                WHOLE.value(row.good),
                WHOLE.value(row.bad),
                f"{100 * (row.bad - row.good):+.1f}",
            )
            for row in traffic.segments[:MOST_SEGMENTS]
        ]
        ends = f"{count(traffic.good_queries)} good, {count(traffic.bad_queries)} bad"
        yield f"By {name(traffic.column)}, queries of the good and of the bad window ({ends}), the largest shift first:"
        yield _table(("segment", "good window", "bad window", "points"), rows)
    part, scale = (report.loss.parts or LossParts()).traffic, scale_of(report)
    if part is not None and part.estimate is not None:
        between = scale.between(part.interval)
        yield f"Of the drop in the log, {scale.difference(part.estimate)} go with the queries ({between})."


# -- what was done ------------------------------------------------------------------------------------------------------------
def _rollback(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    rollback, scale = report.verdict.rollback, fine_scale(report, MARKDOWN)
    lines = []
    if rollback:
        owners = tables.owned(rollback.axes, report, MARKDOWN)
        lines.append(f"Recommended: take back {owners}: {measured_phrase(report, rollback, scale)}")
        if finer := change_report.finer(report, MARKDOWN):
            lines.append(finer)
    else:
        lines.append("No rollback was measured to restore quality")
    for verified in facts.verifications:
        when = f" at {name(verified.at)}" if verified.at else ""
        lines.append(f"Verified{when}, run {name(verified.run)}: {inline(verified.sentence)}")
    if not facts.verifications:
        lines.append(f"Whether a fix holds is {UNKNOWN}: none was verified (`bisect-ai verify RUN fixed.yaml`)")
    yield _bullets(lines)


def _unknown(report: Report, facts: PostmortemFacts) -> Iterator[str]:
    gaps = [gap for change in report.changes for gap in change.origin.unrecorded]
    yield _bullets([inline(line) for line in dict.fromkeys([*facts.unknown, *gaps])])
