"""Claims about swarms whose codec loses much: what is lost must neither split them nor stop them learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.core.config import CodecName
from paceline.core.events import Evaluated, ReduceEnded
from paceline.learning.model import num_parameters
from tests.live.swarms import live_swarm, small_run

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("codec", "saved"), [("int2", 9), ("topk", 20)])
def test_a_swarm_with_a_lossy_codec_commits_the_same_bits_and_learns(
    codec: CodecName, saved: float, tmp_path: Path
) -> None:
    with live_swarm(tmp_path, small_run(rounds=5, codec=codec), peers=3) as swarm:
        swarm.until(lambda: not swarm.local.running())
        names = swarm.local.names
        logs = swarm.logs(*names)
        assert {log.rounds for log in logs.values()} == {5}
        assert len({log.head_digest for log in logs.values()}) == 1
        in_fp32 = 4 * num_parameters(swarm.run.model) * 4 / 3  # two thirds up, two thirds of means
        for name in names:
            losses = [event.val_loss for event in swarm.events(name, Evaluated)]
            assert losses[-1] < losses[0] - 0.1
            sent = [event.bytes_out for event in swarm.events(name, ReduceEnded) if event.complete]
            assert max(sent) < in_fp32 / saved
