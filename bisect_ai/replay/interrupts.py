"""Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, the second stops now, a third ends the process.

While calls are under way the first signal only ends dispatch; the run comes to its end by itself and then raises `Interrupted`.
At any other time nothing is at stake, and the signal raises at once. Handlers can be set from the main thread only; elsewhere
nothing is changed. What was set before is restored.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bisect_ai.errors import Interrupted

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP
_SECOND = 2  # the interrupt that ends the run; the first lets what is under way come in, a third ends the process


class Stop:
    """Whether the user has asked to stop, and what to do when it happens."""

    def __init__(self, *, announce: str | None = None) -> None:
        """`announce`: printed at the first signal, with `{seconds}` for what is under way to come in."""
        self.signal: int | None = None
        self.raised = False
        self._announce = announce
        self._count = 0
        self._gently: Callable[[bool], float] | None = None
        self._held = False
        self._late = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal that would raise does so only at the end: answers are on their way to the disk."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._late:
            self._raise()

    @contextmanager
    def gently(self, act: Callable[[bool], float]) -> Iterator[None]:
        """Inside, the first signal calls `act`, which only sets flags; leaving raises `Interrupted` when there was one.

        `act` is told whether somebody sits there and can stop again, and tells how long it waits for what is under way.
        """
        self._gently = act
        try:
            if self.signal is not None:
                act(self.signal == signal.SIGINT)
            yield
        finally:
            self._gently = None
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` when a signal came: code in between may have swallowed what the handler raised."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        del frame
        self._count += 1
        self.signal = self.signal or number
        if self._count > _SECOND:
            os._exit(128 + number)
        if self._gently is not None and self._count < _SECOND:
            seconds = self._gently(number == signal.SIGINT)
            if self._announce:
                os.write(2, self._announce.format(seconds=seconds).encode())  # the only way to print that a handler may take
            return
        self._late = True
        if not self._held:
            self._raise()

    def _raise(self) -> None:
        self.raised, self._late = True, False
        raise Interrupted(self.signal or signal.SIGINT)


@contextmanager
def heeded(*, announce: str | None = None, last: bool = False) -> Iterator[Stop]:
    """The signals are heeded inside; `Interrupted` comes out when there was one, whatever it became on its way.

    `last`: afterwards the process only ends, so from then on a signal ends it at once and without a word.
    """
    stop = Stop(announce=announce)
    before = _set(stop.handle)
    try:
        yield stop
    except Exception:
        if stop.raised:  # duckdb, for one, makes a RuntimeError of what a handler raised
            raise Interrupted(stop.signal or signal.SIGINT) from None
        raise
    finally:
        _restore(dict.fromkeys(before, signal.SIG_DFL) if last else before)
    stop.check()


def _set(handler: Any) -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS}


def _restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)


# The garbage collector's thresholds during a run: litellm makes thousands of objects a call, a log's rows as many, nearly
# none in cycles.
SELDOM = (50_000, 20, 20)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Inside, the garbage collector runs as `SELDOM` says."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
