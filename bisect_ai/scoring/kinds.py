"""The kinds of scorers that bisect.yaml can name: each a frozen value of settings that is called with query and answer.

A call gives a number or a boolean, or None where the scorer does not apply (the log expects nothing). Raising is an error of
the score, never a score of zero.

`calls_match` and `same_json` say whether calls that were made match those that a log writes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from bisect_ai.canonical import BadRecord, parse_json
from bisect_ai.errors import ConfigError
from bisect_ai.queries.query import Query
from bisect_ai.queries.values import embedded
from bisect_ai.targets.answer import Answer, ToolCall
from bisect_ai.targets.bounded import fits

# Characters in which a refusal shows; further on the same words are mostly part of an explanation.
OPENING = 400
REFUSALS = (
    r"\bI(?:'m| am)(?: (?:really|very|so))? sorry,? (?:but )?I (?:can(?:'t|not)|am (?:un|not )able|won't)",
    r"\bI (?:can(?:'t|not)|am unable to|am not able to|won't|will not) (?:help|assist|answer|provide|comply|discuss|do that|share)",
    r"\bI'm (?:unable|not able) to (?:help|assist|answer|provide|comply|discuss|share)",
    r"\bI must (?:decline|refuse)\b",
    r"\b(?:as|being) an AI(?: language)?(?: model| assistant)?,? I (?:can(?:'t|not)|am)",
    r"\b(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies)",
)

ArgumentMode = Literal["exact", "subset"]
# A tool's name and its arguments; None: any.
Wanted = tuple[str, Mapping[str, Any] | None]


def expected_calls(written: Any) -> list[Wanted]:
    """The calls that a log expects: a name, `{name, arguments}`, `{function: {…}}`, or a list of them; [] expects none.

    Raises `ValueError` for anything else.
    """
    parsed = embedded(written)
    return [_expected_calls(each) for each in (parsed if isinstance(parsed, list) else [parsed])]


def _expected_calls(written: Any) -> Wanted:
    call = written.get("function", written) if isinstance(written, Mapping) else {"name": written}
    name, arguments = (call.get("name"), embedded(call.get("arguments"))) if isinstance(call, Mapping) else (call, None)
    if not isinstance(name, str) or not name or not (arguments is None or isinstance(arguments, Mapping)):
        raise ValueError("the expected call is not a name or {name, arguments}")
    return name, arguments


def calls_match(wanted: Sequence[Wanted], made: Sequence[ToolCall], *, mode: ArgumentMode, ordered: bool) -> bool:
    """Whether each wanted call was made, each by a call of its own; `ordered`: in the wanted order."""
    if len(wanted) > len(made):
        return False
    if ordered:
        calls = iter(made)
        return all(any(_call_matches(want, call, mode) for call in calls) for want in wanted)
    return _can_be_assigned([[i for i, call in enumerate(made) if _call_matches(want, call, mode)] for want in wanted])


def _can_be_assigned(choices: Sequence[Sequence[int]]) -> bool:
    """Whether each row of `choices` can have one of its numbers to itself (augmenting paths)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for number in choices[row]:
            if number not in tried:
                tried.add(number)
                if number not in owner or place(owner[number], tried):
                    owner[number] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(choices)))


def _call_matches(want: Wanted, call: ToolCall, mode: ArgumentMode) -> bool:
    name, arguments = want
    return name == call.name and (arguments is None or same_json(arguments, call.arguments, subset=mode == "subset"))


def same_json(wanted: Any, given: Any, *, subset: bool) -> bool:
    """Whether two JSON values are equal (1 equals 1.0, not true); `subset`: mappings may hold more than wanted."""
    if isinstance(wanted, Mapping) and isinstance(given, Mapping):
        keys = wanted.keys() <= given.keys() if subset else wanted.keys() == given.keys()
        return keys and all(same_json(value, given[key], subset=subset) for key, value in wanted.items())
    if isinstance(wanted, list | tuple) and isinstance(given, list | tuple):
        return len(wanted) == len(given) and all(map(lambda w, g: same_json(w, g, subset=subset), wanted, given))
    return isinstance(wanted, bool) == isinstance(given, bool) and bool(wanted == given)


Value = float | bool | None
Bounds = tuple[float, float]
FAIR: Bounds = (0.0, 1.0)
# A pattern that searches longer has gone astray on a hostile answer.
PATTERN_SECONDS = 1.0
# A number in prose: 1,240.5, -3e4, .5; not the 4 of v4 or the parts of 1.2.3.
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?")


class Kind(Protocol):
    """What every kind says of its scores, and the call that gives one."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is the better one."""
        ...

    @property
    def bounded(self) -> Bounds | None:
        """The lowest and the highest score; None: no bounds."""
        ...

    @property
    def unit(self) -> str:
        """What one point of the score is."""
        ...

    @property
    def content(self) -> bool:
        """Whether the answer's text is what is scored."""
        ...

    def __call__(self, query: Query, answer: Answer, /) -> Value:
        """The score, or None where it does not apply."""
        ...


@dataclass(frozen=True)
class OfText:
    """What kinds share that judge the answer's text as right or wrong."""

    higher_is_better: ClassVar[bool] = True
    bounded: ClassVar[Bounds | None] = FAIR
    unit: ClassVar[str] = "score"
    content: ClassVar[bool] = True


@dataclass(frozen=True)
class OfAmount:
    """What kinds share that count what an answer took: the less, the better."""

    higher_is_better: ClassVar[bool] = False
    bounded: ClassVar[Bounds | None] = None
    content: ClassVar[bool] = False


@dataclass(frozen=True)
class Exact(OfText):
    """Whether the answer is the expected text (any of a list; a mapping is compared as JSON)."""

    expected: str = "reference"
    ignore_case: bool = False
    strip: bool = True

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True, False, or None without an expected text."""
        wanted = query.get(self.expected)
        if wanted is None:
            return None
        if isinstance(wanted, Mapping | list) and embedded(answer.text) == wanted:
            return True
        choices = wanted if isinstance(wanted, list) else [wanted]
        return self._cut(answer.text) in {self._cut(logged_text(choice)) for choice in choices}

    def _cut(self, text: str) -> str:
        text = text.strip() if self.strip else text
        return text.casefold() if self.ignore_case else text


@dataclass(frozen=True)
class Contains(OfText):
    """Whether the answer contains the expected text: all of a list, or any of it."""

    expected: str = "reference"
    mode: Literal["all", "any"] = "all"
    ignore_case: bool = False

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True, False, or None without an expected text."""
        parts = list(map(self._cut, expected_texts(query, self.expected)))
        if not parts:
            return None
        text = self._cut(answer.text)
        found = [part in text for part in parts]
        return all(found) if self.mode == "all" else any(found)

    def _cut(self, text: str) -> str:
        return text.casefold() if self.ignore_case else text


@dataclass(frozen=True)
class Regex(OfText):
    """Whether the pattern is found in the answer (`full`: matches all of it). The pattern comes from the config alone."""

    pattern: str
    ignore_case: bool = False
    full: bool = False

    def __post_init__(self) -> None:
        import regex  # type: ignore[import-untyped]  # it ships no types

        try:
            self._compiled()
        except regex.error as error:
            raise ConfigError(f"pattern {self.pattern!r} is not a regular expression: {error}; correct it") from None

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """True or False. Raises `TimeoutError` after a second of searching."""
        compiled = self._compiled()
        search = compiled.fullmatch if self.full else compiled.search
        try:
            return search(answer.text, timeout=PATTERN_SECONDS) is not None
        except TimeoutError:
            raise TimeoutError(f"the pattern searched for more than {PATTERN_SECONDS} s; simplify it") from None

    def _compiled(self) -> Any:
        import regex

        return regex.compile(self.pattern, regex.IGNORECASE if self.ignore_case else 0)  # compiled once: regex keeps it


@dataclass(frozen=True)
class Numeric(OfText):
    """Whether the last number of the answer is the expected one, within `abs` or `rel`."""

    expected: str = "reference"
    abs: float = 0.0
    rel: float = 1e-9

    def __post_init__(self) -> None:
        if not (self.abs >= 0 and self.rel >= 0):
            raise ConfigError(f"numeric tolerances abs {self.abs} and rel {self.rel} must not be negative")

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True, False, or None without an expected number. Raises `ValueError` if what is expected is no number."""
        wanted = query.get(self.expected)
        if wanted is None:
            return None
        target, given = last_number(logged_text(wanted)), last_number(answer.text)
        if target is None:
            raise ValueError(f"the expected {logged_text(wanted)[:40]!r} holds no number")
        return given is not None and math.isclose(given, target, rel_tol=self.rel, abs_tol=self.abs)


@dataclass(frozen=True)
class JsonSchema(OfText):
    """Whether the answer is JSON, strictly, that the schema allows. References to other documents are not followed."""

    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import Draft202012Validator, validator_for

        try:
            validator_for(dict(self.schema), default=Draft202012Validator).check_schema(dict(self.schema))
        except SchemaError as error:
            raise ConfigError(f"the schema is not a JSON Schema: {error.message.splitlines()[0]}; correct it") from None

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """True or False. Raises `TimeoutError` when checking it takes too long."""
        try:
            value = parse_json(answer.text.strip())
        except BadRecord:
            return False
        return fits(self.schema, value)


@dataclass(frozen=True)
class ToolCalls(OfText):
    """Whether the expected tool calls were made, by name and arguments.

    `arguments`: `exact`, or `subset` (more may be given). `ordered`: in that order. `only`: and no further call.
    """

    content: ClassVar[bool] = False
    expected: str = "reference"
    arguments: ArgumentMode = "exact"
    ordered: bool = False
    only: bool = False

    def __call__(self, query: Query, answer: Answer) -> Value:
        """True, False, or None when the log expects nothing. Raises `ValueError` if what is expected is no call."""
        wanted = query.get(self.expected)
        if wanted is None:
            return None
        calls = expected_calls(wanted)
        if (self.only or not calls) and len(answer.tool_calls) != len(calls):
            return False
        return calls_match(calls, answer.tool_calls, mode=self.arguments, ordered=self.ordered)


@dataclass(frozen=True)
class Length:
    """How long the answer is, in characters or words; shorter counts as better unless told otherwise."""

    bounded: ClassVar[Bounds | None] = None
    content: ClassVar[bool] = True
    unit: Literal["characters", "words"] = "characters"
    higher_is_better: bool = False

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """The count."""
        return float(len(answer.text if self.unit == "characters" else answer.text.split()))


@dataclass(frozen=True)
class Cost(OfAmount):
    """What the answer cost, in USD."""

    unit: ClassVar[str] = "USD"

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """USD, or None where no price is known."""
        return answer.usage.usd


@dataclass(frozen=True)
class Latency(OfAmount):
    """How long the answer took, in seconds."""

    unit: ClassVar[str] = "seconds"

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """Seconds, or None where they were not measured."""
        return answer.latency_s


@dataclass(frozen=True)
class Brought:
    """The score that the application gave its own answer, under `score`; without that name its only one."""

    content: ClassVar[bool] = False
    score: str | None = None
    higher_is_better: bool = True
    bounded: Bounds | None = None
    unit: str = "score"

    def __call__(self, query: Query, answer: Answer) -> Value:  # noqa: ARG002 - every kind is called alike
        """The score; None where the application gave null. Raises `ValueError` for an answer that lacks it."""
        given = answer.scores or {}
        if self.score is None and len(given) == 1:
            return next(iter(given.values()))
        if self.score is not None and self.score in given:
            return given[self.score]
        have = f"it has {', '.join(map(repr, sorted(given)[:8]))}" if given else "it brought no `scores`"
        wanted = f"no score {self.score!r}" if self.score is not None else "not one score"
        raise ValueError(f"the answer has {wanted}: {have}; name one of its scores as `metric`, or write `scorers`")


@dataclass(frozen=True)
class Python:
    """What the user's own `function(query, answer)` gives; `bounded` refuses scores outside it."""

    content: ClassVar[bool] = False
    function: Callable[[Query, Answer], Value]
    higher_is_better: bool = True
    bounded: Bounds | None = None
    unit: str = "score"

    def __call__(self, query: Query, answer: Answer) -> Value:
        """What the function returns."""
        return self.function(query, answer)


def last_number(text: str) -> float | None:
    """The last number in a text (`1,234.5`, `-3`, `2e6`); None without one."""
    found = [match.group() for match in NUMBER.finditer(text.replace("\u2212", "-")) if match.group().strip("+-")]
    return float(found[-1].replace(",", "")) if found else None


def expected_texts(query: Query, column: str) -> list[str]:
    """The texts of a column that holds one or a list of them; empty ones are left out."""
    wanted = query.get(column)
    return [logged_text(each) for each in (wanted if isinstance(wanted, list) else [wanted]) if each not in (None, "")]


def logged_text(value: Any) -> str:
    """A value of the log as text: JSON when it is not one."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
