"""The user's program as target: it runs in a folder that holds the cell's mixture of files, a JSON line in, a JSON line out.

In: the query's columns without `reference`, `scores` and the logged output. Out: an object of `Answer`'s fields (`{"id", "text",
"tool_calls", "usage", "scores", …}`), matched by `id`, else by order; or plain text, which is an answer when the program ends after it.
Other text on standard output is kept aside and told. The first query is asked with the input closed behind it, so that every program
shows how it answers; one that then answers only when its input is closed is noticed at the first deadline and run once for each query.

A program that ends before the first answer of its cell makes the cell infeasible, with the last lines of its standard error; one that
ends later is a failed trial, and started anew. A fixed number of programs run at most (`ProcessPool`), each left running for the next
query of its cell while there is room.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bisect_ai.canonical import json_or, plain
from bisect_ai.errors import ConfigError, Infeasible
from bisect_ai.provider.redaction import holds_key, line_of
from bisect_ai.queries.query import Query
from bisect_ai.release.checkout import FileSplit
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.cells import LOCKS, CellFolders
from bisect_ai.targets.http_target import ANSWERS, read_answer, sent_columns
from bisect_ai.targets.programs import Program, ProgramEnded, end_all
from bisect_ai.targets.target import check_known, positive
from bisect_ai.targets.workplace import Cell

SETTINGS = frozenset(
    (
        "kind",
        "run",
        "shell",
        "process",
        "env",
        "include",
        "setup",
        "setup_files",
        "setup_seconds",
        "deadline",
        "concurrency",
        "version",
    )
)
_PLACEHOLDER = re.compile(r"\{\{?\s*(?:input|question|query)\s*\}\}?")
# That a program may take to answer once its input is closed.
_LATER_SECONDS = 10.0
Releases = Mapping[str, Mapping[str, Any]]


class CommandTarget:
    """Answers of a program. Settings: `run` (split like a command line; `shell: true` for a shell), `process` (long, each), `env`,
    `include` (untracked files), `setup` with `setup_files` and `setup_seconds`, `deadline` (seconds an answer, 120), `concurrency` (8).
    """

    is_async = False
    is_local = True

    def __init__(self, settings: Mapping[str, Any], *, files: FileSplit, releases: Releases) -> None:
        check_program(settings, SETTINGS, "run")
        command = words_of(settings, "run")
        self._process: str | None = settings.get("process")
        if self._process not in (None, "long", "each"):
            raise ConfigError(f"cannot read target.process: {self._process!r}; use long (the default) or each")
        self._seconds = positive(settings, "deadline", 120)
        self.concurrency = int(positive(settings, "concurrency", 8))
        self._folders = folders_of(settings, files, releases)
        self._pool = ProcessPool(command, self._folders, self.concurrency)
        setup_seconds = positive(settings, "setup_seconds", 1800) if settings.get("setup") else 0.0
        self.deadline = 2 * self._seconds + _LATER_SECONDS + setup_seconds
        self.identity = identity_of_program(settings, self._folders, "run")
        self.notices = notices_of(releases)
        self._is_known = False
        self._is_long = self._is_text = False
        self._first = threading.Lock()
        self._aside: list[str] = []
        self._asides = 0
        self._told: list[str] = []

    @property
    def remarks(self) -> Sequence[str]:
        """What is to be said of the program once it has run."""
        if not self._asides:
            return tuple(self._told)
        first = f"{self._aside[0]!r}" if self._aside else ""
        lines = "1 line" if self._asides == 1 else f"{self._asides} lines"
        return (
            *self._told,
            f"the program wrote {lines} on standard output that are no answers (the first: {first}); left aside",
        )

    def close(self) -> None:
        """End all programs and remove their folders."""
        self._pool.close()
        self._folders.close()

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer:
        """The program's answer. Raises `Infeasible` for a combination that cannot run, `TargetFailure` for a release that cannot."""
        del repeat  # as in a Python target, not the program's business
        line = json.dumps(plain(sent_columns(query), where="query"), ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"
        with self._folders.using(release) as cell:
            started = time.monotonic()
            answer = cell.answer(lambda: self._once(cell, line, query.id))
            return answer_in(answer, time.monotonic() - started)

    def _once(self, cell: Cell, line: bytes, name: str) -> Answer:
        if not self._is_known:
            with self._first:
                if not self._is_known:
                    return self._introduced(cell, line, name)
        return self._by_itself(cell, line, name)[0] if self._process == "each" else self._in_turn(cell, line, name)

    def _introduced(self, cell: Cell, line: bytes, name: str) -> Answer:
        """The first answer, which shows whether the program answers in JSON or in plain text."""
        answer, is_text = self._by_itself(cell, line, name)
        self._is_text = is_text
        if is_text and self._process is None:
            self._run_for_each("the program answers in plain text")
        self._is_known = True
        return answer

    def _by_itself(self, cell: Cell, line: bytes, name: str) -> tuple[Answer, bool]:
        """The answer of a fresh program whose input ends after the query, and whether it is plain text."""
        until = time.monotonic() + self._seconds
        with self._pool.lent(cell, fresh=True) as program:
            program.send(line, last=True)
            said: list[str] = []
            try:
                while (text := program.line(until)) is not None:
                    answer = answer_in_line(text, name)
                    if answer is not None:
                        self._keep_aside(said)
                        return answer, False
                    said.append(text)
                code = program.wait(until)
            except TimeoutError:
                return self._late(), False
            whole = "".join(said).strip()
            if (answer := answer_in_line(whole, name)) is not None:
                self._run_for_each("the program writes its answer over several lines")
                return answer, False
            if code == 0 and (whole or self._is_text):
                return Answer(text=whole, outcome="ok" if whole else "empty"), True
            raise ProgramEnded(program.why())

    def _in_turn(self, cell: Cell, line: bytes, name: str) -> Answer:
        """The answer of a program that goes on to the next query."""
        with self._pool.lent(cell) as program:
            program.send(line)
            try:
                answer = self._next(program, name, time.monotonic() + self._seconds)
                self._is_long = True
                self._pool.keep(program)
                return answer
            except TimeoutError:
                return self._late() if self._is_long else self._closed(program, name)

    def _closed(self, program: Program, name: str) -> Answer:
        """The answer of a program that has been silent for a whole deadline, now that its input is closed."""
        program.close_input()
        try:
            answer = self._next(program, name, time.monotonic() + _LATER_SECONDS)
        except (TimeoutError, ProgramEnded):
            return self._late()
        self._run_for_each("the program answers only when its input is closed")
        return answer

    def _run_for_each(self, why: str) -> None:
        """From now on a program answers one query, which is told once."""
        if self._process != "each":
            self._process = "each"
            self._told.append(f"{why}: it is run once for each query")

    def _next(self, program: Program, name: str, until: float) -> Answer:
        """The next answer. Raises `TimeoutError`, or `ProgramEnded` at the end of the output."""
        while (text := program.line(until)) is not None:
            answer = answer_in_line(text, name)
            if answer is not None:
                return answer
            if self._is_text and text.strip():  # `process: long` was asked for: a line is an answer
                return Answer(text=text.strip())
            self._keep_aside([text])
        raise ProgramEnded(program.why())

    def _keep_aside(self, lines: Sequence[str]) -> None:
        lines = [line for line in lines if line.strip()]
        self._asides += len(lines)
        if lines and not self._aside:
            self._aside.append(line_of(lines[0])[:80])

    def _late(self) -> Answer:
        return Answer(error=f"TimeoutError: no answer within {self._seconds:g} s", outcome="timeout")


def answer_in_line(text: str, name: str, *, keys: Collection[str] = (*ANSWERS, "infeasible")) -> Answer | None:
    """The answer in a line of output, of which an answer has one of the `keys`; None when it is none, or the answer to another query.

    Raises `Infeasible`, if it says so. NaN, which Python and R write for what they do not know, loses no answer; a byte order mark is
    no text.
    """
    text = text.lstrip("\ufeff \t\r\n")
    value = json_or(None, text, numbers="as text") if text.startswith("{") else None
    if not isinstance(value, Mapping) or str(value.get("id", name)) != name or not value.keys() & set(keys):
        return None
    if isinstance(value.get("infeasible"), str):
        raise Infeasible(line_of(value["infeasible"]))
    if not value.keys() & ANSWERS:
        return None
    left_out = {"id", *(ANSWERS - set(keys))}
    try:
        return read_answer({key: each for key, each in value.items() if key not in left_out})
    except ValueError as wrong:
        return Answer(error=line_of(wrong), outcome="malformed")


def answer_in(answer: Answer, seconds: float) -> Answer:
    """The answer with the seconds that it took, where it does not say."""
    return answer if answer.latency_s is not None else replace(answer, latency_s=round(seconds, 6))


def check_program(settings: Mapping[str, Any], known: frozenset[str], key: str) -> None:
    """Raises `ConfigError` for a setting that there is not, or a command that is missing."""
    check_known(settings, known, "command")
    if not settings.get(key):
        raise ConfigError(f"cannot read target: it needs `{key}`, a command line such as `python answer.py`")
    if found := _PLACEHOLDER.search(str(settings[key])):  # it would be passed as it is, and every answer paid for nothing
        reads = "gets queries as lines of JSON on standard input; read the `input` of each there"
        raise ConfigError(f"cannot read target.{key}: {found[0]} is not filled in: the program {reads}, or use `kind: wire`")


def words_of(settings: Mapping[str, Any], key: str) -> list[str] | str:
    """A command: a list of words, or with `shell: true` one text."""
    return _command(settings[key], f"target.{key}", is_shell=bool(settings.get("shell")))


def _command(value: Any, where: str, *, is_shell: bool) -> list[str] | str:
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigError(f"cannot read {where}: {str(value)[:40]!r} is no command line")
    if is_shell:
        return value
    try:
        return shlex.split(value)
    except ValueError as bad:
        raise ConfigError(f"cannot read {where}: {value!r}: {bad}") from bad


def folders_of(settings: Mapping[str, Any], files: FileSplit, releases: Releases) -> CellFolders:
    """The folders that the settings ask for."""
    setup, is_shell = settings.get("setup") or [], bool(settings.get("shell"))
    lines = [setup] if isinstance(setup, str) else setup
    return CellFolders(
        files,
        releases,
        include=_names(settings, "include", ()),
        setup=[_command(line, "target.setup", is_shell=is_shell) for line in lines],
        setup_files=_names(settings, "setup_files", LOCKS),
        setup_seconds=positive(settings, "setup_seconds", 1800),
        environment=environment_of(settings),
    )


def environment_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """What `env` says. Raises `ConfigError` for what is no text, or looks like a key."""
    given = settings.get("env") or {}
    if not isinstance(given, Mapping):
        raise ConfigError("cannot read target.env: it maps names of variables to values")
    for name, value in given.items():
        if not isinstance(value, str | int | float) or holds_key(str(value)):
            raise ConfigError(
                f"cannot read target.env of {str(name)[:40]!r}: give a plain text; programs have this process's environment, so keep "
                "credentials there"
            )
    return {str(name): str(value) for name, value in given.items()}


def _names(settings: Mapping[str, Any], key: str, default: Sequence[str]) -> list[str]:
    value = settings.get(key, list(default))
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"cannot read target.{key}: it is a list of paths or patterns")
    return names


def identity_of_program(settings: Mapping[str, Any], folders: CellFolders, key: str) -> dict[str, Any]:
    """What of a program can change an answer, besides the axes."""
    own = {name: settings[name] for name in (key, "shell", "env", "setup", "path", "version") if settings.get(name)}
    form = (
        {"form": 2} if "setup" in own else {}
    )  # before, what a setup had built from one combination's source served all of them
    return {"kind": "command", **plain(own, where="target"), **form, "cells": folders.digest}  # type: ignore[dict-item]  # a mapping, as given


def notices_of(releases: Releases) -> list[str]:
    """One line for files of which cells hold something else."""
    stored = {
        name for axes in releases.values() for value in axes.values() for name, text in value.items() if _is_pointer(text)
    }
    if not stored:
        return []
    return [f"{', '.join(sorted(stored)[:3])}: kept by Git LFS, cells hold the pointer and not the file"]


def _is_pointer(value: Any) -> bool:
    return isinstance(value, Mapping) and "lfs" in value


class ProcessPool:
    """At most `most` programs at once. One is lent to one trial at a time."""

    def __init__(self, command: Sequence[str] | str, folders: CellFolders, most: int) -> None:
        self._command, self._folders, self._most = command, folders, most
        self._changed = threading.Condition()
        self._idle: OrderedDict[Program, Cell] = OrderedDict()
        self._lent: dict[Program, Cell] = {}
        self._starting = 0

    @contextmanager
    def lent(self, cell: Cell, *, fresh: bool = False) -> Iterator[Program]:
        """A program in the cell, `fresh` or one that has answered before; ended unless it is `kept`. Raises `ProgramEnded`."""
        program = self._taken(cell, fresh=fresh)
        try:
            yield program
        finally:
            with self._changed:
                held = program in self._lent
            if held:
                self.drop(program)

    def keep(self, program: Program) -> None:
        """Leave a lent program running for the next query of its cell."""
        with self._changed:
            self._idle[program] = self._lent.pop(program)
            self._changed.notify()

    def drop(self, program: Program) -> None:
        """End a lent program."""
        program.end()
        with self._changed:
            cell = self._lent.pop(program, None)
            self._changed.notify()
        if cell is not None:
            self._folders.count(cell, -1)

    def close(self) -> None:
        """End all."""
        with self._changed:
            programs = [*self._idle, *self._lent]
            cells = list(self._idle.values())
            self._idle.clear()
        end_all(programs)
        for cell in cells:
            self._folders.count(cell, -1)

    def _taken(self, cell: Cell, *, fresh: bool) -> Program:
        old = None
        with self._changed:
            while True:
                found = None if fresh else next((p for p, its in self._idle.items() if its is cell), None)
                if found is not None:
                    self._lent[found] = self._idle.pop(found)
                    return found
                if len(self._idle) + len(self._lent) + self._starting < self._most:
                    break
                if self._idle:
                    old = self._idle.popitem(last=False)
                    break
                self._changed.wait()
            self._starting += 1
        try:
            if old is not None:
                old[0].end()
                self._folders.count(old[1], -1)
            program = Program(self._command, folder=cell.home, environment=self._folders.environment)
            self._folders.count(cell, 1)
        except BaseException:  # the others wait for this start, whatever ends it
            with self._changed:
                self._starting -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._starting -= 1
            self._lent[program] = cell
        return program
