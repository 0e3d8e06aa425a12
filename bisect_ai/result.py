"""What `bisect_ai.run` gives back: the verdict as attributes, the tables as DataFrames, the report as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisect_ai.errors import InputError
from bisect_ai.report.file_formats import json_text, render_as
from bisect_ai.report.json_edge import as_mapping, read
from bisect_ai.report.report_values import Report, Verdict
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.runs import frames
from bisect_ai.runs.observations import Observation, Spending
from bisect_ai.store.artefacts import write_text

if TYPE_CHECKING:
    import pandas as pd

    from bisect_ai.release.load import Release


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
        return self._read.verdict

    @cached_property
    def _read(self) -> Report:
        return read(Report, self.report)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One row an effect.

        axes (tuple of names), kind (introduced, reverted, shapley, interaction, net), estimate, low, high (score points, 95 % interval;
        positive: the change costs quality), p_adjusted (Holm, per kind), n (queries), method. Of net effects also breaks, mends
        (score points over all queries; `estimate` is breaks less mends) and proved (within the run's error budget).
        """
        return frames.effects_frame(list(map(as_mapping, self._read.effects)))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell.

        bad_axes (tuple of names), value, low, high (the metric's units, 95 % interval; NaN: no population value, `method` says why), n
        (queries), trials, errors (counts), status (run, infeasible, not_run), method.
        """
        return frames.cells_frame(list(map(as_mapping, self._read.cells)))

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
        return frames.changes(list(map(as_mapping, self._read.changes)))

    @cached_property
    def segments(self) -> pd.DataFrame:
        """One row a segment of the queries.

        name, found_by, where, share (of the queries, 1 = all), good, bad (the metric's units), loss, low, high (score points, 95 %
        interval), n (queries), p_adjusted.
        """
        return frames.segments_frame(list(map(as_mapping, self._read.segments)))

    @cached_property
    def side_metrics(self) -> pd.DataFrame:
        """One row a metric that does not decide.

        name, unit, higher_is_better, good, bad, change (bad minus good, in its unit) with its 95 % interval low, high; n (queries),
        method.
        """
        return frames.side_metrics_frame(list(map(as_mapping, self._read.side_metrics)))

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
        text = render_as(name, self._read)
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
            return figures.shown(figures.effects, figure_data.effects(self._read), ax=ax)
        return figures.shown(figures.one_kind, figures.single(self._read, kind), ax=ax)

    def plot_waterfall(self, *, ax: Any = None) -> Any:
        """A matplotlib axes: from good to bad by Shapley share of each axis (else by the causes' measured shares), with intervals."""
        from bisect_ai.report import figure_data, figures

        return figures.shown(figures.waterfall, figure_data.waterfall(self._read), ax=ax)

    def plot_interactions(self) -> Any:
        """An array of matplotlib axes, one for each pair of axes that matters: the metric with neither, either and both bad."""
        from bisect_ai.report import figure_data, figures

        return figures.shown_pairs(figure_data.interactions(self._read))

    def plot_cells(self, *, ax: Any = None) -> Any:
        """A matplotlib axes: which axes came from the bad release in each cell, and its value with interval."""
        from bisect_ai.report import figure_data, figures

        return figures.shown(figures.cells, figure_data.cells(self._read), ax=ax)

    def _repr_html_(self) -> str:
        """What a notebook shows: static HTML, escaped, without script, links or images."""
        from bisect_ai.report import html

        return html.render_cell(self._read)

    def __repr__(self) -> str:
        return one_line(f"<bisect-ai result {self._read.run}: {self.verdict.sentence}>")
