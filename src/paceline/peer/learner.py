"""The learning side of a peer behind one door: model, data, inner and outer state.

Everything here runs in the main thread, after the network's processes have been forked: it may start threads
and touch CUDA.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from paceline.core.chain import genesis
from paceline.core.config import NodeConfig, RunConfig
from paceline.core.events import Emit, StepDone, StepSkipped, WentBackToAnchor
from paceline.core.records import GlobalState
from paceline.core.voice import Progress
from paceline.learning.checkpoint import load_into
from paceline.learning.checkpoint_header import CheckpointInfo
from paceline.learning.codecs import make_codec
from paceline.learning.data import Stream, open_corpus
from paceline.learning.feedback import Feedback
from paceline.learning.flat import FlatView
from paceline.learning.inner import InnerTrainer, StepResult, evaluate, resolve_device
from paceline.learning.model import build_model
from paceline.learning.outer import Digests, OuterState
from paceline.learning.staging import stage

_SPEED_MEMORY = 0.9


class Learner:
    """Trains between rounds, and turns rounds into new anchors.

    Memory beyond the inner training state is anchor and momentum, 8 bytes per parameter, and 4 more with a
    codec that needs feedback; the averager's buffer adds 4.

    Attributes:
        device: Where the model is trained.
        num_elements: Length of the flat vectors.
        first: The commit of round 0, which follows from the run's parameters alone.
        progress: How far this peer has trained in its round.
    """

    def __init__(self, run: RunConfig, node: NodeConfig, peer_id: str) -> None:
        """Build model and data; may take seconds.

        Args:
            run: The run's parameters.
            node: This node's own settings.
            peer_id: Whose data stream to read.
        """
        if node.threads is not None:
            torch.set_num_threads(node.threads)
        self._run, self._node, self._peer_id = run, node, peer_id
        self.device = resolve_device(node.device)
        model = build_model(run.model, run.seed)
        self._view = FlatView(model)
        self.num_elements = self._view.num_elements
        anchor, momentum = np.empty(self.num_elements, np.float32), np.zeros(self.num_elements, np.float32)
        self._view.read(anchor)
        self._outer = OuterState(anchor, momentum, run.outer)
        self._feedback = Feedback(make_codec(run.codec), self.num_elements)
        self.first = genesis(run, *self._outer.digests())
        self._model = model
        self._trainer = InnerTrainer(model, run, node, self.device)
        self._view = FlatView(model)
        self._corpus = open_corpus(node.data, node.cache_dir, seq_len=run.model.seq_len)
        self._held_out = self._corpus.held_out_batches(node.eval_batches, node.batch_size, run.model.seq_len)
        self._stream: Stream = self._corpus.stream(run.seed, peer_id, 1)
        self._round_id, self._loss_sum, self._loss_count = 1, 0.0, 0
        self.progress = Progress()

    def begin_round(self, round_id: int) -> None:
        """Train from the anchor, on this round's own stretch of data.

        Args:
            round_id: The round.
        """
        self._view.write(self._outer.anchor)
        self._stream = self._corpus.stream(self._run.seed, self._peer_id, round_id)
        self._round_id, self._loss_sum, self._loss_count = round_id, 0.0, 0
        self.progress = Progress(samples_per_s=self.progress.samples_per_s)

    def train(self, emit: Emit) -> tuple[StepResult, float]:
        """Take one inner step, count it and tell of it.

        After too many skipped steps in a row the peer goes back to the anchor: its local weights, or its
        optimizer's state, have gone bad.

        Args:
            emit: Told what was done.

        Returns:
            What it did, and how many seconds it took. A skipped step counts as a step without samples.
        """
        result, seconds = self._step()
        done, round_id = self.progress.inner_step, self._round_id
        if result.loss is not None:
            emit(
                StepDone(
                    round_id=round_id,
                    inner_step=done,
                    of_steps=self._run.inner_steps,
                    loss=result.loss,
                    tokens=result.tokens,
                    seconds=seconds,
                )
            )
            return result, seconds
        skipped = self._trainer.skipped_in_a_row
        emit(StepSkipped(round_id=round_id, inner_step=done, in_a_row=skipped))
        if skipped >= self._node.nan_patience:
            self._go_back_to_anchor()
            emit(WentBackToAnchor(round_id=round_id))
        return result, seconds

    def _go_back_to_anchor(self) -> None:
        self._trainer.reset()
        self._view.write(self._outer.anchor)
        self._loss_sum, self._loss_count = 0.0, 0
        self.progress = Progress(inner_step=self.progress.inner_step)

    def _step(self) -> tuple[StepResult, float]:
        began = time.perf_counter()
        node, seq_len = self._node, self._run.model.seq_len
        batches = [self._stream.batch(node.batch_size, seq_len) for _ in range(node.grad_accumulation)]
        done = self.progress
        global_step = (self._round_id - 1) * self._run.inner_steps + done.inner_step
        result = self._trainer.step(batches, global_step)
        seconds = time.perf_counter() - began
        if result.loss is not None:
            self._loss_sum, self._loss_count = self._loss_sum + result.loss, self._loss_count + 1
        speed = result.samples / seconds
        self.progress = Progress(
            inner_step=done.inner_step + 1,
            samples=done.samples + result.samples,
            samples_per_s=_SPEED_MEMORY * done.samples_per_s + (1 - _SPEED_MEMORY) * speed
            if done.samples_per_s
            else speed,
            loss=self._loss_sum / self._loss_count if self._loss_count else 0.0,
        )
        return result, seconds

    def write_pseudo_gradient(self, out: NDArray[np.float32]) -> None:
        """Form anchor minus local weights, plus what is owed of earlier rounds where the codec loses much.

        Args:
            out: float32 `[num_elements]`, overwritten.
        """
        self._view.pseudo_gradient(self._outer.anchor, out)
        self._feedback.add(out)

    def note_sent(self, out: NDArray[np.float32], attempt: str) -> None:
        """Work out what will be owed once an attempt is committed; does nothing where the codec loses little.

        Args:
            out: float32 `[num_elements]`, overwritten. It must stay as it is until `settle`.
            attempt: Digest of the plan in which this peer's values travelled.
        """
        if self._feedback.is_needed:
            self.write_pseudo_gradient(out)  # the mean has taken the place of what was sent
            self._feedback.subtract(out, attempt)

    def settle(self, out: NDArray[np.float32], attempt: str, *, took_part: bool) -> None:
        """Owe what `note_sent` worked out, because that attempt was committed.

        Args:
            out: What `note_sent` left.
            attempt: Digest of the plan that was committed.
            took_part: Whether this peer's values are in it.
        """
        self._feedback.settle(out, attempt, took_part=took_part)

    def stage(self, average: NDArray[np.float32], path: Path) -> CheckpointInfo:
        """Write down, durably, the state that a round's average would leave; change nothing else.

        Args:
            average: Mean pseudo-gradient, float32 `[num_elements]`.
            path: Where to.

        Returns:
            What was written, with its digests.
        """
        run = self._run
        return stage(path, self._outer, average, run_id=run.run_id, round_id=self._round_id, model=run.model)

    def stand_on(self, path: Path, head: GlobalState, *, keep_inner_state: bool) -> None:
        """Take anchor and momentum from a checkpoint, and begin the next round.

        Args:
            path: The checkpoint of `head`.
            head: The commit to stand on.
            keep_inner_state: Whether the inner optimizer goes on, and what is owed; not after a repair.
        """
        load_into(path, self._outer.anchor, self._outer.momentum)
        if not keep_inner_state:
            self._trainer.reset()
            self._feedback.forget()
        self.begin_round(head.round_id + 1)

    def digests(self) -> Digests:
        """Identify the state that this peer stands on.

        Returns:
            The digests of anchor and momentum.
        """
        return self._outer.digests()

    def evaluate(self) -> float | None:
        """Measure the weights that the model holds now on held-out data.

        Returns:
            Nats per byte, or None when the node evaluates nothing.
        """
        if not self._held_out:
            return None
        return evaluate(self._model, self._held_out, self.device)
