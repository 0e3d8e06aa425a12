"""The user's service on the wire: several of the same, each asked for one trial at a time, since its base URL is its process's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bisect_ai.queries.query import Query
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.command_target import words_of
from bisect_ai.targets.programs import Program, ProgramEnded, end_all
from bisect_ai.targets.served_target import asking_at, await_health, free_port, path_of, with_port
from bisect_ai.targets.target_settings import positive
from bisect_ai.targets.wire.proxy import new_token


@dataclass(eq=False)
class _Running:
    """A running service, and the token in its base URL."""

    token: str
    port: int
    program: Program


class ServedPrograms:
    """At most `most` services; one is started when all others are asked."""

    def __init__(self, settings: Mapping[str, Any], folder: Path, most: int, seconds: float) -> None:
        self._command = words_of(settings, "serve")
        self._health, self._path = path_of(settings, "health"), path_of(settings, "path")
        self._starts, self._folder, self._seconds = positive(settings, "starts", 60), folder, seconds
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
                    answer = asyncio.run(http(query, {}, 0))
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
        token, port = new_token(), free_port()
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
