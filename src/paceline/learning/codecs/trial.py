"""A trial of a codec on this machine, before a round depends on it."""

from __future__ import annotations

import hashlib

import numpy as np

from paceline.core.errors import BadPayload, PacelineError
from paceline.learning.codecs.codec import Codec
from paceline.learning.flat import Flat

_LENGTH = 3 * 4096 + 77
_EXPECTED = {
    "fp32": "a8df4c0cf9dd686e7fe4ac664c5fcb92a8096f554bf65a0fac725530f079b58a",
    "fp16": "f67f1028ff304d76357a728ece26a27025ecebfdaf3056ab07ef59c15caa7c32",
    "bf16": "98afc40cfd6a0610199c610c454dc981b1c16e6c677a72003c8c4f2a9d884d59",
    "int8": "cb7b9c0a5ff8a36e9ac41b931c6d1b7cd8ad7c82b0b702cbc3d369e96ad761a9",
    "int4": "bb0770d97481287a5af18a1f8342da8401de05076bee1a980137666d1d572823",
    "int2": "185bb69b4c653611d9ebde193683ffacb78361eab72dcb94ec45091d65c98fe2",
    "topk": "c8b9b0d9720cceac6acdd76fa45658afb85bcd49c05e081ee54a23792ae37262",
}
"""SHA-256 over what every machine must make of the trial's values."""


def self_test(codec: Codec) -> None:
    """Really average two vectors through a codec, and compare every byte with what other machines get.

    A codec that fails in the middle of an all-reduce can look like a peer that left (hivemind's 8-bit one did
    so for a whole numpy release), and one that decodes a single bit differently is taken for a liar.

    Args:
        codec: What to try, with its way back.

    Raises:
        PacelineError: It does not give back what it was given, or not as elsewhere.
    """
    try:
        _keeps_subnormals()
        _average(codec)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise PacelineError(
            f"the {codec.name} codec fails its self-test on this machine: {error}",
            "install another version of numpy or torch, or choose another codec",
        ) from error


def _keeps_subnormals() -> None:
    # Some libraries switch them off for a whole process; means and momentum do get that small.
    smallest = np.array([2.0**-126], np.float32)
    if not (smallest * np.float32(0.5))[0]:
        raise ValueError("this process takes the smallest numbers for zero (flush to zero is on)")


def _average(codec: Codec) -> None:
    mean, seen = np.zeros(_LENGTH, np.float32), hashlib.sha256()
    for factor, weight in ((37, 0.25), (101, 0.75)):
        values = _values(factor)
        data = _encoded(codec, values)
        back = codec.decode(data, _LENGTH)
        if codec.feedback is None and not np.allclose(back, values, atol=float(np.abs(values).max()) / 12):
            raise ValueError("what comes back is not what went in")
        codec.accumulate(data, _LENGTH, weight, mean)
        seen.update(data + back.tobytes())
    data = _encoded(codec.back, mean)
    seen.update(data + codec.back.decode(data, _LENGTH).tobytes())
    _refuses(codec)
    if seen.hexdigest() != _EXPECTED.get(codec.name):
        raise ValueError("it makes other bytes or values than on other machines")


def _values(factor: int) -> Flat:
    # Multiples of 2^-12: all their sums are exact, in whatever order a machine adds them up.
    values = (np.arange(_LENGTH) * factor % 509 - 254).astype(np.float32) * np.float32(2.0**-12)
    values[4096:8192] = 0
    return values


def _encoded(codec: Codec, values: Flat) -> bytes:
    data = codec.encode(values)
    if len(data) > codec.encoded_size(values.size):
        raise ValueError("the encoded size is not the promised one")
    return data


def _refuses(codec: Codec) -> None:
    for wrong in (lambda: codec.encode(np.array([np.nan], np.float32)), lambda: codec.decode(b"\xff" * 9, 1)):
        try:
            wrong()
        except BadPayload:
            continue
        raise ValueError("it takes what it must refuse")
