"""Configuration is checked when it is made, and a run has one canonical document."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from paceline.core import config
from paceline.core.config import (
    AdamWConfig,
    GptConfig,
    Handout,
    MetricsConfig,
    MuonConfig,
    NodeConfig,
    OuterConfig,
    RunConfig,
    SwarmConfig,
    TextData,
)
from paceline.core.records import MAX_MEMBERS
from paceline.core.tuning import outer_defaults
from tests.core.history import peers, run_of

MODELS = [
    model
    for model in vars(config).values()
    if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == config.__name__
]
NEEDED: dict[type[BaseModel], dict[str, Any]] = {
    TextData: {"paths": ["a.txt"]},
    Handout: {"run_id": "run-1", "seeds": ["/ip4/127.0.0.1/tcp/1"]},
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_an_unknown_key_is_refused_in_every_section(model: type[BaseModel]) -> None:
    content = NEEDED.get(model, {})
    assert model.model_validate(content)
    with pytest.raises(ValidationError, match="Extra inputs"):
        model.model_validate({**content, "suprise": 1})


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_configuration_can_not_be_edited_in_place(model: type[BaseModel]) -> None:
    instance = model.model_validate(NEEDED.get(model, {}))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(instance, next(iter(model.model_fields)), None)


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (RunConfig, {"name": "Upper"}),
        (RunConfig, {"name": "a" * 41}),
        (RunConfig, {"name": "-a"}),
        (RunConfig, {"seed": -1}),
        (RunConfig, {"inner_steps": 0}),
        (RunConfig, {"rounds": 0}),
        (RunConfig, {"expected_peers": MAX_MEMBERS + 1}),
        (RunConfig, {"codec": "int3"}),
        (RunConfig, {"outer": {"lr": 0}}),
        (RunConfig, {"outer": {"momentum": 1}}),
        (RunConfig, {"outer": 3}),
        (RunConfig, {"model": {"type": "mamba"}}),
        (RunConfig, {"inner": {"optimizer": {"type": "sgd"}}}),
        (RunConfig, {"inner": {"optimizer": {"lr": float("nan")}}}),
        (RunConfig, {"quorum": {"founders": ["somebody"]}}),
        (RunConfig, {"quorum": {"departure_s": 1}}),
        (RunConfig, {"pace": {"lease_s": float("inf")}}),
        (RunConfig, {"rounds": "many"}),
        (RunConfig, {"expected_peers": None}),
        (GptConfig, {"dim": 100, "heads": 8}),
        (GptConfig, {"dim": 4}),
        (NodeConfig, {"device": "gpu"}),
        (NodeConfig, {"device": "cuda:x"}),
        (NodeConfig, {"threads": 0}),
        (NodeConfig, {"batch_size": 0}),
        (NodeConfig, {"keep_checkpoints": 1}),
        (NodeConfig, {"data": {"type": "text", "paths": []}}),
        (NodeConfig, {"data": {"type": "web"}}),
        (MetricsConfig, {"port": 70000}),
        (SwarmConfig, {"peers": 0}),
        (Handout, {"run_id": "run-1", "seeds": []}),
        (Handout, {"run_id": "run-1", "seeds": ["x"], "run_digest": "ab"}),
    ],
    ids=str,
)
def test_a_value_out_of_bounds_is_refused(model: type[BaseModel], content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(content)


def test_the_digest_of_the_default_run_is_what_it_was() -> None:
    # A change here means that peers of two versions can't train together: raise the version and say so.
    assert RunConfig().digest() == "0dc98ab636fe67e9ae77b5cef569b685d962984a6414895f7bb0322664a95e9a"


def test_a_run_is_the_same_whatever_order_or_spelling_it_was_given_in() -> None:
    one = RunConfig.model_validate({"rounds": 30, "seed": 1, "pace": {"lease_s": 9}})
    two = RunConfig.model_validate({"pace": {"lease_s": 9.0}, "seed": "1", "rounds": 30})
    assert one.digest() == two.digest()
    assert one.run_id == f"run-{one.digest()[:8]}"


def test_the_document_reads_back_as_the_same_run() -> None:
    run = run_of(peers(4), rounds=30, inner={"optimizer": {"type": "muon"}}, codec="fp32")
    again = RunConfig.model_validate_json(run.document())
    assert again == run
    assert again.document() == run.document()
    assert " " not in run.document()
    assert json.loads(run.document())["outer"] == {"lr": 0.6, "momentum": 0.5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overlap": {"fragments": 5}}, "the model has 4 blocks, .* take 4 fragments at most"),
        ({"inner_steps": 2, "overlap": {"fragments": 3}, "rounds": 9}, "a round has a step at least"),
        ({"overlap": {"fragments": 3}}, "rounds is 10, but has to be a multiple .* = 3, .* take 9 or 12"),
        ({"rounds": 2, "overlap": {"fragments": 3}}, "take 3$"),
        ({"overlap": {"delay_steps": 20}}, "has to be less than the 20 steps between two exchanges"),
        ({"overlap": {"fragments": 2, "delay_steps": 10}}, "less than the 10 steps"),
        ({"inner_steps": 1, "overlap": {"delay_steps": 1}}, "less than the 1 steps"),
    ],
    ids=str,
)
def test_an_overlap_that_does_not_fit_its_run_is_refused_with_a_way_out(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(changes)
    assert re.search(said, caught.value.errors()[0]["msg"])


def test_a_run_without_overlap_has_the_digest_that_it_had_before_there_was_any() -> None:
    spelled = RunConfig.model_validate({"overlap": {"fragments": 1, "delay_steps": 0}})
    assert spelled.digest() == RunConfig().digest()
    assert RunConfig.model_validate_json(RunConfig().document()) == RunConfig()


def test_every_parameter_of_a_run_is_in_its_digest() -> None:
    changes: list[dict[str, Any]] = [
        {"name": "other"},
        {"seed": 1},
        {"expected_peers": 5},
        {"inner_steps": 21},
        {"rounds": 11},
        {"model": {"layers": 5}},
        {"inner": {"clip_norm": None}},
        {"outer": {"lr": 0.5}},
        {"codec": "fp32"},
        {"codec_warmup": {"rounds": 2}},
        {"overlap": {"fragments": 2}},
        {"quorum": {"min_members": 3}},
        {"pace": {"lease_s": 9}},
    ]
    assert {key for change in changes for key in change} == set(RunConfig.model_fields)
    digests = {RunConfig.model_validate(change).digest() for change in [{}, *changes]}
    assert len(digests) == len(changes) + 1


@pytest.mark.parametrize(
    ("peers_expected", "lr"), [(1, 0.4), (2, 0.6), (4, 0.6), (7, 0.6), (8, 0.8), (64, 0.8)]
)
def test_the_outer_step_of_many_rounds_follows_the_number_of_peers(peers_expected: int, lr: float) -> None:
    run = RunConfig(expected_peers=peers_expected, rounds=500)
    assert run.outer.lr == lr == outer_defaults(peers_expected, 500)["lr"]


def test_what_a_run_chooses_by_itself_follows_how_often_each_fragment_is_exchanged() -> None:
    few = RunConfig.model_validate({"rounds": 100, "model": {"layers": 4}, "overlap": {"fragments": 4}})
    assert (few.outer.lr, few.outer.momentum) == (0.8, 0.5)
    warm = RunConfig.model_validate(
        {"rounds": 400, "codec": "topk", "model": {"layers": 4}, "overlap": {"fragments": 4}}
    )
    assert warm.codec_warmup.rounds == 40


@pytest.mark.parametrize(
    ("rounds", "outer"), [(1, (0.8, 0.5)), (99, (0.8, 0.5)), (100, (0.6, 0.9)), (500, (0.6, 0.9))]
)
def test_the_outer_step_follows_the_number_of_rounds(rounds: int, outer: tuple[float, float]) -> None:
    run = RunConfig(rounds=rounds)
    assert (run.outer.lr, run.outer.momentum) == outer


def test_top_k_takes_the_whole_mean_without_momentum_unless_told_otherwise() -> None:
    assert RunConfig(codec="topk", rounds=100).outer == OuterConfig(lr=1.0, momentum=0.0)
    told = RunConfig.model_validate({"codec": "topk", "outer": {"momentum": 0.5}})
    assert told.outer == OuterConfig(lr=1.0, momentum=0.5)
    assert RunConfig(codec="int2").outer == RunConfig(codec="fp32").outer


def test_an_outer_step_that_is_given_is_kept() -> None:
    assert RunConfig.model_validate({"outer": {"lr": 1.0}}).outer.lr == 1.0
    assert RunConfig.model_validate({"outer": {"lr": 1.0}, "rounds": 500}).outer.momentum == 0.9
    assert RunConfig(outer=config.OuterConfig(lr=0.1, momentum=0.2)).outer.lr == 0.1
    assert RunConfig.model_validate({"outer": None}).outer == RunConfig().outer


def test_numbers_given_as_text_tune_the_outer_step_too() -> None:
    run = RunConfig.model_validate({"expected_peers": "8", "rounds": "30"})
    assert run.outer == RunConfig(expected_peers=8, rounds=30).outer


def test_a_hand_out_pins_the_run_it_carries() -> None:
    run = RunConfig()
    content = {"run_id": run.run_id, "seeds": ["/ip4/127.0.0.1/tcp/1"]}
    assert Handout.model_validate({**content, "run_config": run}).digest == run.digest()
    assert Handout.model_validate({**content, "run_digest": run.digest()}).digest == run.digest()
    assert Handout.model_validate(content).digest is None
    both = {**content, "run_config": run, "run_digest": run.digest()}
    assert Handout.model_validate(both).digest == run.digest()


def test_a_hand_out_that_contradicts_itself_is_refused() -> None:
    run, other = RunConfig(), RunConfig(seed=1)
    seeds = ["/ip4/127.0.0.1/tcp/1"]
    with pytest.raises(ValidationError, match="not that of run_config"):
        Handout(run_id=run.run_id, seeds=seeds, run_config=run, run_digest=other.digest())
    with pytest.raises(ValidationError, match="run_id does not end with"):
        Handout(run_id=other.run_id, seeds=seeds, run_config=run)
    with pytest.raises(ValidationError, match="run_id does not end with"):
        Handout(run_id=other.run_id, seeds=seeds, run_digest=run.digest())


def test_a_hand_out_reads_back_from_its_json() -> None:
    run = run_of(peers(3))
    handout = Handout(
        run_id=run.run_id,
        seeds=("/ip4/127.0.0.1/tcp/1",),
        run_config=run,
        run_digest=run.digest(),
        authority=peers(1)[0].peer_id,
    )
    assert Handout.model_validate_json(handout.model_dump_json()) == handout


def test_optimizers_are_told_apart_by_their_type() -> None:
    parse = config.InnerConfig.model_validate
    assert isinstance(parse({"optimizer": {"type": "muon", "lr": 0.05}}).optimizer, MuonConfig)
    assert isinstance(parse({"optimizer": {"type": "adamw"}}).optimizer, AdamWConfig)
    assert isinstance(parse({}).optimizer, AdamWConfig)


def test_the_hidden_width_is_eight_thirds_rounded_up() -> None:
    assert GptConfig(dim=128).hidden_dim == 352
    assert GptConfig(dim=96).hidden_dim == 256
    assert GptConfig(dim=128, hidden=200).hidden_dim == 200


def test_steps_of_the_whole_run_are_counted() -> None:
    assert RunConfig(inner_steps=7, rounds=3).total_steps == 21
