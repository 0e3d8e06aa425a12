"""Logs with one message a record: which message a row is, and the conversations that the rows make together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.messages import KNOWN, SENDERS, Message, read_messages, role_of
from bisect_ai.queries.sample import Row
from bisect_ai.queries.values import missing

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
