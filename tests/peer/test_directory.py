"""A joiner agrees with the swarm on the run, or says what keeps it from that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from paceline.core.config import Handout, RunConfig
from paceline.core.errors import JoinError, RunMismatch
from paceline.core.records import RunRecord
from paceline.core.signing import SigningKey
from paceline.peer.directory import find_run, seeds_of
from tests.network.boards import BoardPeer, Boards, boards

pytestmark = pytest.mark.live
ID = SigningKey.from_seed(bytes(32)).peer_id
ADDRESS = f"/ip4/203.0.113.7/tcp/4001/p2p/{ID}"
OURS, OTHER = RunConfig(name="ours"), RunConfig(name="other")


def handout(run: RunConfig, *, whole: bool = True, seed: str = ADDRESS) -> Handout:
    return Handout(
        run_id=run.run_id,
        seeds=(seed,),
        run_digest=run.digest(),
        run_config=run if whole else None,
    )


@pytest.fixture
def swarm() -> Iterator[Boards]:
    with boards() as started:
        yield started


def announced(swarm: Boards, *runs: RunConfig) -> BoardPeer:
    """A joiner of a swarm where these runs are announced, each by a peer of its own."""
    peer = swarm.peer()
    for run in runs:
        author = BoardPeer(peer.dht, peer.rejections)
        author.board.publish(
            RunRecord(
                run_id=run.run_id, peer_id=author.key.peer_id, seq=0, expires_at=0.0, document=run.document()
            )
        )
        author.board.flush()
    return swarm.peer()


def test_one_address_is_enough_to_learn_the_run(swarm: Boards) -> None:
    joiner = announced(swarm, OURS)
    assert find_run(joiner.view(run_id=None), ADDRESS) == OURS


def test_a_digest_is_enough_to_learn_the_run_among_others(swarm: Boards) -> None:
    joiner = announced(swarm, OTHER, OURS)
    assert find_run(joiner.view(run_id=None), handout(OURS, whole=False)) == OURS


def test_a_swarm_that_trains_another_run_is_refused_with_both_digests(swarm: Boards) -> None:
    joiner = announced(swarm, OTHER)
    for whole in (True, False):
        with pytest.raises(RunMismatch) as refused:
            find_run(joiner.view(run_id=None), handout(OURS, whole=whole))
        assert OURS.digest() in refused.value.cause
        assert OTHER.digest() in refused.value.cause


def test_an_address_where_several_runs_are_announced_is_not_enough(swarm: Boards) -> None:
    joiner = announced(swarm, OTHER, OURS)
    with pytest.raises(JoinError, match="several runs") as refused:
        find_run(joiner.view(run_id=None), ADDRESS)
    assert OURS.run_id in refused.value.cause
    assert OTHER.run_id in refused.value.cause


def test_the_first_peer_of_a_run_starts_from_its_whole_handout(swarm: Boards) -> None:
    joiner = announced(swarm)
    assert find_run(joiner.view(run_id=None), handout(OURS)) == OURS
    for target in (handout(OURS, whole=False), ADDRESS):
        with pytest.raises(JoinError, match="no run was announced"):
            find_run(joiner.view(run_id=None), target, patience_s=0.1)


def test_a_document_under_another_runs_name_counts_for_nothing(swarm: Boards) -> None:
    peer = announced(swarm)
    for document in (OTHER.document(), '{"name":"other"}', '{"surprise":1}'):
        liar = BoardPeer(peer.dht, peer.rejections)
        liar.board.publish(
            RunRecord(run_id=OURS.run_id, peer_id=liar.key.peer_id, seq=0, expires_at=0.0, document=document)
        )
        liar.board.flush()
    with pytest.raises(JoinError, match="no run was announced"):
        find_run(peer.view(run_id=None), ADDRESS, patience_s=0.1)


def test_seeds_come_from_a_handout_or_are_the_address_itself() -> None:
    assert seeds_of(ADDRESS) == (ADDRESS,)
    assert seeds_of(handout(OURS)) == (ADDRESS,)
    with pytest.raises(JoinError, match="no seed's address yet") as refused:
        seeds_of(handout(OURS, seed=f"/ip4/127.0.0.1/tcp/0/p2p/{ID}"))
    assert "paceline seed" in refused.value.remedy
