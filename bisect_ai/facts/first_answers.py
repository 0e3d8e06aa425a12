"""`bisect-ai check`: what good and bad answer to the first query, the two calls that show most before a run is paid for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bisect_ai.facts.run_facts import store_of
from bisect_ai.provider.redaction import redact
from bisect_ai.replay.interrupts import heeded
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepared import Prepared
from bisect_ai.runs.study import Study

SHOWN = 200
"""Characters of a text that are shown."""


@dataclass(frozen=True)
class FirstAnswers:
    """Lines to show; `failure`: why a run would not get an answer, or no score, either. None: it would."""

    lines: tuple[str, ...]
    failure: str | None = None


def ask_first(prepared: Prepared, *, folder: Path) -> FirstAnswers:
    """Asks both releases the first query of the sample, as the run would; what comes is stored, so a run does not pay again."""
    if prepared.config.budget.calls < 2:
        return FirstAnswers((f"not asked: the budget allows {prepared.config.budget.calls} calls, and good and bad take two",))
    if not prepared.sample.queries:
        return FirstAnswers(("not asked: the log has no query",))
    with heeded() as stop, store_of(prepared, folder) as store:
        study = Study(prepared, store, stop=stop)
        seen = study.first_answers()
        query = prepared.sample.queries[0]
        lines = [f"asked: query {query.id}: {_shown(query.input)}"]
        lines += [line for each in seen for line in _told(each, study, prepared)]
    if len(seen) < 2:
        lines.append("not all was asked: the caps of the budget leave no room, or it was stopped")
    return FirstAnswers(tuple(lines), next(_failures(seen, prepared, study.scorer_errors), None))


def _told(seen: Observation, study: Study, prepared: Prepared) -> Iterator[str]:
    side, answer = _side(seen), study.answer_of(seen)
    if seen.error is not None:
        yield f"  {side}: no answer: {seen.error}"
        return
    calls = "".join(f"; calls {call.name}" for call in answer.tool_calls)
    paid = "" if seen.fresh else " (stored)"
    yield f"  {side}{paid}: {_shown(answer.text) or 'an empty text'}{calls}"
    scores = [f"{name} {'none' if (value := seen.score(name)) is None else f'{value:g}'}" for name in prepared.scorers]
    yield f"    scores: {', '.join(scores)}"


def _failures(seen: list[Observation], prepared: Prepared, scorer_errors: Mapping[str, str]) -> Iterator[str]:
    """Why answers of a run would not come, or not count, if these two are like the rest."""
    for each in seen:
        if each.error is not None:
            yield f"the {_side(each)} release gave no answer to the first query: {each.error}"
    metric = prepared.metric.name
    if metric in scorer_errors:
        yield f"the scorer {metric} failed on the first query: {scorer_errors[metric]}"
    elif seen and all(each.score(metric) is None for each in seen):
        yield f"the scorer {metric} gave no score (None) to the first query's answers"


def _side(seen: Observation) -> str:
    return "bad" if seen.trial.cell else "good"


def _shown(text: str) -> str:
    plain = " ".join(redact(text).split())
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}…"
