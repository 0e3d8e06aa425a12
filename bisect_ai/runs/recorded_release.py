"""The axes of a release from what was recorded of it: model and settings, system prompt, tools, retrieved documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bisect_ai.canonical import canonical, digest
from bisect_ai.queries.values import embedded, missing, tidy

# Parameters of a call that make another release; what else was recorded (addresses, keys, time limits) does not go in.
PARAMETERS = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "frequency_penalty", "presence_penalty"),
    *("reasoning_effort", "response_format", "tool_choice", "parallel_tool_calls", "top_k", "n", "logprobs", "service_tier"),
)
# What other tools call a provider, and litellm's name of it.
PROVIDERS = {
    "openai": "openai", "anthropic": "anthropic", "azure": "azure", "azureopenai": "azure", "bedrock": "bedrock",
    "vertex": "vertex_ai", "google": "gemini", "gemini": "gemini", "ollama": "ollama_chat", "openrouter": "openrouter",
    "mistral": "mistral", "groq": "groq", "cohere": "cohere_chat", "deepseek": "deepseek", "xai": "xai", "grok": "xai",
    "togetherai": "together_ai", "together": "together_ai", "perplexity": "perplexity", "replicate": "replicate",
    "fireworks": "fireworks_ai", "cerebras": "cerebras", "huggingface": "huggingface", "hf": "huggingface",
    "azureai": "azure_ai", "vllm": "hosted_vllm", "cloudflare": "cloudflare",
}  # fmt: skip
# What a task was called with, as its tool recorded it: the user's own program knows what it means.
TASK_AXIS = "task"
_MODES = ("chat", "messages", "completion", "responses", "text", "text-generation", "chat-completion", "embedding")
# What a template would read: doubled braces, a name in braces, and a brace at an end, where a placeholder may follow.
_MEANT = re.compile(r"\{\{|\}\}|\{[A-Za-z_]\w*\}|^[{}]|[{}]$")


@dataclass
class RecordedRelease:
    """A release as far as it is known: axes by name, and what could not be known, a sentence each."""

    name: str
    axes: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def calls_a_model(self) -> bool:
        """Whether a model is named that litellm may know, and nothing that only a program of the user's reads."""
        return bool(self.axes.get("model", {}).get("model")) and TASK_AXIS not in self.axes


def litellm_model(name: str) -> str | None:
    """litellm's name of a model that a log or a provider id names; None: it names a program or an address."""
    text = name.strip()
    if (
        not text
        or "://" in text
        or text.split(":")[0] in ("exec", "python", "file", "http", "https", "package", "echo", "webhook")
    ):
        return None
    head, colon, rest = text.partition(":")
    if not colon or "/" in head:  # "openai/gpt-4o" or "gpt-4o": litellm's own or nearly
        first, slash, model = text.partition("/")
        return f"{PROVIDERS[first]}/{model}" if slash and first in PROVIDERS else text
    parts = rest.split(":")
    model = ":".join(parts[1:] if len(parts) > 1 and parts[0] in _MODES else parts)
    return f"{PROVIDERS[head]}/{model}" if head in PROVIDERS and model else None


def doubled_braces(text: str) -> str:
    """The text so that a template gives it back as it is, also beside a placeholder: braces that mean something are doubled."""
    if not _MEANT.search(text):
        return text
    return text.replace("{", "{{").replace("}", "}}")


def recorded_release(name: str, records: Sequence[Mapping[str, Any]]) -> RecordedRelease:
    """The release that answered these records."""
    release = RecordedRelease(name)
    _record_model(release, records)
    _record_prompt(release, records)
    _record_tools(release, records)
    _corpus(release, records)
    arguments, n, different = _most(
        found for r in records if isinstance(found := embedded(r.get("task_args")), Mapping) and found
    )
    _note_differences(release, "arguments of the task", n, different, len(records))
    if arguments:
        release.axes[TASK_AXIS] = dict(arguments)
    return release


def _most(values: Iterable[Any]) -> tuple[Any, int, int]:
    """The most frequent value, how often it is there, and how many different ones are; None, 0, 0 without any."""
    kept: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    for value in values:
        key = canonical(tidy(value, where="a recorded value"))
        kept.setdefault(key, value)
        counts[key] += 1
    if not counts:
        return None, 0, 0
    best, n = max(counts.items(), key=lambda each: each[1])
    return kept[best], n, len(counts)


def _note_differences(release: RecordedRelease, what: str, n: int, different: int, of: int) -> None:
    if different > 1:
        release.unknown.append(
            f"{release.name}: {different} different {what} are recorded; the most frequent one ({n} of {of} records) is written"
        )


def _record_model(release: RecordedRelease, records: Sequence[Mapping[str, Any]]) -> None:
    named = [str(r["model"]) for r in records if isinstance(r.get("model"), str) and r["model"]]
    model, n, different = _most(named)
    _note_differences(release, "models", n, different, len(named))
    if model is None:
        release.unknown.append(f"{release.name}: no model is recorded; write its name in axes.model")
        return
    known = litellm_model(model)
    if known is None:
        release.axes["model"] = {"provider": model}
        release.unknown.append(
            f"{release.name}: {model} is a program or an address, no model that litellm calls; write answer(query, release) in app.py"
        )
        return
    release.axes["model"] = {"model": known, **dict(_parameters(release, records))}


def _parameters(release: RecordedRelease, records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    given = [found for r in records if isinstance(found := embedded(r.get("params")), Mapping)]
    for name in PARAMETERS:
        values = [each[name] for each in given if not missing(each.get(name))]
        value, n, different = _most(values)
        _note_differences(release, f"values of {name}", n, different, len(values))
        if n * 2 > len(given):
            yield name, value


def _record_prompt(release: RecordedRelease, records: Sequence[Mapping[str, Any]]) -> None:
    systems = [str(r.get("system") or "") for r in records]
    system, n, different = _most(systems)
    _note_differences(release, "system prompts", n, different, len(systems))
    release.axes["prompt"] = {**({"system": doubled_braces(system)} if system else {}), "user": "{input}"}
    if not system:
        release.unknown.append(f"{release.name}: no system prompt is recorded; the question is sent alone")


def _record_tools(release: RecordedRelease, records: Sequence[Mapping[str, Any]]) -> None:
    offered = [found for r in records if isinstance(found := embedded(r.get("tools")), list) and found]
    tools, n, different = _most(offered)
    _note_differences(release, "lists of tools", n, different, len(offered))
    called = {str(call.get("name")) for r in records for call in r.get("tool_results") or () if isinstance(call, Mapping)}
    if tools is not None:
        release.axes["tools"] = tools
    elif called:
        names = ", ".join(sorted(called)[:6])
        release.unknown.append(
            f"{release.name}: tools were called ({names}) but their schemas are not recorded; write them in axes.tools"
        )


def _corpus(release: RecordedRelease, records: Sequence[Mapping[str, Any]]) -> None:
    found = [docs for r in records if (docs := list(recorded_documents(r.get("documents"))))]
    if not found:
        return
    texts: dict[str, str] = {}
    for name, text in (each for docs in found for each in docs):
        if texts.setdefault(name, text) != text:
            texts[f"{name} {digest(text)[:8]}"] = text
    k = max(round(median(len(docs) for docs in found)), 1)
    release.axes["corpus"] = {"documents": texts, "retriever": {"kind": "tfidf", "k": k}}
    release.axes["context"] = {"documents": "before_question"}
    release.unknown.append(
        f"{release.name}: the corpus is the {len(texts)} documents that were retrieved; those never retrieved, the retriever and where "
        "documents stand in the prompt are not recorded"
    )


def recorded_documents(value: Any) -> Iterator[tuple[str, str]]:
    """(id, text) of each document that a record holds: texts, or mappings of text and id under their usual names."""
    for each in embedded(value) if isinstance(embedded(value), list) else ():
        if isinstance(each, str) and each.strip():
            yield f"doc-{digest(each)[:10]}", each
        elif isinstance(each, Mapping):
            text = next((str(each[key]) for key in ("text", "content", "page_content", "document") if each.get(key)), "")
            name = next((str(each[key]) for key in ("id", "source", "name", "title") if not missing(each.get(key))), "")
            if text.strip():
                yield name or f"doc-{digest(text)[:10]}", text
