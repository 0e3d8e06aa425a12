"""The blast radius of an incident: which logged queries of the bad window were hit, what of that is measured and what estimated."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from bisect_ai.attribution.questions.segments import STRENGTH, Path, ReplayedGroup, groups_of, hits_among
from bisect_ai.facts.report_view import metric_of_report
from bisect_ai.facts.saved_runs import FirstScores, scale_of_scores
from bisect_ai.provider.redaction import redact_all
from bisect_ai.queries.query import Query
from bisect_ai.queries.sample import Sample
from bisect_ai.report.json_edge import as_mapping
from bisect_ai.report.postmortem_values import BlastRadius, HitQuery
from bisect_ai.report.report_values import Report
from bisect_ai.report.untrusted_text import one_line

# The chance below which a query is not listed.
LEAST = 0.01
METHOD = (
    "replayed queries that broke, less gains of those alike; others by groups of queries alike, shrunk to coarser groups; 95 % "
    "interval of their posterior"
)
COLUMNS = ("id", "probability", "basis", "why")
_FORMULA = ("=", "+", "-", "@", "|", "%")


def blast_radius(
    report: Report, scores: Mapping[str, FirstScores], sample: Sample | None, *, bad: str
) -> tuple[BlastRadius, list[HitQuery]]:
    """The numbers of the blast radius, and a row for each query that was probably hit, the likeliest first.

    A query was hit when it passes under good, fails under bad, and its logged answer, where that was scored, failed too. Of queries
    that were replayed this is measured; of the others it is estimated from those alike.
    """
    radius = _Radius(report, scores, sample, bad)
    rows = sorted([*radius.measured(), *radius.estimated()], key=lambda row: (-row.probability, row.id))
    return radius.facts(), [row for row in rows if row.probability >= LEAST]


class _Radius:
    """One incident's queries, sorted out."""

    def __init__(self, report: Report, scores: Mapping[str, FirstScores], sample: Sample | None, bad: str) -> None:
        self._scores, self._sample = scores, sample
        metric = metric_of_report(report)
        self._sign, self._scale = metric.sign, scale_of_scores(scores, metric)
        self._metric = report.metric
        self._blamed = _blamed_sources(report)
        queries = [] if sample is None else list(zip(sample.queries, sample.segments or [None] * len(sample), strict=True))
        self._window_known = any(q.release == bad for q, _ in queries)
        self._window = [(q, s) for q, s in queries if q.release == bad or not self._window_known]
        self._logged = any(self._has_failed(q) is not None for q, _ in self._window) and self._window_known
        replayed = [(q, s) for q, s in (self._window if self._logged else queries) if self._is_replayed(q.id)]
        self._paths = [self._path_of(q, s) for q, s in replayed]
        self._outcomes = np.array([self._outcome_of(q.id, q) for q, _ in replayed], float)
        ids = {q.id: (q, s) for q, s in self._window} if sample is not None else dict.fromkeys(sorted(scores))
        known = {i: pair for i, pair in ids.items() if self._is_replayed(i)}
        self._measured = {i: self._outcome_of(i, pair and pair[0]) for i, pair in known.items()}
        self._hits = self._real_chances({i: self._path_of(*pair) if pair else () for i, pair in known.items()})
        self._others = [(q, s) for q, s in self._window if q.id not in self._measured]
        self._found = hits_among(self._outcomes, self._paths, [self._path_of(q, s) for q, s in self._others])

    def _real_chances(self, paths: Mapping[str, Path]) -> dict[str, float]:
        """The chance of each replayed query that broke to have been hit, not by luck: as many flips of its group are luck as gains.

        Groups of few are drawn towards all, as the estimates are.
        """
        flips = Counter(paths[i] for i, outcome in self._measured.items() if outcome > 0)
        gains = Counter(paths[i] for i, outcome in self._measured.items() if outcome < 0)
        luck = min(1.0, gains.total() / flips.total()) if flips else 0.0
        return {
            i: 1 - min(1.0, (gains[paths[i]] + STRENGTH * luck) / (flips[paths[i]] + STRENGTH))
            for i, outcome in self._measured.items()
            if outcome > 0
        }

    # -- rows ------------------------------------------------------------------------------------------------------
    def measured(self) -> list[HitQuery]:
        """Queries that were replayed and broke."""
        why = "replayed: passed under good, failed under bad"
        if not self._window_known:
            why += "; whether the bad release answered it is not known"
        return [_hit_row(i, chance, "measured", why) for i, chance in self._hits.items()]

    def estimated(self) -> list[HitQuery]:
        """Queries that were not replayed, with what those alike did."""
        tally = groups_of(self._outcomes, self._paths)
        rows = zip(self._others, self._found.probabilities, strict=True)
        return [
            _hit_row(q.id, float(p), "estimated", self._why_not_told(self._path_of(q, s), tally))
            for (q, s), p in rows
            if not math.isnan(p)
        ]

    def _why_not_told(self, path: Path, tally: Mapping[Path, ReplayedGroup]) -> str:
        depth = next((d for d in range(len(path), -1, -1) if tally.get(path[:d], ReplayedGroup()).n), 0)
        group = tally.get(path[:depth], ReplayedGroup())
        alike = "; ".join(str(part) for part in path[:depth]) or "any query"
        return f"not replayed; of {group.n} replayed that are alike ({alike}) {max(group.hits, 0):g} broke, gains taken off"

    def facts(self) -> BlastRadius:
        """The numbers."""
        found, sure = self._found, sum(self._hits.values())
        unknown = math.isnan(found.total)
        low, high = (sure + end for end in found.interval or (0.0, 0.0))
        interval = None if found.interval is None else (low, high)
        return BlastRadius(
            window="bad" if self._window_known else ("log" if self._sample is not None else None),
            queries=len(self._window) if self._sample is not None else None,
            replayed=len(self._measured),
            measured_hits=len(self._hits),
            expected_measured=sure,
            others=len(self._others),
            expected_others=None if unknown else found.total,
            expected=None if unknown or self._sample is None else sure + found.total,
            interval=None if self._sample is None else interval,
            learnt_from=found.replayed,
            logged_scores=self._logged,
            told_apart_by=tuple(name for name, used in self._levels() if used),
            method=METHOD,
        )

    def _levels(self) -> list[tuple[str, bool]]:
        has = self._sample is not None and self._sample.segments is not None
        return [("the logged score", self._logged), ("what they touch", bool(self._blamed)), ("the segment", has)]

    # -- one query -----------------------------------------------------------------------------------------------------
    def _is_replayed(self, query: str) -> bool:
        pair = self._scores.get(query)
        return pair is not None and pair.good is not None and pair.bad is not None

    def _outcome_of(self, query: str, logged: Query | None) -> float:
        """1: hit; -1: gained; 0: neither."""
        pair = self._scores[query]
        loss = self._on_unit_scale(pair.good) - self._on_unit_scale(pair.bad)
        failed = None if logged is None or not self._logged else self._has_failed(logged)
        if loss >= 0.25:  # a quarter of a score: a pass that fails, and most graded answers that got worse
            return 0.0 if failed is False else 1.0
        return 0.0 if loss > -0.25 or failed else -1.0

    def _on_unit_scale(self, score: float | None) -> float:
        low, high = self._scale
        return min(max((self._sign * (score or 0.0) - low) / (high - low), 0.0), 1.0)

    def _has_failed(self, query: Query) -> bool | None:
        """Whether the logged answer failed; None: it was not scored."""
        score = query.scores.get(self._metric)
        return None if score is None else self._on_unit_scale(score) < 0.5

    def _path_of(self, query: Query, segment: str | None) -> Path:
        parts: list[str] = []
        if self._logged:
            failed = self._has_failed(query)
            parts.append("logged answer not scored" if failed is None else f"logged answer {'failed' if failed else 'passed'}")
        if self._blamed:
            parts.append(self._touch_of(query))
        return (*parts, f"segment {segment}") if segment is not None else tuple(parts)

    def _touch_of(self, query: Query) -> str:
        used = {str(call.get("name")) for call in query.tool_results if isinstance(call, Mapping)}
        used |= {name for document in query.documents for name in _document_names(document)}
        found = sorted(self._blamed & used)
        if found:
            return f"uses {', '.join(found)}"
        return "uses none of what is to blame" if used else "no tool or document logged"


def _blamed_sources(report: Report) -> set[str]:
    """Tools and documents in which a change was named: a query that used one was in its way."""
    found = set()
    for change in (c for cause in report.verdict.causes for c in cause.changes):
        if change.axis == "tools":
            found.add(change.path.split(".")[0])
        elif change.axis == "corpus":
            found.add(change.path.removeprefix("documents.").removeprefix("documents/").split(":")[0])
    return found - {""}


def _document_names(document: object) -> set[str]:
    if isinstance(document, Mapping):
        return {str(document[key]) for key in ("id", "name", "path", "source") if document.get(key) is not None}
    return {document} if isinstance(document, str) and len(document) <= 200 else set()


def _hit_row(query: str, probability: float, basis: str, why: str) -> HitQuery:
    return HitQuery(id=query, probability=round(probability, 4), basis=basis, why=why)


# -- the list as a file -------------------------------------------------------------------------------------------------------
def as_csv(rows: Iterable[HitQuery]) -> str:
    """The rows as CSV with a head. No cell is a formula: a spreadsheet that opens the file runs nothing (`'` stands before it)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_csv_cell(row[column]) for column in COLUMNS] for row in map(redact_all, map(as_mapping, rows)))
    return out.getvalue()


def as_jsonl(rows: Iterable[HitQuery]) -> str:
    """The rows as JSON lines, in ASCII; ids as they are in the log."""
    told = ({c: row[c] for c in COLUMNS} for row in map(redact_all, map(as_mapping, rows)))
    return "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in told)


def _csv_cell(value: object) -> str:
    text = one_line(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
