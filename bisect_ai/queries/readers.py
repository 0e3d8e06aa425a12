"""Rows of JSONL, JSON and CSV files, one at a time, by Python's own readers: they bound memory and name the bad line."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from bisect_ai.canonical import BadRecord, parse_json
from bisect_ai.errors import QueryError
from bisect_ai.queries.messages import read_messages
from bisect_ai.queries.sample import BAD_LINE, Row
from bisect_ai.queries.values import MAX_LINE, embedded, file_names

# The columns that promptfoo's CSV repeats after each output.
BLOCK = ("Status", "Score", "Named Scores", "Grader Reason", "Comment")
NAMES_AGAIN = "names of the columns again"  # tables that were put one after another
# Columns that may stand alone in a table.
ASKING = frozenset({"input", "messages", "question", "query", "prompt"})
SPACE = " \t\r\n\ufeff"
ADVICE = "correct the line, or set skip_bad to leave such lines out (they are counted)"


class Spot(NamedTuple):
    """Where a row is: its file (an index), its line and, where the format can seek, its byte offset."""

    file: int
    line: int
    offset: int = 0


def bare_row(value: Any) -> Row | None:
    """The columns of a record that is no object; None for what is no record.

    A text is a question (or the object that it quotes as JSON), a list of messages a conversation.
    """
    held = embedded(value)
    if isinstance(held, list) and read_messages(held):
        return {"messages": held}
    if isinstance(value, str):
        return held if isinstance(held, dict) else {"input": value}
    return None


class Source(Protocol):
    """Rows that can be read in order, and again by their spots."""

    @property
    def left_out(self) -> Counter[str]:
        """Records that gave no row, by reason."""
        ...

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row in order, with its spot."""
        ...

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at these spots."""
        ...

    def where(self, spot: Spot) -> str:
        """The name of a spot, for messages."""
        ...


class Listed:
    """Rows that are in memory already: a list of mappings, a DataFrame, a JSON array (`bare`: its rows need not be objects)."""

    def __init__(self, rows: Sequence[Any], name: str = "queries", *, bare: bool = False) -> None:
        self._rows, self._name, self.left_out = rows, name, Counter[str]()
        self._bare = bare and bool(rows) and not isinstance(rows[0], Mapping)  # one text among objects is a mistake

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row in order. Raises `QueryError` for what is no record."""
        return self.fetch([Spot(0, number) for number in range(len(self._rows))])

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`."""
        for spot in spots:
            yield spot, self._row(spot.line)

    def _row(self, number: int) -> Row:
        value = self._rows[number]
        row = value if isinstance(value, Mapping) else bare_row(value) if self._bare else None
        if row is None:
            known = "a mapping of columns, a text or a list of messages" if self._bare else "a mapping of columns"
            raise QueryError(f"{self._name}[{number}] is a {type(value).__name__}; a query is {known}")
        return row

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return f"{self._name}[{spot.line}]"


class JsonLines:
    """Rows of JSONL files: one JSON object a line, UTF-8, with or without BOM and CR."""

    def __init__(self, paths: Sequence[Path], *, skip_bad: bool) -> None:
        self._paths, self._skip_bad, self.left_out = paths, skip_bad, Counter[str]()

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row in order; blank lines are none. Raises `QueryError` naming file and line."""
        self.left_out.clear()
        for index, path in enumerate(self._paths):
            with path.open("rb") as stream:
                refuse_utf16(stream, path)
                bare = is_bare(first_text(stream))
                for line, offset, data in _lines_with_places(stream):
                    row = self._row(path, line, data, bare)
                    if row is not None:
                        yield Spot(index, line, offset), row

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`, each found by its offset. Raises `QueryError` naming file and line."""
        for index in sorted({spot.file for spot in spots}):
            with self._paths[index].open("rb") as stream:
                for spot in sorted(each for each in spots if each.file == index):
                    stream.seek(spot.offset)
                    try:
                        yield spot, _parsed_line(stream.readline(MAX_LINE + 1), first=spot.line == 1, bare=True)
                    except BadRecord as error:
                        raise QueryError(f"cannot read {self.where(spot)}: {error}; {ADVICE}") from None

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return f"{self._paths[spot.file]} line {spot.line}"

    def _row(self, path: Path, line: int, data: bytes, bare: bool) -> Row | None:
        if not data.strip():
            return None
        try:
            return _parsed_line(data, first=line == 1, bare=bare)
        except BadRecord as error:
            if not self._skip_bad:
                raise QueryError(f"cannot read {path} line {line}: {error}; {ADVICE}") from None
            self.left_out[BAD_LINE] += 1
            return None


def _lines_with_places(stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """(line number, offset, bytes) of each line; of an endless one only its beginning, longer than `MAX_LINE`."""
    line = offset = 0
    while data := stream.readline(MAX_LINE + 1):
        line += 1
        yield line, offset, data
        offset += len(data)
        while len(data) > MAX_LINE and not data.endswith(b"\n"):
            data = stream.readline(MAX_LINE + 1)
            offset += len(data)


def first_text(stream: BinaryIO) -> str:
    """The first line that is not blank; the stream stands at its beginning again."""
    found = ""
    while not found and (data := stream.readline(MAX_LINE + 1)):
        found = data.decode("utf-8", "replace").strip(SPACE)
    stream.seek(0)
    return found


def is_bare(line: str) -> bool:
    """Whether a line of JSON is a record that is no object: a text, or a list of messages."""
    if not line.startswith(('"', "[{", "[ {")):
        return False
    try:
        return bare_row(parse_json(line)) is not None
    except BadRecord:
        return False


def _parsed_line(data: bytes, *, first: bool, bare: bool) -> Row:
    if len(data) > MAX_LINE:
        raise BadRecord(f"longer than {MAX_LINE // 2**20} MiB")
    try:
        text = data.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise BadRecord(f"byte {error.start + 1} is not UTF-8") from None
    value = _parsed_text(text.strip())
    row = value if isinstance(value, dict) else bare_row(value) if bare else None
    if row is None:
        raise BadRecord(f"a {type(value).__name__}, not an object")
    return row


def _parsed_text(text: str) -> Any:
    try:
        return parse_json(text)
    except BadRecord:
        if text.startswith("{'"):
            raise BadRecord("Python's notation, not JSON; write it with json.dumps") from None
        if text.startswith(("#", "//")):
            raise BadRecord("a comment, which JSON cannot have") from None
        if text.endswith(("},", "],")):
            raise BadRecord("a comma after the record, which stands alone on its line in JSONL") from None
        raise


def refuse_utf16(stream: BinaryIO, path: Path) -> None:
    """Raise `QueryError` for a file in UTF-16; else the stream stands at its beginning."""
    beginning = stream.read(4)
    stream.seek(0)
    is_wide = len(beginning) == 4 and b"\0\0" in (beginning[::2], beginning[1::2])  # Latin letters without a mark before them
    if is_wide or beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise QueryError(f"cannot read {path}: it is UTF-16; save it as UTF-8")


class Csv:
    """Rows of CSV files with a header line: UTF-8; comma, semicolon, tab or bar; quoted fields may span lines."""

    def __init__(self, paths: Sequence[Path], *, skip_bad: bool) -> None:
        self._paths, self._skip_bad, self.left_out = paths, skip_bad, Counter[str]()

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row in order, empty cells as None. Raises `QueryError` naming file and line."""
        self.left_out.clear()
        for index, path in enumerate(self._paths):
            yield from self._file(index, path)

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`, by reading the files that hold them again."""
        wanted = frozenset(spots)
        for index in sorted({spot.file for spot in wanted}):
            yield from (each for each in self._file(index, self._paths[index]) if each[0] in wanted)

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return f"{self._paths[spot.file]} line {spot.line}"

    def _file(self, index: int, path: Path) -> Iterator[tuple[Spot, Row]]:
        with path.open("rb") as stream:
            refuse_utf16(stream, path)
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text, _long_fields():
            sign, is_spaced, skipped = _csv_signs(path)
            for _ in range(skipped):
                text.readline()
            reader = csv.reader(text, delimiter=sign, skipinitialspace=is_spaced, strict=True)
            header = _csv_header(reader, path)
            for line, cells in self._cells(reader, path, len(header), skipped):
                if cells == header:
                    self.left_out[NAMES_AGAIN] += 1
                    continue
                yield Spot(index, line), dict(zip(header, cells, strict=True))

    def _cells(self, reader: Any, path: Path, width: int, skipped: int) -> Iterator[tuple[int, list[str | None]]]:
        while True:
            line = reader.line_num + 1 + skipped
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                if cells:
                    yield line, _checked_cells(cells, width)
            except (csv.Error, BadRecord) as error:
                if not self._skip_bad:
                    raise QueryError(f"cannot read {path} line {line}: {error}; {ADVICE}") from None
                self.left_out[BAD_LINE] += 1


def _csv_header(reader: Any, path: Path) -> list[str]:
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise QueryError(f"cannot read the header of {path}: {error}; correct the first line") from None
    if [name for name in header if name.strip()] == header[:1] and len(header) > 2 and header[0].strip().lower() not in ASKING:
        raise QueryError(
            f"cannot read {path}: its first line names one column of {len(header)}, {header[0].strip()[:60]!r}, as a title would; "
            "delete the lines above the names of the columns"
        )
    names = _in_blocks([name.strip() or f"column_{number}" for number, name in enumerate(header, 1)])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise QueryError(f"cannot read {path}: the column {twice[0]!r} is there twice; rename one of them")
    return names


def _in_blocks(names: list[str]) -> list[str]:
    """The names of an export that has a block of the same columns after each output (promptfoo): the output's name comes first."""
    if "Grader Reason" not in names:
        return names
    named, output = [], ""
    for name in names:
        output = output if name in BLOCK else name
        named.append(f"{output} > {name}" if name in BLOCK and output else name)
    return named


def _checked_cells(cells: list[str], width: int) -> list[str | None]:
    if len(cells) != width:
        raise BadRecord(f"{len(cells)} cells where the header has {width}")
    joined = "".join(cells)
    if "\0" in joined:
        raise BadRecord("it holds a NUL byte")
    if not joined.isascii() and any("\udc80" <= letter <= "\udcff" for letter in joined):
        raise BadRecord("it is not UTF-8")
    return [cell or None for cell in cells]


def separator(path: Path) -> str:
    """What stands between the columns of a CSV file: the sign that its first line has most of, or that Excel's `sep=` names."""
    return _csv_signs(path).sign


class CsvSigns(NamedTuple):
    """What stands between the columns, whether a space follows it, and how many lines come before the names of the columns."""

    sign: str
    is_spaced: bool
    skipped: int


def _csv_signs(path: Path) -> CsvSigns:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        header, skipped, told = text.readline(MAX_LINE), 0, ""
        if found := re.fullmatch(r"(?i)\"?sep=(.)\"?\s*", header):
            header, skipped, told = text.readline(MAX_LINE), 1, found[1]
    sign = told or max(",;\t|", key=header.count)
    return CsvSigns(sign, 0 < header.count(sign) == header.count(f"{sign} "), skipped)


@contextmanager
def _long_fields() -> Iterator[None]:
    """The csv module's limit of 128 KiB a field raised while a file is read: long prompts are no mistake."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class Wrapped:
    """A source around another one: what it leaves out is added to what the other leaves out."""

    def __init__(self, source: Source) -> None:
        self._source, self._own = source, Counter[str]()

    @property
    def origin(self) -> frozenset[str]:
        """The columns that are added to the log's own."""
        return getattr(self._source, "origin", frozenset[str]())

    @property
    def left_out(self) -> Counter[str]:
        """Records that gave no row, by reason."""
        return self._source.left_out + self._own

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return self._source.where(spot)


class FileNamed(Wrapped):
    """The rows of a source with the names of their files; `early`: already when they are first read, not only in full."""

    def __init__(self, source: Source, paths: Sequence[Path], *, early: bool) -> None:
        super().__init__(source)
        self._names, self._early = file_names(paths), early
        self._is_own = False

    @property
    def origin(self) -> frozenset[str]:
        """The columns that are added: none where the log has a `file` of its own."""
        return frozenset() if self._is_own else frozenset({"file"})

    def rows(self) -> Iterator[tuple[Spot, Row]]:
        """Every row in order."""
        for spot, row in self._source.rows():
            if "file" in row:
                self._is_own = True
            yield spot, self._named(spot, row) if self._early else row

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, Row]]:
        """The rows at `spots`, named."""
        return ((spot, self._named(spot, row)) for spot, row in self._source.fetch(spots))

    def _named(self, spot: Spot, row: Row) -> Row:
        return row if "file" in row else {"file": self._names[spot.file], **row}
