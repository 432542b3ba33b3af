"""How much memory a peer needs for a model: what follows from the model's shape, and a guess for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.core.config import AdamWConfig, GptConfig, NodeConfig, RunConfig
from paceline.learning.codecs import make_codec
from paceline.learning.fragments import largest
from paceline.learning.model import VOCABULARY, num_parameters, parameter_shapes

STATE_BYTES = 8
"""Per parameter, in the machine's memory: anchor and outer momentum, in float32."""
EXCHANGE_BYTES = 4
"""Per parameter of the largest fragment, in the machine's memory: the averager's buffer, in float32; where
training goes on during an exchange, as much again for what was sent."""
RESIDUAL_BYTES = 4
"""Per parameter, in the machine's memory: what a codec still owes, where it loses so much."""
CHECKPOINT_BYTES = 8
"""Per parameter, on disk: anchor and outer momentum."""
PROCESS_BYTES = 700 << 20
"""What a peer's processes take whatever the model is: Python, torch, the DHT's process and the daemon."""


@dataclass(frozen=True)
class Footprint:
    """What a peer needs.

    Attributes:
        parameters: Weights of the model.
        shared_bytes: Anchor and momentum, buffer, what was sent, and the codec's residual; always in the
            machine's memory.
        inner_bytes: Weights, gradients and the inner optimizer's state, on the device.
        activation_bytes: What a micro-batch leaves for the backward pass, on the device; an estimate.
        copy_bytes: Weights of an anchor that is measured beside training, for the while, on a device that
            has memory of its own.
    """

    parameters: int
    shared_bytes: int
    inner_bytes: int
    activation_bytes: int
    copy_bytes: int

    @property
    def device_bytes(self) -> int:
        """What training takes where the model is."""
        return self.inner_bytes + self.activation_bytes


def footprint(run: RunConfig, node: NodeConfig, *, halves: bool = False) -> Footprint:
    """Work out what a peer needs.

    Args:
        run: The run's parameters.
        node: The node's own settings: its batch counts.
        halves: Whether activations are 16 bits wide.

    Returns:
        What it needs.
    """
    parameters, overlap = num_parameters(run.model), run.overlap
    kept = STATE_BYTES + (RESIDUAL_BYTES if _owes(run) else 0)
    exchanged = (2 if overlap.delay_steps else 1) * largest(run.model, overlap.fragments)
    return Footprint(
        parameters=parameters,
        shared_bytes=kept * parameters + EXCHANGE_BYTES * exchanged,
        inner_bytes=_inner_bytes(run),
        activation_bytes=_activation_bytes(run.model, node.batch_size, 2 if halves else 4),
        copy_bytes=4 * parameters if node.eval_batches and not run.timetable.is_plain else 0,
    )


def _owes(run: RunConfig) -> bool:
    return any(make_codec(name).feedback is not None for name in run.codecs)


def _inner_bytes(run: RunConfig) -> int:
    # Weights and gradients; two moments for AdamW, one for what Muon trains.
    parameters = num_parameters(run.model)
    if isinstance(run.inner.optimizer, AdamWConfig):
        return 16 * parameters
    shapes = parameter_shapes(run.model).items()
    by_muon = sum(shape[0] * shape[1] for name, shape in shapes if len(shape) == 2 and name != "embedding")
    return 16 * parameters - 4 * by_muon


def _activation_bytes(model: GptConfig, batch_size: int, width: int) -> int:
    # Per token and block what the backward pass needs: norms and their inputs, queries, keys and values, what
    # attention gives, and the hidden layer several times over. Measured on a CPU, with what comes and goes
    # meanwhile. Scores are not kept: attention works on tiles. The logits are there three times, in float32.
    per_block = 18 * model.dim + 5 * model.hidden_dim
    tokens = batch_size * model.seq_len
    return tokens * (model.layers * per_block * width + 3 * VOCABULARY * 4)
