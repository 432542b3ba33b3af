"""Checkpoints: one safetensors file per round, holding anchor and outer momentum.

The file's tensors are `anchor.<name>` and `momentum.<name>`, all float32. Its data section is exactly the
flat anchor followed by the flat momentum, the bytes that the digests of a commit are about, so that a peer
can serve joiners straight from the file. Its metadata names format, run, round, both digests, the model and a
seal (a SHA-256 over the rest of the metadata).

Any reader of safetensors can open such a file. We write and read it ourselves, because the library would
first copy the whole state in memory.

    round-000012.safetensors
    ├ 8 bytes    length of the header, little-endian
    ├ header     JSON, padded with spaces to a multiple of 8 bytes
    └ data       anchor, float32 [num_elements], then momentum, float32 [num_elements]
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from paceline.core.digest import CHUNK_BYTES, ChunkedDigest
from paceline.core.errors import CheckpointError
from paceline.learning.checkpoint_header import CheckpointInfo, pack_header, parse_header
from paceline.learning.flat import Flat, check_flat
from paceline.learning.model import num_parameters

_MAX_HEADER_BYTES = 1 << 26
_REMEDY = "take an older checkpoint, or join again and fetch the state"
_NAME = re.compile(r"round-(\d{6,})\.safetensors")
_TEMPORARY = re.compile(r"\..+\.safetensors\.(\d+)\.tmp")
_STALE_S = 3600.0


_Chunks = Iterable[bytes | memoryview]


class Checkpoint(NamedTuple):
    """A checkpoint in memory, verified."""

    info: CheckpointInfo
    """What it is."""
    anchor: Flat
    """float32 `[num_elements]`."""
    momentum: Flat
    """float32 `[num_elements]`."""


def file_name(round_id: int) -> str:
    """Name a round's checkpoint.

    Args:
        round_id: The round.

    Returns:
        `round-000012.safetensors` for round 12.
    """
    return f"round-{round_id:06d}.safetensors"


def save(path: Path, info: CheckpointInfo, anchor: Flat, momentum: Flat) -> None:
    """Write a checkpoint.

    Guarantees:
        A checkpoint is written whole or not at all, and a temporary file is cleaned up.
        What was saved loads again.
        Saving copies no whole vector.

    Args:
        path: Where to; an older file there is replaced, its folder is made.
        info: What it is.
        anchor: float32 `[num_elements]`.
        momentum: float32 `[num_elements]`.

    Raises:
        CheckpointError: The disk refuses, or the vectors don't have the digests that `info` claims.
    """
    size = num_parameters(info.model)
    check_flat(anchor, size)
    check_flat(momentum, size)
    _write(path, info, (_chunks_of(part) for part in (anchor, momentum)), source=path)


def assemble(path: Path, info: CheckpointInfo, raw: Path) -> None:
    """Make a checkpoint of a raw file that holds anchor and momentum, as fetched from other peers.

    Guarantees:
        Raw bytes that don't have the digests never become a checkpoint.

    Args:
        path: Where to; an older file there is replaced, its folder is made.
        info: What it has to be.
        raw: Flat anchor followed by flat momentum; left where it is.

    Raises:
        CheckpointError: The raw file is not what `info` claims, or the disk refuses.
    """
    half = 4 * num_parameters(info.model)
    with _described(raw, "read"), raw.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != 2 * half:
            raise CheckpointError(f"{raw}: {size} bytes where the model needs {2 * half}", _REMEDY)
        _write(path, info, (_chunks_from(file, half) for _ in range(2)), source=raw)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and verify every byte of it.

    Guarantees:
        A checkpoint that was truncated or edited at any byte is refused.

    Args:
        path: The file; never changed.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: The file can't be read, or is not what it says.
    """
    size = num_parameters(read_info(path).model)
    anchor, momentum = np.empty(size, np.float32), np.empty(size, np.float32)
    return Checkpoint(load_into(path, anchor, momentum), anchor, momentum)


def load_into(path: Path, anchor: Flat, momentum: Flat) -> CheckpointInfo:
    """Read a checkpoint into vectors that exist already, and verify every byte of it.

    Args:
        path: The file; never changed.
        anchor: float32 `[num_elements]`, overwritten, also when an error is found on the way.
        momentum: float32 `[num_elements]`, likewise.

    Returns:
        What the checkpoint is.

    Raises:
        CheckpointError: The file can't be read, or is not what it says.
    """
    with _described(path, "read"), path.open("rb") as file:
        info, _ = _read_header(path, file)
        for flat in (anchor, momentum):
            check_flat(flat, num_parameters(info.model))
        _read_verified(path, file, anchor, info.weights_digest, "anchor")
        _read_verified(path, file, momentum, info.momentum_digest, "momentum")
    return info


def read_info(path: Path) -> CheckpointInfo:
    """Read what a checkpoint says about itself, without reading its data.

    Args:
        path: The file.

    Returns:
        Its metadata, checked against its seal and against the file's size.

    Raises:
        CheckpointError: The file can't be read, or its header is not sound.
    """
    with _described(path, "read"), path.open("rb") as file:
        return _read_header(path, file)[0]


def data_section(path: Path) -> tuple[int, int]:
    """Tell where in a checkpoint the flat anchor and momentum lie.

    Args:
        path: The file.

    Returns:
        Offset and length in bytes; half of the length is the anchor.

    Raises:
        CheckpointError: The file can't be read, or its header is not sound.
    """
    with _described(path, "read"), path.open("rb") as file:
        info, offset = _read_header(path, file)
        return offset, 8 * num_parameters(info.model)


def newest(folder: Path) -> Path | None:
    """Find the checkpoint of the latest round.

    Args:
        folder: Where checkpoints lie; need not exist.

    Returns:
        Its path, or None where there is no checkpoint.
    """
    found = _found(folder)
    return found[-1] if found else None


def prune(folder: Path, keep: int) -> None:
    """Remove all but the latest checkpoints, and what a killed process left half written.

    Args:
        folder: Where this peer's checkpoints lie; need not exist.
        keep: How many to keep, at least 1.

    Raises:
        ValueError: `keep` is less than 1.
    """
    if keep < 1:
        raise ValueError("keep at least one checkpoint")
    for path in _found(folder)[:-keep]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):
        if _left_behind(path):
            path.unlink(missing_ok=True)


# By its writer's pid; or by its age, since in a container the next process gets the same pid.
def _left_behind(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    return match is not None and (
        int(match[1]) != os.getpid() or time.time() - path.stat().st_mtime > _STALE_S
    )


def _found(folder: Path) -> list[Path]:
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("round-*.safetensors"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in named if match)]


def _read_header(path: Path, file: BinaryIO) -> tuple[CheckpointInfo, int]:
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        raise _damaged(path, f"a header of {length} bytes")
    try:
        info = parse_header(file.read(length))
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    size, owed = os.fstat(file.fileno()).st_size, 8 + length + 8 * num_parameters(info.model)
    if size != owed:
        raise _damaged(path, f"{size} bytes where its model needs {owed}")
    return info, 8 + length


def _read_verified(path: Path, file: BinaryIO, flat: Flat, digest: str, what: str) -> None:
    view, actual = flat.data.cast("B"), ChunkedDigest()
    for start in range(0, len(view), CHUNK_BYTES):
        chunk = view[start : start + CHUNK_BYTES]
        if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
            raise _damaged(path, f"its {what} ends early")
        actual.update(chunk)
    if actual.hexdigest() != digest:
        raise _damaged(path, f"its {what} does not have the digest {digest}")


def _write(path: Path, info: CheckpointInfo, halves: Iterator[_Chunks], source: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _described(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(pack_header(info))
                for half, owed in zip(halves, (info.weights_digest, info.momentum_digest), strict=True):
                    if _copy(half, file) != owed:
                        raise _damaged(source, f"what should go into {path.name} does not have digest {owed}")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _copy(chunks: _Chunks, file: BinaryIO) -> str:
    actual = ChunkedDigest()
    for chunk in chunks:
        file.write(chunk)
        actual.update(chunk)
    return actual.hexdigest()


def _chunks_of(flat: Flat) -> Iterator[memoryview]:
    view = flat.data.cast("B")
    return (view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES))


def _chunks_from(file: BinaryIO, num_bytes: int) -> Iterator[bytes]:
    while num_bytes and (chunk := file.read(min(num_bytes, CHUNK_BYTES))):
        num_bytes -= len(chunk)
        yield chunk


# So that the rename itself survives a power cut.
def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: {what}", _REMEDY)


@contextmanager
def _described(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path}: can't {verb} it ({error.strerror or error})") from error
