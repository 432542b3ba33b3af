"""Claims about supervision, on the whole command with a small program in place of the peer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paceline.core.events import PeerRestarting
from paceline.peer.tail import EventTail
from tests.cli.test_local_swarm import gone, until

FAKE = str(Path(__file__).with_name("fake_peer.py"))
SEED = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
PROGRAM = f"""
import sys
from paceline.peer import child, pulse
child.COMMAND = (sys.executable, {FAKE!r})
pulse.PATIENCE_S = 1.0
from paceline.cli import main
main()
"""


class Supervised:
    """A running `paceline join --supervised`."""

    def __init__(self, state: Path, *lives: str) -> None:
        self.state = state
        (state / "lives").write_text("\n".join(lives))
        command = [sys.executable, "-c", PROGRAM, "join", SEED, "--supervised", "--set", f"state_dir={state}"]
        with (state / "out").open("wb") as out, (state / "err").open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    @property
    def starts(self) -> list[list[str]]:
        path = self.state / "starts"
        return [line.split(maxsplit=2) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid, *_ in self.starts]

    @property
    def printed(self) -> str:
        return (self.state / "err").read_text()

    def restarts(self) -> list[PeerRestarting]:
        events = [told.event for told in EventTail(self.state / "events.jsonl").read()]
        return [event for event in events if isinstance(event, PeerRestarting)]

    def until_settled(self) -> None:
        until((self.state / "settled").exists)
        (self.state / "settled").unlink()


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    running: list[Supervised] = []

    def start(*lives: str) -> Supervised:
        running.append(Supervised(tmp_path, *lives))
        return running[-1]

    yield start
    for supervised in running:
        supervised.process.kill()
        supervised.process.wait()


def test_a_killed_peer_is_started_again(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("stay", "stay", "exit 0")
    for life in (1, 2):
        supervised.until_settled()
        os.kill(supervised.pids[-1], signal.SIGKILL)
        until(lambda life=life: len(supervised.starts) > life)  # type: ignore[misc]
    assert supervised.process.wait(20) == 0
    assert [(event.cause, event.restarts) for event in supervised.restarts()] == [
        ("killed by SIGKILL", 1),
        ("killed by SIGKILL", 2),
    ]
    assert " peer ended: killed by SIGKILL; starts again in 1 s (restart 1)\n" in supervised.printed
    assert " peer ended: killed by SIGKILL; starts again in 2 s (restart 2)\n" in supervised.printed


def test_every_life_has_the_same_arguments_without_supervision(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("die", "exit 0")
    assert supervised.process.wait(20) == 0
    assert {arguments for _, _, arguments in supervised.starts} == {
        f"join --set state_dir={supervised.state} -- {SEED}"
    }


def test_the_reason_is_the_last_error_that_the_peer_told(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("exit 3", "exit 1", "exit 0")
    assert supervised.process.wait(20) == 0
    assert [event.cause for event in supervised.restarts()] == ["the reason"] * 2


def test_the_waits_grow_until_a_life_commits_a_round(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("die", "die", "commit", "exit 0")
    assert supervised.process.wait(30) == 0
    assert [int(event.wait_s) for event in supervised.restarts()] == [1, 2, 1]
    began = [float(time) for _, time, _ in supervised.starts]
    assert began[2] - began[1] >= 2.0


@pytest.mark.parametrize("code", [0, 2, 130])
def test_a_peer_that_only_a_person_can_mend_stays_down(
    code: int, supervise: Callable[..., Supervised]
) -> None:
    supervised = supervise(f"exit {code}")
    assert supervised.process.wait(20) == code
    assert len(supervised.starts) == 1
    assert supervised.restarts() == []
    assert ("peer ended: the reason; starting it again would not help" in supervised.printed) == (code == 2)


def test_what_a_peer_writes_passes_through_its_supervisor_whole(
    supervise: Callable[..., Supervised],
) -> None:
    supervised = supervise("exit 1", "exit 0")
    assert supervised.process.wait(20) == 0
    assert (supervised.state / "out").read_text() == "exit on standard output\n" * 2
    whole = "exit on standard error\nerror: the reason\ntry: a remedy\n"
    assert supervised.printed.startswith(whole)
    assert supervised.printed.endswith(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_leave_is_passed_on_and_nothing_starts_again(
    number: signal.Signals, supervise: Callable[..., Supervised]
) -> None:
    supervised = supervise("stay")
    supervised.until_settled()
    supervised.process.send_signal(number)
    assert supervised.process.wait(20) == 0
    assert len(supervised.starts) == 1
    assert "ended" not in supervised.printed


def test_a_second_request_ends_the_peer_at_once(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("cling")
    supervised.until_settled()
    supervised.process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        supervised.process.wait(1)
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.process.wait(20) == 130
    assert gone(supervised.pids[0])


def test_a_request_between_two_lives_ends_the_supervisor(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("die")
    until(lambda: "(restart 3)" in supervised.printed)  # now it waits for four seconds
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(3) == 0
    assert len(supervised.starts) == 3


def test_a_ctrl_c_at_the_terminal_reaches_the_supervisor_only(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("stay")
    supervised.until_settled()
    assert os.getsid(supervised.pids[0]) == supervised.pids[0]
    assert os.getsid(supervised.process.pid) != supervised.pids[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_peer_dies_with_its_supervisor(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("cling")
    supervised.until_settled()
    supervised.process.kill()
    until(lambda: gone(supervised.pids[0]))


def test_a_peer_that_says_of_itself_that_it_hangs_is_started_again(
    supervise: Callable[..., Supervised],
) -> None:
    supervised = supervise("hang", "exit 0")
    assert supervised.process.wait(30) == 0
    assert [event.cause for event in supervised.restarts()] == ["hung (the worker hangs)"]


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_a_supervisor_takes_little_memory(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise("stay")
    supervised.until_settled()
    status = Path(f"/proc/{supervised.process.pid}/status").read_text()
    resident_mb = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    assert resident_mb < 60
