"""A trained model's text, fit to be printed."""

from __future__ import annotations

from pathlib import Path

from paceline.cli.screen import harmless

_SMALL = 20_000_000


def write_on(checkpoint: Path, prompt: str, *, num_bytes: int, temperature: float, seed: int) -> str:
    """Let a model continue a prompt.

    Args:
        checkpoint: Its checkpoint.
        prompt: What to continue.
        num_bytes: How many bytes to write.
        temperature: 0 takes the likeliest byte each time, 1 draws as the model says.
        seed: Of the draws.

    Returns:
        Prompt and continuation, without what a terminal would obey.
    """
    import torch

    from paceline.learning.checkpoint import read_info
    from paceline.learning.model import num_parameters
    from paceline.learning.sample import sample

    if num_parameters(read_info(checkpoint).model) < _SMALL:
        torch.set_num_threads(1)  # a byte at a time is so little work that sharing it takes far longer
    return harmless(prompt + sample(checkpoint, prompt, num_bytes, temperature, seed))
