"""Peer ids, and signatures that anyone can check with nothing but the peer id.

A libp2p Ed25519 peer id is the identity multihash of the public key, so it *contains* the key. A record that
names its peer id therefore needs no key registry, and nobody can speak for somebody else.

    >>> key = SigningKey.from_seed(bytes(32))
    >>> verify(key.peer_id, b"hello", key.sign(b"hello"))
    True
    >>> verify(key.peer_id, b"hullo", key.sign(b"hello"))
    False
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import AfterValidator

# Multihash "identity", 36 bytes long, around a protobuf PublicKey{type: Ed25519, data: 32 bytes}
# (libp2p specification, "Peer Ids and Keys").
_PREFIX = bytes.fromhex("002408011220")


@lru_cache(maxsize=4096)
def public_key_of(peer_id: str) -> bytes:
    """Read the public key that a peer id contains.

    Args:
        peer_id: Base58 text, `12D3Koo…`.

    Returns:
        The 32 bytes of the Ed25519 public key.

    Raises:
        ValueError: The text is no Ed25519 peer id.
    """
    raw = base58.b58decode(peer_id) if len(peer_id) <= 64 else b""
    if len(raw) != len(_PREFIX) + 32 or not raw.startswith(_PREFIX):
        raise ValueError("not an Ed25519 libp2p peer id (12D3Koo…)")
    if base58.b58encode(raw).decode() != peer_id:
        raise ValueError("not the canonical spelling of a peer id")
    return raw[len(_PREFIX) :]


@lru_cache(maxsize=4096)
def peer_id_of(public_key: bytes) -> str:
    """Spell the peer id of a public key.

    Args:
        public_key: 32 bytes.

    Returns:
        Base58 text, `12D3Koo…`.

    Raises:
        ValueError: The key is not 32 bytes long.
    """
    if len(public_key) != 32:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return base58.b58encode(_PREFIX + public_key).decode()


def _checked(peer_id: str) -> str:
    public_key_of(peer_id)
    return peer_id


PeerId = Annotated[str, AfterValidator(_checked)]
"""A peer id as text; pydantic refuses anything that contains no Ed25519 key."""


def short(peer_id: str) -> str:
    """Shorten a peer id for people: its last six letters, the part that differs.

    Args:
        peer_id: Base58 text.

    Returns:
        Six letters.
    """
    return peer_id[-6:]


class SigningKey:
    """A peer's private key.

    Attributes:
        peer_id: The id that contains the matching public key.
        seed: The 32 secret bytes.
        public: The 32 public bytes.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.seed = private.private_bytes_raw()
        self.public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.peer_id = peer_id_of(self.public)

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Make the key of a seed.

        Args:
            seed: 32 secret bytes.

        Returns:
            The key.
        """
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """Sign a message.

        Args:
            message: Any bytes.

        Returns:
            The 64-byte Ed25519 signature.
        """
        return self._private.sign(message)


def verify(peer_id: str, message: bytes, signature: bytes) -> bool:
    """Check a signature against the key inside a peer id.

    Args:
        peer_id: Whose signature it claims to be.
        message: What was signed.
        signature: 64 bytes.

    Returns:
        Whether that peer signed exactly this message.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key_of(peer_id)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
