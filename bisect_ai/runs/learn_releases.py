"""`run --learn`: one pass of each release's program records what it sends to its provider, and that is written as two releases.

Of several questions the parts are kept that all of them share: the system text's common lines, the settings, the tools by name.
What the programs ask is paid for from the budget of the run that follows, and is in the store under an id of its own.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import FILE, Config, heed_secrets_of
from bisect_ai.errors import BisectError, ConfigError, TargetFailure
from bisect_ai.provider.budget import GRACE_SECONDS, ONE_CALL, Account, Amount, CapReached, when_reserved
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.release.load import Release
from bisect_ai.runs.ledger import Before
from bisect_ai.runs.prepare import settle
from bisect_ai.runs.release_writer import check_no_key, write_release
from bisect_ai.runs.run_accounts import Common, ExchangeJournal, caps_of, cost_noted
from bisect_ai.store.artefacts import check_place, making_folder
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.target import metered
from bisect_ai.targets.wire.release_pieces import SAMPLING
from bisect_ai.targets.wire.request_shapes import Body, RequestShape, shape_of_path
from bisect_ai.targets.wire.wire_target import WireTarget

# That each program is asked: one would take the question's own text, a date or a found document for a part of the release.
QUESTIONS = 3
# Characters of common lines that are kept as a text: shorter ones stand anywhere.
_SHORTEST = 16
Request = tuple[RequestShape, Body]
FILES = {side: f"releases/learned-{side}.yaml" for side in ("good", "bad")}


@dataclass(frozen=True)
class Learnt:
    """Two releases as overrides of bisect.yaml, what was done (a line each), and what it cost."""

    overrides: Mapping[str, Any]
    lines: Sequence[str]
    before: Before


def learn_releases(config: Path, overrides: Mapping[str, Any], good_program: str) -> Learnt:
    """The two releases, written as files if they are not there.

    Raises `InputError` for what is wrong, `TargetFailure` when a program sends nothing or cannot run, `CapReached`.
    """
    began = time.monotonic()
    config = config / FILE if config.is_dir() else config
    beside = config.resolve().parent
    paths = {side: beside / name for side, name in FILES.items()}
    given = {side: str(path) for side, path in paths.items()}
    target = overrides.get("target") or heed_secrets_of(config).get("target")
    if not isinstance(target, Mapping) or target.get("kind") != "wire" or not target.get("run"):
        raise ConfigError("--learn needs the bad release's program: write it after --, such as -- python my_agent.py")
    settings, folder = settle({**overrides, **given}, config=config)
    programs = {"good": _program_words(good_program), "bad": settings.target["run"]}
    run = digest({"learn": programs, "target": {**settings.target, "run": None}, "seed": settings.seed})[:16]
    if all(path.is_file() for path in paths.values()):
        told = f"using {FILES['good']} and {FILES['bad']}, learnt before; delete them to learn anew"
        return Learnt(given, [told], Before(run))
    queries = load_queries(settings.log.path, settings=settings.log.settings(settings.seed), folder=folder).queries[:QUESTIONS]
    lines = []
    with making_folder(paths["good"].parent, what="the releases", then="nothing was asked"):
        for path in paths.values():
            check_place(path)
        with _Lessons(settings, folder, run) as lessons, cost_noted(lessons.store):
            for side, program in programs.items():
                axes = lessons.axes_of(program, queries, side)
                release = Release(f"learned-{side}", axes, {}, digest(axes))
                check_no_key(release)
                write_release(release, paths[side])
                lines.append(f"wrote {FILES[side]}: what the {side} release's program sent for {len(queries)} questions")
    return Learnt(given, lines, Before(run, minutes=(time.monotonic() - began) / 60))


def _program_words(program: str) -> list[str]:
    try:
        return shlex.split(program)
    except ValueError as bad:
        raise ConfigError(f"cannot read --learn {program!r}: {bad}") from bad


class _Lessons:
    """Asks programs for what they send, paid from the budget of the run that follows; each call is in the store like a run's."""

    def __init__(self, config: Config, folder: Path, run: str) -> None:
        self._config, self._folder, self._run = config, folder, run

    def __enter__(self) -> _Lessons:
        self.store = Store(None if self._config.store is None else self._folder / self._config.store)
        self._account = Account(caps_of(self._config), shared=Common(self.store, self._run))
        self._journal = ExchangeJournal(self.store, self._run, self._account)
        return self

    def __exit__(self, *exc: object) -> None:
        self.store.close()

    def axes_of(self, program: Any, queries: Sequence[Query], side: str) -> dict[str, Any]:
        """The axes of the release that a program has, by what it sends for the queries."""
        settings, most = {**self._config.target, "run": program}, self._config.budget.requests
        target = WireTarget(settings, folder=self._folder, good={}, bad={}, requests=most)
        target.keep_exchanges(self._journal)
        lesson = _Lesson(target, self._account)
        paid = metered(lesson, self._account, per_trial=self._config.budget.per_trial.usd, usual=self._account.usual)
        try:
            for query in queries:
                answer = self._asked(paid, lesson, query, identity=digest([self._run, side, query.digest]))
                if answer.outcome == "error":
                    raise TargetFailure(f"the {side} release's program does not run: {answer.error}; mend it, run again")
        except CapReached as reached:
            told = f"the {side} release was not learnt: {reached}; what was answered is kept: raise the cap, run again"
            raise CapReached(told, cap=reached.cap, account=reached.account) from reached
        finally:
            target.close()
        if not any(lesson.sent):
            raise TargetFailure(
                f"the {side} release's program sent nothing through the base URL that it was given: it has to read OPENAI_BASE_URL or "
                "ANTHROPIC_BASE_URL from its environment"
            )
        return axes_sent(lesson.sent)

    def _asked(self, paid: Any, lesson: _Lesson, query: Query, *, identity: str) -> Answer:
        """One answer; on record before it is asked for, and with its cost after."""
        run, store, asked = self._run, self.store, len(lesson.sent)
        with self._account.turn():
            self._account.spend(ONE_CALL)
            store.reserve(run, identity, usd=0.0)
        noted = when_reserved.set(lambda most: store.reserve(run, identity, usd=most.usd, tokens=most.tokens, calls=0))
        try:
            answer: Answer = paid(query, {}, 0)
        except BaseException:  # an interrupted answer may have been paid for
            most = store.reserved(run, identity) if len(lesson.sent) > asked else Amount()
            store.charge(run, identity, usd=most.usd, tokens=most.tokens, calls=len(lesson.sent) - asked)
            raise
        finally:
            when_reserved.reset(noted)
        usage, is_new = answer.usage, answer.attempts > 0  # else all of it was answered in an earlier sitting
        usd, tokens = (usage.usd or 0.0) + usage.unsettled_usd, usage.tokens + usage.unsettled_tokens
        store.charge(run, identity, usd=usd, tokens=tokens, calls=int(is_new))
        if not is_new:
            self._account.give_back(ONE_CALL)
        return answer


class _Lesson:
    """A program whose requests pass as they are, as a target; `sent` has the requests of each answer."""

    is_async = False
    concurrency = 1

    def __init__(self, target: WireTarget, account: Account) -> None:
        self._target, self._account = target, account
        self.identity = target.identity
        self.sent: list[list[tuple[str, Body]]] = []

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer:
        del release, repeat
        self.sent.append([])
        left = self._account.ends + GRACE_SECONDS - time.monotonic()
        answer, self.sent[-1] = self._target.record(query, seconds=left)
        return answer


def axes_sent(sent: Sequence[Sequence[tuple[str, Body]]]) -> dict[str, Any]:
    """The axes of a release from the (path, body) of the requests of some answers, in order.

    An answer may take several requests, each with its own system prompt, some to another model (`model_2`). Raises `BisectError` when
    none is of a known format.
    """
    places = list(_by_place(sent))
    if not places:
        raise BisectError("nothing that was sent is of a known format: chat completions, responses or messages")
    axes: dict[str, Any] = {}
    for number, model in enumerate(dict.fromkeys(str(place[0][1].get("model")) for place in places), 1):
        ours = [body for place in places for _, body in place if str(body.get("model")) == model]
        axes["model" if number == 1 else f"model_{number}"] = {"model": ours[0].get("model"), **_settings_sent(ours)}
    texts = _system_texts(places)
    if texts:
        axes["prompt"] = {"system": texts[0]} if len(texts) == 1 else {f"system_{n}": text for n, text in enumerate(texts, 1)}
    tools = _tools_sent(places)
    return {**axes, **({"tools": list(tools.values())} if tools else {})}


def _by_place(sent: Sequence[Sequence[tuple[str, Body]]]) -> Iterator[list[Request]]:
    """The first requests of the answers, the second ones and so on; at each place those to the model that is asked there most."""
    shaped = [[(shape_of_path(path.partition("?")[0]), body) for path, body in each] for each in sent]
    known = [[(shape, body) for shape, body in each if shape is not None] for each in shaped]
    for place in range(max(map(len, known), default=0)):
        here = [each[place] for each in known if place < len(each)]
        model = _most_common([body.get("model") for _, body in here])
        yield [(shape, body) for shape, body in here if body.get("model") == model]


def _settings_sent(bodies: Sequence[Body]) -> dict[str, Any]:
    """The sampling settings that all requests have alike."""
    first = bodies[0]
    return {key: first[key] for key in sorted(SAMPLING & set(first)) if all(body.get(key) == first[key] for body in bodies)}


def _system_texts(places: Sequence[Sequence[Request]]) -> list[str]:
    """What stays the same in the system prompts at each place; a later request of a loop repeats the first one's."""
    found: list[str] = []
    for place in places:
        texts = common_texts([_system(shape, body) for shape, body in place])
        found += [text for text in texts if not any(known in text for known in found)]
    return found


def _tools_sent(places: Sequence[Sequence[Request]]) -> dict[str, Any]:
    tools: dict[str, Any] = {}
    for shape, body in (request for place in places for request in place):
        for spot in shape.tools(body):
            description = {"description": spot.holder["description"]} if spot.holder.get("description") else {}
            schema = spot.holder.get(spot.schema_key) or {"type": "object", "properties": {}}
            tools.setdefault(spot.name, {"name": spot.name, **description, "parameters": schema})
    return tools


def _most_common(values: Sequence[Any]) -> Any:
    return max(values, key=lambda value: sum(json.dumps(each) == json.dumps(value) for each in values))


def _system(shape: RequestShape, body: Body) -> str:
    return "\n".join(spot.text for spot in shape.texts(body) if spot.role == "system")


def common_texts(texts: Sequence[str]) -> list[str]:
    """The runs of lines that all texts share, in order: what stays the same from question to question."""
    runs = [texts[0].split("\n")] if texts and texts[0] else []
    for text in texts[1:]:
        lines = text.split("\n")
        runs = [part for run in runs for part in _shared_runs(run, lines)]
    joined = ("\n".join(run).strip() for run in runs)
    return [text for text in joined if len(text) >= _SHORTEST or (text and len(runs) == 1)]


def _shared_runs(run: list[str], lines: list[str]) -> list[list[str]]:
    blocks = SequenceMatcher(None, run, lines, autojunk=False).get_matching_blocks()
    return [run[block.a : block.a + block.size] for block in blocks if block.size]
