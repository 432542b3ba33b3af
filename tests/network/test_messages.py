"""Messages spelled and read by hand are those of protobuf."""

from __future__ import annotations

import pytest
from hivemind.proto.averaging_pb2 import AVERAGED_PART, CANCELLED, PART_FOR_AVERAGING, AveragingData
from hivemind.proto.runtime_pb2 import Tensor
from hypothesis import given
from hypothesis import strategies as st

from paceline.network.messages import Message, carry, parsed, spelled


def _theirs(code: int, payload: bytes) -> bytes:
    spelled_out: bytes = AveragingData(code=code, tensor_part=Tensor(buffer=payload)).SerializeToString()
    return spelled_out


@pytest.mark.parametrize("size", [0, 1, 123, 124, 127, 128, 16_379, 16_384, 1 << 21])
@pytest.mark.parametrize("code", [PART_FOR_AVERAGING, AVERAGED_PART])
def test_a_part_is_spelled_as_protobuf_spells_it_and_not_copied(code: int, size: int) -> None:
    payload = memoryview(bytes(size))
    pieces = spelled(carry(code, payload))
    assert b"".join(pieces) == _theirs(code, bytes(size))
    assert not size or pieces[-1] is payload


@given(st.sampled_from([PART_FOR_AVERAGING, AVERAGED_PART]), st.binary(max_size=300))
def test_a_part_is_read_as_protobuf_reads_it_and_not_copied(code: int, payload: bytes) -> None:
    body = memoryview(_theirs(code, payload))
    message = parsed(body)
    assert (message.code, bytes(message.payload)) == (code, payload)
    if payload:
        assert isinstance(message.payload, memoryview)
        assert message.payload.obj is body.obj


def test_what_is_spelled_otherwise_is_read_all_the_same() -> None:
    odd = AveragingData(code=PART_FOR_AVERAGING, tensor_part=Tensor(buffer=b"abc", size=[7]), weight=1e9)
    assert parsed(memoryview(odd.SerializeToString())) == Message(PART_FOR_AVERAGING, b"abc")
    blame = AveragingData(code=CANCELLED, peer_id=b"x" * 34)
    assert parsed(memoryview(blame.SerializeToString())) == Message(CANCELLED, peer_id=b"x" * 34)


@given(st.binary(max_size=40) | st.binary(max_size=12).map(lambda tail: b"\x08\x04\x22" + tail))
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused_with_it(body: bytes) -> None:
    try:
        theirs = AveragingData.FromString(body)
    except Exception:
        with pytest.raises(ValueError, match="does not parse"):
            parsed(memoryview(body))
    else:
        message = parsed(memoryview(body))
        assert (message.code, bytes(message.payload)) == (theirs.code, theirs.tensor_part.buffer)
        assert (message.group_id, message.peer_id) == (theirs.group_id, theirs.peer_id)
