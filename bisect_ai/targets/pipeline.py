"""From a query and a release to the messages and tools of one call: pure, no model and no network in here.

Axes read: `prompt`, `context`, `tools` (and `corpus`, by `retrieval`). Templates are filled by plain substitution in a
single pass: known names in braces become their values, unknown ones and other braces stay as written, and what a
value contains is never filled again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from bisect_ai.errors import ReleaseError, nearest
from bisect_ai.provider.redaction import did_you_mean, shown
from bisect_ai.queries.query import Query
from bisect_ai.release.tools import read_tools
from bisect_ai.targets.answer import message_text
from bisect_ai.targets.retrieval import Document

Message = dict[str, Any]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")  # variables; doubled braces are braces
_DOUBLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")  # variables as promptfoo and Langfuse write them
# Variables of templates besides the log's columns.
FILLED = frozenset(("input", "documents", "history"))
_PLACES = ("before_question", "after_question", "system")
_SPOKEN = ("user", "assistant")


def fill_template(template: str, values: Mapping[str, Any], *, double: bool = False) -> str:
    """`template` with `{name}` replaced where `values` knows the name, and `{{`, `}}` read as single braces.

    `double`: its variables are written `{{name}}`, promptfoo's spelling, and single braces are text.
    """
    if double:
        return _DOUBLE.sub(lambda match: message_text(values[match[1]]) if match[1] in values else match[0], template)

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0][0]
        return message_text(values[name]) if name in values else match[0]

    return _PLACEHOLDER.sub(replaced, template)


def _variables_of_template(template: str, spelling: re.Pattern[str]) -> list[re.Match[str]]:
    return [match for match in spelling.finditer(template) if match[1]]


def is_double(release: Mapping[str, Any], known: Container[str]) -> bool:
    """Whether a release's prompt writes its variables as `{{name}}`: something known is named so, and nothing as `{name}`.

    Over all of the prompt: beside a `{name}` that is filled, doubled braces are how single ones are written.
    """
    texts = templates_of(release).values()
    if any(match[1] in known for text in texts for match in _variables_of_template(text, _PLACEHOLDER)):
        return False
    return any(match[1] in known for text in texts for match in _variables_of_template(text, _DOUBLE))


def variables_of(release: Mapping[str, Any], known: Container[str]) -> list[tuple[str, str, str]]:
    """(where, variable as written, its name) of all that is filled, or should be, in the templates of a release."""
    spelling = _DOUBLE if is_double(release, known) else _PLACEHOLDER
    texts = templates_of(release).items()
    return [(place, match[0], match[1]) for place, text in texts for match in _variables_of_template(text, spelling)]


def other_spelling(release: Mapping[str, Any], known: Container[str]) -> list[tuple[str, str]]:
    """(where, name) of what is written `{{name}}` in a prompt whose variables are `{name}`: it would be sent with single braces."""
    if is_double(release, known):
        return []
    texts = templates_of(release).items()
    return [(place, match[1]) for place, text in texts for match in _DOUBLE.finditer(text)]


def lost_question(release: Mapping[str, Any], known: Container[str]) -> str | None:
    """The user template of a release as it stands, when nothing in the prompt is filled, so that no question reaches the model."""
    is_filled = any(name in known for _, _, name in variables_of(release, known))
    return None if is_filled else templates_of(release)["prompt.user"]


def templates_of(release: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a release that are filled for each query, by where they stand."""
    prompt = _prompt_axis(release.get("prompt"))
    return {"prompt.system": prompt["system"], "prompt.user": prompt["user"]}


@dataclass(frozen=True)
class Context:
    """How documents and history reach the model: the `context` axis, with its defaults."""

    documents: str = "before_question"
    history: int | None = None
    max_chars: int | None = None
    heading: str = ""
    separator: str = "\n\n"
    document: str = '<document id="{id}">\n{text}\n</document>'

    @classmethod
    def of(cls, axis: Any) -> Context:
        """The context axis read; other keys than its fields are ignored (`unread_keys`). Raises `ReleaseError` for an unknown place."""
        if axis is None:
            return cls()
        if not isinstance(axis, Mapping):
            raise ReleaseError(f"cannot read the context axis: it is a {type(axis).__name__}; give a mapping")
        context = cls(**{name: axis[name] for name in cls.__dataclass_fields__ if axis.get(name) is not None})
        if context.documents not in _PLACES:
            raise ReleaseError(
                f"cannot read context.documents: {context.documents!r} is unknown; use one of {', '.join(_PLACES)}"
            )
        return context

    def block(self, found: Sequence[Document]) -> str:
        """The documents as one text; those that would pass `max_chars` are left out, the first one is cut instead."""
        texts = [fill_template(self.document, {"id": one.id, "text": one.text.strip()}) for one in found]
        if self.max_chars is not None:
            texts = self._fitting(texts, self.max_chars)
        return self.separator.join(([self.heading] if self.heading and texts else []) + texts)

    def _fitting(self, texts: list[str], room: int) -> list[str]:
        ends = list(accumulate(len(text) + len(self.separator) for text in texts))
        fitting = [text for text, end in zip(texts, ends, strict=True) if end - len(self.separator) <= room]
        return fitting or [text[:room] for text in texts[:1] if room]


# What is read of an axis that is a mapping; of a corpus only where its documents stand under a key.
_READ = {
    "corpus": ("documents", "retriever"),
    "prompt": ("system", "user", "examples"),
    "context": tuple(Context.__dataclass_fields__),
}


def unread_keys(*releases: Mapping[str, Any]) -> list[str]:
    """A line on each key of the releases that nothing reads. Raises `ReleaseError` for one that looks like a slip of one that is."""
    told: dict[str, None] = {}
    for release in releases:
        for axis, known in _READ.items():
            value = release.get(axis)
            if not isinstance(value, Mapping) or (axis == "corpus" and "documents" not in value):
                continue
            for key in sorted(value.keys() - set(known)):
                line = f"the litellm target reads no key {shown(key)} of the axis {axis}"
                if nearest(key, known) is not None:
                    raise ReleaseError(f"{line}{did_you_mean(key, known)}")
                told[f"{line}: what it holds reaches no model; known here: {', '.join(known)}"] = None
    return sorted(told)


def build_messages(query: Query, release: Mapping[str, Any], found: Sequence[Document]) -> list[Message]:
    """The messages of the first call: system, examples, history, question; documents where context puts them."""
    prompt = _prompt_axis(release.get("prompt"))
    context = Context.of(release.get("context"))
    block, past = context.block(found), _past(query, context.history)
    values = {**query, "input": query.input, "documents": block, "history": _as_lines(past)}
    double = is_double(release, values)
    system, question = (fill_template(prompt[part], values, double=double) for part in ("system", "user"))
    named = {
        match[1]
        for part in ("system", "user")
        for match in _variables_of_template(prompt[part], _DOUBLE if double else _PLACEHOLDER)
    }
    if "documents" not in named:
        system, question = _placed_documents(context, block, system, question)
    head = [{"role": "system", "content": system}] if system else []
    past = [] if "history" in named else past
    return [*head, *_example_turns(prompt["examples"]), *past, {"role": "user", "content": question}]


def _prompt_axis(axis: Any) -> dict[str, Any]:
    given = axis if isinstance(axis, Mapping) else {"system": axis}
    prompt = {"system": given.get("system") or "", "user": given.get("user") or "{input}"}
    for part, text in prompt.items():
        if not isinstance(text, str):
            raise ReleaseError(f"cannot read prompt.{part}: it is a {type(text).__name__}; give a text")
    return {**prompt, "examples": given.get("examples") or []}


def _placed_documents(context: Context, block: str, system: str, question: str) -> tuple[str, str]:
    parts = {
        "before_question": ((system,), (block, question)),
        "after_question": ((system,), (question, block)),
        "system": ((system, block), (question,)),
    }[context.documents]
    head, tail = (context.separator.join(filter(None, side)) for side in parts)
    return head, tail


def _example_turns(examples: Any) -> list[Message]:
    """Worked examples as turns before the real ones: the question, the calls with their results, the answer."""
    if not isinstance(examples, list):
        raise ReleaseError(f"cannot read prompt.examples: it is a {type(examples).__name__}; give a list")
    return [message for place, example in enumerate(examples) for message in _turns_of_example(example, place)]


def _turns_of_example(example: Any, place: int) -> list[Message]:
    if not isinstance(example, Mapping) or "input" not in example:
        raise ReleaseError(f"cannot read prompt.examples[{place}]: give a mapping with input and output")
    turns: list[Message] = [{"role": "user", "content": message_text(example["input"])}]
    calls = [(f"example_{place}_{n}", call) for n, call in enumerate(example.get("tool_calls") or [])]
    if calls:
        turns.append(
            {"role": "assistant", "content": None, "tool_calls": [_tool_call_message(name, call) for name, call in calls]}
        )
    turns += [{"role": "tool", "tool_call_id": name, "content": message_text(call.get("result"))} for name, call in calls]
    if example.get("output") is not None:
        turns.append({"role": "assistant", "content": message_text(example["output"])})
    return turns


def _tool_call_message(call_id: str, call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call.get("arguments") or {}, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": str(call.get("name")), "arguments": arguments}}


def _past(query: Query, limit: int | None) -> list[Message]:
    """The last `limit` messages before the question, oldest first: what users and assistants said, as text."""
    logged: Iterable[Any] = query.history or query.messages[:-1]
    spoken = [_plain_message(message) for message in logged]
    kept = [message for message in spoken if message["role"] in _SPOKEN and message["content"]]
    return kept if limit is None else kept[max(len(kept) - limit, 0) :]


def _plain_message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        return {"role": "user", "content": message_text(message)}
    return {"role": str(message.get("role", "user")), "content": message_text(message.get("content"))}


def _as_lines(messages: Sequence[Message]) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def function_tools(axis: Any) -> list[dict[str, Any]]:
    """The tools axis, whatever its shape, as the function tools that litellm takes and writes as each provider wants them."""
    return [{"type": "function", "function": tool} for tool in read_tools(axis)]
