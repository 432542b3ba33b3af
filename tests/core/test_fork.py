"""Claims about forks: they are found where they begin, and nobody leaves the side where the swarm lives."""

from __future__ import annotations

import pytest

from paceline.core.chain import Link
from paceline.core.errors import HistoryBroken
from paceline.core.fork import Branch, Fork, find_fork
from paceline.core.records import CommitRecord, GlobalState
from paceline.core.signing import SigningKey
from paceline.core.wire import unseal
from tests.core.history import commit_of, genesis_of, history, link_of, next_state, peers, run_of

KEYS = peers(5)
IDS = [key.peer_id for key in KEYS]
RUN = run_of(KEYS)
GENESIS = genesis_of(RUN)


def states(links: list[Link]) -> list[GlobalState]:
    records = [unseal(link.commit) for link in links]
    return [GENESIS, *(record.state for record in records if isinstance(record, CommitRecord))]


def branch(links: list[Link], rounds: int, mark: str, keys: list[SigningKey] = KEYS) -> list[Link]:
    """Continue a history by rounds of its own."""
    head, grown = states(links)[-1], list(links)
    for _ in range(rounds):
        head = next_state(RUN, head, keys, weights_digest=mark * 64)
        grown.append(link_of(commit_of(head, KEYS[0]), KEYS[0], KEYS))
    return grown


TRUNK = history(RUN, KEYS, 3)
OURS, THEIRS = branch(TRUNK, 2, "a"), branch(TRUNK, 4, "b")


def fork(ours: list[Link] = OURS, theirs: list[Link] = THEIRS) -> Fork:
    found = find_fork(states(ours), theirs, RUN)
    assert found is not None
    return found


def test_a_fork_is_found_at_the_last_shared_commit() -> None:
    found = fork()
    assert found.shared == states(TRUNK)[-1]
    assert found.ours.head == states(OURS)[-1]
    assert found.theirs.head == states(THEIRS)[-1]
    assert found.theirs.digests == tuple(state.digest() for state in states(THEIRS)[4:])


@pytest.mark.parametrize(("ours", "theirs"), [(TRUNK, THEIRS), (THEIRS, TRUNK), (TRUNK, TRUNK), (TRUNK, [])])
def test_a_longer_history_is_no_fork(ours: list[Link], theirs: list[Link]) -> None:
    assert find_fork(states(ours), theirs, RUN) is None


def test_a_history_that_does_not_verify_is_refused_on_either_side_of_the_fork() -> None:
    for broken in (1, 3, 5):
        links = [*THEIRS[:broken], Link(THEIRS[broken].commit, ()), *THEIRS[broken + 1 :]]
        with pytest.raises(HistoryBroken):
            find_fork(states(OURS), links, RUN)


OURS_HEAD, THEIRS_HEAD = fork().ours.digests[-1], fork().theirs.digests[-1]


def heads(ours: int, theirs: int) -> dict[str, str]:
    digests = [fork().ours.digests[-1]] * ours + [fork().theirs.digests[-1]] * theirs
    return dict(zip(IDS, digests, strict=False))


def test_a_peer_alone_on_its_branch_goes_where_the_swarm_lives() -> None:
    assert fork().should_leave(heads(ours=1, theirs=4), RUN)


def test_a_log_ahead_of_the_swarm_is_left_as_well() -> None:
    longer = fork(ours=THEIRS, theirs=OURS)
    assert longer.should_leave(heads(ours=4, theirs=1), RUN)


def test_nobody_leaves_for_a_branch_without_a_quorum() -> None:
    assert not fork().should_leave(heads(ours=4, theirs=1), RUN)
    assert not fork().should_leave(heads(ours=0, theirs=2), RUN)


def test_of_two_living_branches_the_smaller_one_dissolves() -> None:
    # A long partition: each side declared the other departed.
    found = fork(branch(TRUNK, 2, "a", KEYS[:2]), branch(TRUNK, 1, "b", KEYS[2:]))
    mirrored = Fork(found.shared, ours=found.theirs, theirs=found.ours)
    on = {key.peer_id: found.ours.digests[-1] for key in KEYS[:2]}
    on |= {key.peer_id: found.theirs.digests[-1] for key in KEYS[2:]}
    assert found.should_leave(on, RUN)
    assert not mirrored.should_leave(on, RUN)


def test_of_two_equal_branches_at_most_one_dissolves() -> None:
    run = run_of(KEYS[:4])
    genesis = genesis_of(run)
    ours, theirs = (next_state(run, genesis, KEYS[:4], weights_digest=mark * 64) for mark in "ab")
    both = [Branch(state, (state.digest(),)) for state in (ours, theirs)]
    on = {key.peer_id: both[number // 2].digests[0] for number, key in enumerate(KEYS[:4])}
    left = [Fork(genesis, *pair).should_leave(on, run) for pair in (both, both[::-1])]
    assert left.count(True) == 1  # a half that holds the tie-break is a quorum


def test_invented_peers_lure_nobody_away() -> None:
    # One member of the last common roster signs a branch, with a crowd of its own in later rosters.
    crowd = {f"stranger-{number}": THEIRS_HEAD for number in range(50)}
    assert not fork().should_leave(crowd | heads(ours=2, theirs=2), RUN)
    assert not fork().should_leave(crowd | {IDS[0]: THEIRS_HEAD}, RUN)
