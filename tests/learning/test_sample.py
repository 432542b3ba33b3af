"""Claims about sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from paceline.core.config import AdamWConfig, GptConfig, InnerConfig, NodeConfig, RunConfig, ScheduleConfig
from paceline.core.digest import chunk_hashes, digest_of
from paceline.core.errors import CheckpointError, ConfigError
from paceline.learning.checkpoint import save
from paceline.learning.checkpoint_header import CheckpointInfo
from paceline.learning.flat import FlatView
from paceline.learning.inner import InnerTrainer
from paceline.learning.model import build_model
from paceline.learning.sample import sample

TINY = GptConfig(dim=16, layers=1, heads=2, seq_len=8)


@pytest.fixture(scope="module")
def alphabet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has learned to repeat `abcd`."""
    schedule = ScheduleConfig(type="constant", warmup_steps=0)
    inner = InnerConfig(optimizer=AdamWConfig(lr=1e-2), schedule=schedule)
    model = build_model(TINY, 0)
    trainer = InnerTrainer(model, RunConfig(model=TINY, inner=inner), NodeConfig(), torch.device("cpu"))
    batch = np.stack([np.frombuffer(b"abcdabcdabcd"[i : i + 9], np.uint8) for i in range(4)]).astype(np.int64)
    for step in range(80):
        trainer.step([batch], step)
    view = FlatView(model)
    anchor, momentum = np.empty(view.num_elements, np.float32), np.zeros(view.num_elements, np.float32)
    view.read(anchor)
    digests = [digest_of(chunk_hashes(part.tobytes())) for part in (anchor, momentum)]
    info = CheckpointInfo(
        run_id="r", round_id=1, weights_digest=digests[0], momentum_digest=digests[1], model=TINY
    )
    path = tmp_path_factory.mktemp("checkpoint") / "round-000001.safetensors"
    save(path, info, anchor, momentum)
    return path


def test_a_trained_model_continues_what_it_learned(alphabet: Path) -> None:
    assert sample(alphabet, "dabc", 10, temperature=0) == "dabcdabcda"
    assert sample(alphabet, "abcd" * 50, 4, temperature=0) == "abcd"


def test_the_same_seed_gives_the_same_text(alphabet: Path) -> None:
    texts = [sample(alphabet, "a", 40, temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_any_prompt_will_do(alphabet: Path) -> None:
    assert sample(alphabet, "", 0) == ""
    assert sample(alphabet, "", 5)
    assert sample(alphabet, "größer 🚲", 5, temperature=0)
    # At a high temperature most bytes are no text at all.
    assert "\ufffd" in sample(alphabet, "a", 60, temperature=100.0)


@pytest.mark.parametrize(
    ("num_bytes", "temperature"), [(-1, 0.8), (5, -0.1), (5, float("nan")), (5, float("inf"))]
)
def test_a_senseless_request_is_refused(alphabet: Path, num_bytes: int, temperature: float) -> None:
    with pytest.raises(ConfigError):
        sample(alphabet, "a", num_bytes, temperature)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing like it")
    with pytest.raises(CheckpointError):
        sample(tmp_path / "x", "a", 5)
