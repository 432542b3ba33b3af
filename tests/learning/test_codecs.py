"""Claims about codecs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from paceline.core.errors import PacelineError
from paceline.learning.codecs import FP16_MAX, Codec, Fp16Codec, Fp32Codec, make_codec, self_test
from paceline.learning.flat import Flat

CODECS = [Fp32Codec(), Fp16Codec()]
BOTH = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


def vectors(limit: float) -> st.SearchStrategy[np.ndarray]:
    return npst.arrays(np.float32, st.integers(0, 40), elements=st.floats(-limit, limit, width=32))


@given(values=vectors(float(np.finfo(np.float32).max)))
def test_fp32_gives_back_the_same_bits(values: np.ndarray) -> None:
    codec = Fp32Codec()
    assert codec.decode(codec.encode(values), values.size).tobytes() == values.tobytes()


@given(values=vectors(FP16_MAX))
def test_fp16_is_off_by_at_most_one_part_in_2048_or_by_2_25_where_that_is_more(values: np.ndarray) -> None:
    codec = Fp16Codec()
    back = codec.decode(codec.encode(values), values.size)
    exact = values.astype(np.float64)
    assert (np.abs(back - exact) <= np.maximum(np.abs(exact) / 2048, 2.0**-25)).all()


@given(values=vectors(float(np.finfo(np.float32).max)))
def test_fp16_saturates_rather_than_overflows(values: np.ndarray) -> None:
    codec = Fp16Codec()
    back = codec.decode(codec.encode(values), values.size)
    big = np.abs(values) > FP16_MAX
    assert (back[big] == np.sign(values[big]) * FP16_MAX).all()


@BOTH
@given(values=vectors(float(np.finfo(np.float32).max)))
def test_encoding_what_was_decoded_gives_the_same_bytes(codec: Codec, values: np.ndarray) -> None:
    data = codec.encode(values)
    assert len(data) == codec.encoded_size(values.size)
    assert codec.encode(codec.decode(data, values.size)) == data


@BOTH
@given(data=st.binary(max_size=64), n=st.integers(0, 20))
def test_hostile_bytes_give_finite_values_or_a_value_error(codec: Codec, data: bytes, n: int) -> None:
    try:
        values = codec.decode(data, n)
    except ValueError:
        return
    assert len(data) == codec.encoded_size(n)
    assert values.shape == (n,)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


@BOTH
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_neither_leave_nor_enter(codec: Codec, poison: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        codec.encode(np.array([0, poison], np.float32))
    raw = np.array([0, poison], "<f4" if codec.name == "fp32" else "<f2").tobytes()
    with pytest.raises(ValueError, match="NaN or infinite"):
        codec.decode(raw, 2)


@BOTH
@pytest.mark.parametrize("length", [-1, 1])
def test_a_wrong_length_is_refused(codec: Codec, length: int) -> None:
    data = codec.encode(np.zeros(3, np.float32)) + b"\0"
    with pytest.raises(ValueError, match="were owed"):
        codec.decode(data[: codec.encoded_size(3) + length], 3)


@BOTH
def test_what_is_not_flat_float32_is_not_encoded(codec: Codec) -> None:
    wrongs: list[Any] = [np.zeros(3), np.zeros((2, 2), np.float32), np.zeros(4, np.float32)[::2]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="contiguous float32"):
            codec.encode(wrong)


@BOTH
def test_decoded_values_are_writable_and_own_their_memory(codec: Codec) -> None:
    data = bytearray(codec.encode(np.ones(3, np.float32)))
    values = codec.decode(memoryview(data), 3)
    data[:] = bytes(len(data))
    values += 1
    assert values.tolist() == [2, 2, 2]


@BOTH
def test_both_codecs_pass_their_self_test_and_are_found_by_name(codec: Codec) -> None:
    self_test(codec)
    assert codec.name in ("fp32", "fp16")
    assert type(make_codec(codec.name)) is type(codec)  # type: ignore[arg-type]


class Forgetful(Fp32Codec):
    def decode(self, data: bytes | bytearray | memoryview, n: int) -> Flat:
        return np.zeros(n, np.float32)


class Broken(Fp32Codec):
    def decode(self, data: bytes | bytearray | memoryview, n: int) -> Flat:
        raise TypeError("only 0-dimensional arrays can be converted to Python scalars")


class Verbose(Fp32Codec):
    def encoded_size(self, n: int) -> int:
        return 4 * n + 1

    def decode(self, data: bytes | bytearray | memoryview, n: int) -> Flat:
        return np.frombuffer(data, np.float32)


class Unsteady(Fp32Codec):
    def encode(self, values: Flat) -> bytes:
        return super().encode(values * np.float32(1.0001))


@pytest.mark.parametrize("codec", [Forgetful(), Broken(), Verbose(), Unsteady()])
def test_a_codec_that_does_not_give_back_what_it_was_given_fails_its_self_test(codec: Codec) -> None:
    with pytest.raises(PacelineError, match="fp32 codec fails its self-test"):
        self_test(codec)
