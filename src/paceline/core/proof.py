"""Proving that one serves an address: who asks there gets a signature that only that peer can make.

Anybody can write any address into its heartbeat. A peer signs only the address that it announces itself, for
the run that it trains, and for the number that the asker has just drawn; so nobody can pass on an older
answer, or another peer's.

    >>> key = SigningKey.from_seed(bytes(32))
    >>> answer = prove(key, "ab" * 16, "run-1", "192.0.2.7:9100")
    >>> is_proof(answer.encode(), key.peer_id, "ab" * 16, "run-1", "192.0.2.7:9100")
    True
    >>> is_proof(answer.encode(), key.peer_id, "ab" * 16, "run-1", "192.0.2.8:9100")
    False
"""

from __future__ import annotations

import json
import re

from paceline.core.signing import SigningKey, verify

_DOMAIN = b"paceline proof\x00"
_NONCE = re.compile(r"[0-9a-f]{32,64}")


def is_nonce(text: str) -> bool:
    """Check what somebody wants signed.

    Args:
        text: Whatever came.

    Returns:
        Whether it is 32 to 64 lower-case hexadecimal digits.
    """
    return _NONCE.fullmatch(text) is not None


def prove(key: SigningKey, nonce: str, run_id: str, address: str) -> str:
    """Answer whoever asks at a peer's metrics address.

    Args:
        key: The peer's key.
        nonce: What the asker has drawn.
        run_id: The run that the peer trains.
        address: `host:port` that the peer announces.

    Returns:
        JSON with the peer's id, its address and the signature in hexadecimal digits.
    """
    signature = key.sign(_signed(nonce, run_id, address)).hex()
    answer = {"peer_id": key.peer_id, "run_id": run_id, "address": address, "signature": signature}
    return json.dumps(answer)


def is_proof(answer: bytes, peer_id: str, nonce: str, run_id: str, address: str) -> bool:
    """Check an answer; it may be anything.

    Args:
        answer: What came from the address.
        peer_id: Who announced it.
        nonce: What was drawn for this question.
        run_id: The run.
        address: `host:port` that was announced, and asked.

    Returns:
        Whether that peer answered this very question.
    """
    try:
        signature = bytes.fromhex(json.loads(answer)["signature"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return verify(peer_id, _signed(nonce, run_id, address), signature)


def _signed(nonce: str, run_id: str, address: str) -> bytes:
    return _DOMAIN + json.dumps([nonce, run_id, address]).encode()
