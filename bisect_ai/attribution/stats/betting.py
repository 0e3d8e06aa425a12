"""Evidence that an axis costs quality, as the wealth of a gambler whom chance gives no edge when the axis does nothing.

A trial's cell was drawn from a known distribution, so whether axis a was bad in it, given the other axes, is a coin whose bias is
known. If a has no effect whatever, the answer cannot tell which way the coin fell, and the bet

    e = p(y | S) / (c p(y | S with a bad) + (1 - c) p(y | S with a good)),   c: the coin's bias

has mean 1, whatever the predictive density p (Candes, Fan, Janson and Lv 2018; Shafer 2021). The product of such bets is a
nonnegative martingale: it ever passes 1/alpha with a chance of at most alpha (Ville 1939), so looking after every round is free.
A gambler who stakes only a part L of the wealth multiplies it by 1 + L (e - 1); the average of several such gamblers is again a
martingale, and close to the best of them (Waudby-Smith and Ramdas 2024; Cover 1991): a wrong p costs calls, not truth.
"""

from __future__ import annotations

import numpy as np

STAKES = np.array([0.25, 0.5, 0.75, 1.0])
