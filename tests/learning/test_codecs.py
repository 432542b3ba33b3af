"""Claims about codecs."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from paceline.core.errors import BadPayload, PacelineError
from paceline.core.tuning import CodecName
from paceline.learning.codecs import (
    BF16_MAX,
    FP16_MAX,
    Bf16Codec,
    Codec,
    Fp16Codec,
    Fp32Codec,
    Int2Codec,
    Int4Codec,
    Int8Codec,
    TopkCodec,
    UnionCodec,
    make_codec,
    self_test,
)
from paceline.learning.codecs.codec import Payload
from paceline.learning.flat import Flat
from tests.learning.hostile import LENGTHS, Fuzzer, all_codecs, room_taken

FLOAT_MAX = float(np.finfo(np.float32).max)
CODECS = all_codecs()
ALL = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
NAMED = pytest.mark.parametrize("name", get_args(CodecName))


def vectors(limit: float = FLOAT_MAX, most: int = 40) -> st.SearchStrategy[np.ndarray]:
    return npst.arrays(np.float32, st.integers(0, most), elements=st.floats(-limit, limit, width=32))


def normal(n: int, seed: int = 0, scale: float = 1e-3) -> Flat:
    return (np.random.default_rng(seed).standard_normal(n, dtype=np.float32) * np.float32(scale)).astype("f4")


def through(codec: Codec, values: Flat) -> Flat:
    return codec.decode(codec.encode(values), values.size)


def largest_in(values: Flat, block: int) -> np.ndarray:
    """The largest magnitude of each value's block."""
    rows = np.zeros(-(-values.size // block) * block)
    rows[: values.size] = np.abs(values.astype(np.float64))
    largest: np.ndarray = rows.reshape(-1, block).max(axis=1).repeat(block)[: values.size]
    return largest


@st.composite
def rough_vectors(draw: st.DrawFn) -> np.ndarray:
    """Long enough to have several blocks, of values from denormal to huge, with zeros, and short ends."""
    n = draw(st.sampled_from(LENGTHS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    exponents = rng.integers(*draw(st.sampled_from([(-149, 127), (-149, -120), (100, 127), (-20, -3)])), n)
    values = rng.choice((-1.0, 1.0), n) * (1 + rng.random(n)) * 2.0**exponents
    values[rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0
    return np.clip(values, -FLOAT_MAX, FLOAT_MAX).astype(np.float32)


@given(values=vectors())
def test_fp32_gives_back_the_same_bits(values: np.ndarray) -> None:
    assert through(Fp32Codec(), values).tobytes() == values.tobytes()


@given(values=vectors(FP16_MAX))
def test_fp16_is_off_by_at_most_one_part_in_2048_or_by_2_25_where_that_is_more(
    values: np.ndarray,
) -> None:
    exact = values.astype(np.float64)
    assert (np.abs(through(Fp16Codec(), values) - exact) <= np.maximum(np.abs(exact) / 2048, 2.0**-25)).all()


@given(values=vectors(BF16_MAX))
def test_bf16_is_off_by_at_most_one_part_in_256_or_by_2_134_where_that_is_more(
    values: np.ndarray,
) -> None:
    exact = values.astype(np.float64)
    assert (np.abs(through(Bf16Codec(), values) - exact) <= np.maximum(np.abs(exact) / 256, 2.0**-134)).all()


@given(values=vectors())
def test_fp16_saturates_rather_than_overflows(values: np.ndarray) -> None:
    big = np.abs(values) > FP16_MAX
    assert (through(Fp16Codec(), values)[big] == np.sign(values[big]) * FP16_MAX).all()


@given(values=vectors() | vectors().map(lambda values: np.sign(values) * np.float32(FLOAT_MAX)))
def test_bf16_saturates_rather_than_overflows(values: np.ndarray) -> None:
    big = np.abs(values) > BF16_MAX
    assert (through(Bf16Codec(), values)[big] == np.sign(values[big]) * np.float32(BF16_MAX)).all()


@given(values=rough_vectors())
def test_int8_is_off_by_at_most_1_253_of_its_blocks_largest_value_or_by_2_119_where_that_is_more(
    values: np.ndarray,
) -> None:
    bound = np.maximum(largest_in(values, 4096) / 253, 2.0**-119)
    assert (np.abs(through(Int8Codec(), values) - values.astype(np.float64)) <= bound).all()


@given(values=rough_vectors())
def test_int4_is_off_by_at_most_1_13_of_its_blocks_largest_value_or_by_2_123_where_that_is_more(
    values: np.ndarray,
) -> None:
    bound = np.maximum(largest_in(values, 64) / 13, 2.0**-123)
    assert (np.abs(through(Int4Codec(), values) - values.astype(np.float64)) <= bound).all()


@given(values=rough_vectors())
def test_int2_is_off_by_at_most_its_blocks_largest_value_and_never_changes_a_sign(values: np.ndarray) -> None:
    back = through(Int2Codec(), values)
    assert (np.abs(back - values.astype(np.float64)) <= largest_in(values, 256) * (1 + 2.0**-8)).all()
    assert (back.astype(np.float64) * values >= 0).all()


@given(values=rough_vectors())
def test_topk_keeps_the_64_largest_values_of_each_chunk_with_their_signs_and_nothing_else(
    values: np.ndarray,
) -> None:
    back = through(TopkCodec(), values)
    for start in range(0, values.size, 4096):
        chunk, found = values[start : start + 4096], back[start : start + 4096]
        kept = -(-chunk.size // 64)
        chosen = np.sort(np.argsort(-np.abs(chunk), kind="stable")[:kept])
        assert not np.delete(found, chosen).any()
        assert (found[chosen].astype(np.float64) * chunk[chosen] >= 0).all()
        assert len(np.unique(np.abs(found[chosen]))) <= 2


@given(values=rough_vectors())
def test_union_is_off_by_at_most_1_253_of_its_chunks_largest_value_or_by_2_119_where_that_is_more(
    values: np.ndarray,
) -> None:
    bound = np.maximum(largest_in(values, 4096) / 253, 2.0**-119)
    assert (np.abs(through(UnionCodec(), values) - values.astype(np.float64)) <= bound).all()


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.016, 0.06, 0.5, 0.85, 0.9, 1.0])
def test_a_sparse_mean_takes_no_more_bytes_than_a_dense_one_and_a_byte(share: float) -> None:
    n = 200_000
    values = normal(n)
    values[np.random.default_rng(1).random(n) >= share] = 0
    size, kept = len(UnionCodec().encode(values)), np.count_nonzero(through(UnionCodec(), values))
    assert size <= 1 + Int8Codec().encoded_size(n)
    if share < 0.86:  # an index takes half a bit more than its entropy, or all take one per 256 values
        bits = kept * 8 + (_entropy(kept / n) * n + kept / 2 if kept > n / 512 else n / 128)
        assert size <= 9 + 2 * 49 + 8 + bits / 8


def _entropy(share: float) -> float:
    return float(-share * np.log2(share) - (1 - share) * np.log2(1 - share))


def test_what_rounds_to_zero_takes_no_room_in_a_sparse_mean() -> None:
    values = np.zeros(8192, np.float32)
    values[100:200] = 1
    alone = UnionCodec().encode(values)
    values[300:800] = 1e-3
    assert UnionCodec().encode(values) == alone


@pytest.mark.parametrize(
    ("name", "times"),
    [("fp32", 1), ("fp16", 2), ("bf16", 2), ("int8", 3.99), ("int4", 7.5), ("int2", 15), ("topk", 195)],
)
def test_on_the_way_up_a_codec_takes_so_many_times_fewer_bytes_than_fp32(
    name: CodecName, times: float
) -> None:
    part = 1 << 19
    assert 4 * part / make_codec(name).encoded_size(part) >= times
    odd = 1_300_013  # no slice need end with a block
    assert 4 * odd / len(make_codec(name).encode(normal(odd))) >= times


FEW = np.array([1.5, -0.0, 2.0**-10, -3, 0, 0.25, 2], np.float32)
SPARSE = np.zeros(192, np.float32)
SPARSE[[5, 7, 190]] = 4, -1, 1.5


@pytest.mark.parametrize(
    ("codec", "values", "golden"),
    [
        (Fp32Codec(), FEW, "0000c03f 00000080 0000803a 000040c0 00000000 0000803e 00000040"),
        (Fp16Codec(), FEW, "003e 0080 0014 00c2 0000 0034 0040"),
        (Bf16Codec(), FEW, "c03f 0080 803a 40c0 0000 803e 0040"),
        (Int8Codec(), FEW, "c23c 3f 00 00 81 00 0b 54"),
        (Int4Codec(), FEW, "db3e 04 90 10 05"),
        (Int2Codec(), FEW, "803d 0b40 c9 10"),
        # Gaps of 5, 1 and 182: the last is 2 · 64 + 54, or 5 · 32 + 22.
        (TopkCodec(), SPARSE, "a03f 8040 03 04 05 00 04 04 13 09"),
        (UnionCodec(), SPARSE, "01 0300000000000000 013d 03 04 05 00 04 83 7f e0 30"),
        (UnionCodec(), FEW, "00 c23c 3f 00 00 81 00 0b 54"),
    ],
    ids=lambda value: value.name if isinstance(value, Codec) else "",
)
def test_a_payload_looks_as_its_format_says(codec: Codec, values: Flat, golden: str) -> None:
    assert codec.encode(values) == bytes.fromhex(golden)


@pytest.mark.parametrize(
    ("codec", "payload", "values"),
    [
        # 0x3dcd is 205 / 2^11, and 0x4049 is 201 / 2^6.
        (Int8Codec(), "cd3d 7f 80 01 ff", [205 * 127, -205 * 128, 205, -205]),
        (Int4Codec(), "cd3d 87 f1", [205 * 7, -205 * 8, 205, -205]),
        (Int2Codec(), "cd3d 4940 e4", [205, 201 * 32, -205, -201 * 32]),
        (TopkCodec(), "cd3d 4940 000100000000 01 03", [0, 0, -201 * 32, 0]),
        (UnionCodec(), "01 0200000000000000 cd3d 030000 03 7f ff", [0, 205 * 127, 0, -205, *[0] * 20]),
    ],
    ids=lambda value: value.name if isinstance(value, Codec) else "",
)
def test_what_is_decoded_is_exactly_what_the_format_says(
    codec: Codec, payload: str, values: list[int]
) -> None:
    found = codec.decode(bytes.fromhex(payload), len(values))
    assert (found.astype(np.float64) * 2**11).tolist() == values


@ALL
@pytest.mark.parametrize("n", LENGTHS)
def test_a_payload_has_the_promised_size_and_the_same_bytes_every_time(codec: Codec, n: int) -> None:
    values = normal(n)
    data = codec.encode(values)
    assert len(data) <= codec.encoded_size(n)
    assert codec.name == "union" or len(data) == codec.encoded_size(n)
    assert codec.encode(values.copy()) == data
    room = bytearray(codec.encoded_size(n) + 3)
    assert codec.encode_into(values, memoryview(room)) == len(data)
    assert room[: len(data)] == data


@ALL
@given(values=rough_vectors())
def test_what_was_decoded_loses_nothing_when_it_is_encoded_again(codec: Codec, values: np.ndarray) -> None:
    once = through(codec, values)
    np.testing.assert_array_equal(through(codec, once), once)


@ALL
def test_a_vector_cut_at_multiples_of_the_grain_is_encoded_as_its_pieces_are(codec: Codec) -> None:
    values = normal(5 * 4096 + 77)
    whole = through(codec, values)
    for pieces in ([4096], [2 * 4096, 3 * 4096], [codec.grain] if codec.grain > 1 else [1, 77]):
        cut = [through(codec, piece.copy()) for piece in np.split(values, pieces)]
        np.testing.assert_array_equal(np.concatenate(cut), whole)


@ALL
@given(values=rough_vectors(), offset=st.integers(0, 3), weight=st.sampled_from([1.0, -1.0, 0.3]))
def test_accumulate_adds_weight_times_what_decode_gives(
    codec: Codec, values: np.ndarray, offset: int, weight: float
) -> None:
    data = bytes(offset) + codec.encode(values)
    payload = memoryview(data)[offset:]  # wherever it lies in a message
    into, before = normal(values.size), normal(values.size)
    codec.accumulate(payload, values.size, weight, into)
    with np.errstate(over="ignore"):
        expected = before + codec.decode(payload, values.size) * np.float32(weight)
    np.testing.assert_array_equal(into, expected)
    codec.decode_into(payload, into)
    np.testing.assert_array_equal(into, codec.decode(payload, values.size))


@ALL
def test_hostile_bytes_raise_badpayload_or_give_finite_values(codec: Codec) -> None:
    fuzzer = Fuzzer(seed=1)
    for _ in range(2000):
        fuzzer.throw(codec)
    assert fuzzer.refused[codec.name] > 500
    assert fuzzer.taken[codec.name] > 50


LATE = {
    "int8": 2 * 74 - 2,
    "int4": 2 * 4688 - 2,
    "int2": 4 * 1172 - 2,
    "topk": 4 * 74 - 2,
    "union": 2 * 74 - 1,
}
"""Where the last scale or level lies; of floats, it is the last value that counts."""


@ALL
def test_a_refused_payload_changes_nothing(codec: Codec) -> None:
    n = 73 * 4096 + 992
    good, spoilt = codec.encode(normal(n)), bytearray(codec.encode(normal(n)))
    late = LATE.get(codec.name, -2)
    spoilt[late] = spoilt[late + 1] = 0xFF
    into = np.full(n, 7, np.float32)
    for wrong in (good[:-1], good + b"\0", bytes(spoilt)):
        with pytest.raises(BadPayload):
            codec.accumulate(wrong, n, 0.5, into)
        with pytest.raises(BadPayload):
            codec.decode_into(wrong, into)
        assert (into == 7).all()


@ALL
@given(data=st.binary(max_size=64), n=st.integers(0, 20))
def test_made_up_bytes_give_as_many_values_as_are_owed_or_bad_payload(
    codec: Codec, data: bytes, n: int
) -> None:
    try:
        values = codec.decode(data, n)
    except BadPayload:
        return
    assert values.shape == (n,)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


@ALL
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 4095, 4096, 4999])
def test_values_that_are_not_finite_do_not_leave(codec: Codec, poison: float, where: int) -> None:
    values = normal(5000)
    values[where] = poison
    with pytest.raises(BadPayload, match="NaN or infinite"):
        codec.encode(values)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("codec", "width"), [(Fp32Codec(), 4), (Fp16Codec(), 2), (Bf16Codec(), 2)])
def test_values_that_are_not_finite_do_not_enter(codec: Codec, width: int, poison: float) -> None:
    raw = np.array([0, poison], np.float32)
    as_sent = {"fp32": raw.tobytes(), "fp16": raw.astype("<f2").tobytes()}
    bits = (raw.view(np.uint32) >> 16).astype("<u2").tobytes()
    with pytest.raises(BadPayload, match="NaN or infinite"):
        codec.decode(as_sent.get(codec.name, bits), 2)


@pytest.mark.parametrize("codec", [Int8Codec(), Int4Codec(), Int2Codec(), TopkCodec()])
@pytest.mark.parametrize("scale", [0x7FC0, 0x7F80, 0x8001, 0xBF80, 0x0001, 0xFFFF])
def test_scales_and_levels_that_are_negative_tiny_infinite_or_no_number_are_refused(
    codec: Codec, scale: int
) -> None:
    data = bytearray(codec.encode(normal(5000)))
    data[:2] = scale.to_bytes(2, "little")
    with pytest.raises(BadPayload, match="scale or level"):
        codec.decode(bytes(data), 5000)


@pytest.mark.parametrize(("codec", "limit"), [(Int8Codec(), 0x7BFF), (Int4Codec(), 0x7DFF)])
def test_the_largest_scale_that_is_taken_leaves_finite_values_whatever_the_codes(
    codec: Codec, limit: int
) -> None:
    for code in (0x7F, 0x80, 0x88, 0xFF):
        data = limit.to_bytes(2, "little") + bytes([code]) * (codec.encoded_size(64) - 2)
        assert np.isfinite(codec.decode(data, 64)).all()
    with pytest.raises(BadPayload, match="too large"):
        codec.decode((limit + 1).to_bytes(2, "little") + bytes(codec.encoded_size(64) - 2), 64)


def damaged(data: bytes, place: int, xor: int) -> bytes:
    return data[:place] + bytes([data[place] ^ xor]) + data[place + 1 :]


def test_top_k_indices_that_are_too_few_too_many_or_out_of_range_are_refused() -> None:
    data = TopkCodec().encode(SPARSE)  # levels, six planes, the bitmap and codes
    for place, xor, cause in [
        (10, 0x10, "a one for each"),
        (10, 0x20, "a one for each"),
        (10, 0x50, "out of range"),
        (6, 0x02, "out of range"),
        (9, 0x08, "after the last index"),
        (11, 0x40, "after the last code"),
    ]:
        with pytest.raises(BadPayload, match=cause):
            TopkCodec().decode(damaged(data, place, xor), SPARSE.size)


def test_a_sparse_mean_whose_parts_do_not_fit_one_another_is_refused() -> None:
    data = UnionCodec().encode(SPARSE)  # kind, number, scale, five planes, the bitmap and codes
    for place, xor, cause in [
        (0, 0x02, "says what it is"),
        (1, 0x01, "a one for each"),
        (1, 0x08, "don't hold"),
        (8, 0x80, "at most 192 are owed"),
        (15, 0x08, "after the last index"),
        (15, 0x03, "out of range"),
        (16, 0x80, "a one for each"),
        (17, 0x7F, "is zero"),
    ]:
        with pytest.raises(BadPayload, match=cause):
            UnionCodec().decode(damaged(data, place, xor), SPARSE.size)
    values = np.zeros(4096, np.float32)
    values[:64] = 1
    data = UnionCodec().encode(values)
    with pytest.raises(BadPayload, match="goes on after"):
        UnionCodec().decode(data[:-64] + b"\0" + data[-64:], values.size)


@pytest.mark.parametrize("kept", [2**64 - 1, 2**16 + 1, 2**16, 2**15, 1, 0])
def test_a_bomb_of_a_sparse_mean_is_refused_before_anything_is_allocated(kept: int) -> None:
    n = 1 << 16
    bomb = b"\x01" + kept.to_bytes(8, "little") + bytes(2 * n // 4096) + b"\xff" * 100
    with pytest.raises(BadPayload, match=r"owed|don't hold"):
        UnionCodec().decode(bomb, n)
    assert room_taken(UnionCodec(), bomb, n) < 20_000


def test_a_sparse_mean_that_is_longer_than_a_dense_one_is_refused() -> None:
    n, codec = 8192, UnionCodec()
    all_kept = b"\x01" + n.to_bytes(8, "little") + bytes(4) + b"\xff" * (n // 8) + b"\1" * n
    with pytest.raises(BadPayload, match="would hold everything"):
        codec.decode(all_kept, n)
    assert room_taken(codec, all_kept, n) < 20_000


@ALL
def test_decoding_takes_no_more_room_than_the_values_owed_allow(codec: Codec) -> None:
    n = 1 << 18
    for share, times in ((1, 7), (0.06, 7), (0.86, 26)):  # places take eight bytes each, thrice
        values = normal(n)
        values[np.random.default_rng(2).random(n) > share] = 0
        assert room_taken(codec, codec.encode(values), n) < times * n + (1 << 20)


@ALL
@pytest.mark.parametrize("length", [-1, 1])
def test_a_wrong_length_is_refused(codec: Codec, length: int) -> None:
    data = codec.encode(normal(300)) + b"\0"
    with pytest.raises(BadPayload, match="were owed"):
        codec.decode(data[: len(data) - 1 + length], 300)


@ALL
def test_what_is_not_flat_float32_is_not_encoded(codec: Codec) -> None:
    wrongs: list[Any] = [np.zeros(3), np.zeros((2, 2), np.float32), np.zeros(4, np.float32)[::2]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="contiguous float32"):
            codec.encode(wrong)
    with pytest.raises(ValueError, match="room for 2 bytes"):
        codec.encode_into(normal(64), bytearray(2))


@ALL
def test_decoded_values_are_writable_and_own_their_memory(codec: Codec) -> None:
    data = bytearray(codec.encode(np.ones(3, np.float32)))
    values = codec.decode(memoryview(data), 3)
    before = values + 1
    data[:] = bytes(len(data))
    values += 1
    np.testing.assert_array_equal(values, before)


@NAMED
def test_every_codec_passes_its_self_test_and_is_found_by_name(name: CodecName) -> None:
    codec = make_codec(name)
    self_test(codec)
    assert codec.name == name
    assert codec.back.grain <= max(codec.grain, codec.back.grain) <= 4096


class Forgetful(Fp32Codec):
    def decode(self, data: Payload, n: int) -> Flat:
        return np.zeros(n, np.float32)


class Broken(Fp32Codec):
    def decode(self, data: Payload, n: int) -> Flat:
        raise TypeError("only 0-dimensional arrays can be converted to Python scalars")


class Verbose(Fp32Codec):
    def encode(self, values: Flat) -> bytes:
        return super().encode(values) + b"\0"


class Unsteady(Fp32Codec):
    def encode(self, values: Flat) -> bytes:
        return super().encode(values * np.float32(1.0001))


class Careless(Fp32Codec):
    def accumulate(self, data: Payload, num_elements: int, weight: float, into: Flat) -> None:
        into += self.decode(data, num_elements)


class Trusting(Int4Codec):
    def decode(self, data: Payload, n: int) -> Flat:
        return super().decode(data, n) if len(data) != 9 else np.zeros(n, np.float32)


@pytest.mark.parametrize("codec", [Forgetful(), Broken(), Verbose(), Unsteady(), Careless(), Trusting()])
def test_a_codec_that_does_not_give_back_what_it_was_given_fails_its_self_test(codec: Codec) -> None:
    with pytest.raises(PacelineError, match=f"{codec.name} codec fails its self-test"):
        self_test(codec)


def test_a_process_that_takes_the_smallest_numbers_for_zero_is_refused() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor can't switch them off")
    try:
        with pytest.raises(PacelineError, match="flush to zero"):
            self_test(make_codec("fp32"))
    finally:
        torch.set_flush_denormal(False)
    self_test(make_codec("fp32"))
