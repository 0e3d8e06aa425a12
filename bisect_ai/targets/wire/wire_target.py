"""The user's program as target, unchanged: it is run once for each trial, and what it asks its provider passes our proxy.

The question stands where the command says `{input}`, else it is the last argument; with `stdin: true` it is standard input; with
`serve` it is posted to the running service, which answers one trial at a time. The answer is what the program prints: an object of
`Answer`'s fields as its last line, else its whole standard output.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest, plain
from bisect_ai.errors import BisectError, ConfigError, Infeasible, ReleaseError, TargetFailure
from bisect_ai.provider.completion import Completions
from bisect_ai.provider.prices import checked_prices, total
from bisect_ai.provider.redaction import line_of
from bisect_ai.provider.retry import Wire
from bisect_ai.provider.usage import Usage
from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.command_target import answer_in_line, environment_of, words_of
from bisect_ai.targets.programs import Program, ProgramEnded
from bisect_ai.targets.served_target import ServedPrograms
from bisect_ai.targets.target import attempts_of, check_known, positive, with_tally
from bisect_ai.targets.wire.composing import KnownTools, WireCell
from bisect_ai.targets.wire.exchanges import (
    KEYS,
    ExchangeBook,
    ExchangeFailed,
    Exchanges,
    provider_spoken,
    upstreams_of,
    usage_of_exchange,
)
from bisect_ai.targets.wire.proxy import WireProxy, WireTrial, asking_of, new_token
from bisect_ai.targets.wire.release_pieces import checked_tools, files_read, model_name, pieces_of
from bisect_ai.targets.wire.request_shapes import Body
from bisect_ai.targets.workplace import Cell, Workplace

SETTINGS = frozenset(
    {
        *("kind", "run", "serve", "shell", "stdin", "env", "upstream", "deadline", "concurrency", "attempts", "timeout"),
        *("prices", "version", "health", "path", "starts"),
    }
)
# Trials after which a piece that no request has held is taken to be in none: a wrong release file must not cost more than
# that.
FIRST = 10
# Characters of a question as an argument; the kernel takes 128 KiB.
_LONGEST = 100_000


class WireTarget:
    """Answers of a program. Settings: `run` or `serve` (a command line), `shell`, `stdin`, `env`, `upstream` (the provider's base URL),
    `deadline` (seconds an answer, 180), `concurrency` (8), `attempts`, `timeout`, `prices`, `version` (of the program: part of a
    trial's identity), and of a service `health`, `path`, `starts`.
    """

    is_async = False
    is_local = True

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        folder: Path,
        good: Mapping[str, Any],
        bad: Mapping[str, Any],
        requests: int | None = None,
    ) -> None:
        _check(settings)
        sides = files_read(good), files_read(bad)
        checked_tools(*sides)
        self._settings, self._folder = settings, folder.absolute()
        self._pieces = pieces_of(*sides)
        self._sides = {digest(dict(axes)): side for side, axes in (("good", good), ("bad", bad))}
        self._seconds = positive(settings, "deadline", 180)
        self.deadline = self._seconds + 10.0
        self.concurrency = int(positive(settings, "concurrency", 8))
        attempts, timeout = attempts_of(settings), positive(settings, "timeout", 60)
        self._environment = environment_of(settings)
        self._upstreams = upstreams_of(settings.get("upstream"), {**os.environ, **self._environment})
        self._exchanges = Exchanges(self._upstreams, attempts=attempts, timeout=timeout, most=requests)
        self._proxy = WireProxy(self._exchanges)
        self._completions = Completions(
            Wire(), timeout=timeout, prices=checked_prices(settings.get("prices")), folder=self._folder
        )
        self._workplace: Workplace | None = None
        self._cells: dict[str, tuple[Cell, WireCell]] = {}
        self._tools: KnownTools = {}
        self._guard = threading.Lock()
        self._found: Counter[str] = Counter()
        self._trials = self._silent = 0
        services = (settings, self._folder, self.concurrency, self._seconds, new_token)
        self._served = ServedPrograms(*services) if "serve" in settings else None
        own = {
            name: settings[name] for name in ("run", "serve", "shell", "stdin", "env", "path", "version") if settings.get(name)
        }
        self.identity: dict[str, Any] = {
            "kind": "wire",
            **plain(own, where="target"),  # type: ignore[dict-item]  # a mapping, as given
            "upstream": dict(self._upstreams),
        }

    @property
    def remarks(self) -> Sequence[str]:
        """What is to be said once the program has run."""
        if self._trials and self._silent == self._trials:
            return (_sent_nothing(self._trials),)
        sent = {piece.place[0] for piece in self._pieces if piece.kind == "document" and self._found[piece.name]}
        never = [  # of documents some are sent for a question: one that never is cannot change an answer
            piece.name
            for piece in self._pieces
            if not self._found[piece.name] and not (piece.kind == "document" and piece.place[0] in sent)
        ]
        if not never or not self._trials:
            return ()
        return (f"no request held {', '.join(never[:5])} of either release: what that part changes was not measured",)

    def addresses(self, release: Mapping[str, Any]) -> list[str]:
        """Where the program's provider is asked."""
        return [self._upstreams[provider_spoken(self._upstreams, model_name(release))]]

    def unset_keys(self, release: Mapping[str, Any]) -> list[str]:
        """The variable that holds its key, where it is not set; the program may have its key from elsewhere."""
        name = KEYS[provider_spoken(self._upstreams, model_name(release))]
        return [] if os.environ.get(name) else [name]

    def keep_exchanges(self, book: ExchangeBook) -> None:
        """From now on the provider's answers are kept there."""
        self._exchanges.keep_in(book)

    def close(self) -> None:
        """End the proxy and all programs."""
        if self._served is not None:
            self._served.close()
        self._proxy.close()
        with self._guard:
            workplace, self._workplace = self._workplace, None
        if workplace is not None:
            workplace.close()

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer:
        """The program's answer. Raises `Infeasible` for a cell that no request could be given, `TargetFailure` for a release."""
        cell, composed = self._cell(release)
        cell.check()
        return cell.answer(lambda: self._once(query, cell, composed, repeat))

    def record(self, query: Query, *, seconds: float) -> tuple[Answer, list[tuple[str, Body]]]:
        """The program's answer when nothing is changed, and the (path, body) of what it sends, in so much time at most.

        An error in the answer says how the program ended. Raises what the provider's refusals raise, and `CapReached`.
        """
        started = time.monotonic()
        trial = WireTrial(asking_of(query.id, query.digest, 0, seconds=min(seconds, self._seconds)), None)
        try:
            answer = self._answer_of(query, trial)
        except ProgramEnded as ended:
            answer = Answer(error=str(ended), outcome="error")
        _raise_failure(trial)
        return with_tally(self._with_exchanges(answer, trial), trial.asking.tally, time.monotonic() - started), trial.bodies

    # -- one trial ---------------------------------------------------------------------------------------------------
    def _cell(self, release: Mapping[str, Any]) -> tuple[Cell, WireCell]:
        key = digest(dict(release))
        with self._guard:
            if key not in self._cells:
                here = Cell(key, self._sides.get(key), self._folder, self._folder)
                try:
                    read = files_read(release)
                except ReleaseError as error:
                    raise Infeasible(line_of(f"it cannot be composed on the wire: {error}")) from error
                self._cells[key] = here, WireCell(self._pieces, read, self._tools)
            return self._cells[key]

    def _once(self, query: Query, cell: Cell, composed: WireCell, repeat: int) -> Answer:
        trial = WireTrial(asking_of(query.id, query.digest, repeat, seconds=self._seconds), composed)
        started = time.monotonic()
        try:
            answer = self._answer_of(query, trial)
        except ProgramEnded as ended:
            _raise_failure(trial)
            self._check_composed(cell, composed, trial)
            refused = next((f for f in trial.failures if isinstance(f, ExchangeFailed)), None)
            if refused is None:
                raise
            answer = _failed(refused, f"{refused}; then the program ended: {ended}")
        _raise_failure(trial)
        self._check_composed(cell, composed, trial)
        infrastructure = next((f for f in trial.failures if isinstance(f, ExchangeFailed) and f.outcome != "failed"), None)
        if infrastructure is not None and answer.error is None:
            answer = _failed(infrastructure, str(infrastructure))
        return with_tally(self._with_exchanges(answer, trial), trial.asking.tally, time.monotonic() - started)

    def _answer_of(self, query: Query, trial: WireTrial) -> Answer:
        if self._served is not None:
            return self._served.answer(query, lambda token: self._proxy.trial(trial, token), self._environment_for)
        token = new_token()
        with self._proxy.trial(trial, token):
            return self._run(query, token, is_asked=lambda: bool(trial.bodies), until=trial.asking.until)

    def _run(self, query: Query, token: str, *, is_asked: Any, until: float) -> Answer:
        command = command_for(self._settings, query.input)
        program = Program(command, folder=self._folder, environment=self._environment_for(token))
        try:
            asked = f"{query.input}\n".encode("utf-8", "surrogatepass") if self._settings.get("stdin") else b""
            program.send(asked, last=True)
            lines: list[str] = []
            while (line := program.line(until)) is not None:
                lines.append(line)
            code = program.wait(until)
        except TimeoutError:
            return Answer(error=f"TimeoutError: no answer within {self._seconds:g} s", outcome="timeout")
        finally:
            program.end()
        answer = answer_in_output("".join(lines), query.id)
        if code != 0 or (not answer.text and not answer.tool_calls and answer.error is None and not is_asked()):
            raise ProgramEnded(program.why() if code != 0 else f"it said nothing and asked nothing; {program.why()}")
        return answer

    def _environment_for(self, token: str) -> dict[str, str]:
        with self._guard:
            self._workplace = self._workplace or Workplace()
        not_proxied = {name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))) for name in ("NO_PROXY", "no_proxy")}
        own = {"PYTHONUNBUFFERED": "1", **self._environment, **self._workplace.environment}
        return {**own, **not_proxied, **self._proxy.base_urls(token)}

    def _check_composed(self, cell: Cell, composed: WireCell, trial: WireTrial) -> None:
        """Raises `Infeasible` or `TargetFailure` when no request could be given what the cell has."""
        with self._guard:
            self._trials += 1
            self._silent += not trial.bodies
            self._found.update(trial.seen.found)
            if self._trials == FIRST:
                self._check_first()
        why = trial.seen.missing(composed.needed)
        if why is None:
            return
        cell.failure = line_of(f"it cannot be composed on the wire: {why}")
        if cell.side is not None:
            raise TargetFailure(f"the {cell.side} release cannot be composed on the wire: {line_of(why)}")
        raise Infeasible(cell.failure)

    def _check_first(self) -> None:
        """Raises `TargetFailure` when the first trials show that the program does not ask through us, or not what the releases say."""
        if self._silent == FIRST:
            raise TargetFailure(_sent_nothing(FIRST))
        asked = [piece.name for piece in self._pieces if piece.kind in ("model", "text", "tool")]
        if asked and not any(self._found[name] for name in asked):
            raise TargetFailure(
                f"no request of the program's held {', '.join(asked[:3])} of either release, in {FIRST} trials: the releases are not "
                "what it sends; --learn writes what it does send"
            )

    def _with_exchanges(self, answer: Answer, trial: WireTrial) -> Answer:
        """The answer with what the wire says of its cost and its calls, where the program does not say."""
        last = trial.answers[-1] if trial.answers else {}
        told: dict[str, Any] = {"steps": max(len(trial.bodies), 1)}
        if not answer.tool_calls:
            told["tool_calls"] = tuple(trial.calls)
        if answer.usage == Usage():
            told["usage"] = self._usage(trial)
        for name, key in (("model_returned", "model"), ("fingerprint", "system_fingerprint")):
            if getattr(answer, name) is None and last.get(key):
                told[name] = str(last[key])
        return replace(answer, **told)

    def _usage(self, trial: WireTrial) -> Usage:
        costs = (usage_of_exchange(paid, self._completions.price(paid.model)) for paid in trial.paid)
        return functools.reduce(total, costs, Usage(usd=0.0))


def _sent_nothing(trials: int) -> str:
    times = "1 trial" if trials == 1 else f"{trials} trials"
    return (
        f"the program sent nothing through the base URL that it was given, in {times}: it has to read OPENAI_BASE_URL or "
        "ANTHROPIC_BASE_URL from its environment"
    )


def command_for(settings: Mapping[str, Any], question: str) -> list[str] | str:
    """The command with the question in its place. Raises `ConfigError` for a question that no argument can hold."""
    words = words_of(settings, "run")
    if settings.get("stdin"):
        return words
    if "\0" in question or len(question) > _LONGEST:
        raise ConfigError(f"target of kind wire: a question of {len(question)} characters is no argument; set stdin: true")
    if isinstance(words, str):  # a shell line: the question is a variable there, never a part of the line
        return ["/bin/sh", "-c", words.replace("{input}", '"$1"') if "{input}" in words else f'{words} "$1"', "sh", question]
    if any("{input}" in word for word in words):
        return [word.replace("{input}", question) for word in words]
    return [*words, question]


def answer_in_output(output: str, name: str) -> Answer:
    """The answer that a program printed: an object as its last line, else all of it."""
    text = output.strip()
    found = answer_in_line(text.rpartition("\n")[2], name, keys=("text", "tool_calls", "error"))
    return found or Answer(text=text, outcome="ok" if text else "empty")


def _check(settings: Mapping[str, Any]) -> None:
    check_known(settings, SETTINGS, "wire")
    if bool(settings.get("run")) == bool(settings.get("serve")):
        raise ConfigError("cannot read target: it needs `run`, a command line such as `python my_agent.py`, or `serve`")
    words_of(settings, "run" if settings.get("run") else "serve")


def _raise_failure(trial: WireTrial) -> None:
    """Raises what ends the run or leaves the trial out: refused credentials, a cap, a store in trouble."""
    for failure in trial.failures:
        if isinstance(failure, BisectError):
            raise failure


def _failed(failed: ExchangeFailed, line: str) -> Answer:
    """What becomes of a trial whose provider gave no answer: an error, or an answer whose fate is that the request was refused."""
    if failed.outcome == "failed":
        return Answer(outcome="failed", reason=line_of(line))
    return Answer(error=line_of(line), outcome=failed.outcome)
