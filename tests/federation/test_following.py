"""Claims about following a swarm: only what verifies counts, and each round's mean comes back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from paceline.core.errors import CheckpointError, SwarmStalled
from paceline.federation.following import Follower, mean_pseudo_gradient
from paceline.learning.checkpoint import file_name, prune
from paceline.learning.outer import OuterState
from paceline.ledger import Ledger
from paceline.peer.folders import StateFolder
from tests.core.history import run_of
from tests.federation.past import KEYS, MODEL, RUN, STREAMED, Past


@pytest.fixture
def folders(tmp_path: Path) -> list[StateFolder]:
    return [StateFolder(tmp_path / f"peer-{number}") for number in (1, 2)]


@pytest.fixture
def follower(folders: list[StateFolder], tmp_path: Path) -> Follower:
    return Follower(RUN, folders, tmp_path / "kept")


def test_each_rounds_mean_comes_back_with_its_commit(folders: list[StateFolder], follower: Follower) -> None:
    past = Past(4)
    for round_id in range(1, 5):
        past.commit(round_id, *folders)
        follower.look()
        assert follower.has(round_id)
        committed, mean = follower.take(round_id)
        assert committed.state == past.states[round_id]
        assert committed.losses == {key.peer_id: 2.5 for key in KEYS[:2]}
        np.testing.assert_allclose(mean, past.means[round_id - 1], rtol=1e-5, atol=1e-6)


def test_of_a_round_that_exchanged_a_fragment_the_mean_of_that_fragment_comes_back(
    folders: list[StateFolder], tmp_path: Path
) -> None:
    past, follower = Past(4, STREAMED), Follower(STREAMED, folders, tmp_path / "kept")
    for round_id in range(1, 5):
        past.commit(round_id, *folders)
        follower.look()
        _, mean = follower.take(round_id)
        np.testing.assert_allclose(mean, past.means[round_id - 1], rtol=1e-5, atol=1e-6)
        assert (mean == 0).any() and mean.any()  # momentum of the other fragment is not taken for a mean


def test_without_momentum_the_mean_comes_back_to_the_bit(tmp_path: Path) -> None:
    before, mean = (np.random.default_rng(seed).normal(size=9).astype(np.float32) for seed in (1, 2))
    state = OuterState(np.ones(9, np.float32), before.copy(), RUN.outer.model_copy(update={"momentum": 0.0}))
    state.apply(mean)
    assert np.array_equal(mean_pseudo_gradient(before, state.momentum, 0.0), mean)


def test_rounds_that_were_seen_can_be_taken_after_the_peers_have_removed_their_checkpoints(
    folders: list[StateFolder], follower: Follower, tmp_path: Path
) -> None:
    past = Past(5)
    for round_id in range(1, 6):
        past.commit(round_id, *folders)
        follower.look()
        for folder in folders:
            prune(folder.checkpoints, keep=1)
    for round_id in range(1, 6):
        np.testing.assert_allclose(follower.take(round_id)[1], past.means[round_id - 1], rtol=1e-4, atol=1e-5)
    assert list((tmp_path / "kept").iterdir()) == []
    follower.close()
    assert not (tmp_path / "kept").exists()


def test_checkpoints_are_copied_where_the_disk_can_not_link_them(folders: list[StateFolder]) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == folders[0].path.parent.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    past = Past(1)
    past.commit(1, *folders)
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        follower = Follower(RUN, folders, Path(elsewhere) / "kept")
        follower.look()
        np.testing.assert_allclose(follower.take(1)[1], past.means[0], rtol=1e-6)


def test_a_round_whose_checkpoint_nobody_has_any_more_is_told_at_once(
    folders: list[StateFolder], follower: Follower
) -> None:
    past = Past(4)
    for round_id in range(1, 5):
        past.commit(round_id, *folders)
    for folder in folders:
        prune(folder.checkpoints, keep=2)
    follower.look()
    with pytest.raises(SwarmStalled, match=r"checkpoint of round 1 .*node\.keep_checkpoints"):
        follower.has(1)


def test_a_round_waits_for_the_first_peer_that_has_its_checkpoint(
    folders: list[StateFolder], follower: Follower
) -> None:
    past = Past(1)
    past.commit(1)
    past.log(folders[0])  # as a peer in repair: history first, then state
    follower.look()
    assert not follower.has(1)
    past.keep(folders[1], past.states[1])
    follower.look()
    assert follower.has(1)


def test_peers_without_a_log_and_peers_that_are_behind_hold_nobody_up(
    folders: list[StateFolder], follower: Follower
) -> None:
    past = Past(3)
    past.commit(1, *folders)
    past.commit(2, folders[1])
    folders[0].log.unlink()
    follower.look()
    assert follower.head == past.states[2]
    past.commit(3, folders[1])
    follower.look()
    assert follower.head == past.states[3]


def test_a_log_that_does_not_verify_gives_nothing(folders: list[StateFolder], follower: Follower) -> None:
    past = Past(1)
    past.commit(1, *folders)
    folders[0].log.write_bytes(b"no log at all")
    with Ledger.open(folders[1].log, RUN, past.states[0]):
        pass
    damaged = bytearray(folders[1].log.read_bytes())
    place = damaged.rindex(past.links[0].commit[40:60])
    damaged[place] ^= 1
    folders[1].log.write_bytes(bytes(damaged))
    follower.look()
    assert follower.head is None
    assert not follower.has(1)


def test_a_log_of_another_run_gives_nothing(folders: list[StateFolder], tmp_path: Path) -> None:
    Past(1).commit(1, *folders)
    other = Follower(run_of(KEYS, model=MODEL, seed=1), folders, tmp_path / "kept")
    other.look()
    assert other.head is None


def test_rounds_are_taken_in_order(folders: list[StateFolder], follower: Follower) -> None:
    past = Past(2)
    past.commit(1, *folders)
    past.commit(2, *folders)
    follower.look()
    with pytest.raises(ValueError, match="round 2, where round 1 comes next"):
        follower.take(2)
    follower.take(1)
    with pytest.raises(ValueError, match="round 1, where round 2 comes next"):
        follower.take(1)


def test_a_checkpoint_that_was_damaged_on_this_disk_is_refused(
    folders: list[StateFolder], follower: Follower
) -> None:
    Past(1).commit(1, *folders)
    path = folders[0].checkpoints / file_name(1)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))
    follower.look()
    with pytest.raises(CheckpointError, match="momentum"):
        follower.take(1)
