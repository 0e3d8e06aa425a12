"""How far off a verdict is."""

from __future__ import annotations

from bisect_ai.attribution.outlook import calls_to_settle, is_futile


def test_the_nearer_way_out_counts() -> None:
    assert calls_to_settle(100, evidence=2.0, goal=4.0, z_below=-1.0, z_bound=2.5) == 300
    assert calls_to_settle(100, evidence=0.0, goal=4.0, z_below=0.5, z_bound=2.5) == 2500
    assert calls_to_settle(100, evidence=2.0, goal=4.0, z_below=2.0, z_bound=2.5) == 157
    assert calls_to_settle(100, evidence=0.0, goal=4.0, z_below=-1.0, z_bound=2.5) is None


def test_going_on_is_futile_only_when_nothing_is_suspect_and_the_loss_looks_small() -> None:
    assert is_futile(1000, needed=4000, evidence=0.0, z_below=0.5)
    assert is_futile(1000, needed=None, evidence=0.0, z_below=0.05)
    assert not is_futile(1000, needed=2000, evidence=0.0, z_below=0.5)
    assert not is_futile(1000, needed=4000, evidence=2.0, z_below=0.5)
    assert not is_futile(1000, needed=None, evidence=0.0, z_below=-0.5)
