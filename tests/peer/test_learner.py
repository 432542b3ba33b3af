"""Claims about what a peer owes the swarm, round after round."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paceline.core.config import GptConfig, NodeConfig, RunConfig
from paceline.core.events import Event
from paceline.core.overlap import OverlapConfig
from paceline.core.tuning import CodecName
from paceline.learning.codecs import make_codec
from paceline.peer.learner import Learner

MODEL = GptConfig(dim=16, layers=1, heads=2, seq_len=16)


def learner_with(codec: CodecName, tmp_path: Path, **changes: Any) -> Learner:
    run = RunConfig.model_validate({"model": MODEL, "inner_steps": 2, "codec": codec, **changes})
    node = NodeConfig(device="cpu", threads=1, batch_size=2, eval_batches=0, cache_dir=tmp_path)
    return Learner(run, node, "peer")


def unheard(event: Event) -> None:
    """Nobody follows these steps."""


def train(learner: Learner, round_id: int) -> np.ndarray:
    """Train for a round, and form what would be sent."""

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
    learner = learner_with(name, tmp_path, codec_warmup={"rounds": 0})
    codec = make_codec(name)
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


def test_a_warm_up_leaves_nothing_owed_and_its_successor_begins_without_a_residual(tmp_path: Path) -> None:
    learner = learner_with("topk", tmp_path, rounds=4, codec_warmup={"codec": "int4", "rounds": 1})
    codec, sent = make_codec("topk"), train(learner, 1)
    buffer, owed = np.full_like(sent, 7), np.empty_like(sent)
    learner.note_sent(buffer, "plan 1")
    assert (buffer == 7).all()
    learner.settle(buffer, "plan 1", took_part=True)
    learner.begin_round(2)
    learner.write_pseudo_gradient(owed)
    assert not owed.any()

    sent = train(learner, 2)
    learner.note_sent(buffer, "plan 2")
    lost = sent - codec.decode(codec.encode(sent), sent.size)
    np.testing.assert_array_equal(buffer, lost)
    learner.settle(buffer, "plan 2", took_part=True)
    learner.begin_round(3)
    learner.write_pseudo_gradient(owed)
    np.testing.assert_array_equal(owed, lost * np.float32(codec.feedback or 0))


def test_a_peer_that_repairs_itself_owes_nothing(tmp_path: Path) -> None:
    learner = learner_with("topk", tmp_path, codec_warmup={"rounds": 0})
    values = train(learner, 1)
    path = tmp_path / "state.safetensors"
    learner.stage(values, path)
    learner.note_sent(values, "plan")
    learner.settle(values, "plan", took_part=True)
    learner.stand_on(path, learner.first.model_copy(update={"round_id": 1}))
    learner.write_pseudo_gradient(values)
    assert not values.any()


def test_what_is_owed_of_a_fragment_waits_for_its_next_turn_whatever_is_learned_meanwhile(
    tmp_path: Path,
) -> None:
    halves = {"fragments": 2, "delay_steps": 1}
    streamed = MODEL.model_copy(update={"layers": 2})
    learner = learner_with("int2", tmp_path, model=streamed, inner_steps=4, rounds=4, overlap=halves)
    codec, owed = make_codec("int2"), np.zeros(0, np.float32)
    for round_id in (1, 2, 3):
        while learner.progress.inner_step < (4, 2, 1)[round_id - 1]:
            learner.train(unheard)
        learner.send()
        sent = np.empty(learner.fragment.num_elements, np.float32)
        learner.write_pseudo_gradient(sent)
        before = learner._feedback.residual.copy()
        assert before.any() == (round_id == 3)  # the first fragment's second turn
        np.testing.assert_array_equal(before, owed if round_id == 3 else np.zeros_like(before))
        lost = sent - codec.decode(codec.encode(sent), sent.size)
        learner.train(unheard)
        buffer = np.zeros_like(sent)
        learner.note_sent(buffer, f"plan {round_id}")
        np.testing.assert_array_equal(buffer, lost)
        learner.settle(buffer, f"plan {round_id}", took_part=True)
        np.testing.assert_array_equal(learner._feedback.residual, lost)
        owed = lost if round_id == 1 else owed
        path = tmp_path / f"{round_id}.safetensors"
        learner.stage(np.zeros_like(sent), path)
        learner.load(path)
        learner.follow(learner.first.model_copy(update={"round_id": round_id}))


def test_an_anchor_is_measured_beside_training_without_a_trace(tmp_path: Path) -> None:
    alone, beside = (streaming(tmp_path) for _ in range(2))
    values, before = train(alone, 1), train(beside, 1)
    assert np.array_equal(values, before)
    measured: list[float | None] = []
    thread = threading.Thread(target=lambda: measured.append(beside.evaluate()))
    thread.start()
    for learner in (beside, alone):
        for _ in range(3):
            learner.train(unheard)
    thread.join()
    for learner, sent in ((alone, values), (beside, before)):
        learner.write_pseudo_gradient(sent)
    assert np.array_equal(values, before)
    assert measured == [
        streaming(tmp_path).evaluate()
    ]  # of the first weights, from which nobody has moved on


def streaming(tmp_path: Path) -> Learner:
    overlap = OverlapConfig(fragments=1, delay_steps=2)
    run = RunConfig(model=MODEL, inner_steps=4, codec="fp32", overlap=overlap)
    return Learner(run, NodeConfig(device="cpu", threads=1, batch_size=2, cache_dir=tmp_path), "peer")
