"""Who can't join is told why, who must not join is kept out, and who leaves holds nobody up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from paceline.core.config import Handout, PaceConfig
from paceline.core.events import PeerStarted, PeerStopped
from paceline.core.nicknames import named
from paceline.core.signing import SigningKey
from paceline.peer.child import Child
from paceline.peer.folders import StateFolder
from paceline.peer.settings import load_handout, save_handout
from paceline.peer.swarm import Ended
from tests.live.swarms import COMMAND, PATIENCE_S, LiveSwarm, descendants, live_swarm, small_run

pytestmark = pytest.mark.live
LEASE_S = 90.0
OTHER_RUN = small_run(name="other")


@dataclass(frozen=True)
class Refusal:
    """How an attempt to join ended."""

    code: int | None
    text: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSwarm]:
    """Three peers that would wait long for one that keeps silent."""
    run = small_run(rounds=1000, pace=PaceConfig(lease_s=LEASE_S))
    with live_swarm(tmp_path_factory.mktemp("joining"), run, peers=3) as swarm:
        swarm.until(lambda: all(swarm.height(name) >= 1 for name in swarm.states))
        yield swarm


@pytest.fixture(scope="module")
def nowhere() -> str:
    """The address of a seed that does not run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"/ip4/127.0.0.1/tcp/{port}/p2p/{SigningKey.from_seed(bytes(32)).peer_id}"


@pytest.fixture(scope="module")
def refusals(
    running: LiveSwarm, nowhere: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Refusal]:
    """Attempts to join that must fail, all at once: most of their time goes into imports."""
    path = tmp_path_factory.mktemp("refused")
    original = running.states["peer-1"]
    elsewhere = StateFolder(path / "copied")
    elsewhere.path.mkdir()
    shutil.copy2(original.key, elsewhere.key)
    other = path / "other.json"
    save_handout(other, handout_of_another_run(running))
    ours = str(running.folder.handout)
    attempts = {
        "unreachable": (nowhere, path / "unreachable"),
        "another run": (str(other), path / "other"),
        "same folder": (ours, original.path),
        "copied key": (ours, elsewhere.path),
    }
    children = {}
    for name, (target, state_dir) in attempts.items():
        command = ["join", target, "--config", str(original.settings), "--set", f"state_dir={state_dir}"]
        children[name] = Child(name, [*COMMAND, *command], path / f"{name}.txt")
    deadline = time.monotonic() + PATIENCE_S
    try:
        for child in children.values():
            child.wait(max(0.0, deadline - time.monotonic()))
        return {
            name: Refusal(child.exit_code(), (path / f"{name}.txt").read_text())
            for name, child in children.items()
        }
    finally:
        for child in children.values():
            child.kill()


def handout_of_another_run(swarm: LiveSwarm) -> Handout:
    seeds = load_handout(swarm.folder.handout).seeds
    return Handout(run_id=OTHER_RUN.run_id, seeds=seeds, run_digest=OTHER_RUN.digest(), run_config=OTHER_RUN)


def said(refusal: Refusal) -> str:
    """The one error of its output, without line breaks."""
    _, error, text = refusal.text.partition("error: ")
    assert error, refusal.text
    assert "Traceback" not in refusal.text
    return " ".join(text.split())


def test_an_unreachable_seed_is_told_with_what_was_tried_and_for_how_long(
    refusals: dict[str, Refusal], nowhere: str
) -> None:
    refusal = refusals["unreachable"]
    assert refusal.code == 3, refusal.text
    assert re.search(r"no seed answered within \d+ s", said(refusal))
    assert nowhere in said(refusal).replace(" ", "")
    assert "check that a seed runs" in said(refusal)


def test_a_handout_of_another_run_is_refused_with_both_digests(
    running: LiveSwarm, refusals: dict[str, Refusal]
) -> None:
    refusal = refusals["another run"]
    assert refusal.code == 3, refusal.text
    assert OTHER_RUN.digest() in said(refusal)
    assert running.run.digest() in said(refusal)


def test_a_second_process_with_the_same_state_folder_is_refused(
    running: LiveSwarm, refusals: dict[str, Refusal]
) -> None:
    refusal = refusals["same folder"]
    assert refusal.code == 2, refusal.text
    assert "in use by a live peer" in said(refusal)
    assert str(running.local.pids()["peer-1"]) in said(refusal)


def test_a_process_with_a_copied_key_is_refused_and_the_original_goes_on(
    running: LiveSwarm, refusals: dict[str, Refusal]
) -> None:
    refusal = refusals["copied key"]
    assert refusal.code == 2, refusal.text
    assert f"another live peer uses this identity ({named(running.peer_id('peer-1'))})" in said(refusal)
    assert not running.local.ends()
    heights = {name: running.height(name) for name in running.local.names}
    running.until(lambda: all(running.height(name) > heights[name] for name in heights))


def test_after_ctrl_c_a_peer_leaves_cleanly_and_the_others_do_not_wait_for_it(running: LiveSwarm) -> None:
    leaving = running.coordinator()
    pid = running.local.pids()[leaving]
    family = descendants(pid)
    assert len(family) >= 3  # the DHT, the averager and the daemon
    asked_at = time.monotonic()
    os.killpg(pid, signal.SIGINT)  # as a terminal does, to all of them
    running.until(lambda: running.events(leaving, PeerStopped))
    left_at, height = time.monotonic(), max(map(running.height, running.local.names))
    rest = [name for name in running.local.names if name != leaving]
    running.until(lambda: all(running.height(name) >= height + 2 for name in rest))
    assert time.monotonic() - left_at < LEASE_S / 2
    print(
        f"left {left_at - asked_at:.1f} s after Ctrl-C; two rounds {time.monotonic() - left_at:.1f} s later"
    )
    running.until(lambda: not any(Path(f"/proc/{child}/exe").exists() for child in family), 30)
    ends: list[Ended] = []  # its children are gone a moment before itself
    running.until(lambda: ends or ends.extend(running.local.ends()))  # type: ignore[func-returns-value]
    (end,) = ends
    assert end.name == leaving
    assert end.code in (0, 130)
    assert [event.cause for event in running.events(leaving, PeerStopped)] == ["asked"]
    assert len(running.events(leaving, PeerStarted)) == 1
