"""Claims about how much memory a peer says to need."""

from __future__ import annotations

from pathlib import Path

from paceline.core.config import GptConfig, InnerConfig, MuonConfig, NodeConfig, RunConfig
from paceline.core.overlap import OverlapConfig
from paceline.learning.footprint import Footprint, footprint
from paceline.learning.model import num_parameters
from paceline.peer.rehearsal import rehearse_training

MODEL = GptConfig(dim=64, layers=6, heads=2, seq_len=256)
NODE = NodeConfig(device="cpu", threads=1, batch_size=16)


def test_anchor_momentum_and_buffer_are_twelve_bytes_per_weight_and_adamw_sixteen() -> None:
    needed, parameters = footprint(RunConfig(model=MODEL), NODE), num_parameters(MODEL)
    assert needed.parameters == parameters
    assert needed.shared_bytes == 12 * parameters
    assert needed.inner_bytes == 16 * parameters
    assert needed.device_bytes == needed.inner_bytes + needed.activation_bytes


def test_a_codec_that_needs_feedback_takes_four_bytes_per_weight_more() -> None:
    parameters = num_parameters(MODEL)
    assert footprint(RunConfig(model=MODEL, codec="topk"), NODE).shared_bytes == 16 * parameters
    assert footprint(RunConfig(model=MODEL, codec="int4"), NODE).shared_bytes == 12 * parameters


def test_muon_keeps_one_number_less_for_each_weight_of_the_hidden_matrices() -> None:
    muon = RunConfig(model=MODEL, inner=InnerConfig(optimizer=MuonConfig()))
    others = 256 * MODEL.dim + MODEL.dim * (2 * MODEL.layers + 1)  # the embedding, and the norms
    parameters = num_parameters(MODEL)
    assert footprint(muon, NODE).inner_bytes == 12 * parameters + 4 * others


def test_an_anchor_that_is_measured_beside_training_takes_four_bytes_per_weight_of_its_device() -> None:
    overlap = RunConfig(model=MODEL, overlap=OverlapConfig(delay_steps=2))
    assert footprint(overlap, NODE).copy_bytes == 4 * num_parameters(MODEL)
    assert footprint(overlap, NODE.model_copy(update={"eval_batches": 0})).copy_bytes == 0
    assert footprint(RunConfig(model=MODEL), NODE).copy_bytes == 0


def test_activations_grow_with_the_micro_batch_and_shrink_with_their_width() -> None:
    run = RunConfig(model=MODEL)
    twice = footprint(run, NODE.model_copy(update={"batch_size": 32})).activation_bytes
    assert twice == 2 * footprint(run, NODE).activation_bytes
    assert footprint(run, NODE, halves=True).activation_bytes < footprint(run, NODE).activation_bytes


def test_what_training_really_takes_is_not_far_from_the_estimate(tmp_path: Path) -> None:
    ballast = bytearray(600 << 20)  # how large the process is that asks is of no account
    ballast[:: 1 << 12] = bytes(len(ballast[:: 1 << 12]))
    node = NODE.model_copy(update={"cache_dir": tmp_path})
    tiny = RunConfig(model=GptConfig(dim=16, layers=1, heads=2, seq_len=16))
    small = rehearse_training(tiny, node.model_copy(update={"batch_size": 1})).peak_bytes
    taken = rehearse_training(RunConfig(model=MODEL), node).peak_bytes - small
    needed: Footprint = footprint(RunConfig(model=MODEL), NODE)
    assert 0.6 < taken / needed.device_bytes < 1.6
