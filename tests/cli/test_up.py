"""Claims about whole local runs, started as people start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.core.config import Handout, RunConfig
from paceline.core.nicknames import nickname
from paceline.network.identity import load_or_create
from paceline.peer.folders import RunFolder
from paceline.peer.settings import load_handout, save_handout
from tests.live.swarms import descendants

pytestmark = pytest.mark.live

COMMAND = (sys.executable, "-m", "paceline.cli")
SMALL = """
peers: 3
run:
  name: small
  inner_steps: 15
  rounds: 4
  model: {type: gpt, dim: 32, layers: 2, heads: 2, seq_len: 64}
  inner: {optimizer: {type: adamw, lr: 3e-3}, schedule: {warmup_steps: 5}}
  quorum: {min_members: 2}
node:
  state_dir: runs
  device: cpu
  threads: 1
  batch_size: 4
  eval_batches: 1
  network: {listen: [/ip4/127.0.0.1/tcp/0], relay: false}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def paceline(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def up(place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "up", "small.yaml", *arguments]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if words in line:
            return lines
    raise AssertionError(f"{words!r} never came:\n" + "\n".join(lines))


def the_run(place: Path) -> RunFolder:
    (folder,) = (place / "runs").iterdir()
    return RunFolder(folder)


def called(folder: RunFolder, number: int) -> str:
    """What the lines of `up` call a peer."""
    return f"peer-{number} {nickname(load_or_create(folder.peer(number).key).peer_id)}"


def all_end(pids: set[int]) -> bool:
    """Wait until processes are gone; the last ones end as soon as they see that their parent did."""
    deadline = time.monotonic() + 15
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]:
        if time.monotonic() > deadline:
            print([Path(f"/proc/{pid}/cmdline").read_text() for pid in alive])
            return False
        time.sleep(0.05)
    return True


def test_a_run_goes_on_without_a_killed_peer_and_sums_up_what_came_out(place: Path) -> None:
    with up(place, "--unsupervised") as process:
        read_until(process, "round 1 of 4 committed by 3 peers")
        folder = the_run(place)
        settings = str(folder.peer(3).settings.relative_to(place))
        (victim,) = leaders(process, settings)
        os.kill(victim, signal.SIGKILL)
        told = read_until(process, "the others go on")
        assert told[-2].endswith(f"{called(folder, 3)} ended: killed by SIGKILL")
        assert told[-1].endswith(f"paceline join {folder.handout.relative_to(place)} --config {settings}")
        rest = "\n".join(read_until(process, "The model writes"))
        assert process.wait(120) == 0
    assert "all logs verify and hold the same chain" in rest
    assert f"{called(folder, 3)} did not finish: killed by SIGKILL" in rest

    summary = json.loads(folder.summary.read_text())
    assert summary["success"]
    assert summary["rounds_committed"] == 4
    assert summary["val_loss_after"] < 0.85 * summary["val_loss_before"]
    assert 0 < summary["bytes_sent"]["peer-1"] < summary["bytes_synchronous"] / 10
    assert folder.chart.stat().st_size > 10_000

    run = str(folder.path.relative_to(place))
    verified = paceline(place, "verify", run)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.endswith("all 3 logs hold the same chain\n")
    counted = paceline(place, "credits", run)
    assert sorted(line.split()[-1] for line in counted.stdout.splitlines()[1:]) == sorted(summary["credits"])
    written = paceline(place, "sample", run, "import ", "--bytes", "20")
    assert (written.returncode, written.stdout[:7]) == (0, "import ")


def leaders(process: subprocess.Popen[str], settings: str) -> list[int]:
    """The processes of a peer that lead a session: its main process, after its supervisor if it has one."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(process.pid)}
    return sorted(pid for pid, command in commands.items() if settings in command and os.getpgid(pid) == pid)


def test_a_killed_peer_comes_back_and_whoever_watches_is_told_why(place: Path) -> None:
    with up(place, "--rounds", "5000") as process:
        read_until(process, "round 1 of 5000 committed by 3 peers")
        pids = descendants(process.pid)
        folder = the_run(place)
        third = called(folder, 3)
        supervisor, main = leaders(process, str(folder.peer(3).settings.relative_to(place)))
        os.kill(main, signal.SIGKILL)
        told = read_until(process, f"{third} ended: ")
        assert told[-1].endswith(f"{third} ended: killed by SIGKILL; starts again in 1 s (restart 1)")
        read_until(process, " is up in run small-")
        read_until(process, "committed by 3 peers")
        os.kill(supervisor, signal.SIGKILL)
        assert read_until(process, f"{third} ended: ")[-1].endswith(f"{third} ended: killed by SIGKILL")
        assert read_until(process, "the others go on")[-1].endswith("--supervised")
        pids |= descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "stopped after round" in process.stdout.read()
        assert process.wait(60) == 130
    assert all_end(pids)


def test_ctrl_c_stops_a_run_in_order_and_leaves_no_process(place: Path) -> None:
    with up(place, "--peers", "2", "--rounds", "500") as process:
        read_until(process, "round 1 of 500 committed by 2 peers")
        folder = the_run(place)
        pids = descendants(process.pid)
        assert len(pids) >= 3 + 2 * 3  # a seed with its daemon, two peers with their processes

        status = paceline(place, "status", str(folder.handout))
        assert (status.returncode, status.stderr) == (0, "")
        assert status.stdout.startswith(f"run      {load_handout(folder.handout).run_id}\nround ")
        assert "▸" in status.stdout
        counted = paceline(place, "credits", load_handout(folder.handout).seeds[0])
        assert len(counted.stdout.splitlines()) == 3
        refused = paceline(place, "join", str(other_run(folder)), "--set", "state_dir=other")
        assert refused.returncode == 3
        assert RunConfig(name="other").digest() in refused.stderr
        assert str(load_handout(folder.handout).digest) in refused.stderr

        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        last = process.stdout.read()
        assert process.wait(60) == 130
        assert f"everything lies in {folder.path.relative_to(place)}" in last
        assert all_end(pids)
    for number in (1, 2):
        assert "stopped after round" in folder.peer(number).output.read_text()


def other_run(folder: RunFolder) -> Path:
    run = RunConfig(name="other")
    seeds = load_handout(folder.handout).seeds
    path = folder.path / "other.json"
    save_handout(path, Handout(run_id=run.run_id, seeds=seeds, run_config=run))
    return path


def test_a_second_ctrl_c_ends_a_run_at_once(place: Path) -> None:
    with up(place, "--peers", "2", "--rounds", "500") as process:
        read_until(process, "2 peers start")
        pids = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        read_until(process, "Ctrl-C again")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert all_end(pids)


def test_a_run_whose_peers_all_end_fails_with_their_reasons(place: Path) -> None:
    data = '--set=node.data={"type": "text", "paths": ["nowhere/*.txt"]}'
    failed = paceline(place, "up", "small.yaml", "--peers", "2", data)
    assert failed.returncode == 1
    assert failed.stdout.count(" ended: ") == 2
    assert failed.stderr.startswith("error: every peer has ended (peer-1: ")
    assert "nowhere/*.txt" in failed.stderr
    assert len(failed.stderr.splitlines()) == 2


def test_an_unreachable_seed_is_told_with_what_was_tried_and_exit_code_3(place: Path) -> None:
    peer_id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
    address = f"/ip4/127.0.0.1/tcp/9/p2p/{peer_id}"
    failed = paceline(place, "join", address, "--set", "state_dir=node", "--set", "network.relay=false")
    assert failed.returncode == 3
    assert failed.stderr.startswith("error: no seed answered within ")
    assert address in failed.stderr
    assert "\ntry: check that a seed runs" in failed.stderr
    assert len(failed.stderr.splitlines()) == 2
