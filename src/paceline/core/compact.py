"""Canonical, compact msgpack: peer ids and digests travel as their raw bytes.

A roster of 64 base58 peer ids would not fit a 4 KB record; 64 public keys do. The mapping is one to one, so
packing what was unpacked gives the same bytes.

    >>> import msgpack
    >>> packed = msgpack.packb(compact({"head": "ab" * 32}))
    >>> len(packed), expand(packed)["head"] == "ab" * 32
    (41, True)
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgpack

from paceline.core.signing import peer_id_of, public_key_of

_PEER, _DIGEST = 1, 2
_HEX64 = re.compile(r"[0-9a-f]{64}")
MAX_DEPTH = 8
"""How deep maps and lists may nest: our records need four."""


def compact(value: Any) -> Any:
    """Replace peer ids and digests by extension types, all the way down.

    Args:
        value: What pydantic's `model_dump` gives: maps, sequences, text, numbers, booleans, None.

    Returns:
        The same shape, ready for `msgpack.packb`.
    """
    if isinstance(value, dict):
        return {key: compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [compact(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return _compact_text(value)
    return value


def expand(packed: bytes) -> Any:
    """Undo `compact` and `msgpack.packb`.

    Args:
        packed: Untrusted bytes.

    Returns:
        Plain maps, lists, text and numbers.

    Raises:
        ValueError: The bytes are no msgpack, nest too deep, or hold an unknown extension.
    """
    try:
        value = msgpack.unpackb(packed, ext_hook=_expand_extension, strict_map_key=True, raw=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise ValueError(f"not a packed record: {error or type(error).__name__}") from error
    if _nests_too_deep(value):
        raise ValueError("nested too deep")
    return value


def _compact_text(text: str) -> Any:
    if len(text) == 64 and _HEX64.fullmatch(text):
        return msgpack.ExtType(_DIGEST, bytes.fromhex(text))
    if len(text) == 52 and text.startswith("12D3Koo"):
        try:
            return msgpack.ExtType(_PEER, public_key_of(text))
        except ValueError:
            return text
    return text


def _expand_extension(code: int, data: bytes) -> str:
    if code == _PEER:
        return peer_id_of(data)
    if code == _DIGEST and len(data) == 32:
        return data.hex()
    raise ValueError(f"unknown extension {code}")


def _nests_too_deep(value: Any, room: int = MAX_DEPTH) -> bool:
    # Stops at the limit: msgpack itself unpacks deeper values than Python can recurse into.
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return room == 0 or any(_nests_too_deep(item, room - 1) for item in items)
