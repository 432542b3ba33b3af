"""A decoder-only transformer over bytes: RMSNorm, RoPE, SwiGLU, SDPA, tied embeddings.

Every peer builds its first weights itself, so they have to be the same bits on every platform. They are
drawn from raw Philox words (Salmon et al. 2011; numpy never changes that stream) and turned into floats with
exactly rounded operations only, one stream per parameter. torch's own generators are neither read nor moved.

    >>> model = build_model(GptConfig(dim=16, layers=1, heads=2, seq_len=8), seed=0)
    >>> model(torch.zeros(1, 8, dtype=torch.int64)).shape
    torch.Size([1, 8, 256])
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from paceline.core.config import GptConfig

VOCABULARY = 256
"""Tokens are bytes."""

_DRAW_CHUNK = 1 << 18


# A linear map without bias. Its weight `[out, in]` is left uninitialised, so that building a model neither
# reads nor moves torch's generators.
class _Matrix(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


# Causal self-attention with rotary positions (Su et al. 2021).
class _Attention(nn.Module):
    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.heads = config.heads
        # Four matrices rather than a fused one: Muon orthogonalises each map on its own.
        self.query, self.key, self.value, self.out = (_Matrix(config.dim, config.dim) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, dim = x.shape
        query, key, value = (
            matrix(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for matrix in (self.query, self.key, self.value)
        )
        # Under autocast the rotation lifts to float32; attention wants all three in one type.
        query, key = (_rotate(part, cos, sin).to(value.dtype) for part in (query, key))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out


# The gated feed-forward layer of Shazeer (2020).
class _SwiGlu(nn.Module):
    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.gate = _Matrix(config.dim, config.hidden_dim)
        self.up = _Matrix(config.dim, config.hidden_dim)
        self.down = _Matrix(config.hidden_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


# One pre-normalised layer: attention, then feed-forward, each added to the residual stream.
class _Block(nn.Module):
    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.attention = _Attention(config)
        self.feed_norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.feed = _SwiGlu(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        fed: Tensor = self.feed(self.feed_norm(x))
        return x + fed


class Gpt(nn.Module):
    """The whole model. Built by `build_model`; its constructor leaves matrices uninitialised.

    The embedding also reads out the logits. It is drawn small, so that the first loss is close to ln 256, and
    normalised on its way in, so that the residual stream starts at RMS 1 all the same.

    Attributes:
        config: The shape it was built from.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(VOCABULARY, config.dim))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.final_norm = nn.RMSNorm(config.dim, eps=1e-6)
        cos, sin = _rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the next byte at every position.

        Args:
            tokens: int64 `[batch, length]`, values 0 to 255, length at most `config.seq_len`.

        Returns:
            Logits `[batch, length, 256]`.

        Raises:
            ValueError: The sequences are longer than `config.seq_len`.
        """
        length = tokens.shape[1]
        if length > self.config.seq_len:
            raise ValueError(f"sequences of {length} tokens, but seq_len is {self.config.seq_len}")
        cos, sin = self.cos[:length], self.sin[:length]
        x = functional.embedding(tokens, self.embedding)
        x = functional.rms_norm(x, x.shape[-1:], eps=1e-12)
        for block in self.blocks:
            x = block(x, cos, sin)
        return functional.linear(self.final_norm(x), self.embedding)


def build_model(config: GptConfig, seed: int) -> Gpt:
    """Build a model with its first weights, on the CPU.

    Guarantees:
        The first weights are the same bits on every platform.
        Building a model neither reads nor moves the generators of torch.
        The first loss is within two percent of ln 256.

    Args:
        config: Its shape.
        seed: The run's seed.

    Returns:
        The model, in float32.
    """
    model = Gpt(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _fill(parameter.numpy().reshape(-1), _first_std(name, tuple(parameter.shape), config), seed, name)
    return model


@lru_cache(maxsize=32)
def parameter_shapes(config: GptConfig) -> Mapping[str, tuple[int, ...]]:
    """Tell what a model's parameters are without building it.

    Args:
        config: The model's shape.

    Returns:
        The shape of each parameter by name, in the order of the flat vector (sorted by name).
    """
    with torch.device("meta"):
        model = Gpt(config)
    # Cached, hence read-only.
    return MappingProxyType(
        {name: tuple(parameter.shape) for name, parameter in sorted(model.named_parameters())}
    )


def num_parameters(config: GptConfig) -> int:
    """Count a model's parameters without allocating them.

    Args:
        config: The model's shape.

    Returns:
        How many floats the flat vector holds.
    """
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


# How widely a parameter is drawn; None for the gains of norms, which start at 1.
def _first_std(name: str, shape: tuple[int, ...], config: GptConfig) -> float | None:
    if len(shape) == 1:
        return None
    inputs = shape[1]
    if name == "embedding":
        # The logit of a token for itself starts at a quarter at most, whatever the width. At 1 the many
        # repeated bytes of real text would already show in the first loss.
        return 0.25 / inputs
    # Both outputs of a block are drawn narrower the more of them add up in the residual stream (GPT-2).
    outputs = name.endswith(("attention.out.weight", "feed.down.weight"))
    return 1 / math.sqrt(inputs * (2 * config.layers if outputs else 1))


def _fill(flat: np.ndarray, std: float | None, seed: int, name: str) -> None:
    if std is None:
        flat.fill(1.0)
        return
    key = hashlib.sha256(f"paceline first weights|{seed}|{name}".encode()).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(key, "little"))
    # Uniform over (-1, 1) has std 1/sqrt(3). Odd integers below 2^24 are exact in float32, so that the only
    # rounding is that of one IEEE multiplication.
    scale = np.float32(std * math.sqrt(3) / 2**24)
    for start in range(0, flat.size, _DRAW_CHUNK):
        chunk = flat[start : start + _DRAW_CHUNK]
        odd = (words.random_raw(chunk.size) >> 40).astype(np.int32) * 2 + (1 - 2**24)
        np.multiply(odd.astype(np.float32), scale, out=chunk)


# Cosines and sines `[seq_len, head_dim / 2]`, in float32.
def _rotary_tables(config: GptConfig) -> tuple[Tensor, Tensor]:
    half = config.dim // config.heads // 2
    wavelengths = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.outer(torch.arange(config.seq_len, dtype=torch.float64), wavelengths)
    return angles.cos().float(), angles.sin().float()


# Turns each pair `(x[i], x[i + half])` by its position's angle.
def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)
