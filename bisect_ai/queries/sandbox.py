"""A Parquet log read in a process of its own: a file that makes DuckDB crash, hang or eat memory costs that process alone.

The child gets requests and gives answers as lines of JSON over pipes; it has limits on memory and processor time, and each answer a
deadline.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.readers import Spot
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import Drawn, Light, LogSettings, Quota
from bisect_ai.queries.survey import Survey, Tally
from bisect_ai.queries.unpack import LogFiles
from bisect_ai.queries.values import file_names

# Seconds that the next part of an answer may take, and a quarter of the processor seconds that a child may use.
SECONDS = 1_800.0
Answer = dict[str, Any]


class ChildLog:
    """A `Log` in Parquet files, read by a child process."""

    format = "parquet"

    def __init__(
        self,
        paths: Sequence[Path],
        shape: Shape,
        *,
        cap: int | None = None,
        child: Child | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self.origin, self._paths = frozenset[str](), paths  # what was unpacked for a log lives as long as its list of files
        self._child = child or Child(seconds=seconds)
        self._name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        self._ask("open", paths=[str(path) for path in paths], shape=asdict(shape), cap=cap)

    def survey(self) -> Survey:
        """What one pass over the log finds."""
        (told,) = self._ask("survey")
        self.origin = frozenset(told["origin"])
        found = Survey(told["read"], Counter(told["rows"]), Counter(told["dropped"]), Tally.of(told["logged"]))
        found.mixtures = Counter({(release, tuple(map(tuple, named))): n for release, named, n in told["mixtures"]})
        found.repeated, found.columns = frozenset(told["repeated"]), frozenset(told["columns"])
        found.lost, found.examples = Counter(told["lost"]), told["examples"]
        return found

    def repeats(self, keys: frozenset[int]) -> Iterator[Drawn]:
        """Every row with one of these keys."""
        return (_drawn_record(told) for told in self._ask("repeats", keys=sorted(keys)))

    def draw(self, quotas: Mapping[str, Quota]) -> list[Drawn]:
        """The rows of the smallest keys."""
        return [_drawn_record(told) for told in self._ask("draw", quotas=dict(quotas))]

    def rows(self, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Every row (at most `most`) as plain JSON, in no particular order, as they come."""
        return self._child.stream({"do": "rows", "most": most}, what=self._name)

    def _ask(self, do: str, **given: Any) -> list[Answer]:
        return self._child.ask({"do": do, **given}, what=self._name)


def _drawn_record(told: Answer) -> Drawn:
    return Drawn(Light(*told["light"]), told["record"])


class ParquetRows:
    """The rows of Parquet files as a `Source`: formats that other tools export to Parquet, and logs that nothing is drawn from."""

    def __init__(self, *paths: Path, most: int | None = None) -> None:
        self._paths, self._most, self.left_out = paths, most, Counter[str]()

    def rows(self) -> Iterator[tuple[Spot, dict[str, Any]]]:
        """Every row, in no particular order."""
        log = ChildLog(self._paths, Shape.of(LogSettings(), tabular=True))
        return ((Spot(0, number), row) for number, row in enumerate(log.rows(self._most)))

    def fetch(self, spots: Collection[Spot]) -> Iterator[tuple[Spot, dict[str, Any]]]:
        """The rows at `spots`, by reading the files again."""
        wanted = frozenset(spots)
        return (each for each in self.rows() if each[0] in wanted)

    def where(self, spot: Spot) -> str:
        """The row's place, for messages."""
        return f"{self._paths[0]} row {spot.line}"


def as_json_lines(paths: Sequence[Path]) -> LogFiles:
    """The rows of Parquet files in files of JSON lines of the same names: for what has to read rows twice in one order."""
    found = LogFiles()
    folder = found.made_folder()
    for path, name in zip(paths, file_names(paths), strict=True):
        found.append(folder / name)
        found[-1].parent.mkdir(parents=True, exist_ok=True)
        with found[-1].open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for _, row in ParquetRows(path).rows())
    return found


class Child:
    """A reading process; one may read any number of logs, one after the other."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        command = [sys.executable, "-P", "-c", "from bisect_ai.queries.parquet import serve; serve()"]
        known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR")}
        path = os.pathsep.join(sys.path)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**known, "PYTHONPATH": path}
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def ask(self, request: Answer, *, what: str) -> list[Answer]:
        """The lines that answer a request. Raises `QueryError`: the child's own, or that it died or took too long."""
        return list(self.stream(request, what=what))

    def stream(self, request: Answer, *, what: str) -> Iterator[Answer]:
        """The lines that answer a request, as they come; read them to the end before the next request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._dead(what) from None
        return self._answers(self._process.stdout, what)

    def _answers(self, stream: IO[bytes], what: str) -> Iterator[Answer]:
        rest = b""
        while True:
            ready, _, _ = select.select([stream], [], [], self._seconds)
            if not ready:
                self.close()
                raise QueryError(
                    f"cannot read {what}: it took more than {self._seconds:.0f} s; check the files, or convert the log to JSONL"
                )
            data = os.read(stream.fileno(), 2**20)
            if not data:
                raise self._dead(what)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if told is None:
                    return
                if isinstance(told, str):
                    raise QueryError(told)
                yield told

    def _dead(self, what: str) -> QueryError:
        code = self._process.wait()
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        return QueryError(
            f"cannot read {what}: the process that read it ended {how}, so the file is damaged or hostile; "
            "nothing else was harmed; check the files, or convert the log to JSONL"
        )
