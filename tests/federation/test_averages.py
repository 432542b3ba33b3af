"""Claims about averaged vectors on disk."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from paceline.core.errors import CheckpointError, ConfigError, LedgerError
from paceline.core.records import GlobalState
from paceline.federation.averages import Averages, Vectors, digest_of_vectors

VECTORS: Vectors = {"weight": [1.0, 2.0, 3.0], "bias": [0.5]}


def committed(round_id: int, digest: str) -> GlobalState:
    return GlobalState(round_id=round_id, weights_digest=digest)


def test_the_digest_can_be_recomputed_with_the_standard_library() -> None:
    line = b'{"bias":["<f8",1],"weight":["<f8",3]}\n'
    chunk = hashlib.sha256(line + struct.pack("<4d", 0.5, 1.0, 2.0, 3.0)).digest()
    assert digest_of_vectors(VECTORS) == hashlib.sha256(chunk).hexdigest()


def test_the_digest_tells_names_lengths_and_kinds_apart() -> None:
    narrow = {name: np.array(vector, np.float32) for name, vector in VECTORS.items()}
    several: list[Vectors] = [
        VECTORS,
        {"weight": [1.0, 2.0], "bias": [0.5, 3.0]},
        {"weights": [1.0, 2.0, 3.0], "bias": [0.5]},
        narrow,
        {},
        {"weight": [], "bias": []},
    ]
    assert len({digest_of_vectors(vectors) for vectors in several}) == len(several)


def test_arrays_tensors_and_other_byte_orders_have_the_digest_of_their_numbers() -> None:
    swapped = {name: np.array(vector, ">f8") for name, vector in VECTORS.items()}
    tensors = {name: torch.tensor(vector, dtype=torch.float64) for name, vector in VECTORS.items()}
    strided = {name: np.repeat(np.array(vector), 2)[::2] for name, vector in VECTORS.items()}
    assert digest_of_vectors(swapped) == digest_of_vectors(VECTORS)
    assert digest_of_vectors(tensors) == digest_of_vectors(VECTORS)
    assert digest_of_vectors(strided) == digest_of_vectors(VECTORS)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_average_comes_back_bit_by_bit(kind: type[np.floating], tmp_path: Path) -> None:
    averages = Averages(tmp_path / "averages")
    drawn = np.random.default_rng(0).normal(size=300_000).astype(kind)
    digest = averages.save(1, {"w": drawn, "ä/b": [], "": [0.1]})
    loaded = averages.load(committed(1, digest))
    assert list(loaded) == ["", "w", "ä/b"]
    np.testing.assert_array_equal(loaded["w"], drawn, strict=True)


def test_an_average_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    averages = Averages(tmp_path / "averages")
    digest = averages.save(1, VECTORS)
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for round_id in (1, 2):
        with pytest.raises(LedgerError, match=r"round-00000\d\.safetensors: .*No space left"):
            averages.save(round_id, {"weight": [9.0]})
    monkeypatch.setattr(os, "fsync", real)
    assert [file.name for file in averages.folder.iterdir()] == ["round-000001.safetensors"]
    assert set(averages.load(committed(1, digest))) == set(VECTORS)


def test_an_average_that_is_not_the_committed_one_is_refused(tmp_path: Path) -> None:
    averages = Averages(tmp_path)
    digest = averages.save(3, VECTORS)
    file = tmp_path / "round-000003.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not what round 3 committed"):
        averages.load(committed(3, digest))
    file.write_bytes(content[:-4])
    with pytest.raises(CheckpointError, match="no readable safetensors file"):
        averages.load(committed(3, digest))
    with pytest.raises(CheckpointError, match="No such file"):
        averages.load(committed(4, digest))


def test_only_the_last_average_is_kept(tmp_path: Path) -> None:
    averages = Averages(tmp_path)
    for round_id in (1, 2, 3):
        digest = averages.save(round_id, VECTORS)
    averages.prune(3)
    assert set(averages.load(committed(3, digest))) == set(VECTORS)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_one_name_that_the_file_format_keeps_for_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="__metadata__"):
        Averages(tmp_path).save(1, {"__metadata__": [1.0]})
