"""Claims about the processes of `paceline up`: started apart, watched, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from paceline.core.config import Handout, NodeConfig, RunConfig, SwarmConfig
from paceline.core.errors import ConfigError, JoinError
from paceline.core.events import PeerStarted, PhaseChanged
from paceline.network.identity import load_or_create
from paceline.peer.child import Child
from paceline.peer.folders import RunFolder
from paceline.peer.settings import load_node, save_handout
from paceline.peer.swarm import LocalSwarm, found_run
from paceline.peer.tail import EventTail, Told, parse
from paceline.telemetry import JsonlSink

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
LISTEN = ("/ip4/127.0.0.1/tcp/0",)


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run, folder = RunConfig(name="it"), RunFolder(tmp_path)
    unfilled = f"/ip4/127.0.0.1/tcp/0/p2p/{load_or_create(tmp_path / 'key').peer_id}"
    save_handout(folder.handout, Handout(run_id=run.run_id, seeds=(unfilled,), run_config=run))
    return folder


@pytest.fixture
def start(folder: RunFolder) -> Iterator[Callable[..., LocalSwarm]]:
    swarms: list[LocalSwarm] = []

    def start(*behaviours: str) -> LocalSwarm:
        for number, behaviour in enumerate(behaviours, start=1):
            folder.peer(number).path.mkdir()
            (folder.peer(number).path / "behaviour").write_text(behaviour)
        swarm = LocalSwarm(folder, NodeConfig(batch_size=3), len(behaviours), STAND_IN)
        swarms.append(swarm)
        swarm.start_peers()
        return swarm

    yield start
    for swarm in swarms:
        swarm.kill()


def test_the_seed_is_up_once_its_address_is_in_the_hand_out(folder: RunFolder) -> None:
    with LocalSwarm(folder, NodeConfig(), 0, STAND_IN) as swarm:
        swarm.start_seed(LISTEN, timeout_s=20)
        assert load_or_create(folder.seed.key).peer_id in folder.handout.read_text()
        pid = swarm.pids()["seed"]
    assert gone(pid)


def test_a_seed_that_died_comes_back_where_it_was_and_finds_the_peers(folder: RunFolder) -> None:
    with LocalSwarm(folder, NodeConfig(), 1, STAND_IN) as swarm:
        swarm.start_seed(LISTEN, timeout_s=20)
        assert swarm.keep_seed() == ""
        here = "/ip4/127.0.0.1/tcp/7/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
        with JsonlSink(folder.peer(1).events) as sink:
            sink(up_at(here))
        swarm.news()
        starts, told = folder.seed.path / "starts", list[str]()
        for life in range(1, 4):
            os.kill(swarm.pids()["seed"], signal.SIGKILL)
            until(lambda: told.append(swarm.keep_seed()) or told[-1])  # type: ignore[func-returns-value]
            until(lambda life=life: swarm.keep_seed() or len(starts.read_text().splitlines()) > life)  # type: ignore[misc]
    assert [line for line in told if line] == [
        f"the seed ended: killed by SIGKILL; starts again in {wait} s" for wait in (1, 2, 4)
    ]
    assert starts.read_text().splitlines() == [
        f"--listen {LISTEN[0]}",
        f"--listen /ip4/127.0.0.1/tcp/1 --peer {here}",
        "--listen /ip4/127.0.0.1/tcp/1",
        f"--listen {LISTEN[0]}",
    ]


def up_at(address: str) -> PeerStarted:
    return PeerStarted(
        peer_id="p",
        run_id="r",
        multiaddrs=(address,),
        metrics_address="127.0.0.1:1",
        round_id=1,
        parameters=1,
        device="cpu",
    )


def test_a_seed_that_ends_is_told_with_its_reason(folder: RunFolder) -> None:
    failing = (sys.executable, "-c", "import sys; sys.exit('error: the port is taken')")
    swarm = LocalSwarm(folder, NodeConfig(), 0, failing)
    with pytest.raises(JoinError, match="the seed ended: the port is taken"):
        swarm.start_seed(LISTEN, timeout_s=20)


def test_a_seed_that_never_comes_up_is_told(folder: RunFolder) -> None:
    idle = (sys.executable, "-c", "import time; time.sleep(600)")
    with (
        LocalSwarm(folder, NodeConfig(), 0, idle) as swarm,
        pytest.raises(JoinError, match="the seed was not up after 0 s"),
    ):
        swarm.start_seed(LISTEN, timeout_s=0.2)


def test_every_peer_gets_settings_of_its_own_in_its_state_folder(
    folder: RunFolder, start: Callable[..., LocalSwarm]
) -> None:
    swarm = start("finish", "finish")
    until(lambda: not swarm.running())
    assert load_node(folder.peer(2).settings) == NodeConfig(batch_size=3, state_dir=folder.peer(2).path)


def test_news_are_what_peers_wrote_since_the_last_look_without_what_this_version_does_not_know(
    start: Callable[..., LocalSwarm],
) -> None:
    swarm = start("finish")
    until(lambda: not swarm.running())
    assert swarm.news() == [("peer-1", Told(1.5, PhaseChanged(round_id=1, phase="train")))]
    assert swarm.news() == []


def test_a_peer_that_fails_is_told_once_with_its_error_and_how_to_start_it_again(
    folder: RunFolder, start: Callable[..., LocalSwarm]
) -> None:
    swarm = start("fail", "stay")
    until(lambda: folder.peer(1).output.stat().st_size and gone(swarm.pids()["peer-1"]))
    (ended,), settings = swarm.ends(), folder.peer(1).settings
    assert (ended.name, ended.code, ended.reason) == ("peer-1", 1, "the disk is full")
    assert ended.command == f"paceline join {folder.handout} --config {settings} --supervised"
    assert swarm.ends() == []
    assert swarm.running()


@pytest.mark.parametrize("supervised", [True, False])
def test_peers_are_supervised_unless_told_otherwise(supervised: bool, folder: RunFolder) -> None:
    echo = (sys.executable, "-c", "import sys; print(*sys.argv[1:])")
    chosen = {} if supervised else {"supervised": False}
    with LocalSwarm(folder, NodeConfig(), 1, echo, **chosen) as swarm:
        swarm.start_peers()
        until(lambda: not swarm.running())
    assert folder.peer(1).output.read_text().rstrip().endswith("--supervised") == supervised


def test_a_killed_peer_is_told_with_its_signal(start: Callable[..., LocalSwarm]) -> None:
    swarm = start("stay")
    os.kill(swarm.pids()["peer-1"], signal.SIGKILL)
    until(lambda: not swarm.running())
    assert [(ended.code, ended.reason) for ended in swarm.ends()] == [(-9, "killed by SIGKILL")]


def test_asked_peers_leave_and_the_others_are_killed(
    folder: RunFolder, start: Callable[..., LocalSwarm]
) -> None:
    swarm = start("cling", "stay")
    until(folder.peer(1).events.exists)  # it has set its mind on staying
    swarm.ask_to_leave()
    until(lambda: gone(swarm.pids()["peer-2"]))
    assert swarm.running()
    swarm.kill()
    assert not swarm.running()


def test_a_ctrl_c_at_the_terminal_does_not_reach_the_peers(start: Callable[..., LocalSwarm]) -> None:
    pid = start("stay").pids()["peer-1"]
    assert os.getpgid(pid) != os.getpgid(0)
    assert os.getsid(pid) != os.getsid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_no_process_outlives_the_swarm(folder: RunFolder) -> None:
    state = folder.peer(1).path
    state.mkdir()
    (state / "behaviour").write_text("cling")
    program = f"""
import json, time
from pathlib import Path
from paceline.core.config import NodeConfig
from paceline.peer.folders import RunFolder
from paceline.peer.swarm import LocalSwarm
swarm = LocalSwarm(RunFolder(Path({str(folder.path)!r})), NodeConfig(), 1, {STAND_IN!r})
swarm.start_seed({LISTEN!r}, timeout_s=20)
swarm.start_peers()
print(json.dumps(swarm.pids()), flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as up:
        assert up.stdout is not None
        pids = json.loads(up.stdout.readline())
        up.kill()
    assert set(pids) == {"peer-1", "seed"}
    until(lambda: all(gone(pid) for pid in pids.values()))


def test_last_words_are_the_last_line_when_no_error_was_told(tmp_path: Path) -> None:
    child = Child(
        "it", [sys.executable, "-c", "print('first'); print('last'); raise SystemExit(4)"], tmp_path / "o"
    )
    assert child.wait(20)
    assert (child.exit_code(), child.last_words()) == (4, "last")


def template(folder: Path, **changes: object) -> SwarmConfig:
    node = {"state_dir": folder, "network": {"listen": LISTEN}}
    return SwarmConfig.model_validate({"node": node, "peers": 3, **changes})


def test_the_founders_are_the_peers_whose_keys_lie_in_the_run_folder(tmp_path: Path) -> None:
    swarm, folder = found_run(template(tmp_path), datetime(2031, 2, 3, 4, 5, 6))
    keys = [load_or_create(folder.peer(number).key).peer_id for number in (1, 2, 3)]
    assert sorted(keys) == list(swarm.run.quorum.founders)
    assert folder.path == tmp_path / f"{swarm.run.run_id}-20310203-040506"
    assert swarm.run.model_copy(update={"quorum": RunConfig().quorum}) == RunConfig()
    assert list(tmp_path.iterdir()) == [folder.path]


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"peers": 1}, r"--set run\.quorum\.min_members=1"),
        ({"node": {"network": {"listen": ["/ip4/127.0.0.1/tcp/4001"]}}}, "let it end in /tcp/0"),
        ({"node": {"network": {"listen": LISTEN}, "metrics": {"port": 9100}}}, "set it to 0"),
    ],
)
def test_a_swarm_that_can_not_run_on_one_machine_is_refused_with_the_remedy(
    changes: dict[str, object], remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=remedy):
        found_run(template(tmp_path, **changes), datetime(2031, 2, 3))
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_may_be_passed_over(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    tail.skip()
    tail.path.write_text('{"time": 1, "name": "WentBackToAnchor", "round_id": 3}\n')
    assert [told.time for told in tail.read()] == [1.0]
    tail = EventTail(tail.path)
    tail.skip()
    with tail.path.open("a") as stream:
        stream.write('{"time": 2, "name": "WentBackToAnchor", "round_id": 3}\n')
    assert [told.time for told in tail.read()] == [2.0]


def test_half_a_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    tail = EventTail(tmp_path / "events.jsonl")
    assert tail.read() == []
    with tail.path.open("ab") as stream:
        stream.write(b'{"time": 1, "name": "WentBackTo')
        stream.flush()
        assert tail.read() == []
        stream.write(b'Anchor", "round_id": 3}\n{"time"')
    assert [told.event.name for told in tail.read()] == ["WentBackToAnchor"]


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"nonsense", b'{"time": "x", "name": "PeerStopped"}'])
def test_a_line_that_is_no_event_is_none(line: bytes) -> None:
    assert parse(line) is None
