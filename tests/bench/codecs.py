"""`scripts/bench codecs`: what each codec takes to encode, decode and add up, against copying the values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import get_args

import numpy as np

from paceline.core.tuning import CodecName
from paceline.learning.codecs import Codec, TopkCodec, UnionCodec, make_codec
from paceline.learning.codecs.codec import tiles
from tests.bench.timing import Comparison, by_turns

HELP = "encoding, decoding and adding up with every codec, in parts as in a swarm, against copying the values"
PART = 1 << 19
MEMBERS = 4


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--elements", type=int, default=40_000_000, help="values (default 40000000)")
    parser.add_argument("--repetitions", type=int, default=5, help="timed runs of each (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="parts at a time (default 2)")


def measure(options: argparse.Namespace) -> Iterator[Comparison]:
    values = np.random.default_rng(1).standard_normal(options.elements, dtype=np.float32)
    values *= np.float32(1e-3)
    with ThreadPoolExecutor(options.threads) as pool:
        for name in get_args(CodecName):
            yield from _measure(make_codec(name), values, pool, options.repetitions)
        yield from _measure(UnionCodec(), _mean_of_topk(options.elements), pool, options.repetitions)


def _mean_of_topk(elements: int) -> np.ndarray:
    # Of members that have nothing in common.
    codec, mean = TopkCodec(), np.zeros(elements, np.float32)
    for seed in range(MEMBERS):
        values = np.random.default_rng(seed).standard_normal(elements, dtype=np.float32)
        codec.accumulate(codec.encode(values), elements, 1 / MEMBERS, mean)
    return mean


def _measure(
    codec: Codec, values: np.ndarray, pool: ThreadPoolExecutor, repetitions: int
) -> Iterator[Comparison]:
    parts = list(tiles(values.size, PART))
    room = [np.empty(codec.encoded_size(part.stop - part.start), np.uint8) for part in parts]
    size = [0] * len(parts)
    back, total = np.zeros_like(values), np.zeros_like(values)

    def encode(place: int) -> None:
        size[place] = codec.encode_into(values[parts[place]], room[place])

    def decode(place: int) -> None:
        codec.decode_into(room[place][: size[place]], back[parts[place]])

    def accumulate(place: int) -> None:
        codec.accumulate(room[place][: size[place]], len(total[parts[place]]), 0.25, total[parts[place]])

    def copy(place: int) -> None:
        np.copyto(back[parts[place]], values[parts[place]])

    def everywhere(work: Callable[[int], None]) -> None:
        list(pool.map(work, range(len(parts))))

    for work in (encode, decode, accumulate):
        times = by_turns(partial(everywhere, work), partial(everywhere, copy), repetitions)
        yield Comparison(f"{codec.name} {work.__name__}", *times, "numpy copy")
