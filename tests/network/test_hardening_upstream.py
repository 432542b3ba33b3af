"""Stock hivemind still has the faults that `paceline.network.hardening` corrects.

A test that fails here brings good news: hivemind has been mended, and the correction it names can go.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="the correction is for Linux")


def _stock(part: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.network.stock_program", part],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
        start_new_session=True,
        **options,
    )


def _end(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):  # the first lets daemons remove their sockets
        try:
            os.killpg(process.pid, number)
            time.sleep(0.5)
        except ProcessLookupError:
            return


@pytest.fixture(scope="module")
def faults() -> Iterator[dict[str, Any]]:
    process = _stock("faults")
    said, _ = process.communicate(timeout=120)
    yield {"exit": process.returncode} | {
        name: value for line in said.splitlines() for name, value in json.loads(line).items()
    }
    _end(process)


def test_hivemind_still_believes_length_headers(faults: dict[str, Any]) -> None:
    assert faults["terabyte"], "remove `_receive_raw_data` from network/hardening.py"


def test_hivemind_still_outlives_its_daemon(faults: dict[str, Any]) -> None:
    assert faults["outlives_daemon"], "remove `end_with_daemon` from network/hardening.py"


def test_hivemind_still_makes_its_host_deaf_to_ctrl_c(faults: dict[str, Any]) -> None:
    assert faults["sigint"], "remove `sigint_kept` from network/hardening.py"


def test_hivemind_still_lets_a_dead_process_silence_the_others(faults: dict[str, Any]) -> None:
    assert faults["shared_lock"], "`MPFuture` could take the place of network/mailbox.py"


def test_hivemind_still_dies_of_large_values(faults: dict[str, Any]) -> None:
    assert faults["large_values"], "remove `SafePipe` from network/hardening.py"


def test_hivemind_still_crashes_on_nested_extensions(faults: dict[str, Any]) -> None:
    assert "nesting" not in faults, "remove `_limit_nesting` from network/hardening.py"
    assert faults["exit"] == -signal.SIGSEGV, "remove `_limit_nesting` from network/hardening.py"


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False


@LINUX_ONLY
def test_hivemind_still_leaves_its_children_and_sockets_behind() -> None:
    before = set(Path("/tmp").glob("hivemind-*.sock"))
    process = _stock("orphans")
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())["pids"]
    process.kill()
    process.wait()
    process.stdout.close()
    time.sleep(2.0)  # that nothing happens can't be waited for otherwise
    try:
        assert all(_alive(pid) for pid in pids), (
            "remove `die_with_parent` and `_bind_daemon_to_parent` from network/hardening.py"
        )
        os.killpg(process.pid, signal.SIGKILL)
        left = set(Path("/tmp").glob("hivemind-*.sock")) - before
        assert left, "remove `sweep_sockets` from network/hardening.py"
        for path in left:
            path.unlink(missing_ok=True)
    finally:
        _end(process)
