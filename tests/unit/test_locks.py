"""What a store knows of the file system it lies on, and of who is at it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from bisect_ai.errors import StoreError
from bisect_ai.store import locks
from bisect_ai.store.locks import Claims, Presence, Turn, looser, network_kind
from bisect_ai.store.offsets import key_of

MOUNTS = """\
22 1 252:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 30 252:1 / /home/local rw,relatime - xfs /dev/vdb rw
32 22 0:41 / /mnt/my\\040share rw - cifs //server/share rw
33 22 0:42 / /mnt/cloud rw master:3 propagate_from:2 - fuse.sshfs host:/ rw
34 22 0:43 / /tmp rw - tmpfs tmpfs rw
junk
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/store", None),
        ("/home/me/.bisect-ai", "nfs4"),
        ("/home/local/store", None),
        ("/homestead/store", None),
        ("/mnt/my share/store", "cifs"),
        ("/mnt/cloud/store", "fuse.sshfs"),
        ("/tmp/store", None),
    ],
)
def test_network_file_systems_are_recognised(path: str, kind: str | None) -> None:
    assert network_kind(Path(path), mounts=MOUNTS) == kind


def test_modes_that_others_may_use_are_seen(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    for mode, told in ((0o600, None), (0o640, "0640"), (0o604, "0604"), (0o700, None)):
        (tmp_path / "f").chmod(mode)
        assert looser(tmp_path / "f") == told


def test_a_trial_is_claimed_by_one_at_a_time(tmp_path: Path) -> None:
    with contextlib.closing(Claims(tmp_path)) as ours, contextlib.closing(Claims(tmp_path)) as theirs:
        first, second = key_of("a" * 64), key_of("b" * 64)
        assert (ours.take(first), ours.take(first), theirs.take(first), theirs.take(second)) == (True, True, False, True)
        ours.drop(first)
        assert theirs.take(first)
        theirs.close()
        assert ours.take(second)


def test_a_store_is_shared_or_alone(tmp_path: Path) -> None:
    first, second = Presence(tmp_path), Presence(tmp_path)
    with pytest.raises(StoreError, match="another process has it open"):
        Presence(tmp_path, alone=True)
    first.close()
    second.close()
    with contextlib.closing(Presence(tmp_path, alone=True)), pytest.raises(StoreError, match="is being rewritten"):
        Presence(tmp_path)


def test_a_thread_that_never_ends_its_turn_does_not_keep_the_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_CLOSING_SECONDS", 0.1)
    turn, inside, over = Turn(tmp_path), threading.Event(), threading.Event()

    def stays() -> None:
        with turn:
            inside.set()
            over.wait(60)

    thread = threading.Thread(target=stays, daemon=True)
    thread.start()
    assert inside.wait(10)
    closing = threading.Thread(target=turn.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    over.set()
    thread.join(20)
    turn.close()
    with turn as entered:  # a new file, and the lock is free
        assert entered
    turn.close()
