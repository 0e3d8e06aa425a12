"""Scorers, built from what the user wrote."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest, parse_json
from bisect_ai.errors import ConfigError, without_plugins
from bisect_ai.provider.redaction import did_you_mean
from bisect_ai.provider.user_code import callable_identity, check_takes, import_callable
from bisect_ai.scoring import answer_scorers, kinds
from bisect_ai.scoring.judge import Judge
from bisect_ai.scoring.kinds import Kind
from bisect_ai.scoring.model_scorers import Bench, Embedder, Embedding
from bisect_ai.scoring.scorer import Scorer

KINDS: dict[str, type[Any]] = {
    "exact": kinds.Exact,
    "contains": kinds.Contains,
    "regex": kinds.Regex,
    "numeric": kinds.Numeric,
    "json_schema": kinds.JsonSchema,
    "json_fields": answer_scorers.JsonFields,
    "json_keys": answer_scorers.JsonKeys,
    "rouge_l": answer_scorers.RougeL,
    "refusal": answer_scorers.Refusal,
    "escalation": answer_scorers.Escalation,
    "retrieval_hit": answer_scorers.RetrievalHit,
    "citation": answer_scorers.Citation,
    "tool_call": kinds.ToolCalls,
    "tool_order": answer_scorers.ToolOrder,
    "repeated_calls": answer_scorers.RepeatedCalls,
    "steps": answer_scorers.Steps,
    "length": kinds.Length,
    "cost": kinds.Cost,
    "latency": kinds.Latency,
    "answer": kinds.Brought,
    "judge": Judge,
    "embedding": Embedding,
    "python": kinds.Python,
}
# What promptfoo, Inspect, DeepEval and others call a kind to what it is called here.
_ELSEWHERE = {
    **dict.fromkeys(("equals", "equal", "equality", "is", "match", "matches", "exact_match", "accuracy"), "exact"),
    **dict.fromkeys(("icontains", "includes", "include", "substring", "contains-any", "contains-all"), "contains"),
    **dict.fromkeys(("llm-rubric", "llm_rubric", "g-eval", "geval", "llm", "rubric", "model-graded-closedqa"), "judge"),
    **dict.fromkeys(("similar", "similarity", "semantic_similarity", "cosine"), "embedding"),
    **dict.fromkeys(("is-json", "contains-json", "json"), "json_schema"),
    **dict.fromkeys(("javascript", "function", "custom"), "python"),
}
# Part of every digest: raised when a kind scores the same answer differently than before.
VERSION = 1


def build_scorers(spec: Mapping[str, Any] | Sequence[Any], *, folder: Path | None = None) -> dict[str, Scorer]:
    """The scorers by name, from name -> callable (or `Scorer`), or from the list of bisect.yaml. Raises `ConfigError`.

    `folder` is where files and modules that the list names are looked for.
    """
    if isinstance(spec, Mapping):
        built = [_from_callable(name, given) for name, given in spec.items()]
    elif isinstance(spec, Sequence) and not isinstance(spec, str):
        built = [_from_settings(f"scorers[{number}]", given, folder or Path()) for number, given in enumerate(spec)]
    else:
        raise ConfigError(
            f"scorers is a {type(spec).__name__}; write a list of {{kind: …}}, or pass a mapping of name to function"
        )
    return _by_name(built)


def _by_name(built: Sequence[Scorer]) -> dict[str, Scorer]:
    if not built:
        raise ConfigError("scorers is empty; name at least one, for example {kind: exact, name: correct}")
    named: dict[str, Scorer] = {}
    for scorer in built:
        if scorer.name in named:
            raise ConfigError(f"two scorers have the name {scorer.name!r}; give each its own name")
        named[scorer.name] = scorer
    return named


def _from_callable(name: Any, given: Any) -> Scorer:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"a scorer has the name {name!r}; use a text that is not empty")
    if isinstance(given, Scorer):
        return given if given.name == name else Scorer(**{**_shallow_mapping(given), "name": name})
    if not callable(given):
        kind = f", for example - {{kind: {given}, name: {name}}}" if isinstance(given, str) and given in KINDS else ""
        raise ConfigError(
            f"scorer {name!r} is a {type(given).__name__}; write a list of {{kind: …, name: …}}{kind}; from Python pass a function of "
            "query and answer"
        )
    _check_function(given)
    return _scorer_of_kind(name, "python", kinds.Python(given))


def _check_function(given: Any) -> None:
    """Raises `ConfigError` for a function that no answer could be scored with, before any is paid for."""
    check_takes(given, "query", "answer")
    if inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(getattr(given, "__call__", None)):  # noqa: B004
        named = getattr(given, "__name__", type(given).__name__)
        raise ConfigError(
            f"cannot use {named}: it is asynchronous; give a plain function, as lambda query, answer: "
            f"asyncio.run({named}(query, answer))"
        )


def _from_settings(place: str, given: Any, folder: Path) -> Scorer:
    if isinstance(given, Scorer):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{place} is a {type(given).__name__}; write {{kind: …, name: …}}")
    word = given.get("kind")
    if word not in KINDS:
        raise ConfigError(f"{place}: unknown kind {word!r}{_did_you_mean_scorer(str(word), KINDS)}")
    name = given.get("name", word)
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"{place}: the name {name!r} is not a text; give the scorer a name")
    settings = {key: value for key, value in given.items() if key not in ("kind", "name")}
    built = _scorer_kind(f"{place} ({name})", word, settings, folder)
    if isinstance(built, Judge | Embedding):
        return _asking_scorer(name, word, built, folder)
    return _scorer_of_kind(name, word, built)


def _asking_scorer(name: str, word: str, kind: Judge | Embedding, folder: Path) -> Scorer:
    """A scorer that asks a model, with what asks it."""
    identity = digest({"kind": word, **kind.identity(folder)})
    batch = Bench(kind, folder=folder) if isinstance(kind, Judge) else Embedder(kind, folder=folder)
    return Scorer(name, None, identity, batch, kind.content, **_meaning(kind))


def _scorer_kind(place: str, word: str, settings: Mapping[str, Any], folder: Path) -> Kind | Judge | Embedding:
    known = [field.name for field in fields(KINDS[word])]
    for key in settings:
        if key not in known:
            raise ConfigError(f"{place}: unknown key {key!r}{_did_you_mean_scorer(str(key), known)}")
    try:
        return _validated_kind(word, _resolved_settings(settings, folder))
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _resolved_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with a schema's file and a function's name replaced by what they name."""
    resolved = dict(settings)
    if isinstance(resolved.get("schema"), str):
        resolved["schema"] = _schema_of_file(folder / resolved["schema"])
    if isinstance(resolved.get("rubric"), Mapping):
        resolved["rubric"] = _rubric_text(folder, resolved["rubric"])
    if isinstance(resolved.get("function"), str):
        resolved["function"] = import_callable(resolved["function"], folder=folder)
        _check_function(resolved["function"])
    return resolved


def _rubric_text(folder: Path, given: Mapping[str, Any]) -> str:
    if set(given) != {"file"}:
        raise ConfigError("the rubric is a text, or {file: path}")
    try:
        return (folder / str(given["file"])).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the rubric {given['file']}: {error}; name a text file") from error


def _schema_of_file(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the schema {path}: {error}; name a JSON file") from error


def _validated_kind(word: str, settings: Mapping[str, Any]) -> Kind | Judge | Embedding:
    """The settings as a value of their kind; texts that a loader left as they were written become numbers and booleans."""
    from pydantic import TypeAdapter, ValidationError

    try:
        with without_plugins():
            kind: Kind | Judge | Embedding = TypeAdapter(KINDS[word]).validate_python(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ConfigError(f"the key {key!r} is missing; `bisect-ai guide scorers` says what {word} takes") from None
        raise ConfigError(f"{key}: {first['msg']}") from None
    return kind


def _scorer_of_kind(name: str, word: str, kind: Kind) -> Scorer:
    return Scorer(name, kind, _scorer_digest(word, kind), content=kind.content, **_meaning(kind))


def _scorer_digest(word: str, kind: Any) -> str | None:
    """SHA-256 of kind and settings; a function stands by its identity."""
    settings = _shallow_mapping(kind)
    if isinstance(kind, kinds.Python):
        settings["function"] = callable_identity(kind.function)
        if settings["function"] is None:
            return None
    return digest({"kind": word, "settings": settings, "version": VERSION})


def _meaning(kind: Kind | Judge | Embedding) -> dict[str, Any]:
    """What the numbers of a kind mean, as a scorer takes it."""
    return {"higher_is_better": kind.higher_is_better, "bounded": kind.bounded, "unit": kind.unit}


def _shallow_mapping(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _did_you_mean_scorer(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    meant = _ELSEWHERE.get(word, word)
    return did_you_mean(meant if meant in known else word, known, f"; use one of {', '.join(known) or '(none)'}", cutoff=0.7)
