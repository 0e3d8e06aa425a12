"""What can be known to be wrong before the first call, for nothing: templates, paths, keys, addresses, columns, swapped releases.

`refuse` is the part of it that every run begins with; `bisect-ai check` shows all of it, and looks whether addresses answer.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisect_ai.errors import BisectError, ConfigError
from bisect_ai.provider.redaction import holds_key, shown
from bisect_ai.release.load import Release
from bisect_ai.release.tool_faults import wrong_parameters
from bisect_ai.runs.prepared import Prepared
from bisect_ai.scoring.kinds import Python, logged_text
from bisect_ai.scoring.scorer import score_answer
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.target import unreachable

# A text of a release that looks like a path: the file was probably meant.
_PATH = re.compile(r"(?:\.{1,2}/)?[\w.-]+(?:/[\w.-]+)*\.(?:md|txt|ya?ml|json|jsonl|j2|jinja2?|prompt|tmpl|csv)")
# Queries that the scorers are tried on.
LOOKED_AT = 20
# Standard errors by which the log must say that good scores worse before the releases are taken for swapped.
_SURE = 3.0


@dataclass(frozen=True)
class Objection:
    """Something that is wrong (`is_fatal`: a run would be for nothing) or odd."""

    message: str
    is_fatal: bool = True


def refuse(prepared: Prepared, *, folder: Path) -> list[str]:
    """What is odd, for the report. Raises `ConfigError` with what would make the run be for nothing; `keep_going` insists."""
    found = [*_seen_objections(prepared, folder), *_absent_keys(prepared)]
    fatal = [each.message for each in found if each.is_fatal]
    if fatal and not prepared.config.keep_going:
        more = f" (and {len(fatal) - 1} more: `bisect-ai check` lists them)" if len(fatal) > 1 else ""
        raise ConfigError(f"{fatal[0]}{more}; --keep-going runs it all the same")
    return [each.message for each in found]


def objections(prepared: Prepared, *, folder: Path) -> list[Objection]:
    """Everything that can be seen without a paid call, what is fatal first; asks addresses whether anybody listens."""
    keys = [*_absent_keys(prepared), *_key_objections(prepared), *_maybe_keys(prepared)]
    found = [*_seen_objections(prepared, folder), *keys, *_address_objections(prepared)]
    return sorted(dict.fromkeys(found), key=lambda each: not each.is_fatal)


def _seen_objections(prepared: Prepared, folder: Path) -> Iterator[Objection]:
    yield from _template_objections(prepared)
    for release in (prepared.good, prepared.bad):
        yield from _path_objections(release, folder)
    yield from _tool_objections(prepared)
    yield from _program_objections(prepared)
    yield from _column_objections(prepared)
    yield from _type_objections(prepared)
    yield from _swapped_objections(prepared)
    for release in (prepared.good, prepared.bad):
        yield from _key_shapes(release)


def _template_objections(prepared: Prepared) -> Iterator[Objection]:
    wrong = getattr(prepared.target, "wrong_templates", None)
    if wrong is None:
        return
    for release in (prepared.good, prepared.bad):
        for message in wrong(release.axes, prepared.columns):
            yield Objection(f"the release {shown(release.name)}: {message}")
        for message in prepared.target.odd_templates(release.axes, prepared.columns):  # type: ignore[attr-defined]  # has both
            yield Objection(f"the release {shown(release.name)}: {message}", is_fatal=False)
    told = [(release, message) for release in (prepared.good, prepared.bad) for message in _told_answers(prepared, release)]
    for message in dict.fromkeys(message for _, message in told):
        names = " and ".join(shown(release.name) for release, each in told if each == message)
        yield Objection(f"the prompt of {names}: {message}", is_fatal=False)


# How an objection ends to a prompt that holds the answer: a loss would not show, or for another reason.
TOLD = "which it need only repeat; take it out unless that is meant"


def _told_answers(prepared: Prepared, release: Release) -> Iterator[str]:
    """What of a release's prompt tells the model the answer that it is scored by."""
    holds = {"reference": "the expected answer", "output": "the logged answer"}
    expected = {s.compares_with: f"what the scorer {shown(name)} expects" for name, s in prepared.scorers.items()}
    sent = prepared.target.sent_columns(release.axes, prepared.columns)  # type: ignore[attr-defined]  # has it, too
    for place, variable, column in sent:
        if told := expected.get(column, holds.get(column)):
            yield f"{place} sends the model {variable}, {told}, {TOLD}"


def _tool_objections(prepared: Prepared) -> Iterator[Objection]:
    """Tools that are offered by us, whose arguments could not be checked."""
    target = prepared.config.target
    if not isinstance(target, Mapping) or target.get("kind") != "litellm":
        return
    for release in (prepared.good, prepared.bad):
        for message in _ask_safely(lambda axes: wrong_parameters(axes.get("tools")), release):
            yield Objection(f"the release {shown(release.name)}: {message}")


def _path_objections(release: Release, folder: Path) -> Iterator[Objection]:
    """Values that name a file that is there, instead of holding it."""
    if release.checkout is not None:
        return
    beside = release.source.resolve().parent if release.source else folder
    for axis, value in release.axes.items():
        for place, text in _texts_for_paths(axis, value):
            if _PATH.fullmatch(text):
                there = (beside / text).is_file() or (folder / text).is_file()
                what = "and there is such a file" if there else "though no such file is there"
                message = (
                    f"the release {shown(release.name)}: {place} is the text {shown(text)}, which looks like a path, {what}"
                )
                yield Objection(f"{message}; write {{file: {text}}} to read it", is_fatal=there)


def _texts_for_paths(place: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Texts of a release where a file could be meant: not in lists and sets of documents."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping) and depth < 3 and len(value) < 100:
        for key, item in value.items():
            yield from _texts_for_paths(f"{place}.{key}", item, depth + 1)


def _program_objections(prepared: Prepared) -> Iterator[Objection]:
    """A program of the settings that is not installed; one that is named by a path is in the repository, perhaps."""
    target = prepared.config.target
    if not isinstance(target, Mapping) or target.get("kind") not in ("command", "wire") or target.get("shell"):
        return
    line = target.get("run") or target.get("serve")
    words = shlex.split(line) if isinstance(line, str) else list(line or ())
    if words and "/" not in words[0] and shutil.which(words[0]) is None:
        yield Objection(f"target: there is no program {shown(words[0])} here; install it, or name it by its path")


def _column_objections(prepared: Prepared) -> Iterator[Objection]:
    """Side metrics that compare with a column that no query has (for the metric it is refused anyway)."""
    for name, scorer in prepared.scorers.items():
        column = scorer.compares_with
        if name != prepared.metric.name and column is not None and column not in prepared.columns:
            yield Objection(
                f"the scorer {shown(name)} compares with the column {shown(column)}, which the log lacks", is_fatal=False
            )


def _type_objections(prepared: Prepared) -> Iterator[Objection]:
    """Scorers that cannot read what the log expects: tried on the expected texts themselves, functions of the user's left out."""
    queries = prepared.sample.queries[:LOOKED_AT]
    for name, scorer in prepared.scorers.items():
        if scorer.compares_with is None or scorer.score is None or isinstance(scorer.score, Python):
            continue
        asked = [q for q in queries if q.get(scorer.compares_with) is not None]
        scores = [score_answer(scorer, q, Answer(text=logged_text(q[scorer.compares_with]))) for q in asked]
        if scores and all(score.error for score in scores):
            is_metric = name == prepared.metric.name
            what = f"cannot use the column {shown(scorer.compares_with)} of any of the first {len(scores)} queries"
            yield Objection(f"the scorer {shown(name)} {what}: {scores[0].error}", is_fatal=is_metric)


def _key_shapes(release: Release) -> Iterator[Objection]:
    """Texts of a release that look like a credential (the value of one in the environment is refused anyway)."""
    for axis, value in release.axes.items():
        place = next((place for place, text in _texts_for_paths(axis, value) if holds_key(text)), None)
        if place is not None:
            message = (
                f"the release {shown(release.name)}: {place} holds what looks like a key or token: it would be sent and stored"
            )
            yield Objection(f"{message}; take it out, targets read credentials from the environment", is_fatal=False)


def _swapped_objections(prepared: Prepared) -> Iterator[Objection]:
    tallies = {}
    for row in prepared.sample.logged:
        tally = row.scores.get(prepared.metric.name)
        if tally is not None and tally.mean is not None and tally.variance is not None:
            tallies[row.release] = (tally.mean, tally.variance / tally.n)
    good, bad = tallies.get(prepared.good.name), tallies.get(prepared.bad.name)
    if good is None or bad is None:
        return
    sign = prepared.metric.sign
    worse, error = sign * (bad[0] - good[0]), math.sqrt(good[1] + bad[1])
    if worse > max(prepared.config.tolerance, _SURE * error):
        yield Objection(
            f"the log says that good ({shown(prepared.good.name)}: {good[0]:.3g}) scores worse than bad ({shown(prepared.bad.name)}: "
            f"{bad[0]:.3g}): perhaps the two are swapped",
            is_fatal=False,
        )


def _key_objections(prepared: Prepared) -> Iterator[Objection]:
    missing = getattr(prepared.target, "missing_keys", None)
    if missing is None:
        return
    for name in dict.fromkeys(key for release in (prepared.good, prepared.bad) for key in _ask_safely(missing, release)):
        yield Objection(_absent_key(name, "the model's provider"))


def _absent_keys(prepared: Prepared) -> Iterator[Objection]:
    """Keys without which the models of the target, of judges or of embeddings answer nothing, so that the others are paid in vain."""
    absent = getattr(prepared.target, "absent_keys", None)
    names = [] if absent is None else [key for release in (prepared.good, prepared.bad) for key in _ask_safely(absent, release)]
    for name in dict.fromkeys(names):
        yield Objection(_absent_key(name, "the model's provider"))
    for name, scorer in prepared.scorers.items():
        for key in getattr(scorer.batch, "absent_keys", ()):
            yield Objection(_absent_key(key, f"the provider of the scorer {shown(name)}"))


def _absent_key(key: str, who: str) -> str:
    return f"the environment has no {key}, which {who} wants; set it, run again"


def _maybe_keys(prepared: Prepared) -> Iterator[Objection]:
    """Keys that the user's own program may have from elsewhere."""
    unset = getattr(prepared.target, "unset_keys", None)
    if unset is None:
        return
    for name in dict.fromkeys(key for release in (prepared.good, prepared.bad) for key in _ask_safely(unset, release)):
        message = f"the environment has no {name}: unless the program has its key from elsewhere, its provider will refuse"
        yield Objection(message, is_fatal=False)


def _address_objections(prepared: Prepared) -> Iterator[Objection]:
    named = getattr(prepared.target, "addresses", None)
    if named is None:
        return
    for url in dict.fromkeys(each for release in (prepared.good, prepared.bad) for each in _ask_safely(named, release)):
        if (why := unreachable(url)) is not None:
            yield Objection(why)


def _ask_safely(ask: Any, release: Release) -> list[str]:
    try:
        return list(ask(release.axes))
    except BisectError:  # a release without a model: the first call says it better
        return []
