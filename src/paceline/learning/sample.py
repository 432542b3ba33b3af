"""Text from a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from paceline.core.errors import ConfigError
from paceline.learning.checkpoint import load
from paceline.learning.flat import FlatView
from paceline.learning.model import Gpt, build_model


def sample(checkpoint: Path, prompt: str, num_bytes: int, temperature: float = 0.8, seed: int = 0) -> str:
    """Continue a prompt with a checkpoint's anchor, on the CPU.

    Guarantees:
        The same seed gives the same text.

    Args:
        checkpoint: A checkpoint file.
        prompt: What to continue; a line break when empty.
        num_bytes: How many bytes to write, at least 0.
        temperature: Divides the logits: 0 always takes the likeliest byte, 1 samples what the model believes.
        seed: Of the choices.

    Returns:
        The continuation, without the prompt; bytes that are no UTF-8 are shown as replacement characters.

    Raises:
        ConfigError: `num_bytes` or `temperature` is negative.
        CheckpointError: The checkpoint can't be used.
    """
    if num_bytes < 0 or not 0 <= temperature < float("inf"):
        raise ConfigError("num_bytes and temperature can't be negative", "try 200 bytes at 0.8")
    info, anchor, _ = load(checkpoint)
    model = build_model(info.model, seed=0)
    FlatView(model).write(anchor)
    chance = np.random.default_rng(seed)
    text = bytearray(prompt.encode() or b"\n")
    start = len(text)
    for _ in range(num_bytes):
        text.append(_next_byte(model, bytes(text[-info.model.seq_len :]), temperature, chance))
    return text[start:].decode(errors="replace")


@torch.inference_mode()
def _next_byte(model: Gpt, context: bytes, temperature: float, chance: np.random.Generator) -> int:
    tokens = torch.tensor([list(context)], dtype=torch.int64)
    logits = model(tokens)[0, -1].double().numpy()
    if temperature == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / temperature)
    return int(chance.choice(weights.size, p=weights / weights.sum()))
