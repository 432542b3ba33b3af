"""Faults: a disk that is full, a log that is torn, a log of another past, a folder of another run."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from paceline.core.chain import genesis
from paceline.core.events import PeerStarted, SetAside
from paceline.ledger import Ledger
from tests.live.swarms import small_run
from tests.nemesis import moments
from tests.nemesis.deaths import a_member
from tests.nemesis.lab import SmallDisk
from tests.nemesis.peers import Peer
from tests.nemesis.scene import RETURN_S, ROUND_S, Scene

_DISK_BYTES = 256 << 20
_AHEAD = 2
"""How many rounds the log of the peer with another past is ahead when it comes back, at least."""


@contextmanager
def _on_small_disk(scene: Scene, peer: Peer) -> Iterator[SmallDisk]:
    """Stop a peer, move its folder onto a small disk, start it; and the way back."""
    with tempfile.TemporaryDirectory() as aside:
        _move(peer.state.path, Path(aside))
        with SmallDisk(peer.state.path, _DISK_BYTES) as disk:
            _move(Path(aside), peer.state.path)
            try:
                yield disk
            finally:
                peer.end()
                disk.free()
                _move(peer.state.path, Path(aside))
        _move(Path(aside), peer.state.path)


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        shutil.move(path, target / path.name)


def disk_full(scene: Scene) -> None:
    """The disk of a member's state folder fills up in the middle of a round, and is freed later."""
    victim = a_member(scene)
    victim.end()
    with _on_small_disk(scene, victim) as disk:
        scene.mend()
        printed = len(victim.printed())
        scene.strike(lambda: victim, moments.TRAIN, lambda peer: disk.fill())
        others = [peer for peer in scene.swarm.running() if peer is not victim]
        scene.measure(others)
        first = victim.main
        scene.swarm.until(lambda: victim.main != first, ROUND_S, f"{victim.name} ends, its disk being full")
        said = victim.printed()[printed:]
        named = "error: " in said and "disk" in said
        scene.expect(named, f"{victim.name} does not name the disk: {said[-200:]!r}")
        scene.notes += [_shown(scene, line) for line in said.splitlines() if line.startswith("error: ")][:1]
        disk.free()
        freed_at = time.time()
        scene.say("there is space again")
        scene.mend()
        scene.note_return(victim, freed_at)
        scene.compare(scene.swarm.running())
    scene.mend()


def row_torn(scene: Scene) -> None:
    """A member's log lost the end of its last row: what a failing disk leaves."""
    victim = a_member(scene)
    victim.end()
    scene.struck()
    with closing(sqlite3.connect(victim.state.log)) as log, log:
        log.execute(
            "UPDATE commits SET sealed = substr(sealed, 1, length(sealed) / 2) "
            "WHERE round_id = (SELECT max(round_id) FROM commits)"
        )
    scene.say(f"the last row of the log of {victim.name} is torn, in round {scene.round_id}")
    scene.measure(scene.swarm.running())
    scene.mend()
    _expect_set_aside(scene, victim, scene.struck_at)
    scene.compare(scene.swarm.running())


def _expect_set_aside(scene: Scene, victim: Peer, since: float) -> None:
    told = victim.events(SetAside, since)
    scene.expect(told, f"{victim.name} does not say that it has set its files aside")
    for event in told:
        folder = Path(event.folder)
        scene.expect(folder.is_dir() and any(folder.iterdir()), f"{folder} does not hold the old files")
        scene.notes.append(_shown(scene, f"set aside: {event.cause}"))


def history_forked(scene: Scene) -> None:
    """All disks but one are restored from a backup, and the swarm goes another way; then that one comes back.

    Its log verifies, is ahead of everybody's, and is not the history of this swarm.
    """
    swarm = scene.swarm
    *restored, victim = swarm.peers.values()
    _end_all(scene)
    with tempfile.TemporaryDirectory() as folder:
        backups = {peer.name: Path(folder) / peer.name for peer in restored}
        for peer in restored:
            shutil.copytree(peer.state.path, backups[peer.name])
        height = max(peer.height for peer in swarm.peers.values())
        scene.say("a backup of all disks but one is made; the swarm goes on")
        _start_all(scene, list(swarm.peers.values()))
        swarm.until(lambda: victim.height >= height + _AHEAD + 1, RETURN_S, "the swarm goes on")
        _end_all(scene)
        for peer in restored:
            _restore(peer, backups[peer.name])
    scene.say(f"the backup is restored; {victim.name}, in round {victim.height + 1}, stays away at first")
    _forget_all(scene)
    scene.struck(height + 1)
    _start_all(scene, restored)
    swarm.until(
        lambda: all(len(swarm.chain(peer)) > height for peer in restored),
        RETURN_S,
        "the others go another way",
        poll_s=1.0,
    )
    scene.struck(max(len(swarm.chain(peer)) for peer in restored) + 1)
    scene.history_from = scene.struck_at
    scene.say(f"{victim.name} comes back, in round {scene.round_id}")
    victim.start()
    scene.measure(restored)
    scene.all_together()
    _expect_set_aside(scene, victim, scene.struck_at)
    scene.compare(swarm.running())


def _end_all(scene: Scene) -> None:
    scene.swarm.end()


def _start_all(scene: Scene, peers: list[Peer]) -> None:
    scene.swarm.start_seed()  # a new one: the board is empty
    for peer in peers:
        peer.start()


def _restore(peer: Peer, backup: Path) -> None:
    for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm", "checkpoints"):
        path = peer.state.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        source = backup / name
        if source.is_dir():
            shutil.copytree(source, path)
        elif source.exists():
            shutil.copy2(source, path)


def _forget_all(scene: Scene) -> None:
    # What was told before belongs to a past that is no more.
    for peer in scene.swarm.peers.values():
        peer.forget()


def foreign_folder(scene: Scene) -> None:
    """A member is started with the log of another run in its folder."""
    victim = a_member(scene)
    victim.end()
    own = victim.state.path / "own"
    own.mkdir()
    for part in victim.state.path.glob("log.sqlite*"):
        part.replace(own / part.name)
    other = small_run(name="other")
    Ledger.open(victim.state.log, other, genesis(other, "a" * 64, "b" * 64)).close()
    content = victim.state.log.read_bytes()
    printed = len(victim.printed())
    scene.struck()
    scene.say(f"{victim.name} is started with the log of {other.run_id}")
    victim.start()
    scene.measure([peer for peer in scene.swarm.running() if peer is not victim])
    expected = f"is the log of run {other.run_id}, not of {scene.swarm.run.run_id}"
    scene.swarm.until(
        lambda: expected in _in_one_line(victim.printed()[printed:]), ROUND_S, f"it says: {expected}"
    )
    scene.expect(victim.state.log.read_bytes() == content, "the other run's log was touched")
    scene.expect(not victim.events(PeerStarted, scene.struck_at), f"{victim.name} took part all the same")
    victim.end()
    for part in victim.state.path.glob("log.sqlite*"):
        part.unlink()
    for part in own.iterdir():
        part.replace(victim.state.path / part.name)
    scene.mend()


def _shown(scene: Scene, text: str) -> str:
    return text.replace(f"{scene.swarm.folder.path}/", "")


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
