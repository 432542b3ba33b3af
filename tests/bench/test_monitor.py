"""The benchmark of a monitor explains itself; how much one costs, no test says."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import BENCHMARKS, main


def test_the_benchmark_of_a_monitor_is_there_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert "monitor" in BENCHMARKS
    with pytest.raises(SystemExit, match="0"):
        main(["monitor", "--help"])
    assert "--monitors" in capsys.readouterr().out
