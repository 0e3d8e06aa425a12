"""What the card says of `drift` and `onset`: a log that scores lower, or a release that moved though nothing of it changed."""

from __future__ import annotations

from collections.abc import Iterator

from bisect_ai.report.canary_report import onset_phrase
from bisect_ai.report.phrases import count, fine_scale, held, listed, scale_for
from bisect_ai.report.report_values import Report
from bisect_ai.report.standpoint import Standpoint
from bisect_ai.report.untrusted_text import PLAIN, Quoting
from bisect_ai.report.vocabulary import LIKELY, UNKNOWN, WHO_OUTSIDE, proved
from bisect_ai.report.watch_report import REPEATED, pinned_lines, then_now, watch_sentence
from bisect_ai.report.watch_values import DriftBlock, OnsetBlock


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
    scale = scale_for(report.unit, (onset.before, onset.after), quoting=quoting)
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
