"""What the report says of changes: every change with its guilt, the named ones in full, the `drill` block, the finer rollback.

Shapes (plain JSON). `changes`: a row per change of the two releases: `axis`, `path`, `kind`, `summary`, `before`, `after`, `group`,
`provenance` (through git for the first changes of a guilty axis in which none is named), and `guilty` (true: named; false: shown not
to matter, or in an axis that was not found guilty; null: not known),
`share` and `interval` (of the loss; null unless named). `verdict.causes[].changes`: the guilty rows, the largest share first, and for
each `mode` and `with` (the changes, as {axis, path}, that it acts together with or instead of), `method` and `n` of the share,
`p_adjusted`, `provenance` traced through git (see `release.provenance`; its `gaps` name what nobody recorded), and `queries`: a few
that it breaks, shaped like the report's `examples`. `drill`: `kind` (found, no_single_change, inconclusive, not_run), `reason`,
`calls`, `alpha`, `unexplained`, `axes` ({axis, kind, changes, named, reason} for every changed axis), `conflicts`, and `rollback`:
null, or {changes, value, interval, restores, restores_interval, n, method, enough}, measured with only these changes good and all
else bad. The same goes into `verdict.rollback` (`changes`, `finer`) when it restores enough.

What takes files of some axes back to the good revision: a git command that can be pasted in the repository.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from bisect_ai.attribution.search.drill_problem import Finer
from bisect_ai.release.changes import Change
from bisect_ai.release.checkout import Checkout
from bisect_ai.release.load import Release
from bisect_ai.release.provenance import traced
from bisect_ai.release.source_files import tag_of
from bisect_ai.report.json_edge import read
from bisect_ai.report.planning_values import ChangeReference, FlippedQuery, NamedChange
from bisect_ai.report.report_values import DrillBlock, DrilledAxis, FinerRollback
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.outcomes import Blamed, Drilled, Outcomes
from bisect_ai.runs.prepared import PART, Prepared

# Queries that are shown for a named change.
QUERIES = 3
Example = Callable[[int, Observation, Observation], FlippedQuery]


@dataclass(frozen=True)
class ChangeRows:
    """The changes of a run."""

    rows: tuple[NamedChange, ...]
    named: tuple[NamedChange, ...]
    # None: the run was not asked to drill, or there was nothing to tell apart.
    block: DrillBlock | None


def told(outcomes: Outcomes, *, example: Example) -> ChangeRows:
    """Everything that the report says of changes; `example` shows a query from its trials under good and bad."""
    tree, drill = outcomes.prepared.tree, outcomes.drill
    blamed = _largest_shares(drill.blamed if drill else ())
    unnamed = _unnamed(outcomes, {change.axis for change in blamed})
    pairs = _pairs(outcomes) if blamed else {}
    shown = sorted(blamed.values(), key=lambda b: -(b.share.value or 0.0))
    whose = traced(tree, outcomes.prepared.good, outcomes.prepared.bad, [*unnamed, *(b.change for b in shown)])
    known = {c: {key: value for key, value in whose[c].items() if key != "gaps"} for c in unnamed}
    rows = tuple(_change_row(c, blamed.get(c), _is_guilty(c, drill, blamed, outcomes)) for c in tree.changes)
    rows = tuple(
        row.model_copy(update={"provenance": known[c]}) if c in known else row
        for c, row in zip(tree.changes, rows, strict=True)
    )
    named = tuple(_named_change(b, pairs, example).model_copy(update={"provenance": whose[b.change]}) for b in shown)
    return ChangeRows(rows, named, None if drill is None else _drill_block(outcomes, drill))


def _unnamed(outcomes: Outcomes, named: Collection[str]) -> list[Change]:
    """The first changes of guilty axes in which none is named: whoever made them is asked."""
    guilty = {axis for cause in outcomes.attribution.causes for axis in cause.axes} - set(named)
    return [change for axis, changes in outcomes.prepared.tree.axes.items() if axis in guilty for change in changes[:QUERIES]]


def _largest_shares(blamed: Sequence[Blamed]) -> dict[Change, Blamed]:
    found: dict[Change, Blamed] = {}
    for b in sorted(blamed, key=lambda b: -(b.share.value or 0.0)):
        found.setdefault(b.change, b)
    return found


def _is_guilty(change: Change, drill: Drilled | None, blamed: Mapping[Change, Blamed], outcomes: Outcomes) -> bool | None:
    if change in blamed:
        return True
    if outcomes.attribution.kind != "cause" or outcomes.environment.kind is not None:
        return None
    if change.axis not in {a for cause in outcomes.attribution.causes for a in cause.axes}:
        return False
    if drill is None:
        return True if len(outcomes.prepared.tree.axes[change.axis]) == 1 else None
    kind = next((i.kind for i in drill.axes if i.axis == change.axis), None)
    return False if kind in ("found", "no_single_change") else None


def _change_row(change: Change, blamed: Blamed | None, guilty: bool | None) -> NamedChange:
    share = None if blamed is None else blamed.share
    measured = {"share": share.value if share else None, "interval": share.interval if share else None}
    return read(NamedChange, {**change.to_dict(), "guilty": guilty, **measured})


def _named_change(blamed: Blamed, pairs: Mapping[int, tuple[Observation, Observation]], example: Example) -> NamedChange:
    shown = [q for q in blamed.queries if q in pairs][:QUERIES]
    told = {
        "mode": blamed.mode,
        "with_": tuple(map(_change_reference, blamed.others)),
        "method": blamed.share.method,
        "n": blamed.share.n,
        "p_adjusted": blamed.p_adjusted,
        "queries": tuple(example(q, *pairs[q]) for q in shown),
    }
    return _change_row(blamed.change, blamed, True).model_copy(update=told)


def _change_reference(change: Change) -> ChangeReference:
    return ChangeReference(axis=change.axis, path=change.path)


def _pairs(outcomes: Outcomes) -> dict[int, tuple[Observation, Observation]]:
    """Query to its first answered trials under good and under bad, those of the drill-down's recruits included.

    A recruit ran with all changes of the guilty axes bad, which is the bad release, and with all of them good.
    """
    ledger, full = outcomes.ledger, outcomes.prepared.problem.full
    sides: dict[tuple[int, bool], Observation] = {}
    inside = outcomes.drill.whole if outcomes.drill else 0
    for seen, all_bad in ((ledger.observations, full), (ledger.inside, inside)):
        for cell in (0, all_bad):
            for o in seen.all(cell):
                if not o.error and not o.infeasible:
                    sides.setdefault((o.index, cell == all_bad), o)
    return {q: (o, sides[q, True]) for (q, bad), o in sides.items() if not bad and (q, True) in sides}


def _drill_block(outcomes: Outcomes, drill: Drilled) -> DrillBlock:
    return DrillBlock(
        kind=drill.kind,
        reason=drill.reason,
        calls=drill.calls,
        alpha=outcomes.prepared.config.alpha * (1 - PART),
        unexplained=drill.unexplained,
        axes=tuple(
            DrilledAxis(axis=i.axis, kind=i.kind, changes=i.changes, named=i.named, reason=i.reason) for i in drill.axes
        ),
        conflicts=tuple(tuple(map(_change_reference, pair)) for pair in outcomes.prepared.tree.conflicts),
        rollback=None if drill.measured is None else _finer_rollback(drill.back, drill.measured, outcomes),
    )


def _finer_rollback(back: Sequence[Change], measured: Finer, outcomes: Outcomes) -> FinerRollback:
    metric, value, restores = outcomes.metric, measured.value, measured.restores
    return FinerRollback(
        changes=tuple(ChangeReference(axis=c.axis, path=c.path, summary=c.summary) for c in back),
        value=metric.value(value.value),
        interval=metric.mean_ends(value.interval),
        restores=restores.value,
        restores_interval=restores.interval,
        n=value.n,
        method=value.method,
        enough=measured.enough,
    )


# Files that a command names, the most: a longer one is written as a release file instead.
MOST_FILES = 12
_PLAIN = re.compile(r"[\w.,+@%=/ ~-]+")  # what a shell and a terminal take as it is
# A revision that is another one after the next commit, such as that of the fix.
_RELATIVE = re.compile(r"^(?:HEAD|@)|[~^]")
_LONG_DIGITS = re.compile(r"[0-9a-f]{13,}")  # a commit id is told shorter
_SHORT = 12  # digits of a commit, as git itself abbreviates in large repositories
_PATTERN = re.compile(r"[*?\[\\]|^:")  # what git takes for a pattern or a magic word in a path


def git_command(prepared: Prepared, axes: Collection[str]) -> str | None:
    """`git checkout GOOD -- FILES` for the files of these axes that differ; None: the axes are no files, or it cannot be written.

    Files that only the bad revision has are removed; where it is the working tree, what is not committed is stashed first. A name that
    a terminal would not show as it is gives no command.
    """
    good, bad = prepared.good, prepared.bad
    if good.checkout is None or bad.checkout is None or good.checkout.commit is None:
        return None
    back, gone = _files(good, bad, axes)
    revision = _lasting_name(good.name, good.checkout)
    if (
        (not back and not gone)
        or len(back) + len(gone) > MOST_FILES
        or not all(map(_PLAIN.fullmatch, [revision, *back, *gone]))
    ):
        return None
    repo = prepared.config.repository.repo
    git = ["git", *(["-C", repo] if repo != "." else [])]
    git += ["--literal-pathspecs"] if any(map(_PATTERN.search, [*back, *gone])) else []
    parts, known = [], ["--quiet"]
    if bad.checkout.commit is None:
        there = [path for path in (*back, *gone) if bad.checkout.prefix + path in bad.checkout.entries]
        announced = _announced(bad.checkout) if there else []
        if len(announced) > MOST_FILES or not all(map(_PLAIN.fullmatch, announced)):
            return None
        parts = [shlex.join([*git, "add", "--", *announced])] if announced else []  # else git refuses to stash anything
        parts += [shlex.join([*git, "stash", "push", "--quiet", "--", *there])] if there else []
        known = ["--quiet", "--ignore-unmatch"]  # a file that no commit has went into the stash
    parts += [shlex.join([*git, "rm", *known, "--", *gone])] if gone else []  # first: a folder may stand where a file was
    parts += [shlex.join([*git, "checkout", revision, "--", *back])] if back else []
    return " && ".join(parts)


def _lasting_name(name: str, side: Checkout) -> str:
    """The revision under a name that is short and stays: for a relative one, or one of many digits, its tag or its first digits."""
    assert side.commit is not None, "the working tree is not gone back to"
    if not _RELATIVE.search(name) and not _LONG_DIGITS.fullmatch(name):
        return name
    return tag_of(side.top, side.commit) or side.commit[:_SHORT]


def _announced(side: Checkout) -> list[str]:
    """Files of which git knows the name only, from `repo`."""
    return [os.path.relpath(path, side.prefix or ".") for path, entry in side.entries.items() if entry.is_announced]


def _files(good: Release, bad: Release, axes: Collection[str]) -> tuple[list[str], list[str]]:
    """Files of the axes that the good revision has otherwise, and those that only the bad one has."""
    back, gone = [], []
    for axis in axes:
        before, after = (side.axes.get(axis, {}) for side in (good, bad))
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            continue
        back += [path for path in before if before[path] != after.get(path)]
        gone += [path for path in after if path not in before]
    return back, gone
