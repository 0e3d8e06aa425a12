"""What a verdict sets off: it is told where people look (`--notify`), and commands of the user's own are run.

That a place cannot be told is said, and changes nothing else. Addresses and keys come from the environment and are never shown. Each
place has some seconds in all; no redirect is followed. A command is split into words and never given to a shell.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from bisect_ai.canonical import json_object, json_or
from bisect_ai.cli.group import remark
from bisect_ai.errors import BisectError, ConfigError
from bisect_ai.provider.redaction import redact_all
from bisect_ai.report import payloads
from bisect_ai.report.untrusted_text import one_line

# For one place, all its requests together.
SECONDS = 20.0
# Of an answer: a page of 100 comments of GitHub, 65,536 characters each at the most, is seldom a tenth of that.
MOST_BYTES = 4 << 20
# Pages of comments, 100 each, among which the earlier one is looked for.
PAGES = 10
KINDS = "slack:ENV, webhook:URL or webhook:ENV, github, langfuse, phoenix"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # name of an environment variable
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")  # owner/name, and nothing that would lead to another address


class Untold(BisectError):
    """A place could not be told; the message holds no address and no key."""


@dataclass(frozen=True)
class Sink:
    """A place to tell: its kind, and the variable or address after the colon."""

    kind: str
    where: str = ""


def parsed_sink(text: str) -> Sink:
    """`slack:ENV` and so on as a value. Raises `ConfigError`."""
    kind, _, where = text.partition(":")
    is_variable = _VARIABLE.fullmatch(where) is not None
    fits = {
        "slack": is_variable,
        "webhook": is_variable or urlsplit(where).scheme in ("http", "https"),
        "github": not where,
        "langfuse": not where,
        "phoenix": not where,
    }
    if not fits.get(kind, False):
        shown = kind if kind in fits else one_line(kind, limit=20)
        if kind == "slack" and "://" in where:
            raise ConfigError(
                "cannot use --notify slack: an address of Slack is a secret, and a command line is no place for it; "
                "put it into a variable, as with export SLACK_URL=..., and write --notify slack:SLACK_URL"
            )
        raise ConfigError(f"cannot use --notify {shown}: write {KINDS}; ENV is a variable that holds the address")
    return Sink(kind, where)


def untellable(sinks: Iterable[str]) -> list[str]:
    """A line for each place whose variables are not set: said before the work, which goes on. Raises `ConfigError`."""
    told = []
    for sink in map(parsed_sink, sinks):
        missing = [name for name in _variables(sink) if not os.environ.get(name, "").strip()]
        if missing:
            names = f"variable {missing[0]} is" if len(missing) == 1 else f"variables {' and '.join(missing)} are"
            told.append(
                f"--notify {sink.kind}: will not be told, as the {names} not set: set it and begin again, or go on without"
            )
    return told


def _variables(sink: Sink) -> tuple[str, ...]:
    """The variables that a place cannot be told without."""
    if sink.kind in ("slack", "webhook"):
        return () if "://" in sink.where else (sink.where,)
    needed = {"github": ("GITHUB_REPOSITORY", "GITHUB_TOKEN"), "langfuse": ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")}
    return needed.get(sink.kind, ())


def tell(sinks: Iterable[str], report: dict[str, Any]) -> Iterator[str]:
    """Tells every place of the report; gives a line for each that could not be told."""
    for sink in map(parsed_sink, sinks):
        trouble = _in_time(lambda sink=sink: _TELL[sink.kind](sink, redact_all(report)))  # type: ignore[misc]  # a bound default
        if trouble:
            yield f"--notify {sink.kind}: not told: {one_line(trouble, limit=200)}; the verdict stands"


def _in_time(act: Callable[[], None]) -> str:
    """Why it failed; empty: it did not. A thread that hangs is left behind."""
    found: list[str] = [f"no answer within {SECONDS:g} s"]

    def run() -> None:
        try:
            act()
            found[0] = ""
        except Untold as untold:
            found[0] = str(untold)
        except Exception as error:  # whatever a library raises: its text may hold the address
            found[0] = type(error).__name__

    thread = threading.Thread(target=run, name="bisect-ai-notify", daemon=True)
    thread.start()
    thread.join(SECONDS)
    return found[0]


# -- the places --------------------------------------------------------------------------------------------------------
def _slack(sink: Sink, report: Mapping[str, Any]) -> None:
    _send("POST", _variable(sink.where), payloads.slack(report))


def _webhook(sink: Sink, report: Mapping[str, Any]) -> None:
    address = sink.where if "://" in sink.where else _variable(sink.where)
    _send("POST", address, payloads.webhook(report))


def _langfuse(sink: Sink, report: Mapping[str, Any]) -> None:  # noqa: ARG001 - as every place is told
    host = _first_of("LANGFUSE_HOST", "LANGFUSE_BASE_URL") or "https://cloud.langfuse.com"
    keys = _variable("LANGFUSE_PUBLIC_KEY"), _variable("LANGFUSE_SECRET_KEY")
    said = _send("POST", f"{host.rstrip('/')}/api/public/ingestion", payloads.langfuse(report, at=_now()), auth=keys)
    refused = said.get("errors") if isinstance(said, dict) else None
    if refused:
        raise Untold(f"{len(refused)} events were refused")


def _phoenix(sink: Sink, report: Mapping[str, Any]) -> None:  # noqa: ARG001 - as every place is told
    """Annotates the span of the question; where there is none yet, it is made first."""
    address, project = (
        _first_of("PHOENIX_ENDPOINT", "PHOENIX_COLLECTOR_ENDPOINT"),
        _first_of("PHOENIX_PROJECT", "PHOENIX_PROJECT_NAME"),
    )
    top = re.sub(r"(/v1/traces)?/*$", "", address or "http://127.0.0.1:6006") + "/v1"
    key = _first_of("PHOENIX_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    notes = payloads.phoenix_annotations(report)
    try:
        _send("POST", f"{top}/span_annotations?sync=true", notes, headers=headers)
    except Untold:
        spans = f"{top}/projects/{quote(project or 'default', safe='')}/spans"
        _send("POST", spans, payloads.phoenix_span(report, at=_now()), headers=headers)
        _send("POST", f"{top}/span_annotations", notes, headers=headers)


def _first_of(*names: str) -> str:
    """The first of these variables that is set; empty: none."""
    return next(filter(None, (os.environ.get(name, "").strip() for name in names)), "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _github(sink: Sink, report: Mapping[str, Any]) -> None:  # noqa: ARG001 - as every place is told
    """On a pull request the comment with our marker, new or edited; elsewhere a check run on the commit."""
    repository = _variable("GITHUB_REPOSITORY")
    if not _REPOSITORY.fullmatch(repository):
        raise Untold("GITHUB_REPOSITORY is not owner/name")
    top = f"{os.environ.get('GITHUB_API_URL', 'https://api.github.com').rstrip('/')}/repos/{repository}"
    headers = {"Authorization": f"Bearer {_variable('GITHUB_TOKEN')}", "Accept": "application/vnd.github+json"}
    number = _pull_request()
    if number is None:
        body = json.loads(payloads.check_run(report, sha=os.environ.get("GITHUB_SHA", "")))
        _send("POST", f"{top}/check-runs", body, headers=headers)
        return
    body = {"body": payloads.comment(report)}
    marker = payloads.marker_of(report)
    for comment in _comments(f"{top}/issues/{number}/comments", headers):
        if str(comment.get("body", "")).startswith(marker) and _edited(
            f"{top}/issues/comments/{int(comment['id'])}", body, headers
        ):
            return
    _send("POST", f"{top}/issues/{number}/comments", body, headers=headers)


def _edited(address: str, body: Mapping[str, object], headers: Mapping[str, str]) -> bool:
    """Whether the comment could be edited: one of somebody else, who copied the marker, cannot."""
    try:
        _send("PATCH", address, body, headers=headers)
    except Untold:
        return False
    return True


def _comments(address: str, headers: Mapping[str, str]) -> Iterable[Mapping[str, Any]]:
    for page in range(1, PAGES + 1):
        found = _send("GET", f"{address}?per_page=100&page={page}", headers=headers)
        if not isinstance(found, list):
            raise Untold("the list of comments is none")
        yield from (comment for comment in found if isinstance(comment, dict))
        if len(found) < 100:
            return


def _pull_request() -> int | None:
    """The number of the pull request that the job runs for."""
    if found := re.fullmatch(r"refs/pull/(\d+)/(?:merge|head)", os.environ.get("GITHUB_REF", "")):
        return int(found[1])
    try:
        event = json_object(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
        return None if event is None else int(event["pull_request"]["number"])
    except (KeyError, OSError, ValueError, TypeError):
        return None


_TELL: Mapping[str, Callable[[Sink, Mapping[str, Any]], None]] = {
    "slack": _slack,
    "webhook": _webhook,
    "github": _github,
    "langfuse": _langfuse,
    "phoenix": _phoenix,
}


# -- the wire ----------------------------------------------------------------------------------------------------------
def _variable(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise Untold(f"the variable {name} is not set")
    return value


def _send(
    method: str,
    address: str,
    body: Mapping[str, object] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
) -> Any:
    """The answer's JSON, None where it is none. Raises `Untold`, which names neither address nor key."""
    import httpx

    try:
        with (
            httpx.Client(timeout=SECONDS / 2, follow_redirects=False) as client,
            client.stream(
                method, quote(address, safe=":/?&=%#@+,;~!$'()*[]-._"), json=body, headers=headers, auth=auth
            ) as response,
        ):
            told = b""
            for part in response.iter_bytes():
                told += part
                if len(told) > MOST_BYTES:
                    raise Untold("the answer does not end")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise Untold(f"{type(error).__name__}") from None
    if not response.is_success:
        raise Untold(f"the answer is {response.status_code}")
    return json_or(None, told)


# -- commands of the user's own -----------------------------------------------------------------------------------------
# That the command may take.
HOOK_SECONDS = 600.0
# Of what the command prints, that are passed on.
_SAID_BYTES = 4096
# Left to read what it printed, once it has ended.
_READING_SECONDS = 1.0


def words_of(command: str | None) -> list[str]:
    """A command line as its words. Raises `BisectError` for one that cannot be split."""
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BisectError(f"cannot use --on-rollback {command[:60]!r}: {error}; quote it as a shell would") from error
    if not words:
        raise BisectError("--on-rollback is empty; name a command, or leave it out")
    return words


def run_hook(words: list[str], report: dict[str, Any]) -> None:
    """Run the command where rolling back is safe for a machine; it reads the report as JSON on its standard input.

    Raises `BisectError` when it cannot be run or fails: nothing was rolled back then, as far as is known.
    """
    from bisect_ai.report.json_edge import read
    from bisect_ai.report.report_values import Report

    canary = read(Report, report).canary
    if canary is None or not canary.safe_to_revert:
        if canary is not None and canary.kind == "roll_back":
            remark("bisect-ai: --on-rollback was not run: the evidence is not strong enough for a machine to act on it")
        return
    try:
        code, said = _run_words(words, json.dumps(report).encode())
    except (OSError, ValueError) as error:
        raise BisectError(f"--on-rollback: cannot run {words[0]!r}: {error}; the canary was not rolled back by it") from error
    _tell(*said)
    if code is None:
        raise BisectError(
            f"--on-rollback: {words[0]!r} took more than {HOOK_SECONDS:g} s and was ended; look whether the canary was rolled back"
        )
    if code:
        raise BisectError(f"--on-rollback: {words[0]!r} ended with {code}; look whether the canary was rolled back")
    remark(f"bisect-ai: ran {words[0]!r} to roll the canary back")


def _run_words(words: list[str], given: bytes) -> tuple[int | None, list[bytes]]:
    """The exit code, and the start of what was said on each stream; no code: it took too long, and was ended with its group.

    Only the command itself is waited for: what it leaves running holds its streams open, and goes on.
    """
    process = subprocess.Popen(  # noqa: S603 (the user's own command, no shell)
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    said = [bytearray(), bytearray()]
    threading.Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
    readers = [
        threading.Thread(target=_read, args=each, daemon=True)
        for each in zip((process.stdout, process.stderr), said, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait(HOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None, [bytes(each) for each in said]
    finally:
        if process.returncode is None:  # interrupted, too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for reader in readers:
        reader.join(_READING_SECONDS)
    return process.returncode, [bytes(each) for each in said]


def _feed(stream: IO[bytes], given: bytes) -> None:
    with contextlib.suppress(OSError), stream:
        stream.write(given)


def _read(stream: IO[bytes], said: bytearray) -> None:
    """Read to the end, so that nobody waits; only the start is kept."""
    with contextlib.suppress(OSError, ValueError), stream:
        while part := os.read(stream.fileno(), 65536):
            said += part[: _SAID_BYTES - len(said)]


def _tell(*streams: bytes) -> None:
    """What the command said, in a line for each stream."""
    from bisect_ai.report.untrusted_text import one_line

    for said in streams:
        if text := one_line(said.decode(errors="replace"), limit=400):
            remark(f"--on-rollback: {text}")
