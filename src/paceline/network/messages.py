"""What members say to one another: hivemind's `AveragingData`, without a copy of what it carries.

A part is nearly all of its message. Protobuf would copy it into the message, the message into bytes, and back
twice at the other end; so the few bytes around it are written and read by hand. Whatever is not spelled just
so is left to protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass

import base58
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hivemind.proto.averaging_pb2 import (
    BAD_GROUP_ID,
    CANCELLED,
    DUPLICATE_PEER_ID,
    INTERNAL_ERROR,
    NO_CODE,
    PROTOCOL_VIOLATION,
    AveragingData,
)

from paceline.core.nicknames import named
from paceline.network.butterfly import Fault, Payload

_CODE, _TENSOR_PART, _BUFFER = 0x08, 0x22, 0x0A
"""Protobuf's tags of `AveragingData.code` and `.tensor_part`, and of `Tensor.buffer`."""
_LONGEST_VARINT = 5
_CODES = {
    BAD_GROUP_ID: "does not know this attempt",
    CANCELLED: "gave up",
    DUPLICATE_PEER_ID: "takes only one stream per member",
    INTERNAL_ERROR: "could not go on",
    PROTOCOL_VIOLATION: "was sent something invalid",
}

KEEPALIVE = AveragingData(code=NO_CODE)
"""Said by a reducer that has nothing to say yet, so that silence always means trouble."""


@dataclass(frozen=True)
class Message:
    """What somebody said.

    Attributes:
        code: What kind of message it is.
        payload: The part that it carries, untrusted; empty when there is none.
        group_id: Which attempt it is about, in a greeting.
        peer_id: Who is blamed, in a complaint.
    """

    code: int
    payload: Payload = b""
    group_id: bytes = b""
    peer_id: bytes = b""


def carry(code: int, payload: Payload) -> Message:
    """Put a part into a message.

    Args:
        code: `PART_FOR_AVERAGING` or `AVERAGED_PART`.
        payload: The encoded part; it must stay as it is until it has left.

    Returns:
        The message.
    """
    return Message(code, payload)


def complaint(fault: Fault, code: int = CANCELLED) -> AveragingData:
    """Tell a fault to another member.

    Args:
        fault: What happened; whom to name goes into `peer_id`.
        code: What kind of answer it is.

    Returns:
        The message.
    """
    return AveragingData(code=code, peer_id=base58.b58decode(fault.spread))


def complained(message: Message | AveragingData, speaker: str, me: str, roster: tuple[str, ...]) -> Fault:
    """Understand another member's complaint.

    Args:
        message: Anything that is neither a part nor a keep-alive.
        speaker: Peer id of who said it.
        me: Our own peer id.
        roster: Who can be blamed. A speaker that blames nobody else of it is blamed itself. So is one that
            blames us, since we know of no fault of ours; yet to others we repeat what it says, so that a
            sick member's word does not stand against that of whoever found it out.

    Returns:
        The fault.
    """
    # Encoding is quadratic in the length, which the speaker chooses.
    accused = base58.b58encode(message.peer_id).decode() if len(message.peer_id) <= 64 else ""
    phrase = _CODES.get(message.code, f"answered with code {message.code}")
    if accused == me:
        return Fault(f"{named(speaker)} {phrase} and blames this peer", speaker, final=True, spread=me)
    if accused == speaker or accused not in roster:
        return Fault(f"{named(speaker)} {phrase}", speaker, final=True)
    return Fault(f"{named(speaker)} {phrase} because of {named(accused)}", accused, final=True)


def spelled(message: Message | AveragingData) -> list[Payload]:
    """Spell a message as protobuf.

    Args:
        message: Of a `Message` only code and payload are spelled.

    Returns:
        The pieces to be sent one after the other; the payload is one of them, not a copy.
    """
    if not isinstance(message, Message):
        return [message.SerializeToString()]
    around = bytes([_BUFFER]) + _varint(len(message.payload)) if len(message.payload) else b""
    size = len(around) + len(message.payload)
    head = bytes([_CODE, message.code, _TENSOR_PART]) + _varint(size) + around
    return [head, message.payload] if len(message.payload) else [head]


def parsed(body: memoryview) -> Message:
    """Read a message that came from anybody.

    Args:
        body: Untrusted bytes. The message's payload is a view of them.

    Returns:
        The message.

    Raises:
        ValueError: It is none.
    """
    payload = _carried(body)
    if payload is not None:
        return Message(body[1], payload)
    try:
        message = AveragingData.FromString(bytes(body))
    except DecodeError as error:
        raise ValueError("a message that does not parse") from error
    return Message(message.code, message.tensor_part.buffer, message.group_id, message.peer_id)


def _carried(body: memoryview) -> memoryview | None:
    # Either exactly what `spelled` makes, or nothing.
    if len(body) < 4 or body[0] != _CODE or body[1] > 0x7F or body[2] != _TENSOR_PART:
        return None
    outer = _after_length(body, 3)
    if outer is None or outer == len(body) or body[outer] != _BUFFER:
        return None
    inner = _after_length(body, outer + 1)
    return None if inner is None else body[inner:]


def _after_length(body: memoryview, start: int) -> int | None:
    # Where a field begins whose length is told at `start`, if it reaches to the end.
    length = 0
    for place, byte in enumerate(body[start : start + _LONGEST_VARINT]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            begin = start + place + 1
            return begin if begin + length == len(body) else None
    return None


def _varint(number: int) -> bytes:
    spelled = bytearray()
    while number > 0x7F:
        spelled.append(number & 0x7F | 0x80)
        number >>= 7
    spelled.append(number)
    return bytes(spelled)
