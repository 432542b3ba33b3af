"""Records in, pictures out."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paceline.core.events import CreditsCounted, Event, ReduceEnded, StepDone
from paceline.core.records import Phase, Record
from paceline.core.signing import SigningKey
from paceline.watch.fold import Swarm
from paceline.watch.picture import PeerView, Picture
from tests.core import strategies
from tests.core.history import commit_of, next_state, peers, receipt_of, run_of
from tests.watch.statements import IDS, KEYS, RUN, T0, beat, plan_of, round_of, states

PARAMETERS = 1000


def swarm_of(said: Sequence[Record], at: float = T0) -> Swarm:
    swarm = Swarm(RUN, PARAMETERS)
    for record in said:
        swarm.take(record, at)
    return swarm


def peer(picture: Picture, number: int) -> PeerView:
    return next(view for view in picture.peers if view.peer_id == IDS[number])


def test_a_round_shows_its_members_losses_receipts_and_digests() -> None:
    first, second = states(2)
    picture = swarm_of([*round_of(first, T0), *round_of(second, T0)]).picture(T0)
    assert [view.round_id for view in picture.rounds] == [1, 2, 3]
    shown = picture.rounds[1]
    assert (shown.digest, shown.prev_digest) == (second.digest(), first.digest())
    assert (shown.weights_digest, shown.author) == (second.weights_digest, IDS[0])
    assert (shown.members, shown.samples) == (tuple(sorted(IDS)), (8, 8, 8, 8))
    assert shown.losses == {peer_id: 2.0 + number for number, peer_id in enumerate(IDS)}
    assert (shown.receipts, shown.val_loss, shown.voids) == (4, 1.5, ())
    assert shown.committed_at == picture.last_commit_at == T0
    assert (picture.rounds_committed, picture.quorum_needed, picture.quorum_here) == (2, 3, 4)
    assert picture.rounds[2].committed_at is None


def test_a_commit_counts_when_a_quorum_stands_behind_it_and_not_before() -> None:
    (state,) = states(1)
    commit = commit_of(state, KEYS[0])
    swarm = swarm_of([beat(0), beat(1), commit, receipt_of(commit, KEYS[0])])
    assert swarm.picture(T0).rounds_committed == 0
    swarm.take(receipt_of(commit, KEYS[1]), T0)
    swarm.take(beat(2, round_id=2, head_digest=state.digest()), T0)  # it stands on that commit
    assert swarm.picture(T0).rounds_committed == 1


STRANGER = next(key for key in peers(5) if key.peer_id not in IDS)


@pytest.mark.parametrize("liar", [STRANGER, KEYS[2]])
def test_nobody_can_raise_the_height_alone(liar: SigningKey) -> None:
    said = round_of(states(1)[0], T0)
    state = next_state(RUN, states(1)[0], [liar], round_id=9)
    lie = commit_of(state, liar)
    swarm = swarm_of([*said, lie, receipt_of(lie, liar)])
    picture = swarm.picture(T0)
    assert picture.rounds_committed == 1
    assert [view.round_id for view in picture.rounds] == [1, 2]


def test_a_round_beyond_the_end_of_the_run_is_not_shown() -> None:
    picture = swarm_of([beat(number, round_id=2**40) for number in range(4)]).picture(T0)
    assert picture.rounds_committed == RUN.rounds
    assert picture.rounds == ()
    assert {view.standing for view in picture.peers} == {"finished"}


def test_a_first_commit_is_waited_for_since_enough_peers_are_here() -> None:
    swarm = swarm_of([beat(0), beat(1)])
    for number in (0, 1):
        swarm.take(beat(number, at=T0 + 50), T0 + 50)
    assert swarm.picture(T0 + 50).ready_since is None  # of four founders it takes three
    for number in (2, 3):
        swarm.take(beat(number, at=T0 + 50 + number), T0 + 50 + number)
    assert swarm.picture(T0 + 53).ready_since == T0 + 52
    for record in round_of(states(1)[0], T0 + 54):
        swarm.take(record, T0 + 54)
    assert swarm.picture(T0 + 54).ready_since is None


def test_a_watch_that_begins_late_or_was_away_shows_what_most_stand_on() -> None:
    chain = states(9)
    said = [record for state in (chain[4], chain[8]) for record in round_of(state, T0)]
    picture = swarm_of(said).picture(T0)
    assert [view.round_id for view in picture.rounds] == [5, 9, 10]
    assert picture.rounds_committed == 9


def test_the_round_in_progress_shows_the_latest_plan() -> None:
    first, second = states(2)
    retry = next_state(RUN, first, KEYS[:3], attempt=1)
    said = [*round_of(first, T0), plan_of(second), plan_of(retry, seq=2)]
    shown = swarm_of([*said, beat(1, 2), beat(3, 2)]).picture(T0).rounds[-1]
    assert (shown.round_id, shown.term, shown.attempt, len(shown.members)) == (2, 1, 1, 3)
    assert [(void.term, void.attempt) for void in shown.voids] == [(1, 0)]


@pytest.mark.parametrize(
    ("failed", "cause"),
    [
        (1, "1 of 4 members did not get the whole average, 2 told nothing"),
        (0, "3 of 4 members told nothing"),
    ],
)
def test_an_attempt_that_was_given_up_says_why_and_who_is_blamed(failed: int, cause: str) -> None:
    first, second = states(2)
    given_up, retry = plan_of(second), next_state(RUN, first, KEYS[:3], attempt=1)
    commit = commit_of(retry, KEYS[0])
    told = {"plan_digest": given_up.digest(), "attempt": 0, "seq": 1}
    lost = {"complete": False, "weights_digest": "", "momentum_digest": "", "blamed": IDS[3]}
    said = [*round_of(first, T0), given_up, plan_of(retry, seq=2), commit]
    said += [receipt_of(commit, key, seq=3) for key in KEYS[:3]]
    said.append(receipt_of(commit_of(second, KEYS[0]), KEYS[0], **told))
    if failed:
        said.append(receipt_of(commit_of(second, KEYS[0]), KEYS[1], **told, **lost))
    picture = swarm_of(said).picture(T0)
    (void,) = picture.rounds[1].voids
    assert (void.term, void.attempt, void.cause) == (1, 0, cause)
    assert void.blamed == ((IDS[3],) if failed else ())
    assert picture.attempts_voided == 1


def test_an_attempt_that_another_coordinator_finishes_is_not_given_up() -> None:
    first, second = states(2)
    plan, commit = plan_of(second), commit_of(second, KEYS[1], ballot_term=2, ballot_attempt=0)
    vote = receipt_of(commit_of(second, KEYS[0]), KEYS[2]).vote()
    adopting = plan_of(second, KEYS[1], term=2, attempt=0, seq=2, adopts=vote, origin=plan.ballot)
    said = [*round_of(first, T0), plan, adopting, commit, beat(0, 2, term=2, coordinator=IDS[1])]
    said += [receipt_of(commit, key, seq=3) for key in KEYS[:3]]
    picture = swarm_of(said).picture(T0)
    assert picture.rounds_committed == 2
    assert picture.rounds[1].voids == ()


def test_a_plan_that_nobody_follows_is_only_a_claim() -> None:
    first, second = states(2)
    lie = plan_of(second, KEYS[3], term=99, attempt=7)
    shown = swarm_of([*round_of(first, T0), plan_of(second), lie]).picture(T0).rounds[-1]
    assert (shown.term, shown.voids) == (1, ())


def test_a_silent_peer_is_lost_after_its_lease() -> None:
    lease_s = RUN.pace.lease_s
    swarm = swarm_of([beat(0), beat(1)])
    swarm.take(beat(1, at=T0 + lease_s), T0 + lease_s)
    swarm.take(beat(0), T0 + lease_s)  # the same record once more is nothing new
    assert peer(swarm.picture(T0 + lease_s - 0.1), 0).standing == "train"
    picture = swarm.picture(T0 + lease_s)
    assert [peer(picture, number).standing for number in (0, 1)] == ["lost", "train"]
    assert peer(picture, 0).samples_per_s == 0
    assert [(span.standing, span.end - span.begin) for span in picture.spans if span.peer_id == IDS[0]] == [
        ("train", 0.0),
        ("lost", lease_s),
    ]


def test_only_a_heartbeat_is_a_sign_of_life() -> None:
    (state,) = states(1)
    left = [record for record in round_of(state, T0) if record.peer_id == IDS[3] and record.kind != "peer"]
    swarm = swarm_of([*left, *(record for record in round_of(state, T0) if record.peer_id != IDS[3])])
    assert {"receipt", "metrics", "credits"} <= {record.kind for record in left}
    picture = swarm.picture(T0 + 1)
    assert (peer(picture, 3).standing, peer(picture, 0).standing) == ("lost", "train")
    assert picture.quorum_here == 3
    assert picture.bytes_sent == 3 * 100  # what it sent before the watch began is not counted
    nobody = swarm_of([record for record in left if record.kind in ("metrics", "credits")]).picture(T0 + 1)
    assert ([view.standing for view in nobody.peers], nobody.heard_at) == (["lost"], None)
    swarm.take(beat(3, 2, T0 + 2), T0 + 2)
    assert peer(swarm.picture(T0 + 2), 3).standing == "train"


def test_a_member_of_a_fetched_commit_is_not_here_before_it_is_heard() -> None:
    (state,) = states(1)
    commit = commit_of(state, KEYS[0])
    swarm = Swarm(RUN, PARAMETERS)
    swarm.take_link(commit, [receipt_of(commit, key) for key in KEYS], T0)
    picture = swarm.picture(T0 + 1)
    assert (picture.rounds_committed, picture.quorum_here) == (1, 0)
    assert {view.standing for view in picture.peers} == {"lost"}


def test_a_peer_that_is_back_was_lost_for_a_while() -> None:
    swarm = swarm_of([beat(0)])
    swarm.take(beat(0, at=T0 + 60, phase=Phase.WAIT), T0 + 60)
    spans = swarm.picture(T0 + 61).spans
    assert [(span.standing, span.begin - T0, span.end - T0) for span in spans] == [
        ("lost", 0.0, 60.0),
        ("wait", 60.0, 61.0),
    ]


def test_a_peer_that_took_leave_is_not_lost() -> None:
    swarm = swarm_of([beat(0, phase=Phase.LEAVE)])
    assert peer(swarm.picture(T0 + 100), 0).standing == "leave"


def test_nobody_is_lost_because_the_watch_stood_still() -> None:
    swarm = swarm_of([beat(0)])
    swarm.crowd.stood_still(3600.0)
    assert peer(swarm.picture(T0 + 3600.0), 0).standing == "train"


def test_spans_begin_when_the_peer_says_whatever_its_clock_shows() -> None:
    swarm, behind_s = Swarm(RUN, PARAMETERS), 1000.0
    swarm.take(beat(0, at=T0 - behind_s), T0)
    swarm.take(beat(0, at=T0 - behind_s + 2.5, phase=Phase.REDUCE), T0 + 3.0)
    swarm.take(beat(0, at=T0 - behind_s + 4.0, phase=Phase.ATTEST), T0 + 4.0)
    spans = swarm.picture(T0 + 5).spans
    assert [(span.standing, span.begin - T0, span.end - T0) for span in spans] == [
        ("train", 0.0, 2.5),
        ("reduce", 2.5, 4.0),
        ("attest", 4.0, 5.0),
    ]


def test_a_clock_that_is_set_does_not_move_what_happened_before() -> None:
    swarm = swarm_of([beat(0)])
    swarm.take(beat(0, at=T0 + 10_000, phase=Phase.WAIT), T0 + 1)
    swarm.take(beat(0, at=T0 + 10_001, phase=Phase.REDUCE), T0 + 2)
    spans = swarm.picture(T0 + 3).spans
    assert all(T0 <= span.begin <= span.end <= T0 + 3 for span in spans)


def test_credits_are_counted_where_all_commits_are_known_and_claimed_where_not() -> None:
    chain = states(4)
    whole = swarm_of([record for state in chain for record in round_of(state, T0)])
    claim = round_of(chain[3], T0)[-1].model_copy(update={"balance": 10**9, "peer_id": IDS[0]})
    whole.take(claim, T0)
    assert [view.credits for view in whole.picture(T0).peers] == [32, 32, 32, 32]
    late = swarm_of(round_of(chain[3], T0))
    assert [view.credits for view in late.picture(T0).peers] == [32, 32, 32, 32]  # 8 of them proven
    late.take(claim, T0)
    assert peer(late.picture(T0), 0).credits == 10**9


def test_bytes_are_counted_over_restarts_and_for_the_same_rounds_as_data_parallel_ones() -> None:
    swarm, chain = Swarm(RUN, PARAMETERS), states(3)
    for number, state in enumerate(chain):
        for record in round_of(state, T0 + number):
            swarm.take(record, T0 + number)
    again = round_of(states(4)[3], T0 + 9)
    for record in again:
        if record.kind != "metrics":
            swarm.take(record, T0 + 9)
        else:  # everybody was started again: the count begins anew
            swarm.take(record.model_copy(update={"bytes_out": 7}), T0 + 9)
    picture = swarm.picture(T0 + 9)
    assert picture.bytes_sent == 4 * (300 + 7)
    assert picture.data_parallel_bytes == 4 * RUN.inner_steps * 2 * 3 * 4 * PARAMETERS
    late = swarm_of(round_of(chain[2], T0)).picture(T0)
    assert (late.bytes_sent, late.data_parallel_bytes) == (0, 0)  # all of it was sent before


def test_whoever_most_follow_is_at_the_front() -> None:
    swarm = swarm_of([beat(0), beat(1), beat(2)])
    picture = swarm.picture(T0)
    assert (picture.coordinator, picture.term, picture.coordinator_changes) == (IDS[0], 1, 0)
    assert [view.is_coordinator for view in picture.peers] == [
        view.peer_id == IDS[0] for view in picture.peers
    ]
    for number in range(3):
        swarm.take(beat(number, at=T0 + 1, term=2, coordinator=IDS[1]), T0 + 1)
    picture = swarm.picture(T0 + 1)
    assert (picture.coordinator, picture.term, picture.coordinator_changes) == (IDS[1], 2, 1)


def test_records_of_another_run_change_nothing() -> None:
    other = run_of(KEYS, rounds=12, name="other")
    swarm = Swarm(other, PARAMETERS)
    for record in round_of(states(1)[0], T0):
        swarm.take(record, T0)
    picture = swarm.picture(T0)
    assert (picture.peers, picture.rounds_committed) == ((), 0)


def test_many_strangers_do_not_fill_the_memory_and_decide_nothing() -> None:
    swarm = swarm_of([*round_of(states(1)[0], T0)])
    for number in range(4):
        swarm.take(beat(number, 2, T0 + 0.5), T0 + 0.5)
    swarm.picture(T0)
    for number, key in enumerate(peers(256)):
        for round_id in range(1, 13):
            record = beat(0, round_id, T0 + round_id, head_digest=f"{number:064x}", term=number + 2)
            if key.peer_id not in IDS:
                swarm.take(record.model_copy(update={"peer_id": key.peer_id, "coordinator": IDS[1]}), T0 + 1)
    assert len(swarm.crowd.sights) <= 256
    assert set(IDS) <= swarm.crowd.sights.keys()
    picture = swarm.picture(T0 + 1)
    assert (picture.rounds_committed, picture.coordinator, picture.term) == (1, IDS[0], 1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_records_come_makes_no_difference_to_the_rounds(data: st.DataObject) -> None:
    chain = states(4)
    said = [record for number, state in enumerate(chain) for record in round_of(state, T0 + number)]
    retry = next_state(RUN, chain[3], KEYS[:3], attempt=1)
    said += [plan_of(next_state(RUN, chain[3], KEYS)), plan_of(retry, seq=2)]
    left_out = data.draw(st.sets(st.integers(0, len(said) - 1), max_size=12))
    said = [record for number, record in enumerate(said) if number not in left_out]
    expected = swarm_of(said).picture(T0 + 5, None).rounds
    shuffled = list(said)
    random.Random(data.draw(st.integers(0, 2**32))).shuffle(shuffled)
    swarm = Swarm(RUN, PARAMETERS)
    for number, record in enumerate(shuffled):
        swarm.take(record, T0)
        if number in left_out:
            swarm.picture(T0)  # looking changes nothing
    assert swarm.picture(T0 + 5, None).rounds == expected


@given(st.lists(st.tuples(strategies.records, st.floats(0, 1e10)), max_size=20), st.floats(0, 1e10))
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_valid_records_makes_a_picture_fail(
    said: list[tuple[Record, float]], at: float
) -> None:
    swarm = Swarm(RUN, PARAMETERS)
    for record, now in said:
        swarm.take(_ours(record), now)
        Picture.model_validate_json(swarm.picture(now).model_dump_json())
    Picture.model_validate_json(swarm.picture(at, None).model_dump_json())


_VALUES = {
    int: st.one_of(st.integers(0, 16), st.integers(-(2**60), 2**60)),
    float: strategies.numbers,
    str: st.one_of(st.sampled_from([*IDS, *Phase, "", "finished"]), strategies.texts),
    bool: st.booleans(),
}
_EVENTS = st.one_of(
    *(
        st.builds(
            kind,
            **{
                name: _VALUES.get(field.annotation, st.just(()))  # type: ignore[arg-type]
                for name, field in kind.model_fields.items()
            },
        )
        for kind in Event.__subclasses__()
    )
)


def step(tokens: int, seconds: float) -> StepDone:
    return StepDone(round_id=0, inner_step=0, of_steps=0, loss=0.0, tokens=tokens, seconds=seconds)


@given(
    st.lists(st.tuples(st.sampled_from(IDS), st.floats(0, 1e10), _EVENTS), max_size=30), st.floats(0, 1e10)
)
@example([(IDS[0], 0.0, step(-1, 5e-324))], 0.0)  # minus infinity per second, and no number once smoothed
@example([(IDS[0], 0.0, step(10**400, 1.0))], 0.0)  # no float holds it
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_events_makes_a_picture_fail(told: list[tuple[str, float, Event]], at: float) -> None:
    swarm = Swarm(RUN, PARAMETERS)
    for peer_id, time, event in told:
        swarm.take_event(peer_id, time, event)
        Picture.model_validate_json(swarm.picture(time).model_dump_json())
    Picture.model_validate_json(swarm.picture(at, None).model_dump_json())


def test_a_rate_that_is_no_finite_number_is_not_known() -> None:
    swarm = Swarm(RUN, PARAMETERS)
    for tokens, seconds in ((-64, 1.0), (10**18, 5e-324), (64, 0.0), (64, -1.0)):
        swarm.take_event(IDS[0], T0, step(tokens, seconds))
        assert peer(swarm.picture(T0), 0).samples_per_s == 0
    swarm.take_event(IDS[0], T0, step(2 * RUN.model.seq_len, 0.5))
    swarm.take_event(IDS[0], T0, step(10**18, 5e-324))
    assert peer(swarm.picture(T0), 0).samples_per_s == 4.0  # the last that was known


def test_counts_in_event_files_that_nobody_can_mean_stay_within_bounds() -> None:
    swarm = Swarm(RUN, PARAMETERS)
    reduced = ReduceEnded(round_id=1, attempt=0, complete=True, seconds=1.0, bytes_in=-7, bytes_out=10**400)
    swarm.take_event(IDS[0], T0, reduced)
    swarm.take_event(IDS[0], T0, CreditsCounted(round_id=1, balance=-5))
    swarm.take_event(IDS[0], T0, step(-(10**400), 1.0))
    shown = peer(swarm.picture(T0), 0)
    assert (shown.bytes_in, shown.bytes_out, shown.credits, shown.samples) == (0, 2**48, 0, 0)


def _ours(record: Record) -> Record:
    changes: dict[str, object] = {"run_id": RUN.run_id}
    if "round_id" in type(record).model_fields:
        changes["round_id"] = record.round_id % 16  # type: ignore[attr-defined]
    return record.model_copy(update=changes)


def test_a_peer_that_announces_another_address_than_it_has_proven_is_not_reachable_there() -> None:
    swarm = swarm_of([beat(0, metrics_address="203.0.113.9:9100")])
    swarm.judge(swarm.announced(T0), {IDS[0]: True})
    assert peer(swarm.picture(T0), 0).is_reachable is True
    swarm.take(beat(0, at=T0 + 1, metrics_address="198.51.100.1:80"), T0)
    assert peer(swarm.picture(T0), 0).metrics_address == "198.51.100.1:80"
    assert peer(swarm.picture(T0), 0).is_reachable is None
