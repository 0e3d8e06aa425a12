"""What `bisect_ai.run` gives back: the verdict as attributes, the tables as DataFrames, the report as JSON or in any file format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bisect_ai.errors import InputError
from bisect_ai.report.json_edge import as_mapping, read, to_json
from bisect_ai.report.report_values import AnsweredQuery, Report, ReportLike, Verdict
from bisect_ai.report.standpoint import HERE, Standpoint
from bisect_ai.report.tables import cell_name, tool_call
from bisect_ai.report.untrusted_text import one_line
from bisect_ai.runs import frames
from bisect_ai.runs.ledger import Spending
from bisect_ai.runs.observations import Observation
from bisect_ai.store.artefacts import write_text

if TYPE_CHECKING:
    import pandas as pd

    from bisect_ai.release.load import Release


IN_PYTHON = Standpoint(in_python=True)


@dataclass(frozen=True)
class Result:
    """A finished run. `usage` is what this sitting cost (of a loaded run: what it cost in all); the report's is what it cost in all."""

    report: Mapping[str, Any]
    usage: Spending
    trials: Sequence[Observation] = ()
    notices: tuple[str, ...] = ()
    """What to know about this machine's store; no part of the report."""
    recommended: Release | None = None
    """The bad release with the recommended rollback applied; None: nothing is recommended, or the run was loaded from a store."""
    answered: Callable[[], Sequence[AnsweredQuery]] | None = field(default=None, repr=False, compare=False)
    """Reads every query with its answers; None: nothing was replayed."""
    regression: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    """Fits `model`; None: the run has no linear model."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What a copy is made of, in another process too: its answers are read now, its linear model stays behind."""
        answered = None if self.answered is None else partial(tuple, tuple(self._answered))
        return Result, (self.to_dict(), self.usage, self.trials, self.notices, self.recommended, answered)

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
        """One row a combination that was run.

        bad_axes (tuple of names), value, low, high (the metric's units, 95 % interval; NaN: no population value, `method` says why), n
        (queries), trials, errors (counts), status (run), method. What was not run, cannot be, or ran only on queries that were chosen
        for having failed, is in the report.
        """
        ran = [cell for cell in self._read.cells if cell.status == "run" and (cell.n or cell.errors)]
        return frames.cells_frame([as_mapping(cell) for cell in ran])

    @cached_property
    def answers(self) -> pd.DataFrame:
        """One row a query and combination, from its first answer there.

        query (id), segment, input, reference (None where the log is not at hand, as of a loaded run), bad_axes (tuple of names),
        combination (in words), answer (text), score (the metric's units; NaN: not scored), tool_calls (texts).
        """
        axes = self._read.axes
        return frames.answers_frame(
            [
                {
                    "query": each.query,
                    "segment": each.segment,
                    "input": each.input,
                    "reference": each.reference,
                    "bad_axes": bad,
                    "combination": cell_name(bad, axes),
                    "answer": shown.text,
                    "score": shown.score,
                    "tool_calls": [tool_call(call) for call in shown.tool_calls],
                }
                for each in self._answered
                for bad, shown in each.answers.items()
            ]
        )

    @cached_property
    def _answered(self) -> Sequence[AnsweredQuery]:
        return () if self.answered is None else self.answered()

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

        axis, path, kind, summary, before, after, owner, author, commit, at, why, guilty (True: named, False: innocent, None: not
        known), share (of the loss, 1 = all of it; NaN unless named) with its 95 % interval low, high; provenance (as the release files
        or git have it).
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

    @cached_property
    def model(self) -> Any:
        """The linear model of a fixed design (`full`, `fractional`, `attribute`) as statsmodels fitted it; `summary()` prints it.

        Weighted least squares, errors clustered by query or declared cluster. Coefficients are main effects and interactions in score
        points of the metric turned so that higher is better; positive: the change costs quality. Raises `InputError` for an adaptive
        run, whose combinations depend on the answers, and for a run loaded from a store.
        """
        if self.regression is None:
            raise InputError(
                f"run {self._read.run} has no linear model: it has one only where `design` is full or fractional, or a table was "
                "attributed, and the run was made now, not loaded; run it (stored answers are not paid for again) with such a design"
            )
        return self.regression()

    def write_rollback(self, path: str | Path) -> None:
        """Write the recommended release, frozen, to a file that `good:` and `bad:` take. Raises `InputError`: there is none."""
        from bisect_ai.runs.release_writer import write_release

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
        """The report as one self-contained HTML page, nothing loaded, with every answer; also written to `path` when given.

        Answers that would make the page too heavy are in pages beside it (`report-answers-2.html`), which only a `path` gives.
        """
        from bisect_ai.report.html import pages

        first, *more = pages(self._read, self._answered, at=IN_PYTHON)
        if path is not None:
            write_text(path, first, what="the report")
            for number, text in enumerate(more, start=2):
                write_text(sibling(Path(path), number), text, what="the answers")
        return first

    def to_junit(self, path: str | Path | None = None) -> str:
        """The report as JUnit XML; also written to `path` when given."""
        return self._written("junit", path)

    def _written(self, name: str, path: str | Path | None) -> str:
        text = render_as(name, self._read, at=IN_PYTHON)
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

        return html.render_cell(self._read, at=IN_PYTHON)

    def __str__(self) -> str:
        """The verdict card."""
        from bisect_ai.report import terminal

        return terminal.card(self._read, at=IN_PYTHON).rstrip("\n")

    def __repr__(self) -> str:
        return one_line(f"<bisect-ai result {self._read.run}: {self.verdict.sentence}>")


def render_as(name: str, report: ReportLike, *, at: Standpoint = HERE) -> str:
    """The report's text in the format `name`: json, markdown, html or junit; `at`: where its commands will be typed.

    A renderer is imported when it is used.
    """
    if name == "json":
        return json_text(report)
    module = import_module(f"bisect_ai.report.{name}")
    render = cast(Callable[..., str], module.render)
    return render(report) if name == "junit" else render(report, at=at)


def sibling(path: Path, number: int) -> Path:
    """Where a page's answers go on: `report-answers-2.html` beside `report.html`."""
    return path.with_name(f"{path.stem}-answers-{number}{path.suffix or '.html'}")


def json_text(report: ReportLike) -> str:
    """A report's JSON text, ASCII, one key a line: the same bytes for the same report."""
    return json.dumps(to_json(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
