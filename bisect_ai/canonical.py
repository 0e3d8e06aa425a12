"""JSON: the one text of a value and its digest, and the one door through which JSON texts come in.

The text is the same whatever the order of keys, the process or the platform. Strings are hashed as they are (no Unicode folding:
NFC and NFD prompts are two prompts); lone surrogates survive as escapes. What is read is refused where it says two things at once
(a key twice), what no JSON says (NaN), or is nested so deep that walking it ends the process.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from bisect_ai.errors import InputError

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
MAX_DEPTH = 64  # far below Python's recursion limit, whatever stands on the stack already
MAX_BYTES = 64 << 20  # of the largest file that is read
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"))

_AS_GIVEN = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"))


def canonical(value: Any, *, as_given: bool = False) -> str:
    """The one ASCII JSON text of a plain value; `as_given`: its keys in their order, for what is shown again and not hashed.

    Raises `InputError` for what JSON cannot hold (NaN, objects, odd keys).
    """
    try:
        return (_AS_GIVEN if as_given else _ENCODER).encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"cannot write a value as JSON: {error}; use plain JSON values only") from error


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def plain(value: Any, *, where: str = "value", depth: int = 0) -> Json:
    """`value` as plain JSON (tuples to lists, numpy scalars to numbers). Raises `InputError` naming the spot otherwise."""
    if depth > MAX_DEPTH:
        raise InputError(f"{where} is nested more than {MAX_DEPTH} deep; flatten it")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        number = float(value)  # numpy's is one, too, and is an array to whoever asks for more
        if number != number or number in (float("inf"), float("-inf")):
            raise InputError(f"{where} is {number}, which JSON cannot hold; use null or a finite number")
        return number
    if isinstance(value, Mapping):
        return {_checked_key(k, where): plain(v, where=f"{where}.{k}", depth=depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, where=f"{where}[{i}]", depth=depth + 1) for i, v in enumerate(value)]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return plain(value.item(), where=where, depth=depth)
    raise InputError(f"{where} is a {type(value).__name__}, which JSON cannot hold; use plain values")


def text_or_json(value: Any) -> str:
    """A text as it is, anything else as JSON for people and models: keys in their order, what JSON cannot hold as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _checked_key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return key
    raise InputError(f"{where} has the key {key!r}, which is not a string; quote it")


# -- reading -------------------------------------------------------------------------------------------------------------
# What becomes of numbers that JSON or a float cannot hold: refused; so are whole ones of more than 64 bits; NaN and Infinity
# are null, as some tools write them; the text that was written, for answers are paid for: whoever needs the number says
# which is none; floats, and of repeated keys the last, as the clients of whoever sent it read it: for what is passed on or
# looked into.
Numbers = Literal["finite", "64 bits", "or null", "as text", "as sent"]

Flaw = Literal["syntax", "depth", "twice", "constant", "integer", "number", "other"]
# Of a whole number: Python reads no more than 4,300 at once.
_MOST_DIGITS = 4_000


class BadRecord(ValueError):
    """A text or one record of a file cannot be read; the message says why, its reader says where.

    Of JSON it says what is wrong with it, the line and column where that is known, else the key or number in question.
    """

    def __init__(self, why: str, *, flaw: Flaw = "other", token: str = "", spot: tuple[int, int] | None = None) -> None:
        super().__init__(why)
        self.flaw, self.token, self.spot = flaw, token, spot


def parse_json(text: str | bytes, *, numbers: Numbers = "finite") -> Any:
    """The value of a JSON text. Raises `BadRecord` for what strict JSON forbids, for repeated keys and for more than 64 levels."""
    try:
        text = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
        value = _DECODERS[numbers].decode(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        why = f"{line}column {error.colno}: {error.msg}"
        raise BadRecord(why, flaw="syntax", token=error.msg, spot=(error.lineno, error.colno)) from None
    except RecursionError:
        raise _too_deep() from None
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord(str(error).partition(";")[0]) from None
    if _is_deep(text, value):
        raise _too_deep()
    return value


def json_or(otherwise: Any, text: str | bytes, *, numbers: Numbers = "as sent") -> Any:
    """What a program, model or provider sent, or `otherwise` where that is no JSON: no text makes it raise."""
    try:
        return parse_json(text, numbers=numbers)
    except BadRecord:
        return otherwise


def json_object(text: str | bytes, *, numbers: Numbers = "as sent") -> dict[str, Any] | None:
    """The object that somebody sent; None when the text holds none."""
    value = json_or(None, text, numbers=numbers)
    return value if isinstance(value, dict) else None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """A mapping as it is; an empty one for anything else that somebody sent."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """A list as it is; an empty one for anything else that somebody sent."""
    return value if isinstance(value, list) else []


def mappings_in(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; none for anything else that somebody sent."""
    return [each for each in as_list(value) if isinstance(each, Mapping)]


def _is_deep(text: str, value: Any) -> bool:
    """Whether the value of a text is nested more than 64 deep: walked level by level, and only where brackets are that many."""
    level = [value] if text.count("[") + text.count("{") > MAX_DEPTH else []
    for _ in range(MAX_DEPTH + 1):
        level = [i for v in level if isinstance(v, list | dict) for i in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return False
    return True


def _too_deep() -> BadRecord:
    return BadRecord(f"nested more than {MAX_DEPTH} deep", flaw="depth")


def _refuse_constant(word: str) -> NoReturn:
    raise BadRecord(f"{word} is not JSON", flaw="constant", token=word)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadRecord(f"the number {digits[:20]} is out of range", flaw="number", token=digits)
    return number


def _of_64_bits(digits: str) -> int:
    if len(digits) > len(str(2**64)) or int(digits).bit_length() > 64:
        raise BadRecord(f"the integer {digits[:20]} does not fit 64 bits", flaw="integer", token=digits)
    return int(digits)


def _finite_or_text(digits: str) -> float | str:
    number = float(digits)
    return digits if math.isinf(number) else number


def _whole_or_text(digits: str) -> int | str:
    return digits if len(digits) > _MOST_DIGITS else int(digits)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadRecord(f"the key {twice[:60]!r} is there twice", flaw="twice", token=twice)
    return mapping


def _decoder(**numbers: Any) -> json.JSONDecoder:
    return json.JSONDecoder(
        **{"parse_constant": _refuse_constant, "parse_float": _finite, **numbers}, object_pairs_hook=_unique_keys
    )


_DECODERS: dict[Numbers, json.JSONDecoder] = {
    "finite": _decoder(),
    "64 bits": _decoder(parse_int=_of_64_bits),
    "or null": _decoder(parse_constant=lambda _: None),
    "as sent": json.JSONDecoder(),
    "as text": _decoder(parse_constant=str, parse_float=_finite_or_text, parse_int=_whole_or_text),
}
