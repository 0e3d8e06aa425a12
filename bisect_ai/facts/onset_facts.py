"""`onset`: since when does a log score lower, and what was deployed about then? Calls nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import LogOptions, checked_part
from bisect_ai.errors import ConfigError, QueryError
from bisect_ai.facts.onset_series import deploys_of, onset_block
from bisect_ai.facts.report_view import SCHEMA, with_sentence
from bisect_ai.provider.failure_text import redact_all
from bisect_ai.queries.live_scores import Wanted, read_scored
from bisect_ai.report.json_edge import as_mapping
from bisect_ai.report.planning_values import LogBlock
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.report.watch_report import watch_sentence
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending


def onset(
    log: Any,
    *,
    metric: str | None = None,
    release: str | None = None,
    events: Any = None,
    repository: str | Path | None = None,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    settings: dict[str, Any] | None = None,
) -> Result:
    """Since when the scores of a log are lower, with an interval, and which deploys lie inside it.

    `log`: any source that is read; `release`: one release's answers only; `events`: a file of deploys, or "git" for the tags of
    `repository` (default: the folder where this runs). The verdict's `kind` is onset or steady; `alpha` is the chance of
    an onset in scores that have none, however often the growing log is looked at. Raises `InputError` for what is wrong.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha is {alpha:g}; it is a chance between 0 and 0.5")
    options = checked_part(LogOptions, settings or {}, where="onset")
    read, name = read_scored(log, Wanted(release, None, metric), settings=options.settings(0), folder=Path.cwd())
    deploys = deploys_of(events, Path.cwd(), repository=None if repository is None else Path(repository))
    block = onset_block(read.answers, deploys, alpha=alpha, higher_is_better=higher_is_better)
    if block is None:
        raise QueryError(f"too few answers with a score {name!r} to see an onset: it takes 40 at least")
    report = Report(
        schema_=SCHEMA,
        run=digest([name, release, alpha, higher_is_better, read.digest, [*map(list, deploys)]])[:16],
        good=release or "",
        bad=release or "",
        metric=name,
        higher_is_better=higher_is_better,
        percent=all(0 <= x <= 1 for x in (block.before or 0.0, block.after or 0.0)),
        onset=block,
        verdict=Verdict(kind=block.kind, reason=_REASONS[block.kind]),
        log=LogBlock(format=read.format, read=read.read, kept=len(read.answers), dropped=dict(read.dropped)),
        warnings=("the log has no times: the order of its lines was taken for that of time",) if not read.timed else (),
        decision=_RULE.format(alpha=alpha, bound=1 / alpha),
        usage=RunUsage(calls=0, cached=0, errors=0, usd=0.0, tokens=0, seconds=0.0),
    )
    return Result(redact_all(as_mapping(with_sentence(report, watch_sentence(report)))), Spending())


_REASONS = {
    "onset": "the evidence of lower scores passed its bound",
    "steady": "the evidence of lower scores did not pass its bound",
}
_RULE = (
    "A wealth that is staked on lower scores from some time on must pass {bound:g} = 1 / alpha; without a loss it ever does so with a "
    "chance of at most {alpha:g}, however often the growing log is looked at. The interval of the onset holds with 95 %."
)
