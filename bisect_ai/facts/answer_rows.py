"""The answers of a run, read from where they are kept: every query with its first answer in each combination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bisect_ai.canonical import plain
from bisect_ai.errors import BisectError
from bisect_ai.provider.redaction import redact
from bisect_ai.queries.sample import Sample
from bisect_ai.report.answer_values import AnsweredQuery
from bisect_ai.report.report_values import ShownAnswer, ShownCall
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepare import prepare, settle
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.answer import Answer

Lookup = Callable[[Observation], Answer | None]


def answered_queries(
    trials: Iterable[Observation], lookup: Lookup, *, metric: str, sample: Sample | None
) -> list[AnsweredQuery]:
    """A row a query, in the order in which they were first asked. `sample`: where the texts of queries are."""
    places = {} if sample is None else {query.id: i for i, query in enumerate(sample.queries)}
    found: dict[str, dict[tuple[str, ...], ShownAnswer]] = {}
    for o in trials:
        if o.trial.repeat or o.infeasible or o.logged or o.bad_axes in found.get(o.query, {}):
            continue
        answer = o.answer if o.error else lookup(o)
        if answer is not None:
            found.setdefault(o.query, {})[o.bad_axes] = shown_answer(answer, o.score(metric))
    return [_answered_row(query, answers, sample, places.get(query)) for query, answers in found.items()]


def shown_answer(answer: Answer, score: float | None, *, limit: int | None = None) -> ShownAnswer:
    """An answer as a report shows it, without credentials; of a call that failed its error."""
    calls = tuple(ShownCall(name=c.name, arguments=dict(c.arguments), error=c.error) for c in answer.tool_calls)
    text = answer.text or (f"({answer.error})" if answer.error else "")
    return ShownAnswer(text=redact(text)[:limit], score=score, tool_calls=calls, failed=answer.error is not None)


def _answered_row(
    query: str, answers: dict[tuple[str, ...], ShownAnswer], sample: Sample | None, place: int | None
) -> AnsweredQuery:
    if sample is None or place is None:
        return AnsweredQuery(query, answers=answers)
    asked, segments = sample.queries[place], sample.segments
    return AnsweredQuery(
        query, None if segments is None else segments[place], redact(asked.input), plain(asked.reference), answers
    )


def kept_answers(
    trials: Sequence[Observation], *, store: Path, metric: str, sample: Sample | None
) -> Callable[[], list[AnsweredQuery]]:
    """Reads the answers of these trials from a store when it is called, not before."""

    def read() -> list[AnsweredQuery]:
        with Store(store) as opened:

            def lookup(o: Observation) -> Answer | None:
                kept = opened.answer(o.identity)
                return None if kept is None else kept.answer

            return answered_queries(trials, lookup, metric=metric, sample=sample)

    return read


def sample_of(run_sample: object, config: Path) -> Sample | None:
    """The sample of a stored run, drawn again as its settings file says; None when it is not the same or cannot be drawn."""
    try:
        settled, folder = settle({}, config=config)
        sample = prepare(settled, folder=folder).sample
    except BisectError:
        return None
    return sample if sample.digest == run_sample else None
