"""Where the benchmark of live peers sees time and bytes go; how fast anything is, no test says."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from paceline.core.events import (
    Evaluated,
    Event,
    PhaseChanged,
    ReduceEnded,
    ResultStaged,
    RoundCommitted,
    StepDone,
)
from paceline.peer.tail import Told
from tests.bench import live, live_link
from tests.bench.__main__ import main
from tests.bench.live_link import SharedLink
from tests.bench.live_swarm import Case
from tests.bench.live_times import (
    PARTS,
    PeerBytes,
    PeerTimes,
    Sample,
    Span,
    average,
    peer_bytes,
    peer_times,
    quiet_spans,
)


def step(time: float, round_id: int, number: int, seconds: float = 1.0, *, ahead: bool = False) -> Told:
    done = StepDone(
        round_id=round_id, inner_step=number, of_steps=2, loss=2.0, tokens=8, seconds=seconds, ahead=ahead
    )
    return Told(time, done)


def committed(time: float, round_id: int) -> Told:
    event = RoundCommitted(round_id=round_id, loss=2.0, members=2, digest="ab" * 32, sync_s=1.0)
    return Told(time, event)


def reduced(time: float, round_id: int, seconds: float, sent: int = 0) -> Told:
    about = {"round_id": round_id, "attempt": 0, "complete": True, "bytes_in": 0}
    return Told(time, ReduceEnded.model_validate(about | {"seconds": seconds, "bytes_out": sent}))


def staged(time: float, round_id: int) -> Told:
    return Told(time, ResultStaged(round_id=round_id, attempt=0, seconds=0.5))


def told(time: float, event: Event) -> Told:
    return Told(time, event)


def of(tale: list[Told]) -> PeerTimes:
    return peer_times({"peer-1": tale}, "peer-1")


PLAIN = [
    committed(10.0, 1),
    told(10.5, Evaluated(round_id=1, val_loss=2.0)),
    step(12.0, 2, 1),
    step(13.25, 2, 2),
    reduced(17.0, 2, 3.0, sent=600),
    staged(17.5, 2),
    told(18.0, PhaseChanged(round_id=2, phase="attest")),
    told(18.5, PhaseChanged(round_id=2, phase="apply")),
    committed(20.0, 2),
]


def test_a_round_of_plain_diloco_is_cut_at_what_its_peer_told() -> None:
    found = of(PLAIN)
    expected = dict.fromkeys(PARTS, 0.0) | {
        "inner steps": 2.0,
        "evaluation": 0.5,
        "after it": 0.5,
        "between steps": 0.25,
        "plan": 0.75,
        "all-reduce": 3.0,
        "staging": 0.5,
        "votes": 1.0,
        "applying": 1.5,
    }
    assert found.parts_s == expected
    assert (found.wall_s, found.rounds, found.utilisation) == (10.0, 1, 0.2)
    assert (found.step_s, found.ahead_s, found.exchange_s) == (1.0, 0.0, 6.75)


def test_what_a_peer_waits_for_slower_ones_is_told_apart_from_waiting_for_a_plan() -> None:
    slower = [committed(10.0, 1), step(13.5, 2, 2), committed(20.0, 2)]
    parts = peer_times({"peer-1": PLAIN, "peer-2": slower}, "peer-1").parts_s
    assert (parts["others train"], parts["plan"]) == (0.25, 0.5)


def test_with_overlap_only_gaps_count_whatever_goes_on_beside_training() -> None:
    found = of(
        [
            committed(10.0, 1),
            step(11.5, 2, 2),
            step(12.75, 3, 1, ahead=True),
            reduced(12.9, 2, 1.0),
            staged(13.0, 2),
            step(14.0, 3, 2, ahead=True),
            told(14.1, PhaseChanged(round_id=2, phase="apply")),
            committed(14.5, 2),
        ]
    )
    expected = dict.fromkeys(PARTS, 0.0) | {
        "inner steps": 3.0,
        "after it": 0.5,
        "sending": 0.25,
        "between steps": 0.25,
        "applying": 0.4,
    }
    assert {part: round(s, 6) for part, s in found.parts_s.items()} == expected | {"votes": 0.1}
    assert (found.step_s, found.ahead_s, found.exchange_s) == (1.0, 1.0, 3.0)


@pytest.mark.parametrize("late", [0.0, 0.3, 5.0])
def test_parts_add_up_to_the_wall_time(late: float) -> None:
    slower = [step(13.25 + late, 2, 2)]
    found = average([peer_times({"peer-1": PLAIN, "peer-2": slower}, "peer-1")])
    assert sum(found.parts_s.values()) == pytest.approx(found.wall_s)
    assert min(found.parts_s.values()) >= 0


def test_a_peer_that_has_committed_once_has_no_times() -> None:
    with pytest.raises(ValueError, match="committed 1 rounds"):
        of([committed(10.0, 1)])


def test_bytes_are_payload_and_board_and_what_is_left() -> None:
    # 10 bytes a second all the time, and 800 more from 14 to 17.
    samples = [
        Sample(time, int(10 * time + 800 * min(1.0, max(0.0, (time - 14) / 3)))) for time in range(9, 22)
    ]
    found = peer_bytes(PLAIN, samples, [Span(10.0, 13.0), Span(18.0, 21.0)])
    assert found == PeerBytes(wire=900.0, payload=600.0, board=100.0)
    assert found.rest == 200.0


def test_nobody_averages_between_all_reduces_with_a_margin() -> None:
    tales = {"peer-1": [reduced(5.0, 1, 1.0), reduced(12.0, 2, 2.0)], "peer-2": [reduced(6.0, 1, 1.0)]}
    assert quiet_spans(tales) == [Span(6.5, 9.5)]


def test_cases_are_read_from_their_names() -> None:
    found = live.parse("plain-fp32,overlap2-int8", 0.25)
    assert found == [Case("fp32"), Case("int8", 2, 0.25)]
    assert [case.name for case in found] == ["plain, fp32", "overlap 2, int8"]
    assert found[1].overlap(40).delay_steps == 10
    for wrong in ("plain", "overlap-int8", "overlap5-int8", "streaming-int8", "plain-int9"):
        with pytest.raises(SystemExit, match="is no case"):
            live.parse(wrong, 0.25)


def test_the_table_has_a_column_for_each_case_and_says_what_was_missed() -> None:
    sent = PeerBytes(9e6, 6e6, 1e6)
    figures = [
        live.Figures(f"case {target}", 50, 0.96, target, of(PLAIN), 3.0, sent, 0, 1.0)
        for target in (0.95, 0.99)
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in live.table(figures).splitlines()]
    assert {len(cells) for cells in lines} == {3}
    assert ["target", "95%", "99% **missed**"] in lines
    assert ["· all-reduce, s", "3.000", "3.000"] in lines
    assert ["· rest, MB", "2.00", "2.00"] in lines


def test_the_benchmark_of_live_peers_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["live", "--help"])
    assert "--phase" in capsys.readouterr().out


def test_without_a_slow_link_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_link, "reason_unavailable", lambda: "only root may")
    assert live.run(argparse.Namespace()) == 3
    assert "only root may" in capsys.readouterr().err


_SPEAK = """
import socket, sys
here = socket.create_server((sys.argv[1], 0))
print(here.getsockname()[1], flush=True)
there, _ = here.accept()
while there.recv(1 << 16):
    pass
print("all of it")
"""
_SHARE = f"""
import socket, subprocess, sys
from tests.bench.live_link import SharedLink
with SharedLink(2, "100mbit") as link:
    to, words = link.address("peer-2"), dict(stdout=subprocess.PIPE, text=True)
    hears = subprocess.Popen(link.command("peer-2", [sys.executable, "-c", {_SPEAK!r}, to]), **words)
    speak = "import socket, sys; socket.create_connection(sys.argv[1:]).sendall(bytes(1_000_000))"
    arguments = [sys.executable, "-c", speak, to, hears.stdout.readline().strip()]
    subprocess.run(link.command("peer-1", arguments), check=True)
    assert hears.communicate()[0] == "all of it\\n"
    traffic = link.traffic()
    print(traffic["peer-1"].sent, traffic["peer-2"].received, traffic["peer-2"].sent, traffic["seed"].sent)
"""


@pytest.mark.skipif(bool(live_link.reason_unavailable()), reason=live_link.reason_unavailable() or "it can")
def test_what_a_host_sends_is_counted_as_its_own() -> None:
    # In a process of its own: it leaves the machine's network for good.
    done = subprocess.run([sys.executable, "-c", _SHARE], capture_output=True, text=True, check=True)
    sent, received, answers, nobodys = map(int, done.stdout.split())
    assert 1_000_000 < sent <= 1_100_000
    assert abs(received - sent) < 10_000
    assert answers < 100_000 > nobodys
    assert SharedLink(2, "100mbit").address("peer-2") != SharedLink(2, "100mbit").address("seed")
