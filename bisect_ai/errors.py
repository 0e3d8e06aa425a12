"""Every error that bisect-ai raises on purpose, on one page.

BisectError
├── InputError          what the user wrote or pointed at is wrong (exit code 2)
│   ├── ReleaseError    a release file, reference or combination of changes
│   │   └── Unchanged   the two releases do not differ
│   ├── QueryError      a log, a record, a column map
│   └── ConfigError     bisect.yaml or a keyword of run()
├── Infeasible          a target cannot run a combination: the cell is left out and named
├── TargetFailure       the target kept failing; what was paid for is kept (exit code 4)
└── StoreError          the store cannot be read or written; nothing acknowledged is lost (exit code 2)

Interrupted (a KeyboardInterrupt) is raised when the user asked to stop, by Ctrl-C or a signal; it is no error.

A message says what was attempted, on what, why it failed and what to do, on one line.
"""

from __future__ import annotations


class BisectError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line ends with."""

    exit_code = 2


class InputError(BisectError):
    """What the user wrote or pointed at is wrong."""


class ReleaseError(InputError):
    """A release file, one of its references, or a combination of its changes is wrong."""


class Unchanged(ReleaseError):
    """The two releases are identical in every axis."""


class QueryError(InputError):
    """A log, one of its records or the column map is wrong."""


class ConfigError(InputError):
    """bisect.yaml, a command-line option or a keyword of `run` is wrong."""


class Infeasible(BisectError):
    """Raised by a target that cannot run a combination of axes; the cell is left out and named."""


class TargetFailure(BisectError):
    """The target kept failing; what was paid for is kept."""

    exit_code = 4


class StoreError(BisectError):
    """The store cannot be read or written; nothing acknowledged is lost."""


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; everything answered until then is kept. `signal` is the signal's number."""

    def __init__(self, signal: int) -> None:
        super().__init__("stopped by a signal: everything answered so far is kept; the same run goes on from there")
        self.signal = signal

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal
