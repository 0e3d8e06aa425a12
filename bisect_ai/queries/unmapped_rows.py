"""Files and rows that no setting maps: what they look like, which keys hold text, and the setting that would read them.

Logs with one message a record are put together: which message a row is, and the conversations that the rows make. Of columns that
belong to the question beside the one that is asked (an instruction, a passage, the choices) an `instruction` beside an `input`, as
Alpaca has them, is asked with it; of all others a notice says that they are left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.messages import QUESTION_KEYS, Message, is_reply, last_user, read_messages
from bisect_ai.queries.query import Query
from bisect_ai.queries.records import PLUS, parts_of
from bisect_ai.queries.sample import Row
from bisect_ai.queries.speakers import KNOWN, SENDERS, role_of
from bisect_ai.queries.values import decoded, embedded, missing

ANSWER_NAMES = ("output", "answer", "response", "completion", "prediction", "generated_text", "model_output", "result")
REFERENCE_NAMES = ("reference", "expected", "target", "gold", "ground_truth", "label", "ideal")
# Columns whose names leave no doubt, small letters and underscores: what stands in them is guessed, and said.
SURE_NAMES = {
    "input": {
        "question",
        "query",
        "user_query",
        "user_question",
        "input_text",
        "user_input",
        "question_text",
        "query_text",
        "prompt",
    },
    "output": {"answer", "output", "output_text", "response", "response_text", "completion", "model_output", "generated_text"},
    "reference": {
        *(
            "reference",
            "expected",
            "expected_answer",
            "expected_output",
            "expected_response",
            "ground_truth",
            "gold",
            "gold_answer",
        ),
        *("correct_answer", "reference_answer", "ideal", "ideal_answer", "target"),
    },
}
# A column of this name holds what the answer should be, not what it was.
_TOLD_RIGHT = re.compile(r"(?i)(expected|correct|reference|gold|ideal|target|ground)")
# Columns of texts that are said one after another.
TURNS = ("turns", "questions", "prompts", "utterances", "dialog", "dialogue", "conversation")
# What an id in small letters alone is one of.
_ID_OF = "(request|session|user|trace|span|message|record|row|doc|document|run|thread|conversation|ticket|customer|item|query|question)"
MAX_STEPS = 3  # deeper keys are hardly the question, and make advice unreadable
MAX_NAMES = 12  # names fill two lines of an error
# How files of other kinds begin.
SIGNS = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"SQLite format 3\0", "an SQLite database"),
)


def columns_for(rows: Sequence[Mapping[str, Any]]) -> str:
    """The keys that hold text in some rows, and the `columns:` that would read them; empty where nothing is found."""
    places: dict[str, Any] = {}
    for row in rows:
        for name, value in _dotted_leaves("", row, 0):
            places.setdefault(name, value)
    talks = [name for name, value in places.items() if last_user(read_messages(value) or ())]
    replies = [name for name, value in places.items() if isinstance(value, list) and name not in talks and is_reply(value)]
    every = [name for name, value in places.items() if isinstance(value, str) and value.strip()]
    told = f"text is in {', '.join(_clear_name(name) for name in every[:MAX_NAMES])}" if every else ""
    texts = [name for name in every if not _names_id(name)]
    question = _likely(talks, ("messages",)) or (talks[0] if talks else None)
    column = "messages" if question else "input"
    question = question or _likely(texts, (*QUESTION_KEYS, "instruction"))
    question = question or next((name for name in texts if places[name].rstrip().endswith("?")), None)
    if question is None:
        return _advice_without_question(rows, places, texts, told)
    expected = [name for name in texts if _TOLD_RIGHT.match(name.rpartition(".")[2])]
    answers = [name for name in texts if name not in expected]
    reply = next(iter(replies), None)
    others = {"output": _likely(answers, ANSWER_NAMES) or reply, "reference": _likely(texts, REFERENCE_NAMES)}
    wanted = {column: question, **{ours: name for ours, name in others.items() if name and name not in (question, ours)}}
    setting = ", ".join(f"{ours}: {_clear_name(name)}" for ours, name in wanted.items())
    return f"{f'{told}; ' if told else ''}write columns: {{{setting}}}"


def _advice_without_question(
    rows: Sequence[Mapping[str, Any]], places: Mapping[str, Any], texts: Sequence[str], told: str
) -> str:
    """What to do where no column is called like a question."""
    if (turns := next((name for name, value in places.items() if _lists_turns(name, value)), None)) is not None:
        return (
            f"{_clear_name(turns)} lists {len(places[turns])} texts, and not who says them: write one record a question, "
            "{input: …}, or the texts as messages: [{role: user, content: …}, …]"
        )
    if texts and 2 * sum(name.rstrip().endswith("?") for name in texts) >= len(texts):
        return f"{told}: the keys are the questions; write one record for each: {{input: …, reference: …}}"
    is_flat = not any(isinstance(value, dict | list) for row in rows for value in row.values())
    worded = texts if is_flat and len(texts) == 1 else [name for name in texts if " " in places[name].strip()]
    longest = max(worded, key=lambda name: len(places[name]), default=None)
    named = (
        f"columns: {{input: {_clear_name(longest)}}}" if longest else "columns: {input: …}, or the list of records with rows: …"
    )
    return f"{told}; name the question's{': ' if longest else ' column with '}{named}" if told else ""


def _lists_turns(name: str, value: Any) -> bool:
    return (
        _last_step(name) in TURNS and isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
    )


def _names_id(name: str) -> bool:
    """Whether a column is called like an id, which is no question however long it is."""
    last = name.rpartition(".")[2].strip()
    return re.search(r"(^|[^A-Za-z]|[a-z])(Id|ID|Uuid|UUID|GUID)$|(^|[^a-z]|" + _ID_OF + r")(id|uuid|guid)$", last) is not None


def guessed_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Our field to the column that is surely it, by names that tools and people give: empty unless exactly one holds the question.

    A column that may be the answer is one that no other name fits better; what is not sure is left out.
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if _holds_text(name, rows)]
    found = {ours: [name for name in names if _plain_name(name) in known] for ours, known in SURE_NAMES.items()}
    if len(found["input"]) != 1:
        return {}
    return {ours: each[0] for ours, each in found.items() if len(each) == 1 and each[0] != ours}


def _holds_text(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(row.get(name), str) and str(row.get(name)).strip() for row in rows)


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _dotted_leaves(prefix: str, value: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """The values inside a row by their dotted names: texts, and lists that may be messages."""
    for key, each in value.items():
        name, found = f"{prefix}{key}", embedded(each)
        if isinstance(found, Mapping) and depth < MAX_STEPS:
            yield from _dotted_leaves(f"{name}.", found, depth + 1)
        elif isinstance(found, str | list):
            yield name, found


def _likely(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the names that ends like one of the wanted words, the likeliest word first."""
    lasts = {name: _last_step(name) for name in names}
    exact = next((name for word in wanted for name in names if lasts[name] == word), None)
    return exact or next((name for word in wanted if len(word) > 4 for name in names if word in lasts[name]), None)


def _last_step(name: str) -> str:
    """The last step of a dotted name that says what it holds."""
    *_, before, last = ["", *name.lower().split(".")]
    return before if before and last in ("value", "text", "content") else last


def _clear_name(name: str) -> str:
    return " ".join(name.split())[:60]


def looks_like(path: Path) -> str:
    """What a file of unknown format looks like, in a few words."""
    with path.open("rb") as stream:
        head = stream.read(4_096)
    if not head:
        return "it is empty"
    if (sign := next((told for magic, told in SIGNS if head.startswith(magic)), None)) is not None:
        return f"it looks like {sign}"
    if b"\0" in head:
        return "it looks like a binary file"
    line = head.decode("utf-8", "replace").strip().partition("\n")[0]
    marks = {"<": "XML or HTML", "---": "YAML", "|": "a Markdown table"}
    named = next((told for mark, told in marks.items() if line.startswith(mark)), None)
    delimited = next((letter for letter in ",;\t" if line.count(letter) > 1), None)
    return f"it looks like {named or ('a table' if delimited else 'plain text')}, and begins {' '.join(line.split())[:40]!r}"


# What a conversation is called; its column has the same name, or ends in id.
WHOLES = ("conversation", "session", "thread", "chat", "dialog", "dialogue", "ticket", "trace", "run")
ORDERS = ("turn", "turnid", "turnindex", "turnnumber", "messageindex", "position", "sequence", "seq", "index", "step")
# Columns that order the messages of a conversation, by number and by time.
TIMES = ("createdat", "timestamp", "time", "ts", "at", "createtime", "sentat", "date")
SAID = ("content", "text", "message", "body", "value", "parts", "utterance")
MAX_LINES = 2_000_000  # they are held in memory until their conversations are whole


def message_of(row: Row) -> Message | None:
    """The one message that a row is; None when it is none."""
    inner = row.get("message")
    if isinstance(inner, Mapping):
        found = read_messages([inner])
    else:
        said = next((row[name] for name in SAID if not _is_empty(row.get(name))), None)
        named = {name: row[name] for name in ("role", "author", "type", *SENDERS) if name in row}
        found = (
            read_messages([{**named, "content": said}])
            if said is not None and role_of({**named, "content": said}) in KNOWN
            else None
        )
    return found[0] if found and len(found) == 1 else None


def message_lines(rows: Sequence[Row]) -> bool:
    """Whether two thirds or more of a log's first rows are one message each, and not only users speak."""
    said = [message for row in rows if (message := message_of(row)) is not None]
    return len(said) > 1 and 3 * len(said) >= 2 * len(rows) and any(message["role"] != "user" for message in said)


def conversations(rows: Iterable[Row]) -> tuple[str, int, list[dict[str, Any]]]:
    """The column that names the conversations, how many rows are no message, and the conversations as rows in order of beginning.

    They have `id` and `messages`; of other columns the last line counts. Raises `QueryError` where no column names the conversations.
    """
    every = list(rows)
    listed = [row for row in every if message_of(row) is not None]
    if len(listed) > MAX_LINES:
        raise QueryError(f"cannot put together {len(listed):,} lines of one message each; write one conversation a line")
    column = _column_of(listed, [each for whole in WHOLES for each in (f"{whole}id", whole)])
    if column is None:
        raise QueryError(
            "each record is one message of a conversation, and no column tells which; name it conversation_id, or write one "
            "conversation a line with its messages in a list: {messages: [{role: user, content: …}, …]}"
        )
    order = _column_of(listed, ORDERS) or _column_of(listed, TIMES)
    whole = defaultdict[Any, list[Row]](list)
    for row in listed:
        whole[str(row[column])].append(row)
    found = [_conversation_of(name, _in_order(lines, order), column) for name, lines in whole.items()]
    return column, len(every) - len(listed), found


def _column_of(rows: Sequence[Row], names: Sequence[str]) -> str | None:
    """The column of one of these names that all rows have, the first name first."""
    plain = {"".join(letter for letter in name.lower() if letter.isalnum()): name for name in (rows[0] if rows else ())}
    found = [plain[name] for name in names if name in plain]
    return next((name for name in found if not any(_is_empty(row.get(name)) for row in rows)), None)


def _is_empty(value: Any) -> bool:
    return missing(value) or (isinstance(value, str) and not value.strip())


def _in_order(lines: Sequence[Row], column: str | None) -> Sequence[Row]:
    if column is None:
        return lines
    try:
        return sorted(lines, key=lambda row: _number(row[column]))
    except TypeError:  # numbers and texts
        return lines


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _conversation_of(name: str, lines: Sequence[Row], column: str) -> dict[str, Any]:
    told = {"message", "role", "author", "type", "id", "uuid", column, *SAID, *SENDERS}
    others = {key: value for row in lines for key, value in row.items() if key not in told and not _is_empty(value)}
    return {**others, "id": name, "messages": [message_of(row) for row in lines]}


INSTRUCTION = "instruction"
AFTER = ("choices", "options")
BESIDE = (
    INSTRUCTION,
    "instructions",
    "context",
    "passage",
    "premise",
    "prompt",
    "question",
    "query",
    "input",
    "system",
    *AFTER,
)
# Different values of a column `system` from which on it is no release's prompt but each record's own.
OWN_SYSTEMS = 3


def with_instruction(rows: Sequence[Mapping[str, Any]], named: Mapping[str, Any]) -> dict[str, str]:
    """The columns that are asked together where rows have an instruction of their own beside the input; `named`: the settings.

    One instruction for all is a release's prompt, which is not asked inside another.
    """
    is_decided = {"input", "messages"} & {*named} or INSTRUCTION in [part for each in _named(named) for part in parts_of(each)]
    if is_decided or any(row.get(name) for row in rows for name in ("messages", "history", "vars")):
        return {}
    told = [text for row in rows if "input" in row and isinstance(text := row.get(INSTRUCTION), str) and text.strip()]
    return {"input": f"{INSTRUCTION}{PLUS}input"} if len(set(told)) > 1 or len(told) == len(rows) == 1 else {}


def guess_told(columns: Mapping[str, str]) -> str:
    """What a notice says of columns that nobody named, after "the log has"."""
    said = f"read as columns: {{{', '.join(f'{ours}: {name}' for ours, name in columns.items())}}} (guessed)"
    if PLUS in columns.get("input", ""):
        return f"an instruction beside each input: {said}; columns: {{input: input}} asks the input alone"
    return f"no column input: {said}"


def beside_notices(queries: Sequence[Query], named: Mapping[str, Any]) -> Iterator[str]:
    """A line for each column that reads like a part of the question and is not asked."""
    asked = str(named.get("input", "input"))
    used = {part for each in _named(named) for part in parts_of(each)} | {"input"}
    for column in dict.fromkeys(str(name) for query in queries for name in query):
        word = column.strip().lower()
        if word not in BESIDE or column in used:
            continue
        left_out = [query for query in queries if _is_left_out(query, query.get(column))]
        if not left_out or (word == "system" and len({str(query[column]) for query in left_out}) < OWN_SYSTEMS):
            continue
        both = f"{asked}{PLUS}{column}" if word in AFTER else f"{column}{PLUS}{asked}"
        has_input = any(query.get("input") is not None for query in left_out)
        done = f"; columns: {{input: {both}}} asks them together" if has_input else ""
        yield (
            f"the column {column} of {len(left_out):,} of {len(queries):,} sampled records is no part of their question, unless a "
            f"prompt template names it{done}"
        )


def _named(columns: Mapping[str, Any]) -> list[str]:
    return [each for each in columns.values() if isinstance(each, str)]


def _is_left_out(query: Query, value: Any) -> bool:
    """Whether a value holds text that the question does not."""
    asked = "\n".join([str(query.input), *(str(each.get("content")) for each in query.messages)])
    return any(text.strip() and text.strip() not in asked for text in _texts_in(decoded(value)))


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        value = value.get("text")
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, str)]
