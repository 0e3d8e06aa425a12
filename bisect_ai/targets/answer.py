"""What a target gives back, and the seam that every target meets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from operator import itemgetter
from typing import Any

from bisect_ai.errors import InputError
from bisect_ai.provider.usage import MOST_TOKENS, NO_USAGE, Usage, as_number, sound_usage, text_of_parts


@dataclass(frozen=True)
class ToolCall:
    """One tool call that the model made: `result` is what it was given back, `error` why it got none.

    `answered` is what gave the result: the log's own (`exact`, or a named rule of `tool_results`), `stub`, `live`; or `missing`:
    nobody could say what the tool would have returned. None: the call itself was wrong, or a target of the user's does not tell.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    error: str | None = None
    answered: str | None = None


# The outcome of a trial that rests on a tool call to which nobody knows the result, and the word for such a call.
MISSING = "missing"
# A score beyond it has no variance that a float can hold, and one nearer to 0 than its inverse none but 0.
LARGEST_SCORE = 1e100


@dataclass(frozen=True)
class Answer:
    """One answer of the application. `error` set means that infrastructure failed: a trial with an error, never a score of 0.

    `outcome` is ok, truncated, filtered, empty; or the limit that a loop hit (max_steps, max_tool_calls, repeated_calls,
    max_calls, max_tokens, max_usd); or failed: the configuration itself was refused, as `reason` says. These are answers, with
    that fate. With `error` it is error, timeout, malformed, or unknown: a part came, so it may have been billed; or missing: the
    replay is not the application, for nobody knows the result of a tool call (asked again, it would miss again).
    `attempts` counts the requests that left for it, `faults` what became of those that failed. `latency_s` leaves out
    failed attempts and `waited_s`, the waits that limits and outages asked for. `endpoint` is where the requests went, by scheme, host
    and port: the environment may lead them elsewhere than the release says. `scores`: what the application says of its own answer, by
    name.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    documents: tuple[Any, ...] = ()
    steps: int = 1
    usage: Usage = NO_USAGE
    latency_s: float | None = None
    model_returned: str | None = None
    fingerprint: str | None = None
    outcome: str = "ok"
    error: str | None = None
    attempts: int = 1
    reason: str | None = None
    waited_s: float = 0.0
    faults: Mapping[str, int] = field(default_factory=dict)
    endpoint: str | None = None
    scores: Mapping[str, float | None] | None = None

    @classmethod
    def of_text(cls, text: str, latency_s: float | None = None) -> Answer:
        """The answer that is a text and nothing else."""
        return cls._of(text=text, latency_s=latency_s, faults={})

    @property
    def is_failure(self) -> bool:
        """Whether infrastructure gave no answer, so that asking again may help."""
        return self.error is not None and self.outcome != MISSING

    @property
    def is_empty(self) -> bool:
        """Whether it came and has nothing in it: no text, no tool call, no document."""
        return not (self.text.strip() or self.tool_calls or self.documents or self.error or self.reason)

    @property
    def is_text(self) -> bool:
        """Whether it is a text with its time and nothing else."""
        seconds = self.latency_s
        timed = seconds is None or (isinstance(seconds, float) and math.isfinite(seconds))
        return timed and type(self.text) is str and _rest(vars(self)) == _REST

    @classmethod
    def _of(cls, **values: Any) -> Answer:
        """The answer with these fields. One is made for each trial: the setters of a frozen value would take three times as long."""
        answer = object.__new__(cls)
        vars(answer).update(_DEFAULTS, **values)
        return answer

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: what the store keeps. Fields at their default are left out; `from_dict` knows them."""
        kept: dict[str, Any] = {"text": self.text}  # not `asdict`, which copies everything: this is made for every trial
        kept |= _changed_fields(self, _ANSWER)
        if self.tool_calls:
            kept["tool_calls"] = [_call_kept(call) for call in self.tool_calls]
        if self.usage is not NO_USAGE:
            kept["usage"] = _changed_fields(self.usage, _USAGE)
        return kept

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Answer:
        """The answer that `to_dict` wrote; fields of later versions are left out."""
        values: dict[str, Any] = {"faults": {}}
        values |= {name: value for name, value in kept.items() if name in _FIELDS}
        if "tool_calls" in values:
            values["tool_calls"] = tuple(_call_read(call) for call in values["tool_calls"] or ())
        if "documents" in values:
            values["documents"] = tuple(values["documents"] or ())
        if "usage" in values:
            values["usage"] = sound_usage(values["usage"])
        return cls._of(**values)


def _call_kept(call: ToolCall) -> dict[str, Any]:
    kept = asdict(call)
    if call.answered is None:
        del kept["answered"]
    return kept


def _call_read(kept: Mapping[str, Any] | ToolCall) -> ToolCall:
    """A tool call as it was kept, or as a target of the user's gave it."""
    return kept if isinstance(kept, ToolCall) else ToolCall(**kept)


def _changed_fields(value: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    known = vars(value)
    return {name: kept for name, default in defaults.items() if (kept := known[name]) is not default and kept != default}


_FIELDS = frozenset(f.name for f in fields(Answer))
_DEFAULTS = vars(Answer())
_rest = itemgetter(*sorted(_FIELDS - {"text", "latency_s"}))
_REST = _rest(_DEFAULTS)
_ANSWER = {name: _DEFAULTS[name] for name in sorted(_FIELDS - {"text", "tool_calls", "usage"})}
_USAGE = {f.name: f.default for f in fields(Usage)}


def as_answer(returned: Any) -> Answer:
    """An `Answer` from what a target returned: an Answer, a string, or a mapping of Answer's fields."""
    if isinstance(returned, Answer):
        return _censored(returned if returned.is_text else _sound(returned))
    if isinstance(returned, str):
        return Answer.of_text(returned)
    if isinstance(returned, Mapping):
        return _censored(_sound(_from_mapping(returned)))
    what = "nothing (None): does it `return` its answer?" if returned is None else f"a {type(returned).__name__};"
    raise InputError(f"the target returned {what} return an Answer, a string or a mapping")


def _censored(answer: Answer) -> Answer:
    """An answer that rests on a miss is not scored, whether or not the target said why."""
    if answer.outcome != MISSING or answer.error is not None:
        return answer
    return replace(answer, error="ToolResultMissing: the target says that a tool result is missing")


def _from_mapping(returned: Mapping[str, Any]) -> Answer:
    unknown = set(returned) - {f.name for f in fields(Answer)}
    if unknown:
        raise InputError(f"the target returned unknown fields {sorted(unknown)}; Answer has text, tool_calls, documents, …")
    joined = {"text": joined_text(returned["text"])} if "text" in returned else {}
    return Answer.from_dict({**returned, **joined})


def joined_text(text: Any) -> Any:
    """The text of an answer that came as the parts of a message; anything else as it is."""
    is_in_parts = isinstance(text, list) and all(isinstance(part, str | Mapping) for part in text)
    return (text_of_parts(text) if is_in_parts else "") or text


def _sound(answer: Answer) -> Answer:
    """The answer with fields of their types. Raises `ValueError` naming the field that is not to be read."""
    if not isinstance(answer.text, str):
        raise ValueError(f"the answer's text is a {type(answer.text).__name__}, not a string")
    for name in ("tool_calls", "documents"):
        if not isinstance(getattr(answer, name), list | tuple):
            raise ValueError(f"the answer's {name} is a {type(getattr(answer, name)).__name__}, not a list")
    if not all(isinstance(call, ToolCall) and isinstance(call.arguments, dict) for call in answer.tool_calls):
        raise ValueError("the answer's tool_calls are not all {name, arguments}")
    read: dict[str, Any] = {name: _count_of(name, getattr(answer, name)) for name in ("steps", "attempts")}
    words: dict[str, Any] = {name: _word(getattr(answer, name)) for name in _WORDS}
    seconds, waited = as_number(answer.latency_s), as_number(answer.waited_s)
    return replace(
        answer,
        **read,
        **words,
        tool_calls=tuple(answer.tool_calls),
        documents=tuple(answer.documents),
        outcome=str(answer.outcome),
        latency_s=seconds if seconds is not None and 0 <= seconds < math.inf else None,
        waited_s=waited if waited is not None and 0 <= waited < math.inf else 0.0,
        faults={str(kind): _count_of("faults", n) for kind, n in dict(answer.faults).items()},
        usage=sound_usage(answer.usage),
        scores=sound_scores(answer.scores),
    )


def sound_scores(scores: Any) -> dict[str, float | None] | None:
    """The scores that an answer brought, as numbers. Raises `ValueError` naming what is none."""
    if scores is None:
        return None
    if not isinstance(scores, Mapping):
        raise ValueError(f"the answer's scores are a {type(scores).__name__}, not a mapping of name to number")
    return {str(name): _score_of(str(name), value) for name, value in scores.items()}


def _score_of(name: str, value: Any) -> float | None:
    """A score that an answer brought; none for null. Raises `ValueError` for what is no finite number."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value == "NaN":  # as Python and R write what they do not know
        return None
    if not isinstance(value, bool | int | float) or not abs(value) <= LARGEST_SCORE:
        told = f"not a finite number (up to {LARGEST_SCORE:g}), true, false or null"
        raise ValueError(f"the answer's score {name[:40]!r} is {str(value)[:40]!r}, {told}")
    return float(value) if abs(value) >= 1 / LARGEST_SCORE else 0.0


_WORDS = ("model_returned", "fingerprint", "endpoint", "error", "reason")


def _count_of(name: str, value: Any) -> int:
    number = len(value) if name == "steps" and isinstance(value, list | tuple) else as_number(value)  # the steps themselves
    if number is None or not 0 <= number <= MOST_TOKENS:
        raise ValueError(f"the answer's {name} is {str(value)[:40]!r}, not a count")
    return int(number)


def _word(value: Any) -> str | None:
    return None if value is None else str(value)


def message_text(value: Any) -> str:
    """A value as text for a model: strings as they are, nothing for None, message parts as text, JSON for the rest."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and "type" in part for part in value):
        return "\n".join(_part_text(part) for part in value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _part_text(part: Mapping[str, Any]) -> str:
    # Images and files of logged messages are named, not sent: providers would fetch their addresses.
    return message_text(part.get("text")) if part["type"] == "text" else f"[{part['type']} not replayed]"
