"""The programs of the cells: a fixed number at most, each left running for the next query of its cell while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bisect_ai.targets.cells import CellFolders
from bisect_ai.targets.programs import Program, end_all
from bisect_ai.targets.workplace import Cell


class ProcessPool:
    """At most `most` programs at once. One is lent to one trial at a time."""

    def __init__(self, command: Sequence[str] | str, folders: CellFolders, most: int) -> None:
        self._command, self._folders, self._most = command, folders, most
        self._changed = threading.Condition()
        self._idle: OrderedDict[Program, Cell] = OrderedDict()
        self._lent: dict[Program, Cell] = {}
        self._starting = 0

    @contextmanager
    def lent(self, cell: Cell, *, fresh: bool = False) -> Iterator[Program]:
        """A program in the cell, `fresh` or one that has answered before; ended unless it is `kept`. Raises `ProgramEnded`."""
        program = self._taken(cell, fresh=fresh)
        try:
            yield program
        finally:
            with self._changed:
                held = program in self._lent
            if held:
                self.drop(program)

    def keep(self, program: Program) -> None:
        """Leave a lent program running for the next query of its cell."""
        with self._changed:
            self._idle[program] = self._lent.pop(program)
            self._changed.notify()

    def drop(self, program: Program) -> None:
        """End a lent program."""
        program.end()
        with self._changed:
            cell = self._lent.pop(program, None)
            self._changed.notify()
        if cell is not None:
            self._folders.count(cell, -1)

    def close(self) -> None:
        """End all."""
        with self._changed:
            programs = [*self._idle, *self._lent]
            cells = list(self._idle.values())
            self._idle.clear()
        end_all(programs)
        for cell in cells:
            self._folders.count(cell, -1)

    def _taken(self, cell: Cell, *, fresh: bool) -> Program:
        old = None
        with self._changed:
            while True:
                found = None if fresh else next((p for p, its in self._idle.items() if its is cell), None)
                if found is not None:
                    self._lent[found] = self._idle.pop(found)
                    return found
                if len(self._idle) + len(self._lent) + self._starting < self._most:
                    break
                if self._idle:
                    old = self._idle.popitem(last=False)
                    break
                self._changed.wait()
            self._starting += 1
        try:
            if old is not None:
                old[0].end()
                self._folders.count(old[1], -1)
            program = Program(self._command, folder=cell.home, environment=self._folders.environment)
            self._folders.count(cell, 1)
        except BaseException:  # the others wait for this start, whatever ends it
            with self._changed:
                self._starting -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._starting -= 1
            self._lent[program] = cell
        return program
