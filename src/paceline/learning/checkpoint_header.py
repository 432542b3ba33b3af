"""What a checkpoint says about itself: its header, as bytes.

The header is a function of the metadata and of nothing else, so that reading one can compare it byte for
byte with what it would have to be. A seal, a SHA-256 over the rest of the metadata, covers the metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from paceline.core.config import GptConfig
from paceline.core.records import Frozen
from paceline.learning.model import parameter_shapes

FORMAT = "paceline-checkpoint-1"
"""Name and version of the format, in the metadata."""

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CheckpointInfo(Frozen):
    """What a checkpoint says about itself."""

    run_id: Annotated[str, Field(max_length=80)]
    """The run."""
    round_id: Annotated[int, Field(ge=0)]
    """The round whose commit left this state."""
    weights_digest: _Digest
    """Digest of the anchor's bytes."""
    momentum_digest: _Digest
    """Digest of the momentum's bytes."""
    model: GptConfig
    """The model's shape."""


def pack_header(info: CheckpointInfo) -> bytes:
    """Spell out the header of a checkpoint.

    Args:
        info: What the checkpoint is.

    Returns:
        All bytes before the data: the length, the JSON, the padding; a multiple of 8.
    """
    facts = {key: str(value) for key, value in info.model_dump(mode="json", exclude={"model"}).items()}
    facts |= {"format": FORMAT, "model": json.dumps(info.model.model_dump(mode="json"), sort_keys=True)}
    return _pack(dict(sorted((facts | {"seal": _seal(facts)}).items())), info.model)


def parse_header(text: bytes) -> CheckpointInfo:
    """Read a header.

    Args:
        text: The header without its length: untrusted bytes.

    Returns:
        What it says.

    Raises:
        ValueError: It is no checkpoint's, was edited, or does not describe its model.
    """
    try:
        metadata: dict[str, str] = json.loads(text)["__metadata__"]
        info, seal = _parse(metadata), _seal(metadata)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("its header is no checkpoint's") from error
    if metadata.get("seal") != seal:
        raise ValueError("its metadata was changed after it was written")
    if _pack(metadata, info.model)[8:] != text:
        raise ValueError("its header does not describe its model")
    return info


def _pack(metadata: Mapping[str, str], model: GptConfig) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for half in ("anchor", "momentum"):
        for name, shape in parameter_shapes(model).items():
            end = start + 4 * int(np.prod(shape, dtype=np.int64))
            entries[f"{half}.{name}"] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
            start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _parse(metadata: Mapping[str, str]) -> CheckpointInfo:
    if metadata["format"] != FORMAT:
        raise ValueError("another format")
    fields = {key: value for key, value in metadata.items() if key not in ("format", "seal", "model")}
    return CheckpointInfo.model_validate(fields | {"model": json.loads(metadata["model"])})


def _seal(facts: Mapping[str, str]) -> str:
    unsealed = sorted((key, value) for key, value in facts.items() if key != "seal")
    return hashlib.sha256(json.dumps(unsealed).encode()).hexdigest()
