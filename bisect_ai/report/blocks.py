"""What every format arranges: tables, labelled texts, titled lists, big numbers; ready to print, but for where it says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Characters of a question, a reference or an answer that a report shows at most.
TEXT_LIMIT = 600


@dataclass(frozen=True)
class Table:
    """Rows of cells that are ready to print; every column but the first holds numbers. Notes go below."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """One example: a title, and labelled untrusted texts in reading order (not cleaned yet)."""

    title: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PageList:
    """A titled list of sentences."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """A big number: what it is, the number, and its interval or what it rests on."""

    label: str
    value: str
    detail: str
    tone: str = ""


@dataclass(frozen=True)
class ReportPart:
    """A titled part of the report: sentences, or what builds its table."""

    title: str
    lines: tuple[str, ...] = ()
    build: Callable[..., Table] | None = None
