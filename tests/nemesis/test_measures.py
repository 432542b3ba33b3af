"""Claims about what `scripts/nemesis` counts: what it calls lost, drifted and stale, and what it does not."""

from __future__ import annotations

from pathlib import Path

from paceline.core.events import (
    DriftDetected,
    Event,
    PeerStarted,
    PhaseChanged,
    ReduceEnded,
    RoundCommitted,
    RoundPlanned,
    StateFetched,
    StepDone,
)
from paceline.peer.tail import Told
from tests.nemesis import measures, moments, table
from tests.nemesis.catalogue import FAULTS
from tests.nemesis.table import Outcome


def tale(*events: Event, first: float = 0.0) -> list[Told]:
    """One event per second."""
    return [Told(first + number, event) for number, event in enumerate(events)]


def committed(round_id: int, digest: str = "") -> RoundCommitted:
    return RoundCommitted(round_id=round_id, loss=1.0, members=2, digest=digest or f"d{round_id}", sync_s=1.0)


def step(round_id: int, inner_step: int) -> StepDone:
    return StepDone(round_id=round_id, inner_step=inner_step, of_steps=4, loss=1.0, tokens=8, seconds=0.1)


def started(round_id: int) -> PeerStarted:
    return PeerStarted(
        peer_id="p",
        run_id="r",
        multiaddrs=(),
        metrics_address="",
        round_id=round_id,
        parameters=1,
        device="cpu",
    )


def fetched(round_id: int) -> StateFetched:
    return StateFetched(round_id=round_id, size_bytes=1, seconds=1.0, donors=())


def reduced(round_id: int) -> ReduceEnded:
    return ReduceEnded(round_id=round_id, attempt=0, complete=True, seconds=1.0, bytes_in=0, bytes_out=0)


def test_a_round_is_closed_when_the_last_survivor_stands_on_it() -> None:
    tales = {"a": tale(committed(1), committed(2)), "b": tale(committed(1), fetched(3))}
    assert measures.closed_s(tales, 2, since=0.5) == 0.5
    assert measures.closed_s(tales, 1, since=5.0) == 0.0
    assert measures.closed_s(tales, 3, since=0.0) is None


def test_a_commit_that_somebody_applied_and_the_chain_does_not_hold_is_lost() -> None:
    tales = {"a": tale(committed(1), committed(2)), "dead": tale(committed(1), committed(2, "other"))}
    assert measures.missing_rounds(tales, {1: "d1", 2: "d2"}) == [2]
    assert measures.missing_rounds(tales, {1: "d1"}) == [2]
    assert measures.missing_rounds({"a": tales["a"]}, {1: "d1", 2: "d2", 3: "d3"}) == []


def test_training_a_round_again_without_a_restart_is_a_round_begun_anew() -> None:
    again = {"a": tale(step(1, 1), step(1, 2), step(1, 1))}
    assert measures.rounds_begun_anew(again, since=0.0) == {1}
    assert measures.rounds_begun_anew(again, since=10.0) == set()


def test_going_on_after_a_commit_or_a_restart_is_not_a_round_begun_anew() -> None:
    goes_on = {"a": tale(step(1, 4), committed(1), step(2, 1), started(2), step(2, 1))}
    assert measures.rounds_begun_anew(goes_on, since=0.0) == set()


def test_drift_is_a_peer_that_says_so_or_a_round_in_which_logs_differ() -> None:
    says_so = tale(DriftDetected(round_id=2, ours="x", theirs="y"))
    assert measures.drift({"a": says_so}, {}, since=0.0) == 1
    assert measures.drift({"a": says_so}, {}, since=5.0) == 0
    assert measures.drift({}, {"a": {1: "x", 2: "y"}, "b": {1: "x", 2: "z"}}, since=0.0) == 1
    assert measures.drift({}, {"a": {1: "x", 2: "y"}, "b": {1: "x"}}, since=0.0) == 0


def test_a_part_in_a_round_that_a_peer_slept_through_is_stale() -> None:
    done = measures.trained(tale(step(1, 1), step(1, 2), step(3, 1)), batch=2)
    assert done == {1: 4, 3: 2}
    assert measures.unearned({1: 4, 2: 0, 3: 2}, done) == []
    assert measures.unearned({1: 4, 2: 4, 3: 4}, done) == [2, 3]


def test_what_is_trained_again_after_a_restart_counts_once() -> None:
    done = measures.trained(tale(step(1, 1), step(1, 2), started(1), step(1, 1)), batch=2)
    assert done == {1: 4}


def test_only_rounds_that_lie_wholly_in_a_span_are_timed() -> None:
    peer = [Told(time, committed(number)) for number, time in enumerate((0.0, 5.0, 11.0, 18.0, 30.0))]
    assert measures.round_times(peer, since=1.0, until=20.0) == [6.0, 7.0]
    assert measures.median_round_s({"a": peer}, since=1.0) == 7.0


def test_a_strike_in_the_commit_waits_until_somebody_else_has_seen_it() -> None:
    mine = tale(RoundPlanned(round_id=4, term=1, attempt=0, members=2), reduced(4))
    theirs = tale(PhaseChanged(round_id=4, phase="apply"))
    assert not moments.COMMIT.has_come(mine, tale(PhaseChanged(round_id=3, phase="apply")), 4)
    assert moments.COMMIT.has_come(mine, theirs, 4)
    assert not moments.COMMIT.is_over(mine, theirs, 4)
    assert moments.COMMIT.is_over([*mine, *theirs], theirs, 4)


def test_a_strike_in_the_reduce_came_too_late_when_the_victim_had_its_average() -> None:
    mine = tale(step(4, 4), PhaseChanged(round_id=4, phase="reduce"))
    assert moments.REDUCE.has_come(mine, (), 4)
    assert not moments.REDUCE.is_over(mine, (), 4)
    assert moments.REDUCE.is_over([*mine, *tale(reduced(4))], (), 4)


def test_outcomes_of_earlier_runs_stay_until_their_fault_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "nemesis.json"
    table.merge(path, [Outcome("a", "A.", closed_s=9.0), Outcome("b", "B.", lost=1)])
    rows = table.merge(path, [Outcome("a", "A.", closed_s=7.0, figures={"x": 1.5})])
    assert rows == table.load(path)
    assert {row.name: (row.closed_s, row.lost) for row in rows} == {"a": (7.0, None), "b": (None, 1)}


def test_the_table_goes_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        table.write_between_markers(path, table.markdown([Outcome("a", "A dies", 7.0, 0, 0)]))
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| `a`: A dies | 7.0 | 0 | 0 | ok |") == 1


def test_a_verdict_names_what_was_broken_and_what_was_missed() -> None:
    outcome = Outcome("a", "A.", wrong=["1 rounds lost"], slow=["too slow"])
    assert outcome.verdict == "failed: 1 rounds lost; too slow"
    assert Outcome("a", "A.", skipped="no root").verdict == "skipped: no root"


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
