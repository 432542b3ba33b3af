"""A round's result on disk before anybody has decided on it.

Whoever votes for a result must be able to hand it out even after a power cut, so the state that the outer
step would leave is written as a checkpoint before the vote. A commit then merely renames it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from paceline.core.config import GptConfig
from paceline.core.digest import ChunkedDigest
from paceline.core.errors import CheckpointError
from paceline.learning.checkpoint_header import CheckpointInfo, pack_header
from paceline.learning.flat import Flat
from paceline.learning.model import num_parameters

_NO_DIGEST = "0" * 64


def stage(
    path: Path, steps: Iterable[tuple[slice, Flat, Flat]], *, run_id: str, round_id: int, model: GptConfig
) -> CheckpointInfo:
    """Write the checkpoint that a round would leave behind, and change nothing else.

    Guarantees:
        A staged result is on the disk when this returns.
        Staging copies no whole vector.

    Args:
        path: Where to; an older file there is replaced, its folder is made.
        steps: What `OuterState.steps` computes of the round's average.
        run_id: The run.
        round_id: The round.
        model: The model that the vectors belong to.

    Returns:
        What the checkpoint is, with the digests of the new state.

    Raises:
        CheckpointError: The disk refuses.
        ValueError: The average would leave a non-finite state.
    """
    draft = CheckpointInfo(
        run_id=run_id, round_id=round_id, weights_digest=_NO_DIGEST, momentum_digest=_NO_DIGEST, model=model
    )
    offset = len(pack_header(draft))  # digests all have one length, so the header's length is known by now
    half = 4 * num_parameters(model)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    weights, momentum = ChunkedDigest(), ChunkedDigest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for part, new_anchor, new_momentum in steps:
                _write_at(file.fileno(), new_anchor, offset + 4 * part.start, weights)
                _write_at(file.fileno(), new_momentum, offset + half + 4 * part.start, momentum)
            info = draft.model_copy(
                update={"weights_digest": weights.hexdigest(), "momentum_digest": momentum.hexdigest()}
            )
            os.pwrite(file.fileno(), pack_header(info), 0)
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: can't write it ({error.strerror or error})", "free disk space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return info


def _write_at(descriptor: int, values: Flat, offset: int, digest: ChunkedDigest) -> None:
    view = values.data.cast("B")
    digest.update(view)
    while len(view):
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
