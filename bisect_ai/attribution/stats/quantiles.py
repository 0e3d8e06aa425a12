"""Quantiles and tails of Student's t and the normal, from `scipy.special`: `scipy.stats` would take longer to import than a run."""

from __future__ import annotations


def t_quantile(freedom: float, level: float = 0.975) -> float:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, level))


def t_tail(value: float, freedom: float) -> float:
    """The probability above `value` by Student's t."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -value))


def z_quantile(level: float) -> float:
    """The quantile of the normal."""
    from scipy.special import ndtri

    return float(ndtri(level))
