"""Since when, in words."""

from __future__ import annotations

from bisect_ai.report.phrases import count, listed, scale_for
from bisect_ai.report.untrusted_text import Quoting, moment
from bisect_ai.report.watch_values import NearDeploy, OnsetBlock


def fall_phrase(onset: OnsetBlock, quoting: Quoting) -> str:
    """What the scores were and are: "from 91.0 % to 82.3 %"."""
    scale = scale_for(None, (onset.before, onset.after), quoting=quoting)
    return f"from {scale.value(onset.before)} to {scale.value(onset.after)}"


def onset_phrase(onset: OnsetBlock, quoting: Quoting) -> str:
    """Since when, and the deploys about then: "began between … and …; the deploy of … (v42) lies inside"."""
    if onset.since is not None:
        when = f"it began between {moment(onset.since, quoting)} and {moment(onset.until, quoting)}"
    else:
        when = f"it began between answers {count(onset.low)} and {count(onset.high)} of {count(onset.answers)}"
    told = [f"{moment(event.at, quoting)} ({_what_and_who(event, quoting)})" for event in onset.deploys]
    if not told:
        return f"{when}; none of {count(onset.events, 'deploy')} lies inside or before" if onset.events else when
    if not onset.deploys[0].inside:
        return f"{when}; no deploy lies inside, the last before it was that of {told[0]}"
    verb = "lies" if len(told) == 1 else "lie"
    return f"{when}; the deploy{'s' if len(told) > 1 else ''} of {listed(told)} {verb} inside"


def _what_and_who(event: NearDeploy, quoting: Quoting) -> str:
    return quoting.name(event.what) + (f" by {quoting.name(event.who)}" if event.who else "")
