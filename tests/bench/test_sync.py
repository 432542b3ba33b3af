"""The benchmark of an all-reduce runs, and asks of each what it should; how fast it is, no test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.sync import Figures, _against_link, _against_stock
from tests.bench.sync_swarm import Cost


def _found() -> dict[str, Figures]:
    def figures(wall_s: float, wire_bytes: int) -> Figures:
        return Figures([Cost(wall_s, wall_s, 0.0, wire_bytes, 0.0)], [1e9])

    found = {"ours topk": figures(1.0, 10), "ours int4": figures(1.0, 100)}
    return found | {"hivemind fp32": figures(5.0, 1000), "gloo fp32": figures(0.1, 1000)}


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("ours topk", [0.25, 0.25, 0.016, 0.6]),
        ("ours int4", [None, None, None, 0.6]),
        ("gloo fp32", [None, None, None, None]),
    ],
)
def test_only_ours_has_targets_and_each_codec_its_own(name: str, targets: list[float | None]) -> None:
    assert [each.target for each in _against_stock(name, _found(), on_link=False)] == targets
    on_link = [each.target for each in _against_stock(name, _found(), on_link=True)]
    assert on_link == [None, None, *targets[2:]]


def test_on_a_link_the_limit_is_what_its_own_bytes_take() -> None:
    compared = _against_link("ours topk", _found()["ours topk"], 100.0)
    assert (compared.theirs_s, compared.ratio, compared.target) == ([0.8], 1.25, 1.15)


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a network namespace needs root")
def test_the_sync_benchmark_runs_on_a_link_and_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    small = ["--elements", "100000", "--codecs", "int8", "--repeat", "1", "--only-ours", "--link", "100mbit"]
    command = [sys.executable, "-m", "tests.bench", "sync", *small, "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    (compared,) = json.loads(path.read_text())["comparisons"]
    assert compared["name"] == "ours int8, wall"
    assert compared["ratio"] > 0.5
