"""Claims about the laboratory itself: what is set is what the hosts get."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nemesis.lab import CpuShare, Lab, SmallDisk
from tests.nemesis.lab_switch import NAMESPACES

ROOT = Path(__file__).parents[2]
ECHO = """
import socket, sys
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind((sys.argv[1], 7))
print("up", flush=True)
while True:
    content, sender = line.recvfrom(2048)
    line.sendto(content, sender)
"""
ASK = """
import socket, sys, time
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.settimeout(float(sys.argv[2]))
line.connect((sys.argv[1], 7))
began, answers = time.monotonic(), 0
for number in range(int(sys.argv[3])):
    try:
        line.send(b"x" * int(sys.argv[4]))
        answers += line.recv(2048) != b""
    except OSError:
        pass
print(answers, time.monotonic() - began)
"""
POUR = """
import socket, sys, time
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ends_at = time.monotonic() + float(sys.argv[2])
while time.monotonic() < ends_at:
    line.sendto(b"x" * 1400, (sys.argv[1], 9))
    time.sleep(0.0005)
"""
SPIN = "while True: pass"
ORPHAN = """
import time
from tests.nemesis.lab import Lab
with Lab(hosts=2) as lab:
    print(lab.command(0, [])[1].rpartition("/")[2], flush=True)
    time.sleep(600)
"""

needs_lab = pytest.mark.skipif(
    Lab.reason_unavailable() is not None, reason=f"no lab: {Lab.reason_unavailable()}"
)
needs_share = pytest.mark.skipif(
    CpuShare.reason_unavailable() is not None, reason=f"no cpu quota: {CpuShare.reason_unavailable()}"
)
needs_disk = pytest.mark.skipif(
    SmallDisk.reason_unavailable() is not None, reason=f"no small disk: {SmallDisk.reason_unavailable()}"
)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Three hosts, of which the last echoes."""
    with Lab(hosts=3, seed=1) as three:
        echo = subprocess.Popen(
            three.command(2, [sys.executable, "-S", "-c", ECHO, three.address(2)]), stdout=subprocess.PIPE
        )
        with echo:
            assert echo.stdout is not None
            assert echo.stdout.readline()
            yield three
            echo.kill()


def ask(lab: Lab, host: int, times: int = 1, timeout_s: float = 5.0, size: int = 100) -> tuple[int, float]:
    """Count the echoes that a host gets, and the seconds it takes."""
    script = [sys.executable, "-S", "-c", ASK, lab.address(2), str(timeout_s), str(times), str(size)]
    done = subprocess.run(lab.command(host, script), capture_output=True, text=True, check=True)
    answers, seconds = done.stdout.split()
    return int(answers), float(seconds)


@needs_lab
def test_a_frame_takes_the_delay_that_was_set(lab: Lab) -> None:
    lab.delay_s = 0.15
    answers, seconds = ask(lab, 0, times=3)
    assert answers == 3
    assert seconds >= 3 * 2 * 0.15
    lab.delay_s = 0.0
    assert ask(lab, 0, times=3)[1] < 3 * 2 * 0.15


@needs_lab
def test_hosts_on_two_sides_of_a_partition_do_not_reach_each_other(lab: Lab) -> None:
    lab.partition([0], [1, 2])
    assert ask(lab, 0, timeout_s=0.3)[0] == 0
    assert ask(lab, 1)[0] == 1
    lab.heal()
    assert ask(lab, 0)[0] == 1


@needs_lab
def test_a_host_that_no_side_names_is_alone(lab: Lab) -> None:
    lab.partition([2])
    assert [ask(lab, host, timeout_s=0.3)[0] for host in (0, 1)] == [0, 0]


@needs_lab
def test_about_as_many_frames_are_lost_as_was_set(lab: Lab) -> None:
    lab.loss = 0.3
    answers, _ = ask(lab, 0, times=100, timeout_s=0.05)
    assert 20 < answers < 80  # each echo survives twice: 49 are expected


@needs_lab
def test_a_hosts_uplink_is_no_faster_than_its_rate(lab: Lab) -> None:
    lab.rate_mbit = 1
    answers, seconds = ask(lab, 0, times=20, size=1250)
    assert answers == 20
    assert seconds >= 20 * 2 * 1250 * 8 / 1e6 * 0.9


@needs_lab
def test_a_full_uplink_loses_what_does_not_fit(lab: Lab) -> None:
    lab.rate_mbit = 0.5
    subprocess.run(
        lab.command(0, [sys.executable, "-S", "-c", POUR, lab.address(1), "2"]),
        check=True,
    )
    assert lab.bytes_sent(0) > 0.5e6 / 8
    assert lab.frames_lost(0) > 0
    assert lab.frames_lost(2) == 0


@needs_lab
def test_a_host_reaches_itself_and_not_the_machine_around_it(lab: Lab) -> None:
    looks = "import socket; print(sorted(name for _, name in socket.if_nameindex()))"
    seen = subprocess.run(
        lab.command(1, [sys.executable, "-S", "-c", looks]), capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "['eth0', 'lo']"
    itself = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    )
    subprocess.run(lab.command(1, [sys.executable, "-S", "-c", itself]), check=True)


@needs_lab
def test_a_lab_that_is_closed_leaves_no_namespace_behind() -> None:
    with Lab(hosts=2) as lab:
        ours = {Path(lab.command(host, [])[1].partition("=")[2]) for host in (0, 1)}
        assert all(path.exists() for path in ours)
    assert not any(path.exists() for path in ours)


@needs_lab
def test_a_lab_whose_owner_is_killed_leaves_no_namespace_behind() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ
    )
    with owner:
        assert owner.stdout is not None
        namespace = NAMESPACES / owner.stdout.readline().strip()
        assert namespace.exists()
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while namespace.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_share
def test_processes_in_a_share_get_no_more_than_it() -> None:
    with CpuShare(0.1, "test") as share:
        spinner = subprocess.Popen(share.command([sys.executable, "-S", "-c", SPIN]))
        with spinner:
            time.sleep(2.0)
            used_s = cpu_s(spinner.pid)
            share.set(1.0)
            time.sleep(2.0)
            assert used_s < 0.5
            assert cpu_s(spinner.pid) > used_s  # what that is depends on who else works here
            spinner.kill()


@needs_share
def test_a_running_process_and_its_children_can_be_put_into_a_share() -> None:
    parent = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        with CpuShare(0.5, "test") as share:
            share.add(parent.pid)
            inside = {int(pid) for pid in (share.path / "cgroup.procs").read_text().split()}
            assert {parent.pid, child} <= inside
        assert not share.path.exists()
        os.kill(child, signal.SIGKILL)


@needs_disk
def test_a_filled_disk_takes_nothing_until_it_is_freed(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with SmallDisk(folder, 1 << 20) as disk:
        (folder / "before").write_bytes(b"x" * 1000)
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (folder / "after").write_bytes(b"x" * 5000)
        disk.free()
        (folder / "after").write_bytes(b"x" * 5000)
    assert not any(folder.iterdir())


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
