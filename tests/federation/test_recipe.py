"""Claims about what a training config means as a run."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paceline.federation.folder
import paceline.federation.recipe
import paceline.federation.synthetic
from paceline.core.config import RunConfig
from paceline.federation.recipe import run_of, seed_of, slug
from tests.core.history import peers
from tests.federation.sessions import recipe

FOUNDERS = [key.peer_id for key in peers(5)]


def test_each_key_of_a_training_config_has_its_place_in_the_run() -> None:
    run = run_of(recipe(learning_rate=0.5, local_steps=7, global_rounds=9), FOUNDERS)
    assert (run.name, run.inner_steps, run.rounds, run.expected_peers) == ("my-model", 7, 9, 5)
    assert run.inner.optimizer.lr == 0.5
    assert (run.quorum.founders, run.quorum.min_members) == (tuple(FOUNDERS), 3)


def test_the_averages_are_taken_as_they_are() -> None:
    run = run_of(recipe(), FOUNDERS)
    assert (run.outer.lr, run.outer.momentum, run.codec) == (1.0, 0.0, "fp32")


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": "my model"},
        {"learning_rate": 2e-4},
        {"batch_size": 5},
        {"local_steps": 11},
        {"global_rounds": 6},
        {"num_nodes": 4},
    ],
)
def test_every_key_of_a_training_config_is_pinned_by_the_run_id(change: dict[str, object]) -> None:
    assert seed_of(recipe(**change)) != seed_of(recipe())
    assert run_of(recipe(**change), FOUNDERS).run_id != run_of(recipe(), FOUNDERS).run_id


@given(st.text())
def test_any_model_name_becomes_the_name_of_a_run(model_name: str) -> None:
    assert RunConfig(name=slug(model_name)).name == slug(model_name)


@pytest.mark.parametrize(
    ("model_name", "name"),
    [
        ("BERT small", "bert-small"),
        ("Ünï/Model v2", "uni-model-v2"),
        ("模型", "session"),
        ("x" * 99, "x" * 40),
    ],
)
def test_a_model_name_stays_recognisable(model_name: str, name: str) -> None:
    assert slug(model_name) == name


@pytest.mark.parametrize(
    "module",
    [paceline.federation.folder, paceline.federation.recipe, paceline.federation.synthetic],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_docstrings_run(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
