"""The user's service as target: started in the folder of each cell on a port of its own, then asked as the http target asks.

The request is `{"query": {…}, "repeat": n}`, posted to `path`. A service is asked once its `health` path answers; one that ends before
makes its cell infeasible, with the last lines of its standard error.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bisect_ai.canonical import plain
from bisect_ai.errors import ConfigError
from bisect_ai.provider.redaction import line_of
from bisect_ai.provider.transport import close_connections
from bisect_ai.queries.query import Query
from bisect_ai.release.checkout import FileSplit
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.command_target import Releases, check_program, folders_of, identity_of_program, notices_of, words_of
from bisect_ai.targets.http_target import HttpTarget, sent_columns
from bisect_ai.targets.programs import Program, ProgramEnded, end_all
from bisect_ai.targets.target import positive
from bisect_ai.targets.workplace import Cell

_HTTP = ("attempts", "timeout", "deadline", "concurrency")
SETTINGS = frozenset(
    {
        *("kind", "serve", "shell", "health", "path", "starts", "services", "env", "include", "setup", "setup_files"),
        *("setup_seconds", "version", *_HTTP),
    }
)
_LOOK_SECONDS = 0.1  # between two questions whether a server has begun


class _Asked(HttpTarget):
    """A service that needs not be told which sides its axes are on: its files are what they are."""

    def _request(self, query: Query, release: Mapping[str, Any], repeat: int) -> dict[str, Any]:
        del release
        return {"query": plain(sent_columns(query), where="query"), "repeat": repeat}


@dataclass(eq=False)
class _Service:
    """A running service and how it is asked."""

    cell: Cell
    program: Program
    asked: HttpTarget
    under_way: int = 0


class ServedTarget:
    """Answers of services, one for each cell. Settings: `serve` (a command line, with `{port}`), `health` (/), `path` (/), `starts`
    (seconds until it must answer, 60), `services` (that run at once, 4), those of a program, and `attempts`, `timeout`, `deadline`
    as of the http target, `concurrency` (16: the program runs on this machine, and may not stand more).
    """

    is_async = True
    is_local = True
    remarks: Sequence[str] = ()

    def __init__(self, settings: Mapping[str, Any], *, files: FileSplit, releases: Releases) -> None:
        check_program(settings, SETTINGS, "serve")
        self._command = words_of(settings, "serve")
        self._health, self._path = (path_of(settings, name) for name in ("health", "path"))
        self._starts, self._most = positive(settings, "starts", 60), int(positive(settings, "services", 4))
        self._http = {name: settings[name] for name in _HTTP if name in settings}
        self._folders = folders_of(settings, files, releases)
        self._services: OrderedDict[str, _Service] = OrderedDict()
        self._guard = threading.Condition()
        like = self._asking(1)
        self.concurrency = int(positive(settings, "concurrency", 16))
        setup_seconds = positive(settings, "setup_seconds", 1800) if settings.get("setup") else 0.0
        self.deadline = like.deadline + self._starts + setup_seconds
        self.identity = identity_of_program(settings, self._folders, "serve")
        self.notices = notices_of(releases)

    def close(self) -> None:
        """End all services and remove their folders."""
        with self._guard:
            services = list(self._services.values())
            self._services.clear()
        end_all([service.program for service in services])
        self._folders.close()

    async def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer:
        """The answer of the cell's service. Raises `Infeasible` for a combination that cannot run, `TargetFailure` for a release."""
        service = await asyncio.to_thread(self._ready, release)
        try:
            answer = await service.asked(query, release, repeat)
            service.cell.has_answered = service.cell.has_answered or answer.error is None
            return replace(answer, endpoint=None)  # each cell has a port of its own, which says nothing
        finally:
            with self._guard:
                service.under_way -= 1
                self._guard.notify_all()

    def _asking(self, port: int) -> HttpTarget:
        return asking_at(port, self._path, self._http)

    def _ready(self, release: Mapping[str, Any]) -> _Service:
        """The running service of a cell, lent to one more trial; started if need be."""
        with self._folders.using(release) as cell, cell.guard:  # two trials of a cell start one service
            cell.check()
            service = self._running(cell)
            if service is None:
                self._make_room()
                service = self._started(cell)
            return service

    def _running(self, cell: Cell) -> _Service | None:
        with self._guard:
            service = self._services.get(cell.key)
            if service is None:
                return None
            if service.program.has_exited():
                del self._services[cell.key]
            else:
                self._services.move_to_end(cell.key)
                service.under_way += 1
                return service
        self._end(service)
        return None

    def _make_room(self) -> None:
        """End services that nobody asks, until there is room for one more, which then is taken into account by the caller."""
        ended = []
        with self._guard:
            while len(self._services) >= self._most:
                idle = next((key for key, service in self._services.items() if not service.under_way), None)
                if idle is None:
                    self._guard.wait()
                else:
                    ended.append(self._services.pop(idle))
        for service in ended:
            self._end(service)

    def _end(self, service: _Service) -> None:
        service.program.end()
        self._folders.count(service.cell, -1)

    def _started(self, cell: Cell) -> _Service:
        port = free_port()
        command = with_port(self._command, port)
        environment = {**self._folders.environment, "PORT": str(port)}
        try:
            program = Program(command, folder=cell.home, environment=environment)
            try:
                await_health(program, port, self._health, self._starts)
            except BaseException:
                program.end()
                raise
        except ProgramEnded as ended:
            cell.failure = line_of(f"its service ended before its first answer: {ended}")
            cell.check()
            raise AssertionError("checked") from ended
        service = _Service(cell, program, self._asking(port), under_way=1)
        self._folders.count(cell, 1)
        with self._guard:
            self._services[cell.key] = service
        return service


async def _asked_once(http: HttpTarget, query: Query) -> Answer:
    """Its answer, on an event loop that ends with it."""
    try:
        return await http(query, {}, 0)
    finally:
        await close_connections()


def asking_at(port: int, path: str, settings: Mapping[str, Any]) -> HttpTarget:
    """What asks a service on this machine."""
    return _Asked({"kind": "http", "url": f"http://127.0.0.1:{port}{path}", **settings}, good={}, bad={})


def await_health(program: Program, port: int, path: str, seconds: float) -> None:
    """Returns once the health path answers with a status below 500. Raises `ProgramEnded`."""
    import httpx

    until = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < until:
            if program.has_exited():
                raise ProgramEnded(program.why())
            try:
                if client.get(f"http://127.0.0.1:{port}{path}").status_code < 500:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(_LOOK_SECONDS)
    raise ProgramEnded(f"{path} did not answer within {seconds:g} s; {program.why()}")


def path_of(settings: Mapping[str, Any], name: str) -> str:
    """The path of an address in the settings. Raises `ConfigError`."""
    path = settings.get(name, "/")
    if not isinstance(path, str) or not path.startswith("/") or not path.isprintable() or " " in path:
        raise ConfigError(f"cannot read target.{name}: {str(path)[:40]!r} is no path of an address; write it like /health")
    return path


def with_port(command: Sequence[str] | str, port: int) -> Sequence[str] | str:
    """A command whose `{port}` is this one."""
    if isinstance(command, str):
        return command.replace("{port}", str(port))
    return [word.replace("{port}", str(port)) for word in command]


def free_port() -> int:
    """A port on 127.0.0.1 that nobody has."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@dataclass(eq=False)
class _Running:
    """A running service, and the token in its base URL."""

    token: str
    port: int
    program: Program


class ServedPrograms:
    """The same service several times, for the wire: each is asked for one trial at a time, since its base URL (with a `token`) is
    its process's. At most `most`; one is started when all others are asked.
    """

    def __init__(self, settings: Mapping[str, Any], folder: Path, most: int, seconds: float, token: Callable[[], str]) -> None:
        self._command = words_of(settings, "serve")
        self._health, self._path = path_of(settings, "health"), path_of(settings, "path")
        self._starts, self._folder, self._seconds = positive(settings, "starts", 60), folder, seconds
        self._token = token
        self._room = threading.Semaphore(most)
        self._idle: list[_Running] = []
        self._all: list[_Running] = []
        self._guard = threading.Lock()

    def answer(
        self,
        query: Query,
        bound: Callable[[str], AbstractContextManager[None]],
        environment: Callable[[str], Mapping[str, str]],
    ) -> Answer:
        """The answer of a service whose requests are `bound` to a trial meanwhile. Raises `ProgramEnded`."""
        with self._room:
            service = self._taken(environment)
            try:
                with bound(service.token):
                    http = asking_at(
                        service.port, self._path, {"attempts": 1, "timeout": self._seconds, "deadline": self._seconds}
                    )
                    answer = asyncio.run(_asked_once(http, query))
            except BaseException:
                self._drop(service)
                raise
            if service.program.has_exited():
                self._drop(service)
                raise ProgramEnded(service.program.why())
            if answer.outcome == "timeout":
                self._drop(service)
                return answer
            with self._guard:
                self._idle.append(service)
            return answer

    def close(self) -> None:
        """End all."""
        with self._guard:
            services, self._all, self._idle = self._all, [], []
        end_all([service.program for service in services])

    def _taken(self, environment: Callable[[str], Mapping[str, str]]) -> _Running:
        with self._guard:
            service = self._idle.pop() if self._idle else None
        if service is not None and not service.program.has_exited():
            return service
        if service is not None:
            self._drop(service)
        token, port = self._token(), free_port()
        around = {**environment(token), "PORT": str(port)}
        service = _Running(token, port, Program(with_port(self._command, port), folder=self._folder, environment=around))
        with self._guard:
            self._all.append(service)
        try:
            await_health(service.program, port, self._health, self._starts)
        except BaseException:
            self._drop(service)
            raise
        return service

    def _drop(self, service: _Running) -> None:
        service.program.end()
        with self._guard:
            if service in self._all:
                self._all.remove(service)
