"""The benchmark's own arithmetic, and that it runs; how fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from paceline.core.tuning import CodecName
from tests.bench.__main__ import BENCHMARKS, main
from tests.bench.timing import Comparison, by_turns, table


def test_a_ratio_is_the_median_over_neighbours() -> None:
    slow_day = Comparison("work", [2.0, 20.0, 3.0], [1.0, 10.0, 3.0], "reference", target=2.0)
    assert (slow_day.ratio, slow_day.reached) == (2.0, True)
    assert not Comparison("work", [2.1], [1.0], "reference", target=2.0).reached
    assert Comparison("work", [2.1], [1.0], "reference").reached


def test_both_are_run_by_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    ours, theirs = by_turns(lambda: calls.append("A"), lambda: calls.append("B"), 2)
    assert calls == ["A", "B"] * 3
    assert (len(ours), len(theirs)) == (2, 2)


def test_a_table_has_a_line_for_each_comparison_and_says_what_was_missed() -> None:
    lines = table(
        [
            Comparison("one", [0.002, 0.004, 0.003], [0.001, 0.001, 0.001], "torch", 2.0),
            Comparison("two", [0.001], [0.001], "torch"),
        ]
    ).splitlines()
    assert lines[1].split() == ["one", "3.0", "2.0", "torch", "1.0", "1.0", "3.00", "<=", "2", "missed"]
    assert lines[2].split() == ["two", "1.0", "1.0", "torch", "1.0", "1.0", "1.00"]


def test_the_average_benchmark_runs_and_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "average.json"
    small = ["--elements", "100", "--nodes", "2", "--repetitions", "1"]
    assert main(["average", *small, "--json", str(path)]) in (0, 1)
    found = json.loads(path.read_text())
    assert found["benchmark"] == "average"
    assert [len(each["ours_s"]) for each in found["comparisons"]] == [1] * 6
    assert all(each["ratio"] > 0 for each in found["comparisons"])


def test_the_codec_benchmark_measures_three_things_for_every_codec_and_the_mean_of_topk(
    tmp_path: Path,
) -> None:
    path = tmp_path / "codecs.json"
    assert main(["codecs", "--elements", "1000", "--repetitions", "1", "--json", str(path)]) == 0
    names = [each["name"].split() for each in json.loads(path.read_text())["comparisons"]]
    assert names == [
        [codec, work]
        for codec in (*get_args(CodecName), "union")
        for work in ("encode", "decode", "accumulate")
    ]


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in BENCHMARKS)])
def test_every_benchmark_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert "usage: scripts/bench" in capsys.readouterr().out
