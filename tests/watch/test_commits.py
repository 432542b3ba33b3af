"""Which commits a watch takes for true, and what it takes from a peer's log."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import pytest

from paceline.core.chain import Link
from paceline.core.errors import HistoryBroken, TransferFailed
from paceline.core.records import CommitRecord, RoundReceipt
from paceline.core.wire import seal, unseal
from paceline.network.lookout import Lookout
from paceline.network.transfer import FetchedHistory
from paceline.watch.commits import Footing, footing_of, verified
from paceline.watch.fold import Swarm
from paceline.watch.past import Past
from tests.core.history import commit_of, genesis_of, history, link_of, next_state, peers, run_of
from tests.watch.statements import IDS, KEYS, RUN, T0, beat, round_of, states

BEGINNING = Footing(0, "", frozenset(IDS))
LINKS = history(RUN, KEYS, 6)


def test_a_history_verifies_from_the_founders_on() -> None:
    footing = BEGINNING
    for number, link in enumerate(LINKS, start=1):
        commit, receipts = verified(link, footing, RUN)
        footing = footing_of(commit)
        assert (footing.round_id, len(receipts)) == (number, 4)


def _forged() -> dict[str, Link]:
    first, second, other = states(2)[0], states(2)[1], run_of(KEYS, name="other", rounds=12)
    commit, liar = commit_of(first, KEYS[0]), peers(5)[4]
    if liar.peer_id in IDS:
        liar = next(key for key in peers(5) if key.peer_id not in IDS)
    fake = commit_of(next_state(RUN, genesis_of(RUN), [liar]), liar)
    inflated = first.model_copy(update={"samples": [8, 8, 8, 10**9]})
    return {
        "a commit that only a stranger backs": link_of(fake, liar, [liar]),
        "too few receipts": link_of(commit, KEYS[0], KEYS[3:]),
        "receipts for another commit": Link(seal(commit, KEYS[0]), LINKS[1].receipts),
        "a later round": link_of(commit_of(second, KEYS[0]), KEYS[0], KEYS),
        "a commit of another run": history(other, KEYS, 1)[0],
        "samples that nobody voted for": link_of(commit_of(inflated, KEYS[0]), KEYS[0], KEYS),
        "a receipt in place of the commit": Link(LINKS[0].receipts[0], LINKS[0].receipts),
        "bytes that are no record": Link(b"nonsense", ()),
        "a changed byte": Link(LINKS[0].commit[:-1] + b"\x00", LINKS[0].receipts),
    }


@pytest.mark.parametrize("what", _forged())
def test_a_history_that_was_made_up_is_refused(what: str) -> None:
    with pytest.raises(HistoryBroken, match="round 1"):
        verified(_forged()[what], BEGINNING, RUN)


def test_a_row_must_follow_the_one_before_it() -> None:
    footing = Footing(1, "ab" * 32, frozenset(IDS))
    with pytest.raises(HistoryBroken, match="does not follow"):
        verified(LINKS[1], footing, RUN)


class Donors:
    """Stands in for the network: every peer answers at once with what it is said to have."""

    def __init__(self, kept: dict[str, Sequence[Link]]) -> None:
        self.kept, self.asked = kept, list[str]()

    def ask_history(
        self, run_id: str, donors: Sequence[str], after_round: int, max_links: int
    ) -> Future[FetchedHistory]:
        assert run_id == RUN.run_id
        answer: Future[FetchedHistory] = Future()
        donor = next((donor for donor in donors if self.kept.get(donor, ())[after_round:]), None)
        self.asked += donors[:1]
        if donor is None:
            answer.set_exception(TransferFailed("nobody answers", "wait"))
        else:
            links = tuple(self.kept[donor][after_round : after_round + min(max_links, 2)])
            answer.set_result(FetchedHistory(links, donor, {}))
        return answer


def fetched(donors: Donors, swarm: Swarm, seconds: int) -> Past:
    """A watch that looks once a second."""
    past = Past(cast(Lookout, donors), RUN)
    for second in range(seconds):
        for commit, receipts in past.arrived(float(second)):
            swarm.take_link(commit, receipts)
        swarm.picture(T0)
        past.want(*swarm.missing(T0), float(second))
    return past


def late() -> Swarm:
    """A watch that begins in round 7 and sees only that the others are there."""
    swarm = Swarm(RUN, 1000)
    for record in round_of(states(6)[5], T0):
        swarm.take(record, T0)
    for number in range(4):
        swarm.take(beat(number, 7, T0 + 1, head_digest=states(6)[5].digest()), T0)
    return swarm


def test_what_was_missed_is_fetched_page_by_page() -> None:
    swarm = late()
    assert [view.round_id for view in swarm.picture(T0).rounds] == [6, 7]
    fetched(Donors(dict.fromkeys(IDS, LINKS)), swarm, 12)
    picture = swarm.picture(T0)
    assert [view.round_id for view in picture.rounds] == [1, 2, 3, 4, 5, 6, 7]
    assert [view.credits for view in picture.peers] == [48] * 4
    assert swarm.missing(T0) == (None, [])


def test_a_donor_that_lies_is_not_asked_again_and_the_others_are() -> None:
    swarm, liar = late(), IDS[0]
    forged = [_forged()["a commit that only a stranger backs"]]
    donors = Donors({liar: forged, IDS[1]: LINKS})
    fetched(donors, swarm, 200)
    assert [view.round_id for view in swarm.picture(T0).rounds] == [1, 2, 3, 4, 5, 6, 7]


def test_nobody_is_bothered_while_nothing_is_missing_or_nobody_answers() -> None:
    swarm = Swarm(RUN, 1000)
    for state in states(2):
        for record in round_of(state, T0):
            swarm.take(record, T0)
    donors = Donors({})
    fetched(donors, swarm, 100)
    assert donors.asked == []
    fetched(donors, late(), 300)
    assert 2 <= len(donors.asked) <= 8


@pytest.mark.parametrize("made_up", [5, 12])
def test_a_fetched_history_takes_the_place_of_what_strangers_made_up(made_up: int) -> None:
    stranger = next(key for key in peers(5) if key.peer_id not in IDS)
    swarm = Swarm(RUN, 1000)
    head = next_state(RUN, genesis_of(RUN), [stranger])
    for _ in range(made_up - 1):  # nobody else is there to contradict
        head = next_state(RUN, head, [stranger])
        commit = commit_of(head, stranger)
        link = link_of(commit, stranger, [stranger])
        for sealed in (link.commit, *link.receipts):
            swarm.take(unseal(sealed), T0)
        swarm.picture(T0)
    assert swarm.picture(T0).rounds_committed == made_up
    for link in LINKS:
        commit_record, *receipts = (unseal(sealed) for sealed in (link.commit, *link.receipts))
        assert isinstance(commit_record, CommitRecord)
        swarm.take_link(commit_record, [r for r in receipts if isinstance(r, RoundReceipt)])
    picture = swarm.picture(T0)
    assert [view.digest for view in picture.rounds[:6]] == [state.digest() for state in states(6)]
