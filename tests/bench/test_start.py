"""The benchmark of a newcomer's wait: that a fetched state is whole; how fast it is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.catch_up import Catch


def test_processes_are_timed_against_an_interpreter_that_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "start.json"
    small = ["--repetitions", "1", "--joins", "0", "--fetches", "0"]
    assert main(["start", *small, "--json", str(path)]) == 0
    found = json.loads(path.read_text())["comparisons"]
    assert [(each["name"], each["reference"]) for each in found] == [
        ("import paceline", "python -c pass"),
        ("paceline --help", "python -c pass"),
        ("paceline --help", "python -c 'import torch'"),
    ]


@pytest.mark.live
def test_a_state_fetched_from_two_donors_and_one_copied_plainly_are_the_same_bytes(tmp_path: Path) -> None:
    with Catch(tmp_path, 4) as catch:
        assert catch.fetch() > 0
        assert catch.copy() > 0
        assert catch.size_bytes == 4_000_000
        fetched = (tmp_path / "fetched").read_bytes()
        (original,) = (path.read_bytes() for path in tmp_path.glob("1-*.bin"))
        assert fetched == (tmp_path / "copied").read_bytes()
    assert original.endswith(fetched)
    assert len(fetched) == 4_000_000
