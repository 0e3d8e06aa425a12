"""The command line. Only this part knows click and exit codes; everything heavy is imported by the command that needs it."""

from __future__ import annotations

from bisect_ai.cli import deciding, looking, reading, watching
from bisect_ai.cli.group import main

__all__ = ["deciding", "looking", "main", "reading", "watching"]
