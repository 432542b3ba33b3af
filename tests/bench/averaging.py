"""`scripts/bench average`: the fedtrain API's mean and hash against torch and the standard library."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from paceline import GradientAverager, HashVerifier, LocalUpdate
from tests.bench.timing import Comparison, by_turns

HELP = "the fedtrain API's mean and hash against torch's mean and the standard library's JSON and SHA-256"
MOST = 3.0
"""How much longer the mean of lists may take than torch's, the conversion from lists included."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--elements", type=int, default=1_000_000, help="floats per update (default 1000000)")
    parser.add_argument("--nodes", type=int, default=8, help="updates to be averaged (default 8)")
    parser.add_argument("--repetitions", type=int, default=7, help="timed runs of each (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1, as many as ours)")


def measure(options: argparse.Namespace) -> Iterator[Comparison]:
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(options.elements) for _ in range(options.nodes)]
    yield from _means(arrays, options.repetitions)
    yield from _hashes(arrays[0], options.repetitions)


def _means(arrays: list[Any], repetitions: int) -> Iterator[Comparison]:
    lists = [array.tolist() for array in arrays]
    narrow = [array.astype(np.float32) for array in arrays]
    tensors = [torch.from_numpy(array) for array in narrow]
    averager = GradientAverager()
    for name, vectors, reference, kind, target in (
        ("average of lists", lists, "torch.tensor of each, mean, float32", torch.float32, MOST),
        ("average of lists", lists, "torch.tensor of each, mean, float64", torch.float64, MOST),
        ("average of float32 arrays", narrow, "torch.from_numpy of each, mean", None, None),
        ("average of float32 tensors", tensors, "torch mean", None, None),
    ):
        updates = [_update(f"n{place}", vector) for place, vector in enumerate(vectors)]
        times = by_turns(
            lambda updates=updates: averager.average(updates),  # type: ignore[misc]
            lambda vectors=vectors, kind=kind: _torch_mean(vectors, kind),  # type: ignore[misc]
            repetitions,
        )
        yield Comparison(name, *times, reference, target)


def _hashes(array: Any, repetitions: int) -> Iterator[Comparison]:
    verifier, values = HashVerifier(), array.tolist()
    for name, vector in (("compute_hash of a list", values), ("compute_hash of an array", array)):
        times = by_turns(
            lambda vector=vector: verifier.compute_hash({"w": vector}),  # type: ignore[misc]
            lambda: hashlib.sha256(json.dumps({"w": values}, sort_keys=True).encode()).hexdigest(),
            repetitions,
        )
        yield Comparison(name, *times, "json.dumps and sha256 of the list")


def _update(node_id: str, vector: Any) -> LocalUpdate:
    return LocalUpdate(node_id=node_id, round_id=1, gradients={"w": vector}, loss=0.5, samples_used=8)


def _torch_mean(vectors: list[Any], kind: torch.dtype | None) -> torch.Tensor:
    if kind is not None:
        tensors = [torch.tensor(vector, dtype=kind) for vector in vectors]
    else:
        tensors = [torch.as_tensor(vector) for vector in vectors]
    return torch.stack(tensors).mean(dim=0)
