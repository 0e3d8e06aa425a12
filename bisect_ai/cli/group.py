"""The program itself: its group of commands, what becomes of errors and interrupts, and the standard streams it prints on."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

import click

from bisect_ai import __version__
from bisect_ai.errors import BisectError, Interrupted, nearest
from bisect_ai.provider.redaction import redact
from bisect_ai.replay.interrupts import heeded

# Exit code of a shell for a program that SIGINT ended: 128 + 2.
INTERRUPTED = 130
# That the program may take to end once all is written.
LAST_SECONDS = 3.0
_OURS = "this is a fault of bisect-ai itself, everything answered so far is kept:"
# Packages that a user may leave out, by the module that is imported.
_LEFT_OUT = {name: name for name in ("litellm", "openai", "matplotlib", "statsmodels")} | {"sklearn": "scikit-learn"}
# What options are called elsewhere, and what they are here.
_OTHER_NAMES = {
    "--budget": "--max-calls, --max-usd or --max-minutes",
    "--output": "--json, --markdown, --html or --junit",
    "--format": "--json, --markdown, --html or --junit",
}
# Commands that call the target or a model.
PAYING = ("run", "demo", "audit", "gate", "verify", "drift")


class _Group(click.Group):
    """Turns errors raised on purpose into one line and an exit code."""

    is_program = False

    def main(self, *args: Any, **options: Any) -> Any:
        """Called bare, as the installed script does, it is the program and not a part of one."""
        self.is_program = not args and not options
        if self.is_program:
            hold_standard_streams()
        try:
            return super().main(*args, **options)
        except SystemExit as ended:
            if self.is_program:
                _end_programs()
                self.hold_imports()
                _end_soon(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
            raise
        except OSError as error:  # `--help > /dev/full`: all else was told where it happened
            if not self.is_program:
                raise
            to_nowhere()
            _fail(f"cannot write to standard output: {error.strerror or error}", BisectError.exit_code)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """As click does; every option also has the variable that its own word says, whatever the code calls it."""
        super().add_command(cmd, name)
        for option in (each for each in cmd.params if isinstance(each, click.Option) and each.envvar is None):
            word = next((each for each in option.opts if each.startswith("--")), "")
            option.envvar = variable_of(str(name or cmd.name), word) if word else None

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """As click does; what it says of a wrong word shows no credential."""
        try:
            return super().make_context(*args, **options)
        except click.UsageError as error:
            raise _clean_usage(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with heeded(last=self.is_program):
                return super().invoke(ctx)
        except BisectError as error:
            if ctx.params.get("debug"):
                self.show_where()
            _fail(str(error), error.exit_code)
        except Interrupted as interrupted:
            kept = _stopped(interrupted) if ctx.invoked_subcommand in PAYING else "stopped"
            _fail(f"{kept}; go on with: {_same_command()}", interrupted.exit_code)
        except KeyboardInterrupt:
            _fail(f"stopped: everything answered so far is kept; go on with: {_same_command()}", INTERRUPTED)
        except click.UsageError as error:
            raise _clean_usage(error) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # a fault of ours: Python would end with 1, which here means a regression or a rollback
            if ctx.params.get("debug"):
                self.show_where()
            if isinstance(error, ModuleNotFoundError) and (package := _LEFT_OUT.get((error.name or "").partition(".")[0])):
                needed = f"this needs {package}, which is not installed: pip install {package}"
                _fail(f"{needed}, and run the same command again; everything answered so far is kept", BisectError.exit_code)
            _fail(f"{_OURS} {type(error).__name__}: {error}; --debug before the command shows where", BisectError.exit_code)

    def hold_imports(self) -> None:
        """Nothing made so far is garbage: at its end Python looks through all objects twice, a seventh of a short command.

        Not once code of the user's may have been called: what it left in cycles, as a file that it writes, is closed by that look.
        """
        if self.is_program and "bisect_ai.runs.study" not in sys.modules:
            gc.freeze()

    def watched_over(self) -> AbstractContextManager[None]:
        """Inside, the program is ended when the user's code never gives it back; a part of another program is left alone."""
        if not self.is_program:
            return contextlib.nullcontext()
        from bisect_ai.provider.watchdog import watched_over

        return watched_over()

    def show_where(self) -> None:
        """The traceback of what is raised now, its texts without credentials; a part of another program gets the exception itself."""
        if not self.is_program:
            raise  # called where it is handled
        import traceback

        from bisect_ai.report.untrusted_text import show

        remark(show(redact(traceback.format_exc())))


def _stopped(error: BaseException) -> str:
    """What a stop kept, and what it gave up."""
    from bisect_ai.runs.run_accounts import unfinished_of

    n = of.given_up if (of := unfinished_of(error)) is not None else 0
    calls = "1 call that was under way was" if n == 1 else f"{n} calls that were under way were"
    lost = f"; {calls} not waited for: they may be billed, and are asked again" if n else ""
    return f"stopped: everything answered so far is kept{lost}"


def _end_programs() -> None:
    """Programs of the user's that a thread left behind still waits for."""
    if (programs := sys.modules.get("bisect_ai.targets.programs")) is not None:
        programs.end_what_runs()


# What to say after an option that is missing.
_WANTED = {"base": "Name what the change is to be merged into, for example --base origin/main."}


def _clean_usage(error: click.UsageError) -> click.UsageError:
    """The error with what the user typed, or a variable held, without credentials and control characters."""
    from bisect_ai.report.untrusted_text import show

    return click.UsageError(show(redact(_clearer(error))), ctx=error.ctx)


def _clearer(error: click.UsageError) -> str:
    """The message of a wrong option or argument, with what to do where click knows no better."""
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        near = nearest(error.option_name, _OTHER_NAMES)
        return f"No such option {error.option_name!r}: use {_OTHER_NAMES[near]}." if near else message
    if isinstance(error, click.MissingParameter) and error.param is not None and error.param.name == "run_id":
        return f"{message} Name a run, or the beginning of its id; `bisect-ai runs` lists them."
    if isinstance(error, click.MissingParameter) and error.param is not None and error.param.name in _WANTED:
        return f"{message} {_WANTED[error.param.name]}"
    message = message.replace("is not a valid integer range", "is no whole number")
    return f"{message} It stands in the variable {name}: correct or unset it." if (name := _variable_of(error)) else message


def _variable_of(error: click.UsageError) -> str:
    """The variable that a wrong value came from; empty where it was typed."""
    if not isinstance(error, click.BadParameter) or error.param is None or error.ctx is None:
        return ""
    source = error.ctx.get_parameter_source(str(error.param.name))
    names = error.param.envvar
    if source is not click.core.ParameterSource.ENVIRONMENT:
        return ""
    if isinstance(names, str):
        return names
    return ""


def variable_of(command: str, option: str) -> str:
    """The variable that sets an option of a command."""
    return f"BISECT_AI_{command}_{option.lstrip('-')}".replace("-", "_").upper()


def _end_soon(code: int) -> None:
    """Python waits for threads that a user's code started and never gives back; this long, and no longer."""

    def end() -> None:
        time.sleep(LAST_SECONDS)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)

    threading.Thread(target=end, name="bisect-ai-end", daemon=True).start()


def _same_command() -> str:
    """What the user typed, ready to be pasted."""
    import shlex
    import shutil

    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        typed = ["python", "-m", "bisect_ai"]
    else:
        found = shutil.which(program.name)
        typed = [program.name if found and Path(found).resolve() == program.resolve() else sys.argv[0]]
    return shlex.join([*typed, *sys.argv[1:]])


def _fail(message: str, code: int) -> NoReturn:
    from bisect_ai.report.untrusted_text import one_line

    remark(f"bisect-ai: {one_line(redact(message))}")
    sys.exit(code)


# -- standard streams that a caller closed, or that cannot be written: neither stumble over them nor lend their numbers out -----
def hold_standard_streams() -> None:
    """Occupy the numbers 0 to 2 where they are closed, or the next file opened (a segment of the store) would get what is printed.

    A closed standard output then fails when it is written, as a full one does; what goes to a standard error that fails is dropped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY)  # the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # a number, and for the process's life
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stdout = _written_whole(sys.stdout)
    sys.stderr = _Unheard(sys.stderr)


def _written_whole(stream: Any) -> Any:
    """The stream with a buffer. Without one (PYTHONUNBUFFERED) Python drops in silence what a nearly full disk does not take."""
    if not isinstance(getattr(stream, "buffer", None), io.RawIOBase):
        return stream
    encoding, errors = stream.encoding, stream.errors
    return io.TextIOWrapper(io.BufferedWriter(stream.detach()), encoding=encoding, errors=errors, line_buffering=True)


class _Unheard:
    """A stream whose failures to write are no errors."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The characters taken, whether anybody got them or not."""
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Pass on what can be passed on."""
        try:
            self._stream.flush()
        except OSError:
            return


# -- what is printed: through the gate of `redaction`; a reader that has gone away is no error -----------------------------
# Commands whose run is in the store by the time that something is written.
_STORING = frozenset({"run", "demo", "audit", "series", "verify", "gate", "drift", "report"})


def say(text: str, *, nl: bool = True) -> None:
    """Print on standard output. A reader that has gone away (`| head`) is no error; raises `BisectError` when it cannot be written."""
    try:
        click.echo(redact(text), nl=nl)
    except BrokenPipeError:
        to_nowhere()
    except OSError as error:
        to_nowhere()
        raise BisectError(f"cannot write to standard output: {error.strerror or error}; {writes_again('shows')}") from error


def json_lines(value: object) -> str:
    """Plain JSON to be printed, in ASCII. Raises `ValueError` for what no JSON holds."""
    import json

    return json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False)


def writes_again(does: str) -> str:
    """What becomes of a report that could not be written."""
    context = click.get_current_context(silent=True)
    is_stored = context is None or context.info_name in _STORING
    return f"the run is kept, `bisect-ai report` {does} it again" if is_stored else "make room, and run the same command again"


def remark(text: str) -> None:
    """Print on standard error; where nobody hears it nothing is lost."""
    with contextlib.suppress(OSError):
        click.echo(redact(text), err=True)


def colourful() -> bool:
    """Whether standard output is a terminal, and nobody asked for no colour (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and sys.stdout is not None and sys.stdout.isatty()


def to_nowhere() -> None:
    """What is left in the buffer goes to the null device, or Python would fail on it at the end, with an exit code of its own."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # standard output is no file
        return


def width() -> int:
    """Columns that the terminal has, within reason."""
    import shutil

    return max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BISECT_AI"})
@click.version_option(__version__, prog_name="bisect-ai")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Find which change in a release of an LLM application lowered its quality.

    Start with `bisect-ai demo` (no key, no network), then `bisect-ai init`. `bisect-ai guide` lists what there is to read.

    Every option can be set by a variable: BISECT_AI_RUN_MAX_CALLS is `run --max-calls`. NO_COLOR takes the colours away.

    Exit codes: 0 a verdict was reached, 1 a regression (audit, gate, compare, drift, onset), not fixed (verify) or roll back
    (canary), 2 bad input, 3 inconclusive, budget spent or code that never returns, 4 the target or the scorer kept failing,
    130 interrupted (143 by SIGTERM).
    """
