"""Times as spreadsheets, mails, browsers and web servers write them: one reading, or a refusal."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from bisect_ai.errors import QueryError
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.values import microseconds, told_time

WRITTEN = {
    "11/29/2026 3:04 PM": "2026-11-29T15:04:00Z",
    "29/11/2026 15:04:05": "2026-11-29T15:04:05Z",
    "5/5/2026": "2026-05-05T00:00:00Z",
    "29.11.2026, 15:04": "2026-11-29T15:04:00Z",
    "2026/11/29 15:04": "2026-11-29T15:04:00Z",
    "2026-11-29 15:04:05 UTC": "2026-11-29T15:04:05Z",
    "2026-11-29 15:04:05.123 +0000 UTC": "2026-11-29T15:04:05Z",
    "Mon, 10 Nov 2026 15:04:05 +0100": "2026-11-10T14:04:05Z",
    "Tue Nov 10 2026 15:04:05 GMT+0000 (Coordinated Universal Time)": "2026-11-10T15:04:05Z",
    "10/Nov/2026:15:04:05 -0500": "2026-11-10T20:04:05Z",
    "Sunday, November 29, 2026 at 3:04 PM": "2026-11-29T15:04:00Z",
    "29-Nov-2026 12:04am": "2026-11-29T00:04:00Z",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_time_with_one_reading_is_read(text: str) -> None:
    found = microseconds(text)
    assert found is not None
    assert told_time(found) == WRITTEN[text]


@pytest.mark.parametrize(
    "text", ["3/4/2026", "31/31/2026", "Nov 31 2026", "29.11.2026 25:00", "11/29/2026 13:04 PM", "soon", "9" * 200]
)
def test_a_time_without_one_reading_is_none(text: str) -> None:
    assert microseconds(text) is None


def write(folder: Path, kind: str, times: list[str]) -> Path:
    frame = pd.DataFrame({"id": range(len(times)), "input": [f"question {i}" for i in range(len(times))], "at": times})
    path = folder / f"log.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        duckdb.sql(f"COPY frame TO '{path}' (FORMAT parquet)")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("times", "kept"),
    [
        (["11/3/2026 9:00 AM", "11/10/2026 3:04 PM", "11/29/2026 3:04 PM"], {"question 1", "question 2"}),
        (["3/11/2026 9:00", "10/11/2026 15:04", "29/11/2026 15:04"], {"question 1", "question 2"}),
    ],
)
def test_other_dates_of_the_column_tell_day_and_month_apart(
    tmp_path: Path, kind: str, times: list[str], kept: set[str]
) -> None:
    sample = load_queries(write(tmp_path, kind, times), settings=LogSettings(since="2026-11-08"))
    assert {query.input for query in sample.queries} == kept
    assert sample.dropped == {"outside the time window": 1}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("times", [["3/11/2026", "4/11/2026"], ["13/11/2026", "11/13/2026", "3/4/2026"]])
def test_dates_that_nobody_can_tell_are_refused_with_what_works(tmp_path: Path, kind: str, times: list[str]) -> None:
    path = write(tmp_path, kind, times)
    with pytest.raises(
        QueryError, match=r"cannot tell the day from the month of .*, or choose by log.where: try_strptime"
    ) as told:
        load_queries(path, settings=LogSettings(since="2026-03-08"))
    condition = str(told.value).partition("log.where: ")[2].replace("2026-11-20", "2026-03-08")
    assert load_queries(path, settings=LogSettings(where=condition)).kept >= 1
