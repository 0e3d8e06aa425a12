"""Whether JSON fits a schema, within a time: patterns and references of a schema can search for ever on a hostile answer.

What could is checked in a process of its own, which is killed when it takes too long; any other schema at once, here. Nothing that a
schema refers to is fetched.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

# That one value may take.
SECONDS = 2.0
# That the process may take to come up.
START_SECONDS = 30.0
_TOLD = 300  # characters of a misfit: the message quotes the value
_MOST = 20  # misfits of one answer that are kept
_SLOW = frozenset({"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef", "uniqueItems", "contains", "format"})


class Misfit(NamedTuple):
    """What of a value the schema does not allow: the keyword that says so, where in the value, and a message."""

    keyword: str
    path: list[str]
    message: str


def fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether the schema allows the value. Raises `TimeoutError` when that takes too long, `ValueError` when it cannot be told."""
    text = json.dumps(schema, sort_keys=True)
    return bool(_checker.ask(text, value, "fits") if may_be_slow(text) else _fits_schema(text, value))


def misfits(schema: str, value: Any) -> list[Misfit]:
    """All that the schema, as JSON, does not allow, by place. Raises as `fits` does."""
    found = _checker.ask(schema, value, "misfits") if may_be_slow(schema) else _misfits(schema, value)
    return [Misfit(*one) for one in found]


def _fits_schema(schema: str, value: Any) -> bool:
    return bool(_json_validator(schema).is_valid(value))


def _misfits(schema: str, value: Any) -> list[Misfit]:
    errors = sorted(_json_validator(schema).iter_errors(value), key=lambda error: (list(map(str, error.path)), error.message))
    return [Misfit(str(error.validator), list(map(str, error.path)), error.message[:_TOLD]) for error in errors[:_MOST]]


_ASKED = {"fits": _fits_schema, "misfits": _misfits}


@lru_cache(maxsize=256)
def may_be_slow(schema: str) -> bool:
    """Whether checking against the schema may take long, so that another process does it."""
    return _has(json.loads(schema), _SLOW)


def _has(value: Any, keys: frozenset[str]) -> bool:
    if isinstance(value, dict):
        return bool(keys & value.keys()) or any(_has(each, keys) for each in value.values())
    return isinstance(value, list) and any(_has(each, keys) for each in value)


@lru_cache(maxsize=64)
def _json_validator(schema: str) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    read = json.loads(schema)
    return validator_for(read, default=Draft202012Validator)(read, registry=Registry())  # an empty registry: nothing is fetched


class _Checker:
    """The process, there from first use; a fresh one after it was killed. One value at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, schema: str, value: Any, what: str) -> Any:
        """What the function of that name in `_ASKED` says, as JSON."""
        with self._lock:
            if self._process is None:
                self._process = self._started()
            return self._asked(self._process, [schema, value, what])

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from bisect_ai.targets.bounded import serve_checks; serve_checks()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**known, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,  # Ctrl-C is ours to hear
        )
        self._process = process
        self._line(process, START_SECONDS)
        return process

    def _asked(self, process: subprocess.Popen[bytes], question: list[Any]) -> Any:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question).encode("ascii") + b"\n")
            process.stdin.flush()
        except OSError:
            self.close()
            raise ValueError("the process that checks schemas ended") from None
        told = json.loads(self._line(process, SECONDS))
        if isinstance(told, str):
            raise ValueError(told)
        return told

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert process.stdout is not None
        until, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(until - time.monotonic(), 0.0))
            read = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not read:
                self.close()
                late = f"the schema took more than {seconds:g} s; simplify its patterns"
                raise TimeoutError(late) if not ready else ValueError("the process that checks schemas ended")
            line += read
        return line


def serve_checks() -> None:
    """Answer from standard input until it ends: what was asked for, or as a text why it cannot be told."""
    import jsonschema.validators  # noqa: F401 - what takes long is done before the first value

    out = sys.stdout.buffer
    out.write(b"true\n")
    out.flush()
    for line in sys.stdin.buffer:
        schema, value, what = json.loads(line)
        try:
            told: object = _ASKED[what](schema, value)
        except Exception as error:  # a schema of a stranger may break the validator in any way: the next one still is answered
            told = f"{type(error).__name__}: {error}"[:300]
        out.write(json.dumps(told).encode("ascii") + b"\n")
        out.flush()


_checker = _Checker()
atexit.register(_checker.close)
