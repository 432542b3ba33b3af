"""Claims about what a peer owes the swarm, round after round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paceline.core.config import CodecName, GptConfig, NodeConfig, RunConfig
from paceline.core.events import Event
from paceline.learning.codecs import make_codec
from paceline.peer.learner import Learner

MODEL = GptConfig(dim=16, layers=1, heads=2, seq_len=16)


def learner_with(codec: CodecName, tmp_path: Path) -> Learner:
    run = RunConfig(model=MODEL, inner_steps=2, codec=codec)
    node = NodeConfig(device="cpu", threads=1, batch_size=2, eval_batches=0, cache_dir=tmp_path)
    return Learner(run, node, "peer")


def train(learner: Learner, round_id: int) -> np.ndarray:
    """Train for a round, and form what would be sent."""

    def unheard(event: Event) -> None:
        del event

    learner.begin_round(round_id)
    for _ in range(2):
        learner.train(unheard)
    values = np.empty(learner.num_elements, np.float32)
    learner.write_pseudo_gradient(values)
    return values


@pytest.mark.parametrize("name", ["int2", "topk"])
def test_what_a_lossy_codec_left_behind_is_sent_along_once_the_round_is_committed(
    name: CodecName, tmp_path: Path
) -> None:
    learner, codec = learner_with(name, tmp_path), make_codec(name)
    sent = train(learner, 1)
    lost = sent - codec.decode(codec.encode(sent), sent.size)
    buffer = np.full_like(sent, 7)  # the mean was there
    learner.note_sent(buffer, "plan")
    np.testing.assert_array_equal(buffer, lost)
    again = np.empty_like(sent)
    learner.write_pseudo_gradient(again)
    np.testing.assert_array_equal(again, sent)  # nothing is owed before the commit

    learner.note_sent(buffer, "plan")
    learner.settle(buffer, "plan", took_part=True)
    learner.begin_round(2)
    learner.write_pseudo_gradient(again)
    np.testing.assert_array_equal(again, lost * np.float32(codec.feedback or 0))


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_a_codec_that_loses_little_leaves_the_buffer_alone(name: CodecName, tmp_path: Path) -> None:
    learner = learner_with(name, tmp_path)
    train(learner, 1)
    buffer = np.full(learner.num_elements, 7, np.float32)
    learner.note_sent(buffer, "plan")
    learner.settle(buffer, "plan", took_part=True)
    assert (buffer == 7).all()
    learner.begin_round(2)
    learner.write_pseudo_gradient(buffer)
    assert not buffer.any()


def test_a_peer_that_repairs_itself_owes_nothing(tmp_path: Path) -> None:
    learner = learner_with("topk", tmp_path)
    values = train(learner, 1)
    path = tmp_path / "state.safetensors"
    learner.stage(values, path)
    learner.note_sent(values, "plan")
    learner.settle(values, "plan", took_part=True)
    learner.stand_on(path, learner.first.model_copy(update={"round_id": 1}), keep_inner_state=False)
    learner.write_pseudo_gradient(values)
    assert not values.any()
