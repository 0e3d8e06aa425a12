"""From the user's word for a design to a search."""

from __future__ import annotations

from collections.abc import Callable

from bisect_ai.attribution.designs.factorial import FactorialSearch, FractionalSearch, fraction, fraction_size
from bisect_ai.attribution.problem import Problem, Search
from bisect_ai.attribution.search.coupled import CoupledSearch
from bisect_ai.errors import InputError


def _full_search(problem: Problem) -> Search:
    return FactorialSearch(problem)


def _adaptive_search(problem: Problem) -> Search:
    from bisect_ai.attribution.search.net_search import NetSearch

    return NetSearch(problem)


def _fractional_search(problem: Problem) -> Search:
    """Axes that run only together may leave fewer units than a fraction has."""
    return FractionalSearch(problem) if fraction_size(problem.k) else FactorialSearch(problem)


DESIGNS: dict[str, Callable[[Problem], Search]] = {
    "full": _full_search,
    "adaptive": _adaptive_search,
    "fractional": _fractional_search,
}


# Axes that the adaptive search takes: with more, cells are no longer told apart in the memory and time of a usual run.
MOST_AXES_ADAPTIVE = 24


def design_search(design: str, problem: Problem) -> Search:
    """A fresh search of the named design. Raises `InputError` for other numbers of axes than it takes."""
    if design == "adaptive" and problem.k > MOST_AXES_ADAPTIVE:
        raise InputError(
            f"design adaptive: {problem.k} axes changed; it takes up to {MOST_AXES_ADAPTIVE}; leave axes out, or put those that always "
            "change together into one axis"
        )
    if design == "fractional" and not fraction_size(problem.k):
        fraction(problem.axes)  # says for how many there is one
    return CoupledSearch(problem, DESIGNS[design], tells_apart=design != "fractional")
