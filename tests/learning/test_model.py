"""Claims about the model and its first weights."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.core.config import GptConfig, StdlibData
from paceline.learning.data import Corpus, open_corpus
from paceline.learning.flat import FlatView
from paceline.learning.inner import evaluate
from paceline.learning.model import build_model, num_parameters, parameter_shapes

TINY = GptConfig(dim=16, layers=2, heads=2, seq_len=16)


def flat_weights(config: GptConfig, seed: int) -> np.ndarray:
    view = FlatView(build_model(config, seed))
    flat = np.empty(view.num_elements, np.float32)
    view.read(flat)
    return flat


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(StdlibData(), tmp_path_factory.mktemp("cache"))


def test_the_first_weights_are_the_same_bits_on_every_platform() -> None:
    digest = hashlib.sha256(flat_weights(TINY, seed=7).tobytes()).hexdigest()
    assert digest == "86747e1cd8e04689c8a66c99cf055e15c57d1717285ec93716c61dbc897c8a2e"


def test_building_a_model_neither_reads_nor_moves_the_generators_of_torch() -> None:
    torch.manual_seed(1)
    first, state = flat_weights(TINY, 0), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert np.array_equal(first, flat_weights(TINY, 0))


def test_another_seed_gives_other_weights_and_every_matrix_its_own() -> None:
    assert not np.array_equal(flat_weights(TINY, 0), flat_weights(TINY, 1))
    blocks = {name: part for name, part in build_model(TINY, 0).named_parameters() if part.ndim == 2}
    seen = {part.detach().numpy().tobytes() for part in blocks.values()}
    assert len(seen) == len(blocks)


def test_first_weights_have_the_intended_spread_and_stay_below_sqrt_3_of_it() -> None:
    model = build_model(GptConfig(dim=64, layers=2, heads=2), seed=3)
    weights = model.get_parameter("blocks.0.attention.query.weight").detach().numpy()
    assert weights.std() == pytest.approx(1 / 8, rel=0.02)
    assert abs(weights.mean()) < 0.01
    assert np.abs(weights).max() <= math.sqrt(3) / 8


@pytest.mark.parametrize("dim", [16, 128, 512])
def test_the_first_loss_is_within_two_percent_of_ln_256(corpus: Corpus, dim: int) -> None:
    model = build_model(GptConfig(dim=dim, layers=2, heads=4, seq_len=64), seed=0)
    loss = evaluate(model, corpus.held_out_batches(2, 8, 64), torch.device("cpu"))
    assert loss == pytest.approx(math.log(256), rel=0.02)


@settings(max_examples=20, deadline=None)
@given(
    half_head=st.integers(1, 4),
    heads=st.sampled_from([4, 8]),
    layers=st.integers(1, 12),
    hidden=st.none() | st.integers(8, 64),
)
def test_parameters_are_counted_without_allocating_them(
    half_head: int, heads: int, layers: int, hidden: int | None
) -> None:
    config = GptConfig(dim=2 * half_head * heads, layers=layers, heads=heads, hidden=hidden, seq_len=4)
    model = build_model(config, 0)
    assert num_parameters(config) == sum(part.numel() for part in model.parameters())
    shapes = {name: tuple(part.shape) for name, part in model.named_parameters()}
    assert parameter_shapes(config) == shapes
    assert list(parameter_shapes(config)) == sorted(shapes)


def test_counting_the_parameters_of_a_giant_takes_no_memory() -> None:
    assert num_parameters(GptConfig(dim=16384, layers=200, heads=128, seq_len=8192)) > 6e11


def test_a_token_never_sees_what_comes_after_it() -> None:
    model = build_model(TINY, 0)
    tokens = torch.arange(16).reshape(1, 16) * 7 % 256
    changed = tokens.clone()
    changed[0, 9:] += 1
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[0, :9], after[0, :9])
    assert not torch.equal(before[0, 9:], after[0, 9:])


def test_the_order_of_earlier_tokens_matters() -> None:
    model = build_model(TINY, 0)
    with torch.no_grad():
        one, other = model(torch.tensor([[1, 2, 3]])), model(torch.tensor([[2, 1, 3]]))
    assert not torch.allclose(one[0, 2], other[0, 2], atol=1e-6)


def test_attention_depends_on_distances_only() -> None:
    # With one byte repeated every position sees the same values, so rotation must cancel out.
    model = build_model(TINY, 0)
    with torch.no_grad():
        logits = model(torch.full((1, 16), 65))[0]
    assert torch.allclose(logits[0], logits[15], atol=1e-5)


def test_sequences_longer_than_seq_len_are_refused() -> None:
    with pytest.raises(ValueError, match="17 tokens, but seq_len is 16"):
        build_model(TINY, 0)(torch.zeros(1, 17, dtype=torch.int64))


def test_the_model_computes_wherever_its_weights_are() -> None:
    # The meta device refuses to mix with the CPU just as CUDA does.
    model = build_model(TINY, 0).to("meta")
    logits = model(torch.zeros(2, 5, dtype=torch.int64, device="meta"))
    assert logits.device.type == "meta"
    assert logits.shape == (2, 5, 256)
