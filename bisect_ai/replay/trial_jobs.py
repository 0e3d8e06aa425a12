"""One trial to run, and what came of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

from bisect_ai.canonical import canonical, plain
from bisect_ai.errors import Infeasible, InputError, TargetFailure
from bisect_ai.provider.budget import CapReached
from bisect_ai.provider.redaction import describe, line_of, redact, redact_all
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer, as_answer


class Job(NamedTuple):
    """One trial to run: what the target receives, and its place in the caller's list."""

    place: int
    query: Query
    release: Mapping[str, Any]
    repeat: int


class Done(NamedTuple):
    """What came back: an answer (possibly with an error), or the reason why the combination cannot run."""

    job: Job
    answer: Answer
    infeasible: str | None = None
    # The release or the target itself is wrong, or refused for good: more calls would not help.
    wrong: InputError | TargetFailure | None = None
    # It was not called.
    left: bool = False
    # What it counts for in the cap on calls.
    calls: int = 1
    # It had not come in when the time of the run was over.
    late: bool = False


def answered(job: Job, returned: Any, start: float) -> Done:
    """The outcome of a target that returned; `start` is by `time.perf_counter`."""
    latency = round(time.perf_counter() - start, 6)
    if isinstance(returned, str):
        return Done(job, Answer.of_text(redact(returned), latency))
    try:
        answer = _storable(without_keys(as_answer(returned)), job.query)
    except BaseException as error:  # whatever a user's function returned: a row
        return failed(job, error, start)
    return Done(job, answer if answer.latency_s is not None else replace(answer, latency_s=latency))


def without_keys(answer: Answer) -> Answer:
    """The answer as it may be kept: whatever the target put into it, no credential is left."""
    if answer.is_text:
        clear = redact(answer.text)
        return answer if clear == answer.text else replace(answer, text=clear)
    told: dict[str, Any] = {name: redact(value) for name in _TOLD if isinstance(value := getattr(answer, name), str)}
    calls = tuple(
        replace(
            call,
            name=redact(call.name),
            arguments=redact_all(call.arguments),
            result=redact_all(call.result),
            error=None if call.error is None else redact(str(call.error)),
        )
        for call in answer.tool_calls
    )
    documents, faults = tuple(redact_all(document) for document in answer.documents), redact_all(answer.faults)
    return replace(answer, text=redact(answer.text), tool_calls=calls, documents=documents, faults=faults, **told)


# Texts beside the answer: from headers, addresses and bodies of the provider.
_TOLD = ("model_returned", "fingerprint", "outcome", "error", "reason", "endpoint")


def _storable(answer: Answer, query: Query) -> Answer:
    """The answer, as plain JSON. Raises `ValueError`: what the store cannot hold is this trial's fault, not that of its neighbours."""
    if answer.is_text:
        return answer
    kept = answer.to_dict()
    try:
        canonical(kept)
    except InputError:
        try:
            return Answer.from_dict(cast("Mapping[str, Any]", plain(kept, where="answer")))
        except InputError as error:
            raise ValueError(f"the answer to query {query.id} cannot be kept: {error}") from error
    return answer


def failed(job: Job, error: BaseException, start: float) -> Done:
    """The outcome of a target that raised."""
    latency = round(time.perf_counter() - start, 6)
    if isinstance(error, CapReached):  # nothing of it was sent
        return Done(job, Answer(), left=True)
    if isinstance(error, Infeasible):
        return Done(job, Answer(latency_s=latency), infeasible=line_of(error) or "the target said so")
    wrong = error if isinstance(error, InputError | TargetFailure) else None
    return Done(job, Answer(latency_s=latency, error=describe(error), outcome="error"), wrong=wrong)


def identity_of(release: str, query: str, target: str, repeat: int) -> str:
    """A trial's identity: the digest of the four as canonical JSON, written out because it is made for every trial."""
    text = f'{{"query":"{query}","release":"{release}","repeat":{repeat},"target":"{target}"}}'
    return hashlib.sha256(text.encode("ascii")).hexdigest()
