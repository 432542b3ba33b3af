"""Claims about the border between a model and its flat vector."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from paceline.core.config import GptConfig
from paceline.learning.flat import FlatView, named_slices, standing_on
from paceline.learning.model import Gpt, build_model, parameter_shapes

CONFIG = GptConfig(dim=16, layers=11, heads=2, seq_len=16)
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def model(request: pytest.FixtureRequest) -> Gpt:
    return build_model(CONFIG, 0).to(request.param)


def read(model: Gpt) -> np.ndarray:
    view = FlatView(model)
    flat = np.empty(view.num_elements, np.float32)
    view.read(flat)
    return flat


def test_parameters_lie_sorted_by_name_in_c_order(model: Gpt) -> None:
    parts = [part.detach().cpu().numpy().reshape(-1) for _, part in sorted(model.named_parameters())]
    assert np.array_equal(read(model), np.concatenate(parts))


def test_what_is_written_is_read_back_and_gradients_stay(model: Gpt) -> None:
    flat = np.random.default_rng(0).standard_normal(FlatView(model).num_elements, np.float32)
    model.embedding.grad = torch.ones_like(model.embedding)
    FlatView(model).write(flat)
    assert np.array_equal(read(model), flat)
    assert model.embedding.requires_grad
    assert model.embedding.grad.sum() == model.embedding.numel()


def test_a_read_only_vector_is_written_without_a_warning(model: Gpt) -> None:
    flat = np.ones(FlatView(model).num_elements, np.float32)
    flat.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FlatView(model).write(flat)
    assert np.array_equal(read(model), flat)


def test_named_parts_are_views_in_the_shapes_of_the_parameters(model: Gpt) -> None:
    view, flat = FlatView(model), read(model)
    named = view.named(flat)
    assert {name: part.shape for name, part in named.items()} == dict(parameter_shapes(CONFIG))
    named["embedding"][3, 4] = 42
    view.write(flat)
    assert model.embedding[3, 4].item() == 42


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(5, np.float32), np.zeros(6), np.zeros((2, 3), np.float32), np.zeros(12, np.float32)[::2]],
    ids=["size", "dtype", "shape", "stride"],
)
def test_a_vector_of_the_wrong_kind_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected contiguous float32 \[6\]"):
        named_slices({"a": (2, 2), "b": (2,)}, wrong)


def test_a_parameter_at_a_time_is_copied_never_the_whole_model() -> None:
    model = build_model(GptConfig(dim=64, layers=4, heads=2), 0)
    view = FlatView(model)
    flat = read(model)
    frozen = flat.copy()
    frozen.flags.writeable = False
    largest = max(part.nbytes for part in view.named(flat).values())
    tracemalloc.start()
    try:
        view.read(flat)
        view.write(frozen)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < largest + 65536 < flat.nbytes / 4


def test_a_model_that_stands_on_a_flat_vector_computes_what_one_with_its_weights_does(model: Gpt) -> None:
    before, flat = read(model), read(build_model(CONFIG, 1))
    tokens = torch.arange(16, device=model.embedding.device)[None]
    with torch.no_grad():
        beside = standing_on(model, flat)(tokens)
        assert np.array_equal(read(model), before)
        FlatView(model).write(flat)
        assert torch.equal(model(tokens), beside)


def test_a_model_that_stands_on_a_flat_vector_takes_no_memory_of_its_own_on_the_cpu() -> None:
    model = build_model(CONFIG, 0)
    flat = read(model)
    beside = standing_on(model, flat)
    start, end = flat.ctypes.data, flat.ctypes.data + flat.nbytes
    assert all(start <= part.data_ptr() < end for part in beside.parameters())
    assert {part.data_ptr() for part in beside.buffers()} == {part.data_ptr() for part in model.buffers()}
