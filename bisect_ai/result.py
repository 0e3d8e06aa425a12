"""What `bisect_ai.run` gives back: the verdict as attributes, the tables as DataFrames, the report as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisect_ai.errors import InputError
from bisect_ai.report.file_formats import json_text, render_as
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.runs import frames
from bisect_ai.runs.observations import Observation, Spending
from bisect_ai.store.artefacts import write_text

if TYPE_CHECKING:
    import pandas as pd

    from bisect_ai.release.load import Release


@dataclass(frozen=True)
class NamedChange:
    """One change inside an axis: where it is, what it says, the text before and after, whose it was."""

    axis: str
    path: str
    summary: str
    before: Any = None
    after: Any = None
    kind: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    share: float | None = None
    """Of the loss."""
    interval: tuple[float, float] | None = None
    mode: str = "alone"
    queries: tuple[Mapping[str, Any], ...] = ()
    """A few queries that it breaks, with the good and the bad answer."""


@dataclass(frozen=True)
class NamedCause:
    """Axes that cost quality: `mode` is alone, together, either or unsettled; `share` of the loss with its interval.

    None: undefined.
    """

    axes: tuple[str, ...]
    mode: str
    share: float | None
    interval: tuple[float, float] | None
    changes: tuple[NamedChange, ...] = ()


@dataclass(frozen=True)
class MeasuredRollback:
    """Axes to take back to good: `value` is what that very combination scored, `restores` its share of the loss."""

    axes: tuple[str, ...]
    value: float | None
    interval: tuple[float, float] | None
    restores: float | None
    restores_interval: tuple[float, float] | None = None
    changes: tuple[Mapping[str, Any], ...] = ()
    """Changes whose reversion alone was measured and restores enough (axis, path, summary); `finer` has value and interval."""
    finer: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """The named outcome of a run (`kind`: cause, no_regression, not_reproduced, drift, traffic, inconclusive)."""

    kind: str
    sentence: str
    causes: tuple[NamedCause, ...]
    rollback: MeasuredRollback | None
    keep: tuple[str, ...]
    calls_needed: int | None


@dataclass(frozen=True)
class Result:
    """A finished run. `usage` is what this sitting cost; the report's `usage` is what the run has cost in all."""

    report: Mapping[str, Any]
    usage: Spending
    trials: Sequence[Observation] = ()
    notices: tuple[str, ...] = ()
    """What to know about this machine's store; no part of the report."""
    recommended: Release | None = None
    """The bad release with the recommended rollback applied; None: nothing is recommended, or the run was loaded from a store."""

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict."""
        v = self.report["verdict"]
        rollback = v["rollback"] and MeasuredRollback(
            tuple(v["rollback"]["axes"]),
            v["rollback"]["value"],
            _pair(v["rollback"]["interval"]),
            v["rollback"]["restores"],
            _pair(v["rollback"].get("restores_interval")),
            tuple(v["rollback"].get("changes") or ()),
            v["rollback"].get("finer"),
        )
        causes = tuple(_cause(c) for c in v["causes"])
        return Verdict(v["kind"], v["sentence"], causes, rollback or None, tuple(v["keep"]), v["calls_needed"])

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One row an effect.

        axes (tuple of names), kind (introduced, reverted, shapley, interaction, net), estimate, low, high (score points, 95 % interval;
        positive: the change costs quality), p_adjusted (Holm, per kind), n (queries), method. Of net effects also breaks, mends
        (score points over all queries; `estimate` is breaks less mends) and proved (within the run's error budget).
        """
        return frames.effects_frame(self.report["effects"])

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell.

        bad_axes (tuple of names), value, low, high (the metric's units, 95 % interval; NaN: no population value, `method` says why), n
        (queries), trials, errors (counts), status (run, infeasible, not_run), method.
        """
        return frames.cells_frame(self.report["cells"])

    @cached_property
    def observations(self) -> pd.DataFrame:
        """One row a trial.

        query (id), bad_axes (tuple of names), repeat, a column for each scorer (its own units; NaN: not scored), error (text or None),
        outcome (ok, error, infeasible, …), seconds, tokens, usd (NaN: unknown), cached (no call was made for it now).
        """
        return frames.observations(self.trials)

    @cached_property
    def changes(self) -> pd.DataFrame:
        """One row a change between the releases.

        axis, path, kind, summary, before, after, owner, author, at, why, provenance (as the release files have it), guilty (True:
        named, False: innocent, None: not known), share (of the loss, 1 = all of it; NaN unless named) with its 95 % interval low, high.
        """
        return frames.changes(self.report["changes"])

    @cached_property
    def segments(self) -> pd.DataFrame:
        """One row a segment of the queries.

        name, found_by, where, share (of the queries, 1 = all), good, bad (the metric's units), loss, low, high (score points, 95 %
        interval), n (queries), p_adjusted.
        """
        return frames.segments_frame(self.report["segments"])

    @cached_property
    def side_metrics(self) -> pd.DataFrame:
        """One row a metric that does not decide.

        name, unit, higher_is_better, good, bad, change (bad minus good, in its unit) with its 95 % interval low, high; n (queries),
        method.
        """
        return frames.side_metrics_frame(self.report["side_metrics"])

    def write_rollback(self, path: str | Path) -> None:
        """Write the recommended release, frozen, to a file that `good:` and `bad:` take. Raises `InputError`: there is none."""
        from bisect_ai.runs.release_files import write_release

        if self.recommended is None:
            raise InputError(f"cannot write a rollback to {path}: the verdict ({self.verdict.kind}) recommends none")
        write_release(self.recommended, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """The report (DESIGN.md section 9) as plain JSON."""
        copied: dict[str, Any] = json.loads(self.to_json())
        return copied

    def to_json(self) -> str:
        """The report's JSON text: the same bytes for the same store and seed."""
        return json_text(self.report)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """The report as Markdown; also written to `path` when given."""
        return self._written("markdown", path)

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one self-contained HTML page (no script, nothing loaded); also written to `path` when given."""
        return self._written("html", path)

    def to_junit(self, path: str | Path | None = None) -> str:
        """The report as JUnit XML; also written to `path` when given."""
        return self._written("junit", path)

    def _written(self, name: str, path: str | Path | None) -> str:
        text = render_as(name, self.report)
        if path is not None:
            write_text(path, text, what="the report")
        return text

    def plot_effects(self, kind: str | None = None, *, ax: Any = None) -> Any:
        """A matplotlib axes: per axis what introducing it alone costs and reverting it alone brings back, with 95 % intervals.

        `kind` (introduced, reverted, shapley, interaction): the effects of that kind only, interactions by their axes.
        Without such effects the axes says why. In score points; positive costs quality. `ax`: draw there.
        """
        from bisect_ai.report import figure_data, figures

        if kind is None:
            return figures.shown(figures.effects, figure_data.effects(self.report), ax=ax)
        return figures.shown(figures.one_kind, figures.single(self.report, kind), ax=ax)

    def plot_waterfall(self, *, ax: Any = None) -> Any:
        """A matplotlib axes: from good to bad by Shapley share of each axis (else by the causes' measured shares), with intervals."""
        from bisect_ai.report import figure_data, figures

        return figures.shown(figures.waterfall, figure_data.waterfall(self.report), ax=ax)

    def plot_interactions(self) -> Any:
        """An array of matplotlib axes, one for each pair of axes that matters: the metric with neither, either and both bad."""
        from bisect_ai.report import figure_data, figures

        return figures.shown_pairs(figure_data.interactions(self.report))

    def plot_cells(self, *, ax: Any = None) -> Any:
        """A matplotlib axes: which axes came from the bad release in each cell, and its value with interval."""
        from bisect_ai.report import figure_data, figures

        return figures.shown(figures.cells, figure_data.cells(self.report), ax=ax)

    def _repr_html_(self) -> str:
        """What a notebook shows: static HTML, escaped, without script, links or images."""
        from bisect_ai.report import html

        return html.render_cell(self.report)

    def __repr__(self) -> str:
        return one_line(f"<bisect-ai result {self.report['run']}: {self.verdict.sentence}>")


def _cause(kept: Mapping[str, Any]) -> NamedCause:
    changes = tuple(_change(c) for c in kept["changes"])
    return NamedCause(tuple(kept["axes"]), kept["mode"], kept["share"], _pair(kept["interval"]), changes)


def _change(kept: Mapping[str, Any]) -> NamedChange:
    known = {k: v for k, v in kept.items() if k in NamedChange.__dataclass_fields__}
    return NamedChange(**known | {"interval": _pair(kept.get("interval")), "queries": tuple(kept.get("queries") or ())})


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
