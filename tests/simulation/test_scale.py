"""Claims about how rounds grow with a swarm, and about swarms too large for one roster."""

from __future__ import annotations

from paceline.simulate.calm import CalmBoard
from paceline.simulate.scale import measure
from paceline.simulate.swarm import VirtualSwarm, peer_name, virtual_run


def test_a_round_takes_hardly_longer_with_eight_times_the_peers() -> None:
    small, large = measure(4), measure(32)
    assert large.round_s < 1.5 * small.round_s
    assert (small.members, large.members) == (4, 32)
    assert small.fetches == large.fetches == 0


def test_what_a_peer_posts_does_not_grow_and_what_it_reads_grows_with_the_swarm_only() -> None:
    small, large = measure(8), measure(32)
    assert large.posts < 1.2 * small.posts and large.reads < 1.5 * small.reads
    assert 3 * small.news < large.news < 6 * small.news


def test_more_peers_than_a_roster_holds_take_turns_and_lose_no_round() -> None:
    count = 80
    swarm = VirtualSwarm(1, virtual_run(64))
    swarm.board = CalmBoard(swarm.rng)
    for number in range(count):
        swarm.start(peer_name(number))
    assert swarm.run(lambda: swarm.witness.height >= 9, 90)
    states = max((peer.disk.states for peer in swarm.peers.values()), key=len)[1:]
    assert all(len(state.participating_nodes) == 64 and state.attempt == 0 for state in states)
    # Rounds are so short here that some have only just begun when their turn comes: then it comes once more.
    assert {who for state in states for who in state.participating_nodes} == set(swarm.peers)
    assert all(samples for state in states for samples in state.samples)
    assert swarm.run(lambda: min(peer.disk.head.round_id for peer in swarm.up()) >= 9, 10)


def test_a_calm_board_shows_each_reader_the_latest_record_of_each_other_once() -> None:
    swarm = VirtualSwarm(1, virtual_run(2))
    swarm.board = board = CalmBoard(swarm.rng)
    one, other = (swarm.start(peer_name(number)) for number in range(2))
    swarm.run(lambda: False, 3.0)
    fresh = swarm.start(peer_name(2))
    found = board.collect(fresh.peer_id, fresh.box, swarm.now + 1, fresh.wall)
    assert sorted({posted.place for posted in found}) == sorted(posted.place for posted in found)
    assert {posted.place[1] for posted in found} == {one.peer_id, other.peer_id}
    assert not board.collect(fresh.peer_id, fresh.box, swarm.now + 1, fresh.wall)
