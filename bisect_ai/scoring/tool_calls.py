"""Tool calls as a log writes them, and whether the calls that were made match them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bisect_ai.queries.values import embedded
from bisect_ai.targets.answer import ToolCall

ArgumentMode = Literal["exact", "subset"]
Wanted = tuple[str, Mapping[str, Any] | None]
"""A tool's name and its arguments; None: any."""


def expected_calls(written: Any) -> list[Wanted]:
    """The calls that a log expects: a name, `{name, arguments}`, `{function: {…}}`, or a list of them; [] expects none.

    Raises `ValueError` for anything else.
    """
    parsed = embedded(written)
    return [_expected(each) for each in (parsed if isinstance(parsed, list) else [parsed])]


def _expected(written: Any) -> Wanted:
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
        return all(any(_matches(want, call, mode) for call in calls) for want in wanted)
    return _assigned([[i for i, call in enumerate(made) if _matches(want, call, mode)] for want in wanted])


def _assigned(choices: Sequence[Sequence[int]]) -> bool:
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


def _matches(want: Wanted, call: ToolCall, mode: ArgumentMode) -> bool:
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
