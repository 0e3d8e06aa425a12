"""The verdict card: what a tired person needs, in at most twenty lines, the same in every format.

What did it, how sure that is, from what to what, the guilty text before and after, who and when, the command to type now and what it
was measured to bring back, what is innocent, what it cost, where the rest stands. A row without anything to say is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from bisect_ai.report.accounting import cost_told
from bisect_ai.report.blocks import Scale, count, duration, held, listed, negated
from bisect_ai.report.canary_report import canary_places
from bisect_ai.report.change_report import churn_of, shared_place
from bisect_ai.report.comparison import leading
from bisect_ai.report.headline import failure_told, headline, sureness
from bisect_ai.report.phrases import beside_phrases, candidates_phrase, change_name, open_axes
from bisect_ai.report.planning_values import NamedChange
from bisect_ai.report.report_values import UNMEASURED, Report, fine_scale, is_of_watching
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.untrusted_text import PLAIN, Quoting, as_text, moment, one_line, release_name, show
from bisect_ai.report.value_types import ReportedEstimate
from bisect_ai.report.verdict_sentence import slice_clause, trend_clause
from bisect_ai.report.vocabulary import UNKNOWN, WHO_OUTSIDE
from bisect_ai.report.watch_report import fallen, watch_owner, watch_places
from bisect_ai.report.what_to_do import what_now

MOST_TEXT = 2000  # characters of a guilty text: a card is no diff
# Sentences with the space behind them, so that joined they are the text.
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?]+(?=\s)|(?=\n)|$)\s*|\n\s*")


# Of changes that are named without their texts.
_MOST_PLACES = 3


@dataclass(frozen=True)
class GuiltyText:
    """Where a change is, and its texts: only the sentences that differ, on cleaned lines."""

    place: str
    before: str
    after: str


@dataclass(frozen=True)
class Card:
    """The rows of a card; names in them are quoted for the format, texts of `guilty` are cleaned only."""

    headline: str
    sure: str
    loss: str
    guilty: tuple[GuiltyText, ...]
    # What is said of places where no text is shown.
    where: tuple[str, ...]
    who: tuple[str, ...]
    # To be pasted; empty when there is nothing to type.
    command: str
    # What to do in words, or what the command does and was measured to bring back.
    todo: tuple[str, ...]
    innocent: str
    beware: str
    cost: str
    more: str

    @property
    def rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Titles with their sentences, those of the guilty text and the command left out."""
        told = (
            ("Sure", (self.sure,)),
            ("Loss", (self.loss,)),
            ("Where", self.where),
            ("Who", self.who),
            ("Do now", self.todo),
            ("Innocent", (self.innocent,)),
            ("Beware", (self.beware,)),
            ("Cost", (self.cost,)),
            ("More", (self.more,)),
        )
        return tuple((title, kept) for title, lines in told if (kept := tuple(filter(None, lines))))

    def told(self, *titles: str) -> tuple[str, ...]:
        """The sentences of these rows."""
        return tuple(line for title, lines in self.rows if title in titles for line in lines)


def card_of(report: Report, *, quoting: Quoting = PLAIN, at: Standpoint = HERE) -> Card:
    """The card of a report, its names written by `quoting`, its commands as they are typed `at` that place."""
    command, todo = what_now(report, quoting, at)
    named = _named(report)
    return Card(
        headline=headline(report, quoting=quoting),
        sure=sureness(report, quoting=quoting),
        loss=_loss(report, quoting),
        guilty=tuple(_guilty(change, quoting) for change in named),
        where=tuple(_open_axes(report, quoting)),
        who=tuple(_owners(report, quoting, named)),
        command=command,
        todo=tuple(todo),
        innocent=_innocent(report, quoting),
        beware=_beware(report, quoting),
        cost=_cost(report),
        more=_more(report, at, command),
    )


# -- how much ------------------------------------------------------------------------------------------------------------
def _loss(report: Report, quoting: Quoting) -> str:
    """The size of what moved, with its interval and what it rests on; empty where calls failed instead."""
    if report.gate and report.gate.outcome == "failed":
        return ""
    if is_of_watching(report) and report.onset and report.drift is None:
        return fallen(report, report.onset, quoting)
    scale, loss, kind = fine_scale(report, quoting), report.loss, report.verdict.kind
    if block := report.compare:
        loss = block.pairs[block.lead].loss if block.pairs else loss
    told = f"{_size(loss, scale)}{_rests_on(report, loss.n)}" if loss.estimate is not None else ""
    if kind == "drift" and loss.drift is not None:
        return f"{_size(loss.drift, scale)} on the same queries, log against now; between the releases {_size(loss, scale)}"
    if kind in ("not_reproduced", "traffic") and loss.logged is not None and loss.logged.loss is not None:
        return f"{scale.difference(loss.logged.loss)} in the log; replayed on the same queries {told}"
    return told


def _size(loss: ReportedEstimate, scale: Scale) -> str:
    """ "11 points (2 to 19)", or a gain."""
    if loss.estimate is None:
        return UNKNOWN
    size, ends = held(loss.estimate, loss.interval), loss.interval
    if size < 0:
        size, ends = -size, negated(ends)
    gain = "a gain of " if loss.estimate < 0 else ""
    return f"{gain}{scale.difference(size)}" + (f" ({scale.between(ends)})" if ends is not None else "")


def _rests_on(report: Report, n: int | None) -> str:
    if canary := report.canary:
        scored = sum(side.answers - side.unscored for side in (canary.answers.baseline, canary.answers.canary))
        excluded = fine_scale(report, PLAIN).difference(canary.tolerance) if canary.kind == "promote" else ""
        return f" over {count(scored, 'answer')}" + (f"; a loss of {excluded} or more is excluded" if excluded else "")
    return f" over {count(n, 'query', 'queries')}" if n else ""


# -- where, and whose -----------------------------------------------------------------------------------------------------
def _named(report: Report) -> list[NamedChange]:
    """The changes that the verdict is down to: those that the drill-down named, else the only change of a guilty axis."""
    causes = report.verdict.causes
    named = [change for cause in causes for change in cause.changes]
    held = {change.axis for change in named}
    for axis in dict.fromkeys(axis for cause in causes for axis in cause.axes if axis not in held):
        inside = [change for change in report.changes if change.axis == axis]
        named += inside if len(inside) == 1 else []
    return named


def _guilty(change: NamedChange, quoting: Quoting) -> GuiltyText:
    before, after = (as_text(side).strip("\n") for side in (change.before, change.after))
    if change.before is not None and change.after is not None:
        before, after = differing(before, after)
    if change.is_white_space or not (before or after):
        return GuiltyText(f"{place_of_change(change, quoting)}: {quoting.prose(change.summary)}".removesuffix(": "), "", "")
    return GuiltyText(place_of_change(change, quoting), show(before, limit=MOST_TEXT), show(after, limit=MOST_TEXT))


def place_of_change(change: NamedChange, quoting: Quoting) -> str:
    """File and line where they are known, "prompts/system.md:11"; else axis and path."""
    known = change.origin
    if known.file is None:
        return change_name(change, quoting)
    line = f":{known.line}" if known.line is not None else ""
    return f"{quoting.name(change.axis)}: {quoting.name(f'{_below_repo(change)}{line}')}{_inside(change, quoting)}"


def _below_repo(change: NamedChange) -> str:
    """The file as the change's path begins with it, from `repo`; else as git has it, from the top of the repository."""
    file = str(change.origin.file)
    starts = (file[at:] for at in (0, *(i + 1 for i, char in enumerate(file) if char == "/")))
    return next((path for path in starts if change.path == path or change.path.startswith(f"{path}:")), file)


def _inside(change: NamedChange, quoting: Quoting) -> str:
    """The path inside a parsed file, which its line alone does not tell; empty for a line of a text."""
    is_line = re.search(r":\+?\d+(\.\d+)?$", change.path) or change.path in (change.axis, _below_repo(change))
    return "" if is_line else f" ({quoting.name(change.path)})"


def differing(before: str, after: str) -> tuple[str, str]:
    """Of two texts the sentences that differ; both whole where nothing else stands around them."""
    sides = [[part for part in _SENTENCE.findall(text) if part] for text in (before, after)]
    words = [[part.strip() for part in side] for side in sides]  # where a line is broken makes no other sentence
    matched = SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes()
    cut = [[], []]  # type: list[list[str]]
    for tag, start, end, other, last in matched:
        if tag != "equal":
            cut[0] += sides[0][start:end]
            cut[1] += sides[1][other:last]
    return "".join(cut[0]).strip("\n"), "".join(cut[1]).strip("\n")


def _open_axes(report: Report, quoting: Quoting) -> Iterator[str]:
    """Guilty axes in which no change is named: how many changed; without a cause what it may be."""
    if report.canary:
        yield from canary_places(report, quoting)
    if is_of_watching(report):
        yield from watch_places(report, quoting)
    if block := report.compare:
        found, pair = block.attribution, leading(report)
        yield from [quoting.prose(found.sentence.partition(": ")[0])] if found and found.kind == "cause" else []
        for each in pair.differs[:3]:
            yield f"{quoting.name(each.axis)}: {quoting.name(each.good or 'none')} → {quoting.name(each.bad or 'none')}"
    if report.verdict.kind in UNMEASURED and (rest := failure_told(report.verdict.reason)[1]):
        yield quoting.prose(rest)
    for cause in report.verdict.causes:
        for beside in cause.beside:
            yield f"{listed([quoting.name(axis) for axis in cause.axes])}: {beside_phrases(beside, quoting)[1].strip('()')}"
    if any(cause.failing for cause in report.verdict.causes):
        yield from _errors(report, quoting)
    if candidates := report.verdict.candidates[:3]:
        yield f"perhaps {candidates_phrase(candidates, quoting=quoting)}"
    shown = {change.axis for change in _named(report)}
    inside = {each.axis: each for each in report.drill.axes} if report.drill else {}
    for axis in dict.fromkeys(axis for cause in report.verdict.causes for axis in cause.axes if axis not in shown):
        changes = sum(change.axis == axis for change in report.changes)
        if changes:
            settled = axis in inside and inside[axis].kind == "no_single_change"
            told = "no single one of them is to blame" if settled else "which of them: not known"
            yield f"{quoting.name(axis)}: {count(changes, 'change')}, {told}{shared_place(axis, report, quoting)}"


def _errors(report: Report, quoting: Quoting) -> Iterator[str]:
    """What most calls failed with."""
    told = report.usage.provider.errors if report.usage.provider else ()
    for each in told[:1]:
        yield f"calls fail with: {quoting.prose(each.error)} ({count(each.calls, 'call')})"


def _owners(report: Report, quoting: Quoting, named: Sequence[NamedChange]) -> Iterator[str]:
    """Who and when, a line an axis (or a change, when an axis has several of different people)."""
    told = list(dict.fromkeys(f"{quoting.name(change.axis)}: {_who(change, report, quoting)}" for change in named))
    yield from told or _nobody(report, quoting)
    shown = {change.axis for change in named}
    for axis in dict.fromkeys(axis for cause in report.verdict.causes for axis in cause.axes if axis not in shown):
        inside = [change for change in report.changes if change.axis == axis] or [NamedChange(axis=axis)]
        known = [change for change in inside if change.origin.commit or change.origin.author] or inside[:1]
        yield from dict.fromkeys(f"{quoting.name(axis)}: {_who(change, report, quoting)}" for change in known)


def _nobody(report: Report, quoting: Quoting) -> Iterator[str]:
    """Who is asked where no axis is to blame."""
    kind = report.verdict.kind
    if kind == "cause" or (report.compare and report.verdict.causes) or (kind in UNMEASURED and not report.gate):
        return
    if report.gate and report.gate.outcome == "failed":
        yield f"{UNKNOWN}: ask who runs what answers; {quoting.name(report.gate.head)} is not blamed for calls that fail"
    elif is_of_watching(report):
        yield watch_owner(report, quoting)
    elif kind in ("drift", "not_reproduced"):
        yield f"not the authors of {release_name(report.bad, quoting)}: ask {WHO_OUTSIDE}"
    elif kind == "traffic":
        yield f"not the authors of {release_name(report.bad, quoting)}: ask who knows where the queries come from"
    elif kind in ("inconclusive", "regression", "roll_back", "not_fixed", "fixed_with_collateral") and report.owners:
        if not any(report.owners.values()):
            names = listed([quoting.name(axis) for axis in report.owners][:6])
            yield f"{UNKNOWN} yet; nobody is recorded as owner of {names}"
            return
        owned = [
            f"{quoting.name(axis)} ({quoting.prose(owner) if owner else 'nobody'})" for axis, owner in report.owners.items()
        ]
        yield f"{UNKNOWN} yet; the changed axes and their owners: {listed(owned[:6])}"
    elif kind in ("no_regression", "promote", "equivalent", "no_worse", "improvement", "fixed"):
        yield f"nobody: nothing in {release_name(report.bad, quoting)} is to blame"
    else:
        yield f"{UNKNOWN}: who released {release_name(report.bad, quoting)} is not recorded here"


def _who(change: NamedChange, report: Report, quoting: Quoting) -> str:
    known = change.origin
    owner = known.owner or report.owners.get(change.axis)
    parts = [quoting.prose(known.author)] if known.author else []
    if when := known.date or known.at:
        parts.append(moment(when, quoting))
    if known.commit:
        parts.append(f"commit {quoting.name(str(known.commit)[:10])}")
    if not owner and not parts:
        return "no owner or author recorded"
    owned = f"owner {quoting.prose(owner)}" if owner else "no owner recorded"
    return f"{', '.join(parts)} ({owned})" if parts else f"{owned}, author not recorded"


# -- beside it ------------------------------------------------------------------------------------------------------------
def _innocent(report: Report, quoting: Quoting) -> str:
    """The changed axes that are not to blame, and those that probably are not; empty unless a cause was named."""
    if report.verdict.kind != "cause":
        return ""
    guilty = {axis for cause in report.verdict.causes for axis in cause.axes}
    more = {each.axis: f" ({each.does})" for each in churn_of(report) if each.is_good}
    shown = listed([f"{quoting.name(axis)}{more.get(axis, '')}" for axis in report.verdict.keep if axis not in guilty])
    probably = open_axes(report, leaning=False, quoting=quoting)
    return "; ".join(filter(None, (shown, probably and f"probably {probably}")))


# How warnings end that a card repeats: on a column that was guessed, and on a prompt that tells the answer.
_ON_CARD = ("(guessed)", "unless that is meant")


def _beware(report: Report, quoting: Quoting) -> str:
    named = report.verdict.kind == "cause"
    guesses = [quoting.prose(warning) for warning in report.warnings if warning.endswith(_ON_CARD)]
    faults = [quoting.prose(each.message) for each in report.suspects if (each.where or "").endswith(": schema")]
    rest = [f"whether {others} costs quality too is open"] if (others := open_axes(report, quoting=quoting)) else []
    told = [*rest, *guesses, *faults[:2], trend_clause(report, quoting=quoting), "" if named else slice_clause(report, quoting)]
    return "; ".join(part.strip("; .").removeprefix("Beware: ").removeprefix("but ") for part in told if part)


def _cost(report: Report) -> str:
    usage = report.usage
    if _is_read(report):
        return "no calls: read from the scores that were there"
    if usage.calls is None:
        return ""
    if not usage.calls:
        return f"no calls: {count(usage.cached, 'answer')} read from the store" if usage.cached else "no calls"
    failed = f" ({count(usage.errors)} failed)" if usage.errors else ""
    stored = f"; {count(usage.cached, 'answer')} more from the store" if usage.cached else ""
    return ", ".join([f"{count(usage.calls, 'call')}{failed}", cost_told(usage), duration(usage.seconds)]) + stored


def _is_read(report: Report) -> bool:
    """Whether it was made from logged scores alone: a canary, a comparison, an onset."""
    return bool(report.canary or report.compare) or (is_of_watching(report) and report.drift is None)


def _more(report: Report, at: Standpoint, command: str) -> str:
    """Where the full report is: what only reads is not stored. `command`: what is typed above."""
    if at.in_python:
        return 'result.to_html("report.html")'
    if _is_read(report):
        return "that command with -v" if command and command == at.typed else at.same("-v")
    is_kept = bool(report.axes) or report.verdict.kind not in ("failed", "interrupted")
    return at.report(report.run) if is_kept else ""


def shortened(card: Card, *, sides: int | None, texts: int, is_brief: bool) -> Card:
    """The card with at most `texts` guilty texts, each side of at most `sides` characters; `is_brief`: without what is second best."""
    kept = tuple(replace(each, before=_cut(each.before, sides), after=_cut(each.after, sides)) for each in card.guilty[:texts])
    left = [each.place for each in card.guilty[len(kept) :]]
    rest = [*left[:_MOST_PLACES], *([f"{count(len(left) - _MOST_PLACES)} more"] if len(left) > _MOST_PLACES else [])]
    more = (f"and {listed(rest)}",) if left else ()
    todo = card.todo[:1] if is_brief else card.todo
    return replace(card, guilty=kept, where=(*card.where, *more), todo=todo)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else one_line(text, limit=max(limit, 20))
