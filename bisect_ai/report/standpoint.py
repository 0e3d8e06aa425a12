"""Where the reader types: what commands on a card must name so that they work when they are pasted there."""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass

# Characters of a run's id that commands take: `report` accepts the beginning of one.
LONGEST_ID = 8
# What Python has in the place of options that are no keywords of their own.
_KEYWORDS = {"--max-calls": 'budget={"calls": …}', "--on-rollback": 'canary["safe_to_revert"]'}
_ARGUMENT = re.compile(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"]|['\"])+")  # quoted parts stay whole
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # nothing that a shell would read as more than a word


@dataclass(frozen=True)
class Standpoint:
    """Where the reader types: settings file or range of revisions, and store, to name in commands; or a Python session."""

    # Empty: the bisect.yaml of the folder.
    config: str = ""
    # GOOD..BAD, when it stood in the place of the settings file.
    revisions: str = ""
    store: str = ""
    in_python: bool = False
    # The command that was typed, less what it writes: for commands whose answer is kept nowhere.
    typed: str = ""

    def report(self, run: str, more: str = "") -> str:
        """The command that shows a run's report; empty where the id is none that a shell should see."""
        if not _SAFE_ID.fullmatch(run):
            return ""
        where = ["--store", self.store] if self.store else ["--config", self.config] if self.config else []
        return shlex.join(["bisect-ai", "report", run[:LONGEST_ID], *where, *more.split()])

    def again(self, command: str, more: str = "") -> str:
        """A command of the settings file once more; empty where Python is typed."""
        if self.in_python:
            return ""
        given = [each for each in (self.revisions or self.config,) if each]
        given += ["--store", self.store] if self.store else []
        return shlex.join(["bisect-ai", command, *given, *more.split()])

    def same(self, more: str = "") -> str:
        """What was typed, once more; in words where it is not known."""
        if self.typed:
            return f"{self.typed} {more}".strip()
        return f"the same {'call' if self.in_python else 'command'} {f'with {more}' if more else 'again'}"

    def option(self, flag: str) -> str:
        """An option as it is written here: `--max-calls`, or the keyword of a call."""
        return _KEYWORDS.get(flag, f"{flag.removeprefix('--')}=…") if self.in_python else flag

    def with_calls(self, calls: int) -> str:
        """The run once more with this many calls allowed."""
        return f'budget={{"calls": {calls}}} in bisect_ai.run' if self.in_python else self.again("run", f"--max-calls {calls}")

    def with_usd(self, usd: float) -> str:
        """The run once more with this much money allowed."""
        most = f"{float(f'{usd:.2g}'):g}"
        return f'budget={{"usd": {most}}} in bisect_ai.run' if self.in_python else self.again("run", f"--max-usd {most}")

    def in_git(self, command: str | None) -> str | None:
        """A git command, told where the settings file is when that is elsewhere."""
        folder = posixpath.dirname(self.config)
        return command if not command or not folder else shlex.join(["git", "-C", folder]) + command.removeprefix("git")


def arguments(command: str) -> list[str]:
    """A command's arguments as they are typed, quotes kept: lines may break between them."""
    return _ARGUMENT.findall(command)


HERE = Standpoint()
