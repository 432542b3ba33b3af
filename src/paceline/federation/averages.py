"""Averaged vectors on disk: one safetensors file for the last round, whole or not there, checked when read.

The digest of a set of vectors is that of `paceline.core.digest` over one line of JSON and the numbers. The
line, canonical and with a line break at its end, gives the kind and the length of each vector, as in
`{"bias":["<f8",1],"weight":["<f8",3]}`; then follow the vectors in the order of their names: little-endian
IEEE 754, `<f8` for 64 bits and `<f4` for 32. Lists count as 64 bits, arrays and tensors as what the averager
makes of them. Without the line, moving a number from one vector to the next would leave the digest as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from paceline.core.digest import ChunkedDigest
from paceline.core.errors import CheckpointError, ConfigError
from paceline.core.records import GlobalState
from paceline.core.vectors import Dense
from paceline.federation.averaging import Array, as_array
from paceline.ledger.file import naming, sync_folder

Vectors = Mapping[str, "list[float] | Dense"]
_RESERVED = "__metadata__"
_REMEDY = "begin another session; the log of this one is still good for `status`, `credits` and `verify`"


def digest_of_vectors(vectors: Vectors) -> str:
    """Identify a set of vectors.

    Args:
        vectors: Vector `[n]` by parameter name.

    Returns:
        64 lower-case hexadecimal digits, as described at the top of this module.
    """
    digest = ChunkedDigest()
    arrays = dict(_little_endian(vectors))
    line = {name: [array.dtype.newbyteorder("<").str, len(array)] for name, array in arrays.items()}
    digest.update(json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    for array in arrays.values():
        if len(array):  # Python can't see nothing as bytes
            digest.update(array.data)
    return digest.hexdigest()


class Averages:
    """The folder that holds a session's last average.

    Guarantees:
        An average is written whole or not at all.
        An average that is not the committed one is refused.

    Attributes:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, round_id: int, vectors: Vectors) -> str:
        """Write the average of a round, before its commit; that of the round before stays until `prune`.

        Args:
            round_id: The round.
            vectors: Vector `[n]` by parameter name.

        Returns:
            Its digest.

        Raises:
            ConfigError: A parameter has a name that the file format keeps for itself.
            LedgerError: The disk refuses. Nothing is left of it.
        """
        if _RESERVED in vectors:
            raise ConfigError(f"a parameter is called {_RESERVED}", "give it another name")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(round_id), save(dict(_little_endian(vectors))))
        return digest_of_vectors(vectors)

    def load(self, state: GlobalState) -> dict[str, Array]:
        """Read the average of the last commit.

        Args:
            state: The commit. That of round 0 has no vectors.

        Returns:
            Vector `[n]` by parameter name, sorted by name; float32 or float64 as it was averaged.

        Raises:
            CheckpointError: It is not there, or it is another one.
        """
        if state.round_id == 0:
            return {}
        path = self._path(state.round_id)
        try:
            vectors = load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {_cause(error)}", _REMEDY) from error
        if digest_of_vectors(vectors) != state.weights_digest:
            raise CheckpointError(f"{path} is not what round {state.round_id} committed", _REMEDY)
        return {name: vectors[name] for name in sorted(vectors)}

    def prune(self, keep: int) -> None:
        """Remove the averages of all other rounds.

        Args:
            keep: The round whose average stays.
        """
        for path in self.folder.glob("round-*.safetensors"):
            if path != self._path(keep):
                path.unlink(missing_ok=True)

    def _path(self, round_id: int) -> Path:
        return self.folder / f"round-{round_id:06d}.safetensors"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or, when interrupted, as it was before.

    Args:
        path: Where to; an older file is replaced.
        content: What.

    Raises:
        LedgerError: The disk refuses.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with naming(path):
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            sync_folder(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)


def _little_endian(vectors: Vectors) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in sorted(vectors):
        array = as_array(vectors[name])
        yield name, np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _cause(error: OSError | SafetensorError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else f"no readable safetensors file ({error})"
