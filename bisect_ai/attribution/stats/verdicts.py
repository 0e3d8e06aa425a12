"""What a judge's own noise adds to an estimate: where the scatter between queries does not hold it already.

A judge asked twice about one answer may say two things. Where each score rests on a verdict of its own, that noise is part of how
scores scatter between queries, so design-based standard errors hold it: adding it again would count it twice. Two things take it
out, and there it is put back:

- *The finite population correction.* With most of a log in the sample, the variance between queries no longer counts, because
  there are hardly any others. Verdicts vary all the same: another round of judging the same log would give another loss.
- *Shared verdicts.* Cells that gave a query the same answer have one verdict, so their differences show no noise at all. Those
  differences are what run-to-run noise is read from, and from such cells it looks like none.

So the correction spares the noise of verdicts: for a contrast c, sigma^2 times the sum over a query's verdicts of the squared sum
of c over the cells that share one. sigma^2 is half the mean squared difference of two verdicts of one answer (Dahlberg 1940), with
one further pair that differs as much as any did: a few pairs that agree do not prove that there is no noise. With fewer than
`FEWEST` pairs nothing is corrected for a finite population.

What this does not hold: a judge that is wrong in the same way each time (canaries and agreement with people tell), and answers
that it did not judge (`missing` bounds them).
"""

from __future__ import annotations

import numpy as np

from bisect_ai.attribution.problem import Ints, JudgeNoise, Outcome

# Pairs of verdicts of one answer that tell the judge's noise.
FEWEST = 10


class Verdicts:
    """Hears which verdict each score rests on, and what was said of the same answer a second time."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], str] = {}
        self._differences: list[float] = []

    def hear(self, outcome: Outcome) -> None:
        """Take in an outcome; one without a verdict says nothing."""
        if outcome.verdict is None or outcome.score is None:
            return
        if outcome.trial.repeat == 0:
            self._of[outcome.trial.query, outcome.trial.cell] = outcome.verdict
        if outcome.again is not None:
            self._differences.append(outcome.score - outcome.again)

    @property
    def variance(self) -> float | None:
        """Of one verdict, erring upwards; None: too few pairs."""
        return variance_of(self._differences)

    def noise(self, queries: Ints, cells: Ints) -> JudgeNoise | None:
        """The noise in a table of scores with these rows and columns; None: no judge gave them."""
        if not self._of:
            return None
        numbers: dict[object, int] = {}
        places = [(int(q), int(c)) for q in queries for c in cells]
        table = [numbers.setdefault(self._of.get(place, place), len(numbers)) for place in places]
        return JudgeNoise(self.variance, np.array(table, int).reshape(len(queries), len(cells)))


def variance_of(differences: list[float]) -> float | None:
    """Of one verdict, from the differences of two verdicts of one answer, erring upwards; None: fewer than `FEWEST`."""
    if len(differences) < FEWEST:
        return None
    squares = np.square(differences)
    further = float(squares.max()) or 1.0
    return float((squares.sum() + further) / (2 * (len(squares) + 1)))
