"""Hostile payloads for codecs: real ones that were damaged, and bytes that never were one.

python -m tests.learning.hostile 1000000 0      so many of them, from this seed: `scripts/fuzz-codecs`
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np

from paceline.core.errors import BadPayload
from paceline.core.tuning import CodecName
from paceline.learning.codecs import Codec, UnionCodec, make_codec

LENGTHS = (0, 1, 2, 3, 5, 63, 64, 65, 127, 255, 256, 257, 500, 4095, 4096, 4097, 8191, 9000)
"""Around the edges of all blocks."""
_SHORT = len(LENGTHS) - 5


def all_codecs() -> tuple[Codec, ...]:
    """All that decode bytes from the network."""
    return (*(make_codec(name) for name in get_args(CodecName)), UnionCodec())


class Fuzzer:
    """Throws payloads at codecs.

    Attributes:
        refused: How many were refused, by codec.
        taken: How many were taken.
    """

    def __init__(self, seed: int) -> None:
        self.refused: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._rng = np.random.default_rng(seed)
        self._good = {
            (codec.name, n): [codec.encode(self._values(n)) for _ in range(4)]
            for codec in all_codecs()
            for n in LENGTHS
        }

    def throw(self, codec: Codec) -> None:
        """Throw one payload; AssertionError, or whatever the codec raises, when it is not dealt with."""
        chance = self._random
        # Long ones are rarer: they take most of the time and have no edges that short ones lack.
        n = LENGTHS[chance.randrange(len(LENGTHS) if chance.random() < 0.1 else _SHORT)]
        payload = self._damaged(codec, n)
        into = np.full(n, 0.5, np.float32)
        try:
            if chance.random() < 0.5:
                codec.decode_into(payload, into)
            else:
                codec.accumulate(payload, n, 0.25, into)
        except BadPayload:
            assert (into == 0.5).all(), "a refused payload left something behind"
            self.refused[codec.name] += 1
        else:
            assert np.isfinite(into).all(), "a value is not finite"
            self.taken[codec.name] += 1

    def _damaged(self, codec: Codec, n: int) -> bytes:
        chance = self._random
        good = chance.choice(self._good[codec.name, n])
        kind = chance.randrange(6)
        if kind == 0:
            return chance.randbytes(chance.randrange(2 * len(good) + 9))
        if kind == 1:
            return chance.randbytes(len(good))
        if kind == 2:  # cut or lengthened
            return good[: chance.randrange(len(good) + 1)] + chance.randbytes(chance.randrange(3))
        payload = bytearray(good)
        for _ in range(chance.randrange(1, 5) if payload else 0):
            where = chance.randrange(len(payload) if kind < 5 else min(len(payload), 16))
            payload[where] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        return bytes(payload)

    def _values(self, n: int) -> np.ndarray:
        rng = self._rng
        values = rng.standard_normal(n, dtype=np.float32) * np.float32(2.0) ** rng.integers(-40, 40)
        values[rng.random(n) < rng.choice((0.0, 0.5, 0.98))] = 0
        return values.astype(np.float32)


def room_taken(codec: Codec, payload: bytes, n: int) -> int:
    """Measure the most that decoding allocates at one time, in bytes."""
    tracemalloc.start()
    try:
        codec.decode(payload, n)
    except BadPayload:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


def main(arguments: Sequence[str]) -> None:
    """Throw as many payloads as asked for; the first that is not dealt with ends it."""
    count, seed = int(arguments[0]), int(arguments[1])
    fuzzer, codecs, began = Fuzzer(seed), all_codecs(), time.monotonic()
    for number in range(count):
        fuzzer.throw(codecs[number % len(codecs)])
    seconds = time.monotonic() - began
    for codec in codecs:
        print(f"{codec.name:6}{fuzzer.refused[codec.name]:>9,} refused{fuzzer.taken[codec.name]:>9,} taken")
    print(f"{count:,} hostile payloads in {seconds:.0f} s from seed {seed}: nothing uncaught")


if __name__ == "__main__":
    main(sys.argv[1:])
