"""The SQL that surveys a log: each of our fields as an expression over the log's own columns."""
# ruff: noqa: S608 - values are bound; identifiers and paths, which cannot be, go through `quoted` and `literal`

from __future__ import annotations

from collections.abc import Mapping

from bisect_ai.queries.records import MAX_MIXTURES, MAX_SCORE, Shape

SCAN = "read_parquet($files, union_by_name = true, hive_partitioning = false)"
ID, KEY, STRATUM, USABLE, LOGGED = (f"bisect_ai_{name}" for name in ("id", "key", "stratum", "usable", "logged"))
ZONED = "TIMESTAMP WITH TIME ZONE"
SIMPLE = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    *(
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "VARCHAR",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
    ),
    *("BLOB", "UUID"),
)
"""Types that the DuckDB client fetches as Python values by itself."""
DESCRIBE = f"DESCRIBE SELECT * FROM {SCAN}"


class Columns:
    """Our fields as SQL over the columns that the log has (`types`: name to DuckDB type)."""

    def __init__(self, types: Mapping[str, str], shape: Shape) -> None:
        self._types, self._shape = types, shape

    def without_id(self) -> str:
        """The statement that counts rows without an id."""
        return f"SELECT count(*) FROM {SCAN} WHERE {self._text('id')} IS NULL"

    def light(self, *, made_ids: bool) -> str:
        """The scan with what sampling needs added; `made_ids`: some rows need an id made of their content."""
        stratum = f"coalesce({self._text(self._shape.segment)}, '')" if self._shape.segment else "''"
        name = self._text("id")
        named = f"coalesce({name}, {self._made_id()})" if made_ids else name
        key = f"md5_number_upper({literal(f'{self._shape.seed}:')} || {ID})"
        added = f"{stratum} AS {STRATUM}, {self._usable()} AS {USABLE}, {name} IS NOT NULL AS {LOGGED}"
        return f"(SELECT *, {added}, {named} AS {ID}, {key} AS {KEY} FROM {SCAN})"

    def fetched(self) -> str:
        """The select list of a whole row, after what sampling needs."""
        return f"{KEY}, {ID}, {STRATUM}, {LOGGED}, {self.whole()}"

    def whole(self) -> str:
        """The select list of every column, in a form that Python can fetch."""
        return ", ".join(_fetchable(name, kind) for name, kind in self._types.items())

    def release_counts(self) -> str:
        """The statement that counts rows per release label."""
        return f"SELECT {self._text('release')} AS label, count(*) FROM {SCAN} GROUP BY label"

    def mixture_counts(self) -> str:
        """The statement that counts usable rows per release label and versions."""
        versions = self._shape.versions or ("versions",)
        listed = ", ".join([self._text("release"), *(f"{self._text(name)}" for name in versions)])
        return f"SELECT count(*), {listed} FROM {SCAN} WHERE {self._usable()} GROUP BY ALL LIMIT {MAX_MIXTURES}"

    def score_sums(self) -> str:
        """The statement for sum, sum of squares and count of the finite numbers per release label and score name."""
        return _SCORE_SUMS.format(release=self._text("release"), scores=self._json("scores") or "NULL", scan=SCAN)

    def _made_id(self) -> str:
        history, messages = (self._json(field) or "NULL" for field in ("history", "messages"))
        return f"content_id({self._text('input')}, ({history})::VARCHAR, ({messages})::VARCHAR, {STRATUM})"

    def _usable(self) -> str:
        messages = self._json("messages") or "NULL::JSON"
        return f"({self._text('input')} IS NOT NULL OR coalesce(json_array_length({messages}), 0) > 0)"

    def _text(self, field: str) -> str:
        """The field as text; NULL when it is missing or empty."""
        column = self._shape.columns.get(field, field)
        if column in self._types:
            return f"nullif({_as_text(quoted(column), self._types[column])}, '')"
        reached = self._reach(column)
        return f"nullif({reached} ->> '$', '')" if reached else "NULL::VARCHAR"

    def _json(self, field: str) -> str | None:
        """The field as JSON, parsed first if it is text; None when the log has no such column."""
        column = self._shape.columns.get(field, field)
        return self._json_column(column) if column in self._types else self._reach(column)

    def _json_column(self, column: str) -> str:
        name, kind = quoted(column), self._types[column]
        return f"(CASE WHEN json_valid({name}) THEN {name}::JSON END)" if kind in ("VARCHAR", "JSON") else f"to_json({name})"

    def _reach(self, column: str) -> str | None:
        """A nested value by its dotted name, as JSON."""
        head, _, rest = column.partition(".")
        if not rest or head not in self._types:
            return None
        path = "$" + "".join(f'."{step}"' for step in rest.replace('"', "").split("."))
        return f"json_extract({self._json_column(head)}, {literal(path)})"


def _as_text(name: str, kind: str) -> str:
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN NOT isnan({name}) THEN CAST({name} AS VARCHAR) END"
    return f"CAST({name} AS VARCHAR)" if kind in SIMPLE else f"CAST(to_json({name}) AS VARCHAR)"


def _fetchable(column: str, kind: str) -> str:
    """A column as Python can fetch it without further packages: nested ones as JSON text, zoned times as microseconds."""
    name = quoted(column)
    if kind == ZONED:
        return f"epoch_us({name})"
    if kind in SIMPLE or kind.startswith("DECIMAL"):
        return name
    nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "JSON", "VARIANT"))
    return f"CAST(to_json({name}) AS VARCHAR)" if nested else f"CAST({name} AS VARCHAR)"


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant, quoted."""
    return "'" + text.replace("'", "''") + "'"


_SCORE_SUMS = f"""
SELECT label, name, sum(score), sum(score * score), count(*)
FROM (
  SELECT label, entry.key AS name, CASE entry.value::VARCHAR
    WHEN 'true' THEN 1.0::DOUBLE WHEN 'false' THEN 0.0::DOUBLE ELSE TRY_CAST(entry.value::VARCHAR AS DOUBLE) END AS score
  FROM (
    SELECT {{release}} AS label, unnest(map_entries(TRY_CAST({{scores}} AS MAP(VARCHAR, JSON)))) AS entry FROM {{scan}}
  )
)
WHERE abs(score) < {MAX_SCORE}
GROUP BY label, name
"""
