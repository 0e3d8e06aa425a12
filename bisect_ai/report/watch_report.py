"""Reports of watching: since when a log scores lower, and whether a release drifted though nothing was deployed."""

from __future__ import annotations

from collections.abc import Iterator

from bisect_ai.report.accounting import usage_sentence, with_closing
from bisect_ai.report.blocks import ReportPart, Scale, count, held, listed
from bisect_ai.report.phrases import fall_phrase, loss_phrase, onset_phrase
from bisect_ai.report.report_values import Report, fine_scale, scale_of
from bisect_ai.report.standpoint import Standpoint
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.vocabulary import LIKELY, UNKNOWN, WHO_OUTSIDE, proved
from bisect_ai.report.watch_values import DriftBlock, OnsetBlock

# Part of a drift that comes back with what is pinned, below which something else is likelier.
HARDLY = 0.25
REPEATED = "nothing was asked anew: these are the answers of a check in this hour, which the next hour's asks again"


def watch_sentence(report: Report, *, quoting: Quoting = PLAIN) -> str:
    """The verdict of `drift` or `onset` in one sentence."""
    if report.drift is not None:
        return _drift_sentence(report, report.drift, quoting)
    assert report.onset is not None, "only a report of watching comes here"
    metric = quoting.name(report.metric)
    if report.onset.kind == "steady":
        return f"no onset of a loss is proved in {count(report.onset.answers, 'score')} of {metric}."
    return f"{metric} {fall_phrase(report.onset, scale_of(report, quoting=quoting))}; {onset_phrase(report.onset, quoting)}."


def _drift_sentence(report: Report, drift: DriftBlock, quoting: Quoting) -> str:
    name, scale = quoting.name(report.good), scale_of(report, quoting=quoting)
    moved = f"; {listed([quoting.prose(change) for change in drift.changes])}" if drift.changes else ""
    since = f"; in the log {onset_phrase(report.onset, quoting)}" if report.onset and report.onset.kind == "onset" else ""
    if report.verdict.kind == "drift":
        told = then_now(report, drift, scale, quoting)
        return f"drift: {told} ({loss_phrase(report.loss, scale)}), though nothing of it changed{moved}{since}."
    if report.verdict.kind == "steady":
        detect = scale.difference(drift.detect)
        told = f"{then_now(report, drift, scale, quoting)} ({loss_phrase(report.loss, scale)})"
        return f"no drift: {told}; a loss of {detect} is excluded{moved}{since}."
    return f"could not tell whether {name} drifted, because {quoting.prose(report.verdict.reason)}{moved}{since}."


def then_now(report: Report, drift: DriftBlock, scale: Scale, quoting: Quoting) -> str:
    """What it scored, by what, and scores now: "v1 scored correct 98 % in its log and scores 73 % now"."""
    then = f"in its answers stored until {drift.stored_on}" if drift.stored_on else "in its log"
    name, metric, loss = quoting.name(report.good), quoting.name(report.metric), report.loss
    return f"{name} scored {metric} {scale.value(loss.good)} {then} and scores {scale.value(loss.bad)} now"


def parts(report: Report, *, quoting: Quoting = PLAIN) -> list[ReportPart]:
    """The report in reading order, after its sentence; parts that say nothing are left out."""
    changes = report.drift.changes if report.drift else ()
    found = (
        ReportPart("What the provider changed", tuple(quoting.prose(line) for line in changes)),
        ReportPart("Which part is whose", tuple(pinned_lines(report, quoting))),
        ReportPart("Scores", tuple(_score_lines(report, quoting))),
        ReportPart("Since when", tuple(_onset_lines(report, quoting))),
        ReportPart("Segments", tuple(_segment_lines(report, quoting))),
    )
    return with_closing(report, found, _decided(report), quoting)


def pinned_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    """Of a drift, what comes back with what the release pins, or why that could not be told."""
    if report.drift is None or report.verdict.kind != "drift":
        return
    name, pinned, scale = quoting.name(report.good), report.drift.pinned, scale_of(report, quoting=quoting)
    if pinned is None:
        yield f"could not tell which part is the model's, because {name} pins no other model (`pinned: {{model: …}}` in the release)"
        return
    what = listed([quoting.name(axis) for axis in pinned.axes])
    if pinned.back is None or pinned.interval is None:
        why = quoting.prose(pinned.why) or f"{count(pinned.queries, 'query', 'queries')} are too few"
        yield f"could not tell which part comes with {what} by asking what is pinned: {why}"
        return
    ends, asked = (
        f"{scale.difference(pinned.back)} ({scale.between(pinned.interval)})",
        count(pinned.queries, "query", "queries"),
    )
    told = f"with the pinned {what} it scores {scale.value(pinned.value)} now on the same {asked}"
    if pinned.interval[0] > 0:
        yield f"{told}: {ends} of the drift come with the {what} that {name} names"
    elif pinned.share is not None and pinned.share < HARDLY:
        yield f"{told}: what moved is probably something else that both share, like the scorer, the code or data behind the target"
    else:
        yield f"{told}: {ends} come back, which does not settle whether {what} moved"


def _decided(report: Report) -> Iterator[str]:
    yield report.verdict.reason
    yield report.decision
    if report.drift is not None:
        yield f"cost: {usage_sentence(report.usage)}"
    yield f"run {report.run}"


def _score_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    if report.drift is None or report.loss.estimate is None:
        return
    scale = scale_of(report, quoting=quoting)
    told = then_now(report, report.drift, scale, quoting)
    yield f"{told} ({loss_phrase(report.loss, scale)}); {count(report.loss.n, 'query', 'queries')}"
    if report.drift.repeated:
        yield REPEATED
    yield f"then: {quoting.prose(report.drift.reference)}"
    yield f"method: {quoting.prose(report.loss.method)}"


def _onset_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    if report.onset is None:
        return
    if report.onset.kind == "steady":
        yield f"no onset of a loss is proved in {count(report.onset.answers, 'logged score')}"
        return
    yield f"{quoting.name(report.metric)} in the log {fall_phrase(report.onset, scale_of(report, quoting=quoting))}"
    yield onset_phrase(report.onset, quoting)


def _segment_lines(report: Report, quoting: Quoting) -> Iterator[str]:
    scale = scale_of(report, quoting=quoting)
    for part in report.drift.segments if report.drift else ():
        said = "moved" if part.proved else "not known"
        yield f"{quoting.name(part.column)} = {quoting.name(part.level)}: {scale.bracket(part.loss, part.interval)} ({said})"


def watch_headline(report: Report, quoting: Quoting) -> str:
    """The first sentence: what fell, or that nothing is known to."""
    if report.drift is not None:
        return _drift_headline(report, report.drift, quoting)
    return watch_sentence(report, quoting=quoting)


def _drift_headline(report: Report, drift: DriftBlock, quoting: Quoting) -> str:
    told = then_now(report, drift, fine_scale(report, quoting), quoting)
    if report.verdict.kind == "drift":
        return f"drift: {told}, though nothing of it changed."
    if report.verdict.kind == "steady":
        return f"no drift: {told}."
    return f"could not tell whether {quoting.name(report.good)} drifted: {quoting.prose(report.verdict.reason)}."


def watch_sureness(report: Report, chance: float) -> str:
    """How sure that is; `chance` is the accepted one of a wrong claim."""
    kind = report.verdict.kind
    if kind in ("drift", "onset"):
        return proved(chance)
    if kind == "steady" and report.drift is not None:
        detect = fine_scale(report, PLAIN).difference(report.drift.detect)
        return f"{LIKELY}: a loss of {detect} would probably have shown"
    return f"{UNKNOWN} yet: neither a loss nor that there is none is proved"


def fallen(report: Report, onset: OnsetBlock, quoting: Quoting) -> str:
    """The loss since an onset, with its interval; empty where none is proved."""
    if onset.before is None or onset.after is None or onset.kind == "steady":
        return ""
    scale = scale_of(report, quoting=quoting)
    lost = held(abs(onset.before - onset.after), onset.interval)
    ends = "" if onset.interval is None else f" ({scale.between(onset.interval)})"
    return f"{scale.difference(lost)}{ends} over {count(onset.answers, 'answer')}"


def watch_places(report: Report, quoting: Quoting) -> Iterator[str]:
    """Of a drift, what the provider says of itself now, segments that moved, and since when the log falls."""
    if report.drift is not None:
        if report.drift.repeated:
            yield REPEATED
        yield from (quoting.prose(change) for change in report.drift.changes)
        yield from pinned_lines(report, quoting)
        yield from _moved_segments(report, report.drift, quoting)
        if report.onset is not None and report.onset.kind == "onset":
            yield f"in the log {onset_phrase(report.onset, quoting)}"


def _moved_segments(report: Report, drift: DriftBlock, quoting: Quoting) -> Iterator[str]:
    scale = fine_scale(report, quoting)
    for part in [part for part in drift.segments if part.proved][:3]:
        ends = "" if part.interval is None else f" ({scale.between(part.interval)})"
        yield f"{quoting.name(part.column)} = {quoting.name(part.level)} loses {scale.difference(part.loss)}{ends}"


def watch_owner(report: Report, quoting: Quoting) -> str:
    """Who is asked."""
    name, kind = quoting.name(report.good), report.verdict.kind
    inside, people = _deployed(report, quoting), _deployers(report, quoting)
    if kind == "drift":
        deployed = f"{people or 'who'}{', who' if people else ''} deployed {listed(inside)}, and " if inside else ""
        return f"not the authors of {name}: ask {deployed}{WHO_OUTSIDE}"
    if kind == "steady":
        return f"nobody: {'no fall is proved' if report.drift is None else f'nothing in {name} moved'}"
    if kind == "onset" and inside:
        return f"{people}: deployed {listed(inside)}" if people else f"who deployed {listed(inside)}: not recorded here"
    return f"{UNKNOWN} yet" if kind == "inconclusive" else f"{UNKNOWN}: no deploy is known to lie inside"


def watch_todo(report: Report, quoting: Quoting, at: Standpoint) -> tuple[str, list[str]]:
    """The command to type, and what to do in words."""
    kind, name = report.verdict.kind, quoting.name(report.good)
    pinned = report.drift.pinned if report.drift else None
    if pinned is not None and pinned.interval is not None and pinned.interval[0] > 0:
        what = listed([quoting.name(axis) for axis in pinned.axes])
        return "", [f"release {name} with the pinned {what}: measured now, beside what drifted"]
    if kind == "drift":
        return "", ["rolling back would not help; pin what can be pinned"]
    if kind == "inconclusive":
        return at.again("drift"), ["once what stands in the way is seen to"]
    if kind == "steady":
        if report.drift is not None:
            return "", ["nothing"]
        return at.typed, ["this again when the log has grown" if at.typed else at.same() + " when the log has grown"]
    inside = _deployed(report, quoting)
    if inside:
        return "", [f"bisect-ai run with the releases before and after {listed(inside)}: it says which change did it"]
    return "", ["look what else changed then; without a deploy, bisect-ai drift asks whether the provider moved"]


def _deployed(report: Report, quoting: Quoting) -> list[str]:
    return [quoting.name(event.what) for event in (report.onset.deploys if report.onset else ()) if event.inside]


def _deployers(report: Report, quoting: Quoting) -> str:
    """Who deployed what lies inside the onset's interval; empty where that is not recorded."""
    events = [event for event in (report.onset.deploys if report.onset else ()) if event.inside]
    return listed(list(dict.fromkeys(quoting.name(event.who) for event in events if event.who)))
