"""The one door for content: whatever a row holds as question, messages, answer, documents and scores, in our form.

A conversation that ends with the assistant's answer asks its last question and has that answer as output; a question that is an
object is its canonical JSON; answers that are text stay as they are, letter by letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bisect_ai.canonical import as_list
from bisect_ai.queries.messages import (
    QUESTION_KEYS,
    Message,
    answer_message,
    answer_of,
    asked_at,
    question_messages,
    question_of,
    read_messages,
    said_after,
    template_messages,
    text_of_content,
    tool_results,
)
from bisect_ai.queries.values import decoded, missing, text_of, tidy

TRUNCATED = "truncated"
IMAGE, AUDIO, VIDEO, FILE = "lost image", "lost audio", "lost video", "lost file"
KINDS = (TRUNCATED, IMAGE, AUDIO, VIDEO, FILE)
NOTHING_LOST = frozenset[str]()
_BY_WORD = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
HINTS = ("runcated", "RUNCATED", ";base64,", "@@@langfuseMedia", " omitted")
# How producers mark that they left out the rest of a text.
_CUT = re.compile(
    r"litellm_truncated|<truncated\b|\[[\W_]{0,4}(?:content |text |output )?truncated\b|\((?:…|\.{3})? ?truncated\)"
    r"|(?:…|\.{3}) ?\[?truncated\b|\d (?:more )?char(?:acter)?s (?:truncated|omitted)",
    re.IGNORECASE,
)
# An image or a file that stands in the text as a reference or as base64.
_MEDIA = re.compile(r"@@@langfuseMedia:type=(\w{1,20})/|data:(\w{1,20})/[\w.+-]{1,80}(?:;[\w=.-]{1,80}){0,4};base64,")
# Words of which one is in every content that has lost anything: a cheap test before the exact one.
MAYBE = (
    "runcated",
    "RUNCATED",
    "base64",
    "langfuseMedia",
    " omitted",
    "image",
    "audio",
    "video",
    "file",
    "blob",
    "uri",
    "document",
)


def lost_in_text(text: str) -> frozenset[str]:
    """The kinds of loss that marks in a text tell of."""
    if not any(map(text.__contains__, HINTS)):
        return NOTHING_LOST
    media = {_BY_WORD.get(next(filter(None, found.groups())), FILE) for found in _MEDIA.finditer(text)}
    return frozenset(media | ({TRUNCATED} if _CUT.search(text) else set()))


def lost_in_messages(messages: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The kinds of loss in normalised messages: parts that are no text, and marks in their texts."""
    found = set[str]()
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            found |= _in_part(part) if isinstance(part, Mapping) else set()
    return frozenset(found)


def _in_part(part: Mapping[str, Any]) -> frozenset[str]:
    kind = str(part.get("type") or "")
    if kind == "text":
        return lost_in_text(str(part.get("text") or ""))
    told = f"{kind} {part.get('modality') or ''} {part.get('mime_type') or ''}"
    return frozenset({next((name for word, name in _BY_WORD.items() if word in told), FILE)})


# Beyond it a logged score is a mistake, and its square no longer a number.
MAX_SCORE = 1e100
PLAIN_NUMBERS = frozenset({int, float, bool})
# Where an object of one score has its number; the last ones are of MongoDB's exports.
LABEL_KEYS = ("label", "score", "value", "verdict", "grade", "result")
MAX_LABEL = 40
SCORE_KEYS = ("score", "value", "avg", "$numberInt", "$numberDouble", "$numberLong", "$numberDecimal")
# Objects inside objects in which a request is looked for.
MAX_WRAPPED = 3
_RIGHT = {
    "true",
    "pass",
    "passed",
    "yes",
    "y",
    "correct",
    "right",
    *"\N{CHECK MARK}\N{HEAVY CHECK MARK}\N{WHITE HEAVY CHECK MARK}\N{THUMBS UP SIGN}",
}
_WRONG = {
    "false",
    "fail",
    "failed",
    "no",
    "n",
    "incorrect",
    "wrong",
    *"\N{BALLOT X}\N{HEAVY BALLOT X}\N{CROSS MARK}\N{THUMBS DOWN SIGN}",
}
# Words that cells of scores hold instead of numbers.
WORDS = {**dict.fromkeys(sorted(_RIGHT), 1.0), **dict.fromkeys(sorted(_WRONG), 0.0)}
EMPTY: tuple[Any, ...] = ([], {}, "[]", "{}")
# What a question may not consist of: an empty one is never asked, also where a log writes it in quotes, as JSON.
NO_QUESTION = ' \t\r\n\f\v"'


class Exchange(NamedTuple):
    """What a row asks: the question's text (None: nothing), the messages up to it, the answer and all that was said after it."""

    question: str | None
    messages: list[Message] | None = None
    answer: Message | None = None
    after: Sequence[Message] = ()


def exchange_of(given: Any, messages: Any) -> Exchange:
    """The question of a row with the column `input` and the column `messages`, either of them missing."""
    listed = None if missing(messages) else read_messages(messages)
    if missing(given) or (isinstance(given, str | list | dict) and given in EMPTY):
        return _conversation(listed) if listed else Exchange(_blank(_wrapped(decoded(messages))))
    question, inner = _text_of_input(given)
    if inner is not None and listed is None:
        return _conversation(inner)
    if listed is None or (at := asked_at(listed)) is None:
        return Exchange(_blank(question), listed)
    return Exchange(_blank(question), listed[: at + 1], said_after(listed, at), listed[at + 1 :])


def _conversation(listed: list[Message]) -> Exchange:
    at = asked_at(listed)
    if at is None:
        return Exchange(None, listed)
    question = text_of_content(listed[at].get("content"))
    return Exchange(_blank(question), listed[: at + 1], said_after(listed, at), listed[at + 1 :])


def _text_of_input(given: Any) -> tuple[str | None, list[Message] | None]:
    """The text that an `input` stands for, or the messages that it holds."""
    if isinstance(given, str):
        if turns := template_messages(given):
            return None, turns
        if given.lstrip()[:1] not in ("[", "{", '"') or (found := decoded(given)) is given:
            return given, None
        messages = read_messages(found)
        traced = _question_in_arguments(found)
        return (None, messages) if messages else (given if traced is None else traced, None)
    if not isinstance(given, Mapping | list):
        return text_of(given), None
    if messages := read_messages(given) or _request_in(given):
        return None, messages
    wrapped = _wrapped(given)
    return _as_json(given) if wrapped is None else wrapped, None


def _request_in(given: Any, depth: int = 0) -> list[Message] | None:
    """The conversation of the one request that an object wraps (a logged body beside its headers); None for none or several."""
    inner = [each for each in given.values() if isinstance(each, Mapping)] if isinstance(given, Mapping) else []
    found = [messages for each in inner if (messages := read_messages(each))]
    if found or len(inner) != 1 or depth >= MAX_WRAPPED:
        return found[0] if len(found) == 1 else None
    return _request_in(inner[0], depth + 1)


def _as_json(given: Any) -> str:
    """One JSON text of a value: keys sorted, letters as they are."""
    return json.dumps(tidy(given, where="input"), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _wrapped(found: Any) -> str | None:
    """The text that is all an object says: its one argument, or the one question in it."""
    if isinstance(found, Mapping) and len(found) == 1:
        ((name, held),) = found.items()
        if name in QUESTION_KEYS and isinstance(held, str):
            return held
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], str):
        return found[0]
    return _question_in_arguments(found)


def _question_in_arguments(found: Any) -> str | None:
    """The question among the recorded arguments of a function (`{args, kwargs}`)."""
    if isinstance(found, Mapping) and found and set(found) <= {"args", "kwargs"}:
        return question_of({name: held for name, held in found.items() if held})
    return None


def _blank(question: str | None) -> str | None:
    return question if question and question.strip(NO_QUESTION) else None


def lost_in(given: Any, asked: Exchange) -> frozenset[str]:
    """The kinds of loss in what a row asks."""
    own = lost_in_text(given) if isinstance(given, str) and asked.messages is None else frozenset()
    return own | lost_in_messages(asked.messages or ())


def output_text(value: Any) -> str | None:
    """The answer of an `output` column: a text as it is, a message's text, the one text of a list, any other object as JSON."""
    if missing(value) or isinstance(value, str):
        return value if isinstance(value, str) else None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    return answer_of(tidy(value, where="output"))


def documents_of(value: Any) -> list[Any] | None:
    """The documents of a column: a list, JSON or a Python list as text, or one document; None for none."""
    found = decoded(value)
    if missing(found):
        return None
    if isinstance(found, Mapping) and isinstance(inner := found.get("documents"), list):
        return inner
    return list(found) if isinstance(found, list | tuple) else [found]


def score_of(value: Any, *, cell: bool = False) -> float | None:
    """A score as a number: numbers, flags, a list of such (their mean), `{score: …}`; None for all else.

    `cell`: the value is a column of its own, where a table writes numbers as text, and pass or fail for them.
    """
    if type(value) in PLAIN_NUMBERS:  # nearly all
        return float(value) if -MAX_SCORE < value < MAX_SCORE else None
    found = decoded(value)
    if isinstance(found, str) and cell:
        found = WORDS.get(found.strip().lower(), found)
        try:
            found = float(found)
        except ValueError:
            return None
    if isinstance(found, Mapping):
        found = next((found[name] for name in SCORE_KEYS if found.get(name) is not None), None)
        return score_of(found, cell=cell) if not isinstance(found, Mapping) else None
    if isinstance(found, list):
        numbers = [score_of(each, cell=cell) for each in found if not isinstance(each, list | Mapping)]
        known = [each for each in numbers if each is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None
    if hasattr(found, "item") and not isinstance(found, bool | int | float):  # numpy
        found = found.item()
    return float(found) if isinstance(found, bool | int | float) and -MAX_SCORE < found < MAX_SCORE else None


def scores_of(value: Any, name: str = "score") -> dict[str, float]:
    """Logged scores by name: those of a mapping, or the one of a column, which has the column's name."""
    found = value if isinstance(value, dict) else decoded(value)
    if isinstance(found, Mapping):
        read = {str(key): score_of(each, cell=True) for key, each in found.items()}
    elif isinstance(found, list) and found and all(isinstance(each, Mapping) and _score_name(each) for each in found):
        read = {_score_name(each): score_of(each, cell=True) for each in found}
    else:
        read = {name: score_of(found, cell=True)}
    return {key: each for key, each in read.items() if each is not None}


def unread_scores(value: Any) -> dict[str, str]:
    """The text of each entry of a column of scores that says something and is no number: name to text."""
    found = decoded(value)
    if isinstance(found, list):
        found = {_score_name(each): each for each in found if isinstance(each, Mapping)}
    pairs = found.items() if isinstance(found, Mapping) else [("score", found)]
    told = {str(name): _label_of(each) for name, each in pairs if score_of(each, cell=True) is None}
    return {name: text for name, text in told.items() if name and text}


def _label_of(entry: Any) -> str:
    said = [entry.get(key) for key in LABEL_KEYS] if isinstance(entry, Mapping) else [entry]
    return next((" ".join(each.split())[:MAX_LABEL] for each in said if isinstance(each, str) and each.strip()), "")


def _score_name(listed: Mapping[str, Any]) -> str:
    """What an entry of a list of scores calls its score; empty: nothing."""
    return next((str(listed[key]) for key in ("name", "metric", "key", "metric_name") if isinstance(listed.get(key), str)), "")


def tools_after(asked: Exchange) -> list[dict[str, Any]]:
    """The tool calls between the question and the answer, with their results."""
    return tool_results(asked.after)


_WRITTEN = re.compile(r"(\d+(?:\.\d+)?) ?(?:(%)|/ ?(\d+(?:\.\d+)?))|(\d+),(\d+)")


def no_number(text: str) -> str:
    """That a text is no number, and which one to write instead where it means one: a share, or a comma for the point."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or float(found[3] or 1) == 0:
        return "which is no number"
    meant = float(f"{found[4]}.{found[5]}") if found[4] else float(found[1]) / (100 if found[2] else float(found[3]))
    return f"which is no number: write {meant:.10g} for it in every row"


def logged_number(value: Any) -> float | None:
    """A score as it is logged: a number, a flag, or text of one; None for none. Raises `ValueError` for anything else."""
    if missing(value):
        return None
    if isinstance(value, str):
        value = WORDS.get(value.strip().lower(), value)
    if isinstance(value, list | Mapping) and (inner := score_of(value, cell=True)) is not None:
        value = inner
    found = MAX_SCORE if isinstance(value, int) and abs(value) > MAX_SCORE else float(value)
    if found != found:
        return None
    if not abs(found) < MAX_SCORE:
        raise ValueError("out of range")
    return found


# Where a traced function's output has its one text.
ANSWER_KEYS = ("output", "answer", "response", "text", "result", "content", "completion", "generated_text", "return")


def asked_messages(given: Any) -> list[Message]:
    """The messages of a recorded input: its messages, its likeliest question, or all of it as JSON."""
    found = decoded(given)
    if missing(found):
        return []
    if messages := read_messages(found):
        return messages
    named = isinstance(found, Mapping) and any(isinstance(found.get(key), str | list | dict) for key in QUESTION_KEYS)
    question = (question_of(found) if named else None) or exchange_of(found, None).question
    return question_messages(question)


def said_message(returned: Any) -> Message | None:
    """The assistant's message of a recorded output; an object that holds one text under a plain name is that text."""
    found = returned
    if isinstance(found, Mapping) and len(found) == 1:
        ((name, held),) = found.items()
        found = held if name in ANSWER_KEYS and isinstance(held, str | Mapping) else found
    return None if missing(found) else answer_message(answer_of(found))


def numbers_of(listed: Any, *, cell: bool = False) -> dict[str, float]:
    """The scores of a mapping; those that are no numbers are left out."""
    if not isinstance(listed, Mapping):
        return {}
    found = {str(name): score_of(value, cell=cell) for name, value in listed.items()}
    return {name: score for name, score in found.items() if name and score is not None}


def documents_in(returned: Any) -> list[Any]:
    """The documents that a retriever gave back: `{text, …}` each, LangChain's `page_content` as the text."""
    found = decoded(returned)
    if isinstance(found, Mapping):
        found = found.get("documents", found.get("output"))
    return [
        {"text": each["page_content"], **each} if isinstance(each, Mapping) and "page_content" in each else each
        for each in as_list(found)
    ]
