"""The words of every report: one for each idea, with what it means, so that no sentence invents another.

`MEANINGS` is what a glossary prints. Sentences take the words below by name; a test looks for the words that they replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

AXIS, RELEASE, LOSS, COST, CHURN, ROLLBACK = "axis", "release", "loss", "cost", "churn", "rollback"
PROVED, LIKELY, UNKNOWN = "proved", "likely", "not known"
COMBINATION = "combination"
ALONE, TAKEN_BACK = "changed alone", "taken back alone"
FAIR_SHARE = "fair share"
ALL_OF_IT = "all of it"
WHO_OUTSIDE = "the owners of what both releases use (provider, search, tools)"
# What a verdict is for who reads it; whatever is not here tells of nothing to act on ("quiet").
TONES: Mapping[str, str] = {
    **dict.fromkeys(("cause", "drift", "not_fixed", "onset", "regression", "roll_back"), "harm"),
    **dict.fromkeys(("equivalent", "fixed", "improvement", "no_regression", "no_worse", "promote", "steady"), "help"),
    **dict.fromkeys(("failed", "fixed_with_collateral", "inconclusive", "interrupted", "undecided", "wait"), "warn"),
}
# Degree of belief from which on something that is not proved is called likely: 4 in 5.
LIKELY_FROM = 0.8

MEANINGS: Mapping[str, str] = {
    AXIS: "one part of a release that can change by itself: the model, the prompt, the documents, the tools, the context",
    "change": "the smallest difference inside an axis that can be taken back by itself: a sentence, a document, a field of a tool",
    RELEASE: "everything that answers were made with, by a name: the good one was fine, the bad one is under suspicion",
    "query": "one question from your log, with all that was known when it was asked",
    "target": "your application, or a model called as it does: what answers a query under a release",
    "trial": "one query answered once by one combination",
    "score": "a number for one answer, 1 or 0 for right or wrong in most logs; a scorer is the rule that gives it",
    "metric": "the score that decides, averaged over the queries",
    "point": "a hundredth of a metric between 0 and 1: from 95 % to 80 % is a fall of 15 points",
    LOSS: "how far the metric is worse under the bad release than under the good one, on the same queries",
    COST: "the part of the loss that one axis brings, averaged over the queries: what it breaks less what it mends",
    "effect": "what swapping an axis does to the metric, with its interval",
    "interval": "the range that the true number lies in, in 95 of 100 draws of other queries from the same log",
    "tolerance": "the smallest loss that you would act on; less counts as none",
    "alone": "this axis does it whatever the others are",
    "together": "these axes do it only when all of them have changed",
    "either": "each of these axes is enough to do it",
    PROVED: "the chance that it is wrong is below the number that is told with it, however often one looked",
    LIKELY: "at least 4 in 5 by the answers so far, and not proved",
    UNKNOWN: "the answers so far fit more than one explanation",
    CHURN: "queries that a change breaks beside queries that it mends: answers move, the metric does not",
    ROLLBACK: "the fewest axes to take back to the good release that bring back most of the loss, in a combination that was run",
    COMBINATION: "a release made of some axes of the good release and the others of the bad one",
    ALONE: "the good release with this axis of the bad one, and nothing else",
    TAKEN_BACK: "the bad release with this axis of the good one, and nothing else",
    "verdict": "what a run ends with: a cause, no regression, not reproduced, drift, traffic, or inconclusive",
    "session": "one command's work on a run; the same command goes on with the run in another",
    FAIR_SHARE: "an axis's part of the loss, averaged over every order in which the axes could have changed (Shapley value)",
}


def odds(chance: float) -> str:
    """A chance as people say it, rounded up: "1 in 20". `chance` is above 0."""
    whole = math.floor(1 / chance + 1e-9)
    return f"1 in {whole:,}" if whole >= 2 else f"{math.ceil(10 * chance - 1e-9)} in 10"


def proved(chance: float, that: str = "") -> str:
    """How sure a claim is whose error is held at `chance`: "proved: less than 1 in 20 to be wrong"; `that`: what is proved."""
    return f"{PROVED}{f' that {that}' if that else ''}: less than {odds(chance)} to be wrong"
