"""How guilty axes act: alone, together, or either is enough."""
