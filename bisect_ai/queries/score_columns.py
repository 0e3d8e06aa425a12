"""The columns of a table of scores, whatever holds it, as arrays: no row of it ever becomes a Python object.

A DataFrame is read by pandas. Arrow tables, DuckDB relations and Parquet files are read by DuckDB in one scan, so that the columns keep
one order of rows; a Parquet file is scanned by the process that reads logs (`sandbox`), which hands the arrays over in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bisect_ai.errors import InputError, QueryError
from bisect_ai.queries.duckdb_session import WHOLE_NUMBERS, locked, quoted, safe_name
from bisect_ai.queries.values import tidy

if TYPE_CHECKING:
    import pandas as pd

    from bisect_ai.queries.sandbox import Child

AS_NUMBERS = (*WHOLE_NUMBERS, "HUGEINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")
# Between the ends of whole numbers that are coded by a table: axes are 0 or 1.
CLOSE = 256
_BLANK = " \t\n\v\f\r"
_BLANKS = " || ".join(f"chr({ord(each)})" for each in _BLANK)
Codes = NDArray[Any]
Keys = NDArray[Any]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class CodedColumn:
    """A column as numbers of its different values, in the order in which they come up; -1: no value."""

    # (rows,)
    codes: Codes
    load: Callable[[], Sequence[Any]]
    # Whether values of several types may stand in it, such as 1 and "1".
    may_mix: bool = False

    @cached_property
    def values(self) -> Sequence[Any]:
        """The value behind each number, read when first asked for."""
        return self.load()


@dataclass(frozen=True)
class TakenColumns:
    """Columns in one order of rows: some coded, one of numbers (NaN: no value)."""

    coded: Mapping[str, CodedColumn]
    numbers: Scores


class ColumnSource(Protocol):
    """A table that columns can be taken from."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its columns."""

    def take(self, coded: Sequence[str], numbers: str) -> TakenColumns:
        """These columns. Raises `InputError` where `numbers` holds something else."""


class FrameColumns:
    """Columns of a DataFrame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame, self.names = frame, [str(name) for name in frame.columns]

    def take(self, coded: Sequence[str], numbers: str) -> TakenColumns:
        """These columns."""
        try:
            column = self._column(numbers)
            if column.dtype.kind in "mMc":  # durations, times and complex numbers would be read as others than they are
                raise TypeError(f"it holds {column.dtype}; give seconds, or the one number that counts")
            values = _numbers_in(column).to_numpy(float, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise not_numbers(numbers, error) from error
        return TakenColumns({name: _coded_column(self._column(name)) for name in coded}, values)

    def _column(self, name: str) -> pd.Series[Any]:
        """The column of this name, as text where the frame numbers its columns. Raises `InputError` when there are two."""
        if self.names.count(name) > 1:
            raise InputError(f"cannot attribute the table: it has more than one column {name!r}; rename all but one")
        column: pd.Series[Any] = self._frame.iloc[:, self.names.index(name)]
        return column


def _numbers_in(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column as numbers; text may be padded, and that of no number empty, blank or `nan`, as DuckDB reads it too."""
    import pandas as pd

    try:
        return pd.to_numeric(column)
    except ValueError:
        return pd.to_numeric(column.map(lambda value: None if str(value).strip(_BLANK).lower() in ("", "nan") else value))


def _coded_column(column: pd.Series[Any]) -> CodedColumn:
    import pandas as pd

    kind: Any = column.dtype
    if getattr(kind, "kind", "O") in "iub" and not column.hasnans:
        codes, values = coded_numbers(column.to_numpy(getattr(kind, "numpy_dtype", kind)))
        return CodedColumn(codes, values.tolist)
    try:
        codes, found = pd.factorize(column)
    except TypeError:  # lists cannot be told apart by a hash
        codes, found = pd.factorize(column.map(hashable))
    return CodedColumn(codes, found.tolist, may_mix=column.dtype == object)


def coded_numbers(column: Keys) -> tuple[Codes, Keys]:
    """The codes and values of whole numbers; of few that lie close together without a hash table."""
    import pandas as pd

    whole = column.astype(np.uint8) if column.dtype == bool else column
    low, high = (int(end) for end in (column.min(), column.max())) if len(column) else (0, 0)
    if high - low >= CLOSE:
        return pd.factorize(column)
    shifted = (whole if low == 0 else whole - whole.dtype.type(low)).astype(np.uint8)
    values = np.flatnonzero(np.bincount(shifted))
    if len(values) <= high - low:
        shifted = np.searchsorted(values, np.arange(CLOSE)).astype(np.uint8)[shifted]
    return shifted, (values.astype(whole.dtype) + whole.dtype.type(low)).astype(column.dtype)


def hashable(value: Any) -> Any:
    """The value, lists as tuples and mappings as tuples of pairs, at every depth."""
    if isinstance(value, Mapping):
        return tuple((name, hashable(each)) for name, each in sorted(value.items(), key=str))
    return tuple(map(hashable, value)) if isinstance(value, list | tuple | set | np.ndarray) else value


class RelationColumns:
    """Columns of a DuckDB relation. Values other than whole numbers are told apart by DuckDB's hash of 64 bits."""

    def __init__(self, relation: Any) -> None:
        self._relation, self.names = relation, list(map(str, relation.columns))
        self._types = dict(zip(relation.columns, map(str, relation.types), strict=True))

    def take(self, coded: Sequence[str], numbers: str) -> TakenColumns:
        """These columns, in one scan."""
        import duckdb

        try:
            return self.scan(coded, numbers).columns(self.behind)
        except duckdb.Error as error:
            raise InputError(f"cannot read the table: {(str(error).splitlines() or ['?'])[0]}") from error

    def scan(self, coded: Sequence[str], numbers: str) -> ScannedColumns:
        """The codes of these columns with the keys behind them, and the numbers."""
        keys = [self._key(name) for name in coded]
        shown = [*(f"{key} AS k{i}" for i, key in enumerate(self._narrowed(keys, coded))), *self._numbers(numbers)]
        found = self._relation.project(", ".join(shown)).fetchnumpy()
        if bool(np.any(found.pop("wrong", False))):
            raise not_numbers(numbers, self._first_wrong(numbers))
        pairs = {name: _codes_and_keys(found.pop(f"k{i}")) for i, name in enumerate(coded)}
        return ScannedColumns(pairs, np.ma.filled(found["number"], np.nan))

    def behind(self, name: str, keys: Keys) -> list[Any]:
        """The values of a column that have these keys."""
        if not self._is_hashed(name):
            return list(keys.tolist())
        column = quoted(name)
        values = dict(self._relation.aggregate(f"hash({column}), any_value({column})").fetchall())
        return [hashable(values[key]) for key in keys.tolist()]

    def _is_hashed(self, name: str) -> bool:
        return self._types[name] not in (*WHOLE_NUMBERS, "BOOLEAN")

    def _key(self, name: str) -> str:
        column = quoted(name)
        if not self._is_hashed(name):
            return column
        kind, key = self._types[name], f"CASE WHEN {column} IS NOT NULL THEN hash({column}) END"
        # By its hash: DuckDB takes from the statistics of a Parquet file, which leave NaN out, that nothing in it is NaN.
        return f"NULLIF({key}, hash(CAST('nan' AS {kind})))" if kind in ("FLOAT", "DOUBLE") else key

    def _narrowed(self, keys: Sequence[str], names: Sequence[str]) -> list[str]:
        """The keys, as one byte each where they are whole numbers that fit into it."""
        whole = [i for i, name in enumerate(names) if self._types[name] in WHOLE_NUMBERS]
        if not whole:
            return list(keys)
        fits = ", ".join(f"min({keys[i]}) >= 0 AND max({keys[i]}) < {CLOSE}" for i in whole)
        small = dict(zip(whole, self._relation.aggregate(fits).fetchall()[0], strict=True))
        return [f"CAST({key} AS UTINYINT)" if small.get(i) else key for i, key in enumerate(keys)]

    def _numbers(self, name: str) -> list[str]:
        column, kind = quoted(name), self._types[name]
        if kind.startswith(AS_NUMBERS) and not kind.endswith("]"):
            return [f"CAST({column} AS DOUBLE) AS number"]
        if kind != "VARCHAR":
            raise not_numbers(name, f"its type is {kind}")
        return [f"{_number_of(column)} AS number", f"{_is_wrong(column)} AS wrong"]

    def _first_wrong(self, name: str) -> str:
        wrong = self._relation.filter(_is_wrong(quoted(name))).project(quoted(name))
        rows = wrong.limit(1).fetchall()
        return f"got {rows[0][0]!r:.100}" if rows else "it has other text"


def _number_of(column: str) -> str:
    """The SQL for the number that a text is. DuckDB reads 1_0 as 10 and passes over blanks that are not ASCII; pandas does not."""
    return f"CASE WHEN regexp_full_match({column}, '[-+.0-9A-Za-z\\s]*') THEN TRY_CAST(TRIM({column}, {_BLANKS}) AS DOUBLE) END"


def _is_wrong(column: str) -> str:
    return f"TRIM({column}, {_BLANKS}) <> '' AND {_number_of(column)} IS NULL"


@dataclass(frozen=True)
class ScannedColumns:
    """What one scan gives: by name the codes of a column with their keys, and the numbers."""

    coded: Mapping[str, tuple[Codes, Keys]]
    numbers: Scores

    def columns(self, behind: Callable[[str, Keys], Sequence[Any]]) -> TakenColumns:
        """The same, with the values behind the keys where these are asked for."""
        coded = {name: CodedColumn(codes, partial(behind, name, keys)) for name, (codes, keys) in self.coded.items()}
        return TakenColumns(coded, self.numbers)


def _codes_and_keys(found: Any) -> tuple[Codes, Keys]:
    """The codes of a column in the order in which its keys come up, -1 where masked, and the keys."""
    import pandas as pd

    data = np.ma.getdata(found)
    codes, keys = coded_numbers(data) if data.dtype.kind in "iub" else pd.factorize(data)
    if not np.ma.is_masked(found):
        return codes, keys
    again, kept = pd.factorize(np.where(np.ma.getmaskarray(found), -1, codes.astype(np.int64)))
    empty = int(np.flatnonzero(kept == -1)[0])
    renumbered = np.where(again == empty, -1, np.where(again > empty, again - 1, again))
    return renumbered, keys[np.delete(kept, empty)]


def answer_columns(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The child's side of `ParquetColumns`: its names, arrays saved in a folder, or the values behind keys."""
    import duckdb

    files = list(map(safe_name, map(Path, request["files"])))
    try:
        with locked(files, ordered=True) as connection:
            yield from _request_answered(request, RelationColumns(connection.read_parquet(files, union_by_name=True)))
    except (duckdb.Error, RuntimeError) as error:
        reason = (str(error).splitlines() or ["?"])[0]
        raise QueryError(f"cannot read {files[0]}: {reason}; check the file, or write it again") from error


def _request_answered(request: Mapping[str, Any], source: RelationColumns) -> Iterator[dict[str, Any]]:
    if request["do"] == "column names":
        yield {"names": source.names}
    elif request["do"] == "column values":
        name = request["name"]
        yield from ({"value": tidy(value, where=name)} for value in source.behind(name, np.load(request["keys"])))
    else:
        found = source.scan(request["coded"], request["numbers"])
        _save(found, Path(request["folder"]))
        for name, (_, keys) in found.coded.items():
            if len(keys) <= CLOSE:
                yield {"name": name, "values": [tidy(value, where=name) for value in source.behind(name, keys)]}


def _save(found: ScannedColumns, folder: Path) -> None:
    np.save(folder / "numbers.npy", found.numbers)
    for i, (codes, keys) in enumerate(found.coded.values()):
        np.save(folder / f"codes{i}.npy", codes)
        np.save(folder / f"keys{i}.npy", keys)


def not_numbers(column: str, why: object) -> InputError:
    """The error for a column of scores that holds something else."""
    return InputError(f"cannot attribute the table: column {column!r} must hold numbers: {why}")


def column_source(table: Any) -> ColumnSource:
    """The source for a DataFrame, mappings, an Arrow table or a DuckDB relation. Raises `InputError`."""
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return FrameColumns(table)
    if type(table).__name__ == "DuckDBPyRelation":
        return RelationColumns(table)
    if hasattr(table, "__arrow_c_stream__") or type(table).__module__.startswith("pyarrow"):
        return RelationColumns(_relation_of(table))
    if isinstance(table, Mapping) or not isinstance(table, Iterable):
        raise InputError(
            f"cannot read a table from {table!r:.60}: give a DataFrame, an Arrow table, a DuckDB relation, a list of mappings or a path"
        )
    return FrameColumns(pd.DataFrame(list(table)))


def _relation_of(table: Any) -> Any:
    """The DuckDB relation over an Arrow table. Raises `InputError` for types that DuckDB lacks, and for a name that stands twice."""
    import duckdb

    whole = table.read_all() if hasattr(table, "read_all") else table  # a reader can be read once only
    names = list(getattr(whole, "column_names", []))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"cannot attribute the table: it has more than one column {twice!r}; rename all but one")
    try:
        return duckdb.connect().from_arrow(whole)
    except duckdb.Error as error:
        reason = (str(error).splitlines() or ["?"])[0]
        raise InputError(f"cannot read the table: {reason}; cast that column, or leave it out") from error


class ParquetColumns:
    """Columns of Parquet files, scanned by a process of its own that ends with the scan."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [str(path) for path in paths]
        self._child = _child()
        self._few: dict[str, list[Any]] = {}
        self.names = list(self._ask(do="column names")[0]["names"])

    def take(self, coded: Sequence[str], numbers: str) -> TakenColumns:
        """These columns."""
        with TemporaryDirectory(prefix="bisect-ai-") as folder, self._child:
            told = self._ask(do="columns", coded=list(coded), numbers=numbers, folder=folder)
            self._few = {each["name"]: list(map(hashable, each["values"])) for each in told}
            return _loaded_columns(coded, Path(folder)).columns(self._behind)

    def _behind(self, name: str, keys: Keys) -> list[Any]:
        """The values of a column: few came with the scan, many are read when they are asked for."""
        if name in self._few:
            return self._few[name]
        with TemporaryDirectory(prefix="bisect-ai-") as folder, _child() as self._child:
            np.save(Path(folder) / "keys.npy", keys)
            told = self._ask(do="column values", name=name, keys=str(Path(folder) / "keys.npy"))
        return [hashable(each["value"]) for each in told]

    def _ask(self, **request: Any) -> list[dict[str, Any]]:
        return self._child.ask({"files": self._files, **request}, what=", ".join(self._files[:3]))


def _child() -> Child:
    """A reading process; its start costs half a second of processor."""
    from bisect_ai.queries.sandbox import Child  # the child that it starts imports this module too

    return Child()


def _loaded_columns(coded: Sequence[str], folder: Path) -> ScannedColumns:
    pairs = {name: (np.load(folder / f"codes{i}.npy"), np.load(folder / f"keys{i}.npy")) for i, name in enumerate(coded)}
    return ScannedColumns(pairs, np.load(folder / "numbers.npy"))
