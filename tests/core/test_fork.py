"""Claims about forks: they are found where they begin, and nobody leaves the side where the swarm lives."""

from __future__ import annotations

import pytest

from paceline.core.chain import Link
from paceline.core.errors import HistoryBroken
from paceline.core.fork import Fork, find_fork
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


def heads(ours: int, theirs: int) -> dict[str, str]:
    digests = [fork().ours.digests[-1]] * ours + [fork().theirs.digests[-1]] * theirs
    return dict(zip(IDS, digests, strict=False))


def test_a_peer_alone_on_its_branch_goes_where_the_swarm_lives() -> None:
    assert fork().should_leave(heads(ours=1, theirs=4), RUN)


def test_a_log_ahead_of_the_swarm_is_left_as_well() -> None:
    longer = fork(ours=THEIRS, theirs=OURS)
    assert longer.should_leave(heads(ours=4, theirs=1), RUN)


def test_nobody_leaves_a_living_branch_for_a_dead_one() -> None:
    assert not fork().should_leave(heads(ours=4, theirs=1), RUN)
    assert not fork().should_leave(heads(ours=3, theirs=0), RUN)


def test_nobody_leaves_while_neither_branch_can_go_on() -> None:
    assert not fork().should_leave(heads(ours=1, theirs=1), RUN)


def test_of_two_living_branches_the_smaller_one_dissolves() -> None:
    # A long partition: each side declared the other departed.
    found = fork(branch(TRUNK, 2, "a", KEYS[:2]), branch(TRUNK, 1, "b", KEYS[2:]))
    mirrored = Fork(found.shared, ours=found.theirs, theirs=found.ours)
    on = {key.peer_id: found.ours.digests[-1] for key in KEYS[:2]}
    on |= {key.peer_id: found.theirs.digests[-1] for key in KEYS[2:]}
    assert found.should_leave(on, RUN)
    assert not mirrored.should_leave(on, RUN)


def test_of_two_equal_living_branches_exactly_one_dissolves() -> None:
    found = fork(branch(TRUNK, 2, "a", KEYS[:2]), branch(TRUNK, 1, "b", KEYS[2:4]))
    mirrored = Fork(found.shared, ours=found.theirs, theirs=found.ours)
    on = {key.peer_id: found.ours.digests[-1] for key in KEYS[:2]}
    on |= {key.peer_id: found.theirs.digests[-1] for key in KEYS[2:4]}
    assert found.should_leave(on, RUN) != mirrored.should_leave(on, RUN)


def test_strangers_make_no_branch_alive() -> None:
    # Whoever was in no roster can't lure anybody away.
    on = {f"stranger-{number}": fork().theirs.digests[-1] for number in range(50)}
    assert not fork().should_leave(on | {IDS[0]: fork().ours.digests[-1]}, RUN)
