"""Claims about what a training configuration means to a swarm."""

from __future__ import annotations

import doctest

import pytest

from paceline.core.config import (
    GptConfig,
    InnerConfig,
    MuonConfig,
    NodeConfig,
    OuterConfig,
    RunConfig,
    SwarmConfig,
)
from paceline.core.errors import ConfigError
from paceline.core.tuning import CodecWarmup
from paceline.federation import template
from paceline.federation.models import TrainingConfig
from paceline.federation.template import LOOPBACK, swarm_of


def config(**changes: object) -> TrainingConfig:
    fields: dict[str, object] = {
        "model_name": "tiny",
        "learning_rate": 2e-3,
        "batch_size": 3,
        "local_steps": 7,
        "global_rounds": 30,
        "num_nodes": 8,
    }
    return TrainingConfig.model_validate(fields | changes)


def test_the_example_runs() -> None:
    assert doctest.testmod(template).failed == 0


def test_what_the_config_says_counts_and_the_rest_comes_from_the_base() -> None:
    base = SwarmConfig(
        run=RunConfig(seed=5, model=GptConfig(dim=32), inner=InnerConfig(optimizer=MuonConfig(lr=0.5))),
        node=NodeConfig(device="cpu", batch_size=100),
    )
    swarm = swarm_of(config(), base)
    run = swarm.run
    assert (run.name, run.inner_steps, run.rounds, run.expected_peers, swarm.peers) == ("tiny", 7, 30, 8, 8)
    assert (run.seed, run.model, swarm.node.device) == (5, GptConfig(dim=32), "cpu")
    assert run.inner.optimizer == MuonConfig(lr=2e-3)
    assert swarm.node.batch_size == 3


def test_without_a_base_the_nodes_stay_on_this_machine() -> None:
    node = swarm_of(config()).node
    assert node == LOOPBACK.model_copy(update={"batch_size": 3})
    assert "state_dir" not in node.model_fields_set  # so that the run's folder is made in runs/


def test_the_outer_step_follows_nodes_and_rounds_but_for_what_the_base_sets() -> None:
    assert swarm_of(config(global_rounds=300)).run.outer == OuterConfig(lr=0.8, momentum=0.9)
    assert swarm_of(config(num_nodes=2, global_rounds=5)).run.outer == OuterConfig(lr=0.8, momentum=0.5)
    base = SwarmConfig(run=RunConfig.model_validate({"outer": {"lr": 0.1}}))
    assert swarm_of(config(global_rounds=300), base).run.outer == OuterConfig(lr=0.1, momentum=0.9)


def test_a_codecs_warm_up_follows_the_rounds_but_for_what_the_base_sets() -> None:
    base = SwarmConfig(run=RunConfig(codec="topk", rounds=500))
    by_itself = RunConfig(codec="topk", rounds=30).codec_warmup
    assert base.run.codec_warmup != by_itself
    assert swarm_of(config(global_rounds=30), base).run.codec_warmup == by_itself
    told = SwarmConfig(run=RunConfig(codec="topk", codec_warmup=CodecWarmup(codec="int8", rounds=7)))
    assert swarm_of(config(), told).run.codec_warmup == CodecWarmup(codec="int8", rounds=7)


def test_one_node_is_enough_for_a_round_of_its_own() -> None:
    assert swarm_of(config(num_nodes=1)).run.quorum.min_members == 1
    assert swarm_of(config()).run.quorum.min_members == 2


def test_more_nodes_than_a_round_has_room_for_are_refused() -> None:
    with pytest.raises(ConfigError, match="65 nodes"):
        swarm_of(config(num_nodes=65))
