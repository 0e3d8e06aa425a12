"""A page of terminal text: wrapped lines, tables and labelled blocks of one width, safe to print whatever the data hold."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bisect_ai.report.blocks import TEXT_LIMIT, Block, Table
from bisect_ai.report.untrusted_text import defuse, one_line, show

NARROWEST = 60  # columns; below it tables of numbers cannot be read
LINES_PER_TEXT = 5  # an answer of more lines hides the next example
_MARGIN = "  "
_GAP = 2  # columns between two columns of a table: rich's padding and its box
_NARROWEST_NAME, _COMFORTABLE_NAME = 8, 18  # columns of names: what they can be cut to, and what they have without being cut
_GLUE = "\ue000"  # stands for a space that no line breaks at; `show` lets none of it through from data
_END = re.compile(r"(?:\x1b\[[0-9;]*m| )+$")  # blanks at the end of a line, with the styles around them
_UNIT_SPACE = re.compile(r"(?<=\d) (?=%)")  # a line must not break between a number and its per cent sign


class Screen:
    """Collects a page; `page()` gives it. Text is cleaned on the way in and, without colour, again on the way out."""

    def __init__(self, *, width: int = 80, colour: bool = False) -> None:
        self.width = max(width, NARROWEST)
        self._colour = colour
        self._file = io.StringIO()
        # The environment is left out so that a page depends on nothing but its data.
        self._console = Console(
            file=self._file,
            width=self.width,
            force_terminal=colour,
            color_system="standard" if colour else None,
            no_color=not colour,
            force_jupyter=False,
            legacy_windows=False,
            markup=False,
            highlight=False,
            emoji=False,
            _environ={},
        )

    def say(self, text: object, *, lead: str = "", hang: str | None = None, style: str = "") -> None:
        """A paragraph: `lead` before its first line, `hang` (else as many spaces) before the others."""
        hang = " " * cell_len(lead) if hang is None else hang
        for i, line in enumerate(self.wrapped(text, self.width - max(cell_len(lead), cell_len(hang)))):
            self._line((hang if i else lead) + line, style)

    def put(self, line: str, style: str = "") -> None:
        """A line as it is, cleaned: it was made to fit."""
        self._line(line, style)

    def heading(self, title: str) -> None:
        """A blank line and a title."""
        self._line("", "")
        self.say(title, style="bold", hang=_MARGIN)

    def table(self, build: Callable[[str], Table]) -> None:
        """The table that `build` makes for a separator between number and interval: a space, or a line break if too wide."""
        table = build(" ")
        if self._excess(_widths(table)) > _spare(table):
            table = build("\n")
        if self._excess(_widths(table)) > max(_widths(table)[0] - _NARROWEST_NAME, 0):
            self._list(table)
        else:
            self._draw(table)
        for note in table.notes:
            self.say(note, lead=_MARGIN)

    def block(self, block: Block) -> None:
        """Labelled texts: every line of untrusted text stands behind its label and a bar, cut after a few lines."""
        self.say(block.title, lead=_MARGIN)
        label_width = max(cell_len(label) for label, _ in block.lines)
        for label, text in block.lines:
            bar = f"{_MARGIN}  {{:<{label_width}}} │ "
            lines = self.wrapped(show(text, limit=TEXT_LIMIT), self.width - cell_len(bar.format("")))
            for i, line in enumerate(_few(lines)):
                self._line(bar.format("" if i else label) + line, "")

    def wrapped(self, text: object, width: int) -> list[str]:
        """Cleaned lines of at most `width` cells; a number stays with its percent sign."""
        glued = Text(_UNIT_SPACE.sub(_GLUE, show(text)).expandtabs(4))
        lines = glued.wrap(self._console, width, overflow="fold")
        return [line.plain.replace(_GLUE, " ").rstrip() for line in lines] or [""]

    def page(self) -> str:
        """All that was said, without trailing blanks, ending in one line break."""
        lines = "\n".join(_ended(line) for line in self._file.getvalue().split("\n")).strip("\n") + "\n"
        return defuse(lines) if self._colour else show(lines)

    def _line(self, text: str, style: str) -> None:
        self._console.print(Text(show(text)), style=style or None, soft_wrap=True)

    def _list(self, table: Table) -> None:
        """A table too wide for the page as a list: no number is cut, however narrow the page."""
        for row in table.rows:
            named = [f"{title} {cell}".strip() for title, cell in zip(table.columns[1:], row[1:], strict=True)]
            self.say(f"{row[0]}: {'; '.join(named)}".replace("\n", " "), lead=_MARGIN, hang=_MARGIN * 2)

    def _draw(self, table: Table) -> None:
        widths = _widths(table, whole_titles=True)
        if self._excess(widths) > 0:
            widths = _widths(table)
        widths[0] = max(widths[0] - max(self._excess(widths), 0), _NARROWEST_NAME)
        drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for i, (title, width) in enumerate(zip(table.columns, widths, strict=True)):
            drawn.add_column(Text(title), width=width, justify="right" if i else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(show(cell)) for cell in row))
        self._console.print(Padding(drawn, (0, 0, 0, len(_MARGIN))))

    def _excess(self, widths: list[int]) -> int:
        """Cells that a table with these columns is too wide by."""
        return len(_MARGIN) + sum(widths) + _GAP * (len(widths) - 1) - self.width


def _ended(line: str) -> str:
    """The line without blanks at its end, styles of theirs or not."""
    return _END.sub(lambda end: end[0].replace(" ", ""), line.rstrip())


def fit(text: object, width: int) -> str:
    """`text` on one line of at most `width` cells, the last then being "…"."""
    line = Text(one_line(text, limit=4 * max(width, 1)))
    line.truncate(max(width, 1), overflow="ellipsis")
    return line.plain


def _widths(table: Table, *, whole_titles: bool = False) -> list[int]:
    """Cells that each column needs so that no number is cut: whole for its content, per word or whole for its title."""
    titles = [[title] if whole_titles else title.split() for title in table.columns]
    columns = [[row[i] for row in table.rows] for i in range(len(titles))]
    return [_widest(title + column) for title, column in zip(titles, columns, strict=True)]


def _widest(texts: list[str]) -> int:
    return max((cell_len(line) for text in texts for line in show(text).split("\n")), default=0)


def _spare(table: Table) -> int:
    """Cells that the first column, which holds names, can give up by folding."""
    return max(_widths(table)[0] - _COMFORTABLE_NAME, 0)


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= LINES_PER_TEXT else [*lines[:LINES_PER_TEXT], "…"]
