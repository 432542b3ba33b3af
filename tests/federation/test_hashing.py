"""Hashes of gradients against digests that the standard library alone computed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paceline import HashVerifier, LocalUpdate
from paceline.federation import hashing

# Written down from hashlib.sha256(json.dumps(gradients, sort_keys=True).encode("utf-8")).hexdigest().
GOLDEN: list[tuple[dict[str, Any], str]] = [
    ({}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    ({"w": []}, "f8dcc79ab966e72dbd01588e0ecda9f1367fe4bc9a30008333c018c7e1cb1c6a"),
    (
        {"weight": [0.01, -0.02], "bias": [0.001]},
        "d3943e2a48893ebfd22b63044272052872aa511853b0e222830f84627759e90b",
    ),
    (
        {"重み": [2.5], "größe": [1.0]},
        "431eef9f67ff9d08e1be3736797ca2c05d3c2f201766161e0b2b39bdce7dc64e",
    ),
    (
        {"extremes": [1e-07, 1e16, 1e22, -0.0, 5e-324, 1.7976931348623157e308, 0.30000000000000004]},
        "9817d23d536c794fdb2e1996c91e4c5dd6e759e7b58ec5e3934a52431ff48527",
    ),
    ({"w": [1, 2.0]}, "7e816011d1bf3d1ab8be8aa497145a30d7db40926ff56858cd58873914454ae5"),
    ({"w": [0.25] * 70_000}, "28740febc0ff197e8697b765a79969b5760d45290bb7d4391a30361059fedeb6"),
]


def update(gradients: dict[str, Any]) -> LocalUpdate:
    return LocalUpdate(node_id="n1", round_id=1, gradients=gradients, loss=0.5, samples_used=8)


@pytest.mark.parametrize(("gradients", "digest"), GOLDEN, ids=lambda part: str(part)[:20])
def test_a_hash_is_what_it_was(gradients: dict[str, Any], digest: str) -> None:
    assert HashVerifier().compute_hash(gradients) == digest


@given(st.dictionaries(st.text(), st.lists(st.floats())), st.integers(1, 4))
def test_anybody_can_recompute_a_hash_with_the_standard_library(
    gradients: dict[str, list[float]], at_once: int
) -> None:
    text = json.dumps(gradients, sort_keys=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_SLICE", at_once)
        assert HashVerifier().compute_hash(gradients) == hashlib.sha256(text.encode("utf-8")).hexdigest()


@pytest.mark.parametrize(
    "vector",
    [
        np.array([0.1, -2.5e-9], np.float32),
        np.array([0.1, 1e300]),
        np.arange(6.0)[::2],
        torch.tensor([0.1, 3.0]),
        torch.tensor([0.1, 3.0], dtype=torch.bfloat16),
        torch.tensor([0.1, 3.0], requires_grad=True),
    ],
    ids=lambda vector: f"{type(vector).__name__}-{vector.dtype}",
)
def test_an_array_hashes_as_the_list_it_stands_for(vector: Any) -> None:
    verifier, spelled = HashVerifier(), {"w": vector.tolist()}
    assert verifier.compute_hash({"w": vector}) == verifier.compute_hash(spelled)
    assert verifier.verify(update({"w": vector}), verifier.compute_hash(spelled))


def test_a_hash_is_compared_to_the_letter() -> None:
    gradients, digest = GOLDEN[2]
    assert HashVerifier().verify(update(gradients), digest) is True
    for other in (digest.upper(), digest[:-1], f"{digest} ", "", "größe"):
        assert HashVerifier().verify(update(gradients), other) is False


def test_an_update_that_was_written_and_read_has_the_same_hash() -> None:
    made = update({"w": np.array([0.1, 1e-20, -3.5], np.float32), "b": [1e-07, 123456789.123456789]})
    read = LocalUpdate.model_validate_json(made.model_dump_json())
    assert HashVerifier().compute_hash(read.gradients) == HashVerifier().compute_hash(made.gradients)
