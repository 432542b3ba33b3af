"""Claims about a peer's local weights, and what an exchange does to them."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch

from paceline.core.config import GptConfig
from paceline.learning.flat import Flat, FlatView
from paceline.learning.fragments import cut, largest
from paceline.learning.local import LocalWeights
from paceline.learning.model import Gpt, build_model

CONFIG = GptConfig(dim=16, layers=11, heads=2, seq_len=16)
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
HALVES = cut(CONFIG, 2)


@pytest.fixture(params=DEVICES)
def model(request: pytest.FixtureRequest) -> Gpt:
    return build_model(CONFIG, 0).to(request.param)


def read(model: Gpt) -> Flat:
    view = FlatView(model)
    flat = np.empty(view.num_elements, np.float32)
    view.read(flat)
    return flat


def random(seed: int) -> Flat:
    return np.random.default_rng(seed).standard_normal(HALVES[0].num_whole, np.float32)


@pytest.mark.parametrize("fragments", [1, 2, 3, 11])
def test_every_parameter_is_in_exactly_one_fragment(fragments: int) -> None:
    parts = cut(CONFIG, fragments)
    count, values = np.zeros(parts[0].num_whole, int), random(0)
    built = np.zeros_like(values)
    for part in parts:
        for span in part.spans:
            count[span] += 1
        assert all(one.stop < other.start for one, other in pairwise(part.spans))
        part.put(part.take(values), built)
    assert (count == 1).all()
    assert np.array_equal(built, values)
    assert largest(CONFIG, fragments) == max(part.num_elements for part in parts)


def test_a_fragment_holds_its_parameters_in_the_order_of_the_whole_vector(model: Gpt) -> None:
    for part in HALVES:
        view = FlatView(model, part.names)
        values = np.empty(part.num_elements, np.float32)
        view.read(values)
        assert np.array_equal(values, part.take(read(model)))


def test_the_pseudo_gradient_is_anchor_minus_local(model: Gpt) -> None:
    local, anchor = LocalWeights(model, HALVES, keeps_sent=False), random(1)
    weights, kept = read(model), anchor.copy()
    for number, part in enumerate(HALVES):
        out = np.full(part.num_elements, np.nan, np.float32)
        local.pseudo_gradient(number, anchor, out)
        assert np.array_equal(out, part.take(anchor - weights))
    assert np.array_equal(anchor, kept)
    assert np.array_equal(read(model), weights)


def test_a_pseudo_gradient_never_overwrites_the_anchor(model: Gpt) -> None:
    flat, local = read(model), LocalWeights(model, cut(CONFIG, 1), keeps_sent=False)
    with pytest.raises(ValueError, match="overwrite the anchor"):
        local.pseudo_gradient(0, flat, flat)
    with pytest.raises(ValueError, match="expected contiguous"):
        local.pseudo_gradient(0, flat, flat[:-1].copy())


def test_what_is_sent_again_is_what_was_sent(model: Gpt) -> None:
    local, anchor, sent = LocalWeights(model, HALVES, keeps_sent=True), random(1), read(model)
    local.send(1)
    FlatView(model).write(random(2))
    out = np.empty(HALVES[1].num_elements, np.float32)
    local.pseudo_gradient(1, anchor, out)
    assert np.array_equal(out, HALVES[1].take(anchor - sent))
    local.forget_sent()
    local.pseudo_gradient(1, anchor, out)
    assert np.array_equal(out, HALVES[1].take(anchor - random(2)))


@pytest.mark.parametrize("number", [0, 1])
def test_a_fragment_that_comes_back_touches_no_other(model: Gpt, number: int) -> None:
    local, anchor = LocalWeights(model, HALVES, keeps_sent=True), random(1)
    sent, learned = read(model), random(2)
    local.send(number)
    FlatView(model).write(learned)
    local.take_back(number, anchor)
    mine, other = HALVES[number], HALVES[1 - number]
    assert np.array_equal(mine.take(read(model)), mine.take(anchor + (learned - sent)))
    assert np.array_equal(other.take(read(model)), other.take(learned))


def test_after_bad_steps_nothing_that_was_learned_since_is_kept(model: Gpt) -> None:
    local, before, after = LocalWeights(model, cut(CONFIG, 1), keeps_sent=True), random(1), random(2)
    local.send(0)
    sent = read(model)
    FlatView(model).write(np.full_like(before, np.inf))
    local.go_back(before)
    out = np.empty_like(before)
    local.pseudo_gradient(0, before, out)
    assert np.array_equal(out, before - sent)  # what was sent before that was good
    local.take_back(0, after)
    assert np.array_equal(read(model), after)


def test_a_parameter_at_a_time_is_copied_never_a_whole_fragment() -> None:
    config = GptConfig(dim=64, layers=4, heads=2)
    model = build_model(config, 0)
    local, anchor = LocalWeights(model, cut(config, 1), keeps_sent=True), read(model)
    out = np.empty_like(anchor)
    most = max(part.nbytes for part in local.view.named(anchor).values())
    tracemalloc.start()
    try:
        local.send(0)
        local.pseudo_gradient(0, anchor, out)
        local.take_back(0, anchor)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most + 65536 < anchor.nbytes / 4
