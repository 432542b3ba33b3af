"""Claims about results that nobody has decided on yet."""

from __future__ import annotations

import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from paceline.core.config import GptConfig, OuterConfig
from paceline.core.errors import CheckpointError
from paceline.learning.checkpoint import load
from paceline.learning.model import num_parameters
from paceline.learning.outer import Digests, OuterState
from paceline.learning.staging import stage

TINY = GptConfig(dim=8, layers=1, heads=1, hidden=8, seq_len=8)
# Several chunks of the digest, and a ragged end.
LARGE = GptConfig(dim=256, layers=2, heads=2, seq_len=8)


def make_state(model: GptConfig) -> tuple[OuterState, np.ndarray]:
    rng = np.random.default_rng(0)
    anchor, momentum, average = (rng.standard_normal(num_parameters(model), np.float32) for _ in range(3))
    return OuterState(anchor, momentum, OuterConfig()), average


@pytest.mark.parametrize("model", [TINY, LARGE], ids=["tiny", "large"])
def test_a_staged_result_is_on_the_disk_when_this_returns(tmp_path: Path, model: GptConfig) -> None:
    state, average = make_state(model)
    before = state.digests()
    path = tmp_path / "new" / "staged-round-000003.safetensors"
    info = stage(path, state.steps(average), run_id="r", round_id=3, model=model)
    assert state.digests() == before
    staged = load(path)
    assert staged.info == info
    assert state.apply(average) == Digests(info.weights_digest, info.momentum_digest)
    assert staged.anchor.tobytes() == state.anchor.tobytes()
    assert staged.momentum.tobytes() == state.momentum.tobytes()
    assert list(path.parent.iterdir()) == [path]


def test_staging_copies_no_whole_vector(tmp_path: Path) -> None:
    state, average = make_state(LARGE)
    tracemalloc.start()
    try:
        stage(tmp_path / "staged.safetensors", state.steps(average), run_id="r", round_id=1, model=LARGE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000 < average.nbytes / 4


@pytest.mark.parametrize("reason", ["poison", "disk"])
def test_a_result_that_cannot_be_staged_leaves_nothing_behind(tmp_path: Path, reason: str) -> None:
    state, average = make_state(TINY)
    path, before = tmp_path / "staged.safetensors", state.digests()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    expected: type[Exception] = CheckpointError
    if reason == "poison":
        average[-1], expected = np.nan, ValueError
    with pytest.raises(expected):
        try:
            if reason == "disk":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limit[1]))
            stage(path, state.steps(average), run_id="r", round_id=1, model=TINY)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []
    assert state.digests() == before
