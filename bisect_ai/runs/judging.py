"""Scores that are given many at a time, kept in the store as they come; and what a judge is worth, measured in every run.

Beside the answers a judge is given: canaries whose verdict is known, some answers a second time (its own noise), and the logged
answers that people graded. All of it is kept under the run, so a resumed run judges nothing twice and reports the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bisect_ai.attribution.problem import Estimate
from bisect_ai.canonical import digest
from bisect_ai.errors import TargetFailure
from bisect_ai.provider.budget import Account
from bisect_ai.provider.redaction import line_of
from bisect_ai.runs.ledger import Ledger
from bisect_ai.runs.observations import Observation
from bisect_ai.scoring.judge import Judge, canary_asks, looks_like_instructions
from bisect_ai.scoring.kinds import logged_text
from bisect_ai.scoring.model_scorers import Bench
from bisect_ai.scoring.scorer import Score, Scorer, score_many
from bisect_ai.scoring.scorer_charges import NOT_ASKED, Ask
from bisect_ai.store.trial_store import Scored, Store
from bisect_ai.targets.answer import Answer

if TYPE_CHECKING:
    from bisect_ai.queries.query import Query

# Answers graded by people that a judge is tried on: its agreement is then known to about 10 points.
MOST_LABELLED = 100
# Answers that are judged a second time, for the judge's own noise.
MOST_TWICE = 100
UNRELIABLE = "judge unreliable"


@dataclass
class ScoreDesk:
    """Gives and keeps the scores of one scorer that judges many answers at a time."""

    scorer: Scorer
    key: str
    store: Store
    run: str
    queries: Sequence[Query]
    _opened: bool = False
    _second: dict[str, None] = field(default_factory=dict)
    # Trial to what names the verdict that its score rests on.
    _verdicts: dict[str, str] = field(default_factory=dict)
    # The verdicts by name.
    _said: dict[str, Score] = field(default_factory=dict)

    def score(self, waiting: Mapping[str, Ask]) -> None:
        """Give the score of each trial, by its identity, that the store has not; equal answers of a query share one verdict.

        A resumed run hears of its answers in the order in which they first came, so the same trials share a verdict.
        """
        missing: dict[str, Ask] = {}
        for trial, ask in waiting.items():
            name = self._verdicts[trial] = ask.key
            kept = self.store.score(trial, self.key)
            if kept is None:
                missing[trial] = ask
            else:
                self._said.setdefault(name, Score(kept.value, kept.error))
        if missing and self.scorer.judge is not None:
            self._open_once()
        self._settle_missing(missing)
        if self.scorer.judge is not None:
            self._again({trial: ask for trial, ask in waiting.items() if self._is_twice(trial, self.scorer.judge)})

    def rehearse(self) -> str | None:
        """Why nobody can be asked for a score; None: somebody was. Asks only what the first answers would need in any case.

        Raises `TargetFailure` when the credentials or the money are refused.
        """
        if self.scorer.judge is not None:
            said = self._open_once()
        else:
            column = self.scorer.compares_with
            known = next((q for q in self.queries if q.get(column or "")), None)
            text = "" if known is None else logged_text(known.get(column or ""))
            said = [] if known is None else score_many(self.scorer, [Ask(known, Answer(text=text))])
        asked = [each.error or "" for each in said]
        return asked[0] if asked and all(error.startswith(NOT_ASKED) for error in asked) else None

    def verdict(self, trial: str) -> str | None:
        """What names the verdict that the trial's score rests on."""
        return self._verdicts.get(trial)

    def given(self, trial: str) -> Scored | None:
        """The trial's score, also where it is not on record because nobody could be asked for it."""
        said = self._said.get(self._verdicts.get(trial, ""))
        return self.store.score(trial, self.key) or (None if said is None else Scored(trial, self.key, said.value, said.error))

    def second(self, trial: str) -> float | None:
        """What was said of the trial's answer the second time; None: it was judged once."""
        return self._kept_score("again", trial)

    def close(self) -> None:
        """Nothing more will be scored for now."""
        if self.scorer.batch is not None:
            self.scorer.batch.close()

    def canaries(self) -> dict[str, tuple[float | None, bool]]:
        """Each canary's score and whether it should be good."""
        judge = self.scorer.judge
        asks = canary_asks(judge, self.queries) if judge is not None else {}
        return {name: (self._kept_score("canary", name), good) for name, (_, good) in asks.items()}

    def pairs(self, trials: Sequence[str]) -> list[tuple[float, float]]:
        """Two verdicts of the same answer, where both were given."""
        both = [(self.store.score(t, self.key), self.second(t)) for t in trials]
        return [(one.value, two) for one, two in both if one is not None and one.value is not None and two is not None]

    def labelled(self) -> list[tuple[float, float]]:
        """What people said of the logged answers, and what the judge says, 0 to 1."""
        judge = self.scorer.judge
        if judge is None or judge.labels is None:
            return []
        told = [(label_of(q, judge), self._kept_score("label", q.id)) for q in _with_labels(self.queries, judge)]
        return [(human, said) for human, said in told if human is not None and said is not None]

    def _settle_missing(self, missing: Mapping[str, Ask]) -> None:
        new = {ask.key: ask for ask in missing.values() if ask.key not in self._said}
        self._said |= dict(zip(new, score_many(self.scorer, list(new.values())), strict=True)) if new else {}
        self._write_scores({trial: self._said[ask.key] for trial, ask in missing.items()})

    def _open_once(self) -> Sequence[Score]:
        """Once a run: the canaries and the answers that people graded."""
        judge = self.scorer.judge
        if self._opened or judge is None:
            return ()
        self._opened = True
        asks = {self._name("canary", name): ask for name, (ask, _) in canary_asks(judge, self.queries).items()}
        asks |= {self._name("label", q.id): Ask(q, Answer(text=q.output or "")) for q in _with_labels(self.queries, judge)}
        return self._keep_asked({trial: ask for trial, ask in asks.items() if self.store.score(trial, self.key) is None})

    def _again(self, asks: Mapping[str, Ask]) -> None:
        """Some answers a second time, chosen by their identity."""
        self._second |= dict.fromkeys(asks)
        chosen = [t for t in list(self._second)[:MOST_TWICE] if t in asks]
        named = {self._name("again", trial): asks[trial] for trial in chosen}
        self._keep_asked({name: ask for name, ask in named.items() if self.store.score(name, self.key) is None})

    def _is_twice(self, trial: str, judge: Judge) -> bool:
        return int(trial[:8], 16) / 16**8 < judge.twice

    def _keep_asked(self, asks: Mapping[str, Ask]) -> Sequence[Score]:
        scores = score_many(self.scorer, list(asks.values())) if asks else []
        self._write_scores(dict(zip(asks, scores, strict=True)))
        return scores

    def _write_scores(self, given: Mapping[str, Score]) -> None:
        """Make scores durable, but for those that were not asked for in the end: the next sitting asks for them again."""
        answered = {trial: said for trial, said in given.items() if not (said.error or "").startswith(NOT_ASKED)}
        self.store.keep(self.run, [], [Scored(trial, self.key, said.value, said.error) for trial, said in answered.items()])

    def _name(self, what: str, which: str) -> str:
        return digest({"judge": what, "which": which})

    def _kept_score(self, what: str, which: str) -> float | None:
        found = self.store.score(self._name(what, which), self.key)
        return None if found is None else found.value


def rehearse(desks: Mapping[str, ScoreDesk], metric: str, account: Account, *, spent: Callable[[], float]) -> None:
    """Raises `TargetFailure` where a scorer cannot be asked, the one that decides or another that was asked in vain."""
    for name, desk in desks.items():
        try:
            why = desk.rehearse()
        except TargetFailure as failure:
            why = str(failure)
        if why is None or account.is_closed():  # a cap is no failure
            continue
        if name == metric or not why.startswith(NOT_ASKED):
            cost = f"the target was not asked, and the scorer cost {spent():g} USD"
            advice = "mend the scorer and run the same command again, or insist with --keep-going"
            told = line_of(why.removeprefix(f"{NOT_ASKED}, unjudged: "))
            raise TargetFailure(f"the scorer {name} cannot be asked: {told}; {cost}: {advice}")


def label_of(query: Query, judge: Judge) -> float | None:
    """A person's grade as a share of the best grade."""
    given = query.get(judge.labels or "")
    if isinstance(given, bool):
        return float(given)
    return float(given) / judge.grades if isinstance(given, int | float) and 0 <= given <= judge.grades else None


def _with_labels(queries: Sequence[Query], judge: Judge) -> list[Query]:
    if judge.labels is None:
        return []
    return [q for q in queries if q.output and label_of(q, judge) is not None][:MOST_LABELLED]


# -- what a judge is worth -------------------------------------------------------------------------------------------------
def judge_facts(
    desk: ScoreDesk, full: int, ledger: Ledger, answer_of: Callable[[Observation], Answer], *, loss: Estimate | None
) -> tuple[dict[str, Any], list[str]]:
    """The report's block on a judge, and what a reader must be warned of.

    `full`: the bad release's cell; `loss`: the metric's, when this judge gave it.
    """
    judge = desk.scorer.judge
    assert judge is not None
    sides = {name: list(ledger.observations.first(cell)) for name, cell in (("good", 0), ("bad", full))}
    name = desk.scorer.name
    trials = sorted({o.identity for o in ledger.observations if not o.error and not o.logged})
    unjudged = {side: _count_unjudged(seen, name) for side, seen in sides.items()}
    noise = _judge_noise(desk.pairs([t for t in trials if desk._is_twice(t, judge)]))
    canaries = {n: {"score": score, "should_be_good": good} for n, (score, good) in desk.canaries().items()}
    failed = [n for n, c in canaries.items() if not _agrees_with(c["score"], bool(c["should_be_good"]))]
    bench = desk.scorer.batch
    block = {
        "name": name,
        "model": judge.parameters["model"],
        "answered_by": sorted(bench.models) if isinstance(bench, Bench) else [],
        "reliable": not failed,
        "canaries": canaries,
        "noise": None if noise is None else {**noise, "loss": _noise_in(loss)},
        "agreement": agreement(desk.labelled(), judge.grades),
        "unjudged": {side: {"n": n, "of": of} for side, (n, of) in unjudged.items()},
        "like_instructions": _sensitivity_to_speech(sides, name, answer_of),
        "requests": bench.requests if isinstance(bench, Bench) else 0,
        "usd": round(desk.store.spending(desk.run).scorers.get(desk.scorer.name, 0.0), 6),
    }
    return block, _judge_warnings(block, failed, unjudged)


def agreement(pairs: Sequence[tuple[float, float]], grades: int) -> dict[str, Any] | None:
    """Cohen's kappa of people and judge with its 95 % interval (linear weights beyond two grades); None below ten pairs."""
    if len(pairs) < 10:
        return None
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.zeros((grades + 1, grades + 1))
    for human, said in pairs:
        table[round(human * grades), round(said * grades)] += 1
    used = np.flatnonzero(table.sum(0) + table.sum(1))
    told = {"agreement": float(np.trace(table) / table.sum()), "n": len(pairs)}
    if len(used) < 2:
        return {"kappa": None, "interval": None, **told, "method": "kappa undefined: one grade only"}
    found = cohens_kappa(table, weights="linear" if grades > 1 else None)
    interval = [float(found.kappa_low), float(found.kappa_upp)]
    return {"kappa": float(found.kappa), "interval": interval, **told, "method": "Cohen's kappa, 95 % normal interval"}


def _judge_noise(pairs: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """The judge's own variance: half the mean square of the differences between two verdicts of the same answer."""
    if len(pairs) < 5:
        return None
    d = np.array([a - b for a, b in pairs])
    return {"variance": float((d**2).mean() / 2), "changed": float((d != 0).mean()), "n": len(pairs)}


def _noise_in(loss: Estimate | None) -> dict[str, Any] | None:
    """What of the loss's interval is the judge's noise: its part of the variance, and the half-width without it."""
    if loss is None or loss.judged is None or loss.interval is None:
        return None
    half = (loss.interval[1] - loss.interval[0]) / 2
    return {"share": loss.judged, "half_width": half, "half_width_without": half * float(np.sqrt(1 - loss.judged))}


def _agrees_with(score: float | None, good: bool) -> bool:
    return score is not None and (score > 0.5 if good else score < 0.5)


def _count_unjudged(seen: Sequence[Observation], name: str) -> tuple[int, int]:
    answered = [o for o in seen if not o.error and not o.infeasible]
    return sum(o.score(name) is None for o in answered), len(answered)


def _sensitivity_to_speech(
    sides: Mapping[str, Sequence[Observation]], name: str, answer_of: Callable[[Observation], Answer]
) -> dict[str, Any]:
    """How many answers speak to the judge, per arm, and the loss with and without their queries."""
    flagged = {
        side: {o.trial.query for o in seen if looks_like_instructions(answer_of(o).text)} for side, seen in sides.items()
    }
    scores = {side: {o.trial.query: o.score(name) for o in seen} for side, seen in sides.items()}

    def loss(left_out: set[int]) -> float | None:
        rows = [
            g - b
            for q, g in scores["good"].items()
            if q not in left_out and g is not None and (b := scores["bad"].get(q)) is not None
        ]
        return float(np.mean(rows)) if rows else None

    return {
        **{side: len(queries) for side, queries in flagged.items()},
        "loss_with": loss(set()),
        "loss_without": loss(flagged["good"] | flagged["bad"]),
    }


def _judge_warnings(block: Mapping[str, Any], failed: Sequence[str], unjudged: Mapping[str, tuple[int, int]]) -> list[str]:
    from scipy import stats

    name, lines = block["name"], []
    if failed:
        lines.append(
            f"{UNRELIABLE}: {name} misjudged answers whose verdict is known ({', '.join(failed)}); its scores prove nothing"
        )
    if len(block["answered_by"]) > 1:
        lines.append(f"the model behind judge {name} changed in the run: {', '.join(block['answered_by'])}")
    (a, n), (b, m) = unjudged["good"], unjudged["bad"]
    if n and m and (a or b):
        lines.append(f"judge {name} gave no verdict on {a} of {n} good and {b} of {m} bad answers: they have no score, not 0")
        # 1 %: a warning is not held at alpha, so it must be rare.
        if stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue < 0.01:
            lines.append(
                f"judge {name} fails more often in one arm: the loss's interval is widened by what those answers may be"
            )
    told = block["like_instructions"]
    if told["good"] or told["bad"]:
        lines.append(
            f"{told['good']} good and {told['bad']} bad answers speak like instructions to judge {name}; "
            f"the loss is {_in_points(told['loss_with'])} with them and {_in_points(told['loss_without'])} without"
        )
    return lines


def _in_points(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
