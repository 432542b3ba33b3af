"""The benchmark of a swarm's growth: what it counts and what it leaves out; how fast it is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.counted_calls import CALLS, tally
from tests.bench.scale import too_large


def test_a_tally_counts_each_kind_of_call(tmp_path: Path) -> None:
    (tmp_path / "7").write_text("wlnnSSFw")
    assert tally(tmp_path, 7) == {
        "records written": 2,
        "looks": 1,
        "news": 2,
        "DHT stores": 2,
        "DHT finds": 1,
    }


def test_a_swarm_that_does_not_fit_into_memory_is_left_out_with_the_reason() -> None:
    assert too_large(8, 3e8, 10_000_000_000) == ""
    assert too_large(32, 3e8, 10_000_000_000) == "needs some 10.6 GB of memory, 10 GB are free"


def test_a_swarm_of_one_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["scale", "--peers", "1"])
    assert "two peers at least" in capsys.readouterr().err


def test_simulated_swarms_need_no_real_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scale.json"
    assert main(["scale", "--peers", "", "--simulated", "4", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [growth["peers"] for growth in found["simulated"]] == [4]
    assert found["real"] == []
    assert "virtual s per round" in capsys.readouterr().out


@pytest.mark.live
def test_real_peers_are_measured_and_a_visitor_finds_what_it_stored(tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    small = ["--peers", "2", "--simulated", "", "--rounds", "2", "--lookups", "3"]
    command = [sys.executable, "-m", "tests.bench", "scale", *small, "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    (cost,) = json.loads(path.read_text())["real"]
    assert len(cost["rounds_s"]) == 2
    assert set(cost["calls"]) == set(CALLS.values())
    # No round without a heartbeat and a receipt, and each record goes to one node at least.
    assert cost["calls"]["DHT stores"] >= cost["calls"]["records written"] >= 2
    assert len(cost["latency_s"]["get"]) == 3
    assert cost["latency_s"]["lost"] == []
