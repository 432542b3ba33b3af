"""How a peer trains alone between two rounds: the inner optimizer and its guards.

The learning rate follows the *global* step, so that a peer which joins late, or comes back, trains at the
same rate as everybody else. The optimizer's state stays with the peer across rounds.

A loss or gradient that is not finite skips the step: weights and optimizer state stay what they were. How
many such steps in a row are too many is for the worker to decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from paceline.core.config import AdamWConfig, MuonConfig, NodeConfig, RunConfig, ScheduleConfig
from paceline.core.errors import ConfigError

Batch = NDArray[np.int64]
"""Tokens, int64 `[batch, seq_len + 1]`."""


class StepResult(NamedTuple):
    """What one inner step did."""

    loss: float | None
    """Mean loss before the step, nats per token; None when the step was skipped."""
    samples: int
    """Sequences trained on; 0 when skipped."""
    tokens: int
    """Tokens trained on; 0 when skipped."""
    grad_norm: float
    """Gradient norm before clipping; NaN or infinite when that is why the step was skipped."""
    lr: float
    """Learning rate of the step (Muon's, where there are two); 0 when skipped."""


class InnerTrainer:
    """Trains a model, one step at a time, on whatever device it is on.

    Guarantees:
        A non-finite loss leaves weights and optimizer state untouched.

    Attributes:
        skipped_in_a_row: Steps skipped since the last one that was taken.
    """

    def __init__(self, model: nn.Module, run: RunConfig, node: NodeConfig, device: torch.device) -> None:
        self._model = model.to(device)
        self._run = run
        self._device = device
        self._autocast = autocast_dtype(node.autocast, device)
        self.reset()

    def reset(self) -> None:
        """Forget all optimizer state, as a peer does that goes back to the anchor."""
        self._optimizers = _optimizers(self._model, self._run.inner.optimizer)
        self.skipped_in_a_row = 0

    def step(self, batches: Sequence[Batch], global_step: int) -> StepResult:
        """Take one optimizer step.

        Args:
            batches: Micro-batches whose gradients are averaged, at least one; int64 `[batch, seq_len + 1]`.
            global_step: Inner steps that the swarm took before this one: `(round_id - 1) * inner_steps` plus
                the steps of this round.

        Returns:
            What was done.
        """
        rate = learning_rate_factor(self._run.inner.schedule, global_step, self._run.total_steps)
        samples, tokens = sum(map(len, batches)), sum(batch[:, 1:].size for batch in batches)
        try:
            loss, norm = self._gradients(batches, tokens)
            taken = math.isfinite(loss) and math.isfinite(norm)
            lr = self._advance(rate) if taken else 0.0
        finally:
            # Even an error in the middle must not leave half a gradient behind. Freed rather than zeroed,
            # so that they don't lie about while pseudo-gradients are averaged.
            self._model.zero_grad(set_to_none=True)
        self.skipped_in_a_row = 0 if taken else self.skipped_in_a_row + 1
        return StepResult(loss, samples, tokens, norm, lr) if taken else StepResult(None, 0, 0, norm, lr)

    def _gradients(self, batches: Sequence[Batch], tokens: int) -> tuple[float, float]:
        loss = torch.zeros((), device=self._device)
        for batch in batches:
            with _autocast(self._device, self._autocast):
                part = _cross_entropy(self._model, batch, self._device) * (batch[:, 1:].size / tokens)
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        # Both in one transfer, since each waits for the device.
        loss_value, norm = torch.stack((loss, self._clip())).tolist()
        return loss_value, norm

    @torch.no_grad()
    def _clip(self) -> Tensor:
        parameters = [part for part in self._model.parameters() if part.grad is not None]
        norm = nn.utils.get_total_norm([part.grad for part in parameters if part.grad is not None])
        if self._run.inner.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._run.inner.clip_norm, norm)
        return norm

    def _advance(self, rate: float) -> float:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate
            optimizer.step()
        return float(self._optimizers[0].param_groups[0]["lr"])


def learning_rate_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Compute the learning rate at a global step, as a share of its peak.

    Linear warm-up, `(step + 1) / warmup_steps`; then, for `wsd`, 1 until the last `decay_fraction` of all
    steps and a line down to `floor` from there (Hu et al. 2024); for `cosine`, half a cosine from the end of
    the warm-up down to `floor`; for `constant`, 1. The warm-up counts as a factor throughout.

    Args:
        schedule: The run's schedule.
        step: Global inner step, from 0.
        total_steps: Inner steps of the whole run; later steps get what the last one got.

    Returns:
        A factor from 0 to 1.
    """
    warmup = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    match schedule.type:
        case "constant":
            return warmup
        case "wsd":
            start = total_steps * (1 - schedule.decay_fraction)
        case "cosine":
            start = min(schedule.warmup_steps, total_steps)
    progress = min(1.0, max(0.0, step - start) / max(1.0, total_steps - 1 - start))
    left = 1 - progress if schedule.type == "wsd" else (1 + math.cos(math.pi * progress)) / 2
    return warmup * (schedule.floor + (1 - schedule.floor) * left)


def resolve_device(text: str) -> torch.device:
    """Choose the device to train on.

    Asking for CUDA may start its driver: fork before calling this.

    Args:
        text: `auto` (CUDA, else MPS, else CPU), `cpu`, `mps`, `cuda` or `cuda:N`.

    Returns:
        The device.

    Raises:
        ConfigError: This machine does not have it.
    """
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(text)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"node.device: {text!r}, but torch sees {torch.cuda.device_count()} CUDA devices",
            "name one that is there, or take auto",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("node.device: 'mps', but torch has no MPS here", "take auto")
    return device


def autocast_dtype(setting: Literal["auto", "bf16", "off"], device: torch.device) -> torch.dtype | None:
    """Decide whether to compute in bf16. Weights, gradients and optimizer state stay float32.

    Args:
        setting: The node's `autocast`.
        device: Where the model is trained.

    Returns:
        bf16 or None. `auto` gives bf16 on CUDA devices that compute in it (compute capability 8.0 on) only:
        elsewhere it is emulated or slower.
    """
    match setting:
        case "off":
            return None
        case "bf16":
            return torch.bfloat16
        case "auto":
            if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
                return torch.bfloat16
            return None


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> float:
    """Measure a model's loss, in float32, without training.

    Args:
        model: The model, on `device`; its mode and gradients are left as they are.
        batches: Tokens, int64 `[batch, seq_len + 1]`.
        device: Where to compute.

    Returns:
        Mean loss over all tokens, nats per token; NaN when there are no batches.
    """
    total, tokens = 0.0, 0
    for batch in batches:
        size = batch[:, 1:].size
        total += _cross_entropy(model, batch, device).item() * size
        tokens += size
    return total / tokens if tokens else math.nan


def _cross_entropy(model: nn.Module, batch: Batch, device: torch.device) -> Tensor:
    tokens = torch.from_numpy(batch).to(device)
    logits: Tensor = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _optimizers(model: nn.Module, config: AdamWConfig | MuonConfig) -> list[torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    if isinstance(config, AdamWConfig):
        optimizers: list[torch.optim.Optimizer] = [_adamw(named, config)]
    else:
        hidden = {name: part for name, part in named.items() if part.ndim == 2 and name != "embedding"}
        rest = {name: part for name, part in named.items() if name not in hidden}
        muon = torch.optim.Muon(
            hidden.values(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        optimizers = [muon, _adamw(rest, config.rest)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _adamw(named: dict[str, nn.Parameter], config: AdamWConfig) -> torch.optim.AdamW:
    matrices = [part for part in named.values() if part.ndim >= 2]
    others = [part for part in named.values() if part.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        # One kernel per step, and no temporary copies of all parameters.
        fused=all(part.device.type in ("cpu", "cuda") for part in named.values()),
    )
