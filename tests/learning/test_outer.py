"""Claims about the outer step."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.core.config import OuterConfig
from paceline.core.digest import chunk_hashes, digest_of
from paceline.learning.outer import Digests, OuterState

# 700,001 floats: three chunks of the digest, many of the step, and a ragged end.
SIZE = 700_001


def random(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def digest(flat: np.ndarray) -> str:
    return digest_of(chunk_hashes(flat.tobytes()))


def rounded(value: float) -> float:
    """Round to float32, without numpy."""
    (single,) = struct.unpack("f", struct.pack("f", value))
    return float(single)


def step_in_plain_python(
    anchor: float, momentum: float, gradient: float, config: OuterConfig
) -> tuple[float, float]:
    # A product of two floats is exact in a double, and a sum rounded twice is rounded right.
    lr, decay = rounded(config.lr), rounded(config.momentum)
    momentum = rounded(rounded(decay * momentum) + gradient)
    step = rounded(rounded(decay * momentum) + gradient)
    return rounded(anchor - rounded(lr * step)), momentum


@pytest.mark.parametrize(
    "config", [OuterConfig(), OuterConfig(lr=0.6, momentum=0.5), OuterConfig(lr=1, momentum=0)]
)
def test_the_step_is_nesterov_s_bit_for_bit(config: OuterConfig) -> None:
    anchor, momentum = random(0), random(1)
    state = OuterState(anchor.copy(), momentum.copy(), config)
    for seed in (2, 3):
        average = random(seed)
        decay, lr = np.float32(config.momentum), np.float32(config.lr)
        momentum = decay * momentum + average
        anchor = anchor - lr * (average + decay * momentum)
        state.apply(average)
        assert state.anchor.tobytes() == anchor.tobytes()
        assert state.momentum.tobytes() == momentum.tobytes()


numbers = st.floats(-1e4, 1e4, width=32, allow_subnormal=True)


@settings(max_examples=200)
@given(
    values=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=20),
    lr=st.floats(1e-3, 2),
    momentum=st.floats(0, 0.999),
)
def test_the_step_is_what_plain_python_computes(values: Any, lr: float, momentum: float) -> None:
    config = OuterConfig(lr=lr, momentum=momentum)
    anchor, velocity, average = np.array(values, np.float32).T.copy()
    expected = [step_in_plain_python(a, m, g, config) for a, m, g in values]
    state = OuterState(anchor, velocity, config)
    state.apply(average)
    assert list(zip(state.anchor.tolist(), state.momentum.tolist(), strict=True)) == expected


def test_a_preview_changes_nothing_and_gives_the_digests_that_the_step_will_leave() -> None:
    state, average = OuterState(random(0), random(1), OuterConfig()), random(2)
    kept = [part.tobytes() for part in (state.anchor, state.momentum, average)]
    promised = state.preview(average)
    assert [part.tobytes() for part in (state.anchor, state.momentum, average)] == kept
    assert state.preview(average) == promised
    assert state.apply(average) == promised == state.digests()
    assert promised == Digests(digest(state.anchor), digest(state.momentum))
    assert average.tobytes() == kept[2]


def test_the_steps_of_a_preview_put_together_are_the_state_that_apply_leaves() -> None:
    state, average = OuterState(random(0), random(1), OuterConfig()), random(2)
    anchor, momentum = np.empty_like(average), np.empty_like(average)
    for part, new_anchor, new_momentum in state.steps(average):
        anchor[part], momentum[part] = new_anchor, new_momentum
    assert state.apply(average) == Digests(digest(anchor), digest(momentum))


def test_the_step_happens_in_place() -> None:
    anchor, momentum = random(0), random(1)
    state = OuterState(anchor, momentum, OuterConfig())
    state.apply(random(2))
    assert state.anchor is anchor
    assert state.momentum is momentum


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
def test_an_average_that_would_leave_a_non_finite_state_is_refused_and_changes_nothing(poison: float) -> None:
    state, average = OuterState(random(0), random(1), OuterConfig()), random(2)
    average[-1] = poison
    kept = state.digests()
    for method in (state.preview, state.apply):
        with pytest.raises(ValueError, match="not finite"):
            method(average)
    assert state.digests() == kept


@pytest.mark.parametrize("wrong", [random(0, 5), random(0, 8).astype(np.float64), random(0, 16)[::2]])
def test_an_average_of_the_wrong_kind_is_refused(wrong: np.ndarray) -> None:
    state = OuterState(random(0, 8), random(1, 8), OuterConfig())
    for method in (state.preview, state.apply):
        with pytest.raises(ValueError, match="expected contiguous float32"):
            method(wrong)


def test_a_momentum_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"float32 \[8\]"):
        OuterState(random(0, 8), random(0, 7), OuterConfig())


def test_no_whole_vector_is_ever_copied() -> None:
    size = 4_000_000
    state = OuterState(np.zeros(size, np.float32), np.zeros(size, np.float32), OuterConfig())
    average = np.ones(size, np.float32)
    tracemalloc.start()
    try:
        assert state.preview(average) == state.apply(average) == state.digests()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000 < average.nbytes / 4
