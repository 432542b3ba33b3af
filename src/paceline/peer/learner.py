"""The learning side of a peer behind one door: model, data, inner and outer state.

Everything here runs after the network's processes have been forked: it may start threads and touch CUDA. With
overlap, what an exchange needs (`write_pseudo_gradient`, `stage`, `note_sent`, `load`, `evaluate`) may run
beside training, in another thread; all else belongs to the main thread.
"""

from __future__ import annotations

import threading
import time
from itertools import chain
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
from paceline.learning.data import open_corpus
from paceline.learning.feedback import Feedback
from paceline.learning.flat import FlatView, standing_on
from paceline.learning.fragments import Fragment, cut
from paceline.learning.inner import InnerTrainer, StepResult, evaluate, resolve_device
from paceline.learning.local import LocalWeights
from paceline.learning.model import build_model
from paceline.learning.outer import Digests, OuterState
from paceline.learning.staging import stage
from paceline.peer.tally import Tally


class Learner:
    """Trains between rounds, and turns rounds into new anchors.

    Memory beyond the inner training state is anchor and momentum, 8 bytes per parameter, and 4 more with a
    codec that needs feedback; the averager's buffer adds 4 per parameter of the largest fragment. So does
    what was sent, if training goes on meanwhile.

    Guarantees:
        A step that is taken while a round is exchanged counts for the next one, and for no other.

    Attributes:
        device: Where the model is trained.
        num_elements: Length of the flat vectors.
        first: The commit of round 0, which follows from the run's parameters alone.
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
        view = FlatView(model)
        self.num_elements = view.num_elements
        anchor, momentum = np.empty(self.num_elements, np.float32), np.zeros(self.num_elements, np.float32)
        view.read(anchor)
        self._outer = OuterState(anchor, momentum, run.outer)
        self._anchor_in_use = threading.Lock()
        self.first = genesis(run, *self._outer.digests())
        self._model = model
        self._trainer = InnerTrainer(model, run, node, self.device)
        self._fragments, overlap = cut(run.model, run.overlap.fragments), run.overlap
        self._feedbacks = {
            name: [Feedback(make_codec(name), part.num_elements) for part in self._fragments]
            for name in run.codecs
        }
        self._local = LocalWeights(
            model, self._fragments, keeps_sent=overlap.delay_steps > 0, apply=overlap.apply
        )
        self._corpus = open_corpus(node.data, node.cache_dir, seq_len=run.model.seq_len)
        self._held_out = self._corpus.held_out_batches(node.eval_batches, node.batch_size, run.model.seq_len)
        self._coming_back: int | None = None
        self._round_id, self._tally = 1, self._tally_of(1)
        self._next: Tally | None = None

    @property
    def fragment(self) -> Fragment:
        """What this round exchanges."""
        return self._fragments[self._number]

    @property
    def _number(self) -> int:
        return self._run.timetable.fragment_of(self._round_id)

    @property
    def _feedback(self) -> Feedback:
        # Of this round's codec: what a warm-up leaves behind is not owed, so that its successor begins at 0.
        return self._feedbacks[self._run.codec_of(self._round_id)][self._number]

    @property
    def progress(self) -> Progress:
        """How far this peer has trained in its round."""
        return self._tally.progress

    @property
    def round_id(self) -> int:
        """The round that it is in."""
        return self._round_id

    @property
    def is_ahead(self) -> bool:
        """Whether its steps count for the next round already."""
        return self._next is not None

    @property
    def ahead(self) -> Progress:
        """How far it has trained in the next round, while this one is exchanged."""
        return self._next.progress if self._next is not None else Progress()

    def begin_round(self, round_id: int) -> None:
        """Train from the anchor, on this round's own stretch of data.

        Args:
            round_id: The round.
        """
        self._local.stand_on(self._outer.anchor)
        self._coming_back, self._next = None, None
        self._round_id, self._tally = round_id, self._tally_of(round_id, self.progress.samples_per_s)

    def send(self) -> None:
        """Keep this round's fragment as it is to be sent; steps from now on count for the next round.

        Does nothing when that has been done, or when training waits for exchanges.
        """
        if not self._run.overlap.delay_steps or self._next is not None:
            return
        self._take_back()
        self._local.send(self._number)
        self._next = self._tally_of(self._round_id + 1, self.progress.samples_per_s)

    def take_up(self) -> None:
        """Train on in this round after all: what was to be sent was nothing, or came to nothing.

        Steps that were taken for the next round count for this one. Does nothing unless `send` was called.
        """
        if self._next is not None:
            self._tally.take_in(self._next)
            self._local.forget_sent()
            self._next = None

    def train(self, emit: Emit) -> tuple[StepResult, float]:
        """Take one inner step, count it and tell of it.

        After too many skipped steps in a row the peer goes back to the anchor: its local weights, or its
        optimizer's state, have gone bad.

        Args:
            emit: Told what was done.

        Returns:
            What it did, and how many seconds it took. A skipped step counts as a step without samples.
        """
        tally = self._next or self._tally
        result, seconds = self._step(tally)
        done, round_id = tally.progress.inner_step, tally.round_id
        if self._coming_back is not None and done >= self._run.overlap.delay_steps:
            self._take_back()
        if result.loss is not None:
            emit(
                StepDone(
                    round_id=round_id,
                    inner_step=done,
                    of_steps=self._run.timetable.steps_of(round_id),
                    loss=result.loss,
                    tokens=result.tokens,
                    seconds=seconds,
                    ahead=tally is self._next,
                )
            )
            return result, seconds
        skipped = self._trainer.skipped_in_a_row
        emit(StepSkipped(round_id=round_id, inner_step=done, in_a_row=skipped))
        if skipped >= self._node.nan_patience:
            self._go_back_to_anchor(tally)
            emit(WentBackToAnchor(round_id=round_id))
        return result, seconds

    def _go_back_to_anchor(self, tally: Tally) -> None:
        self._trainer.reset()
        with self._anchor_in_use:
            self._local.go_back(self._outer.anchor)
        self._coming_back = None
        tally.discard()

    def _step(self, tally: Tally) -> tuple[StepResult, float]:
        began = time.perf_counter()
        node, seq_len = self._node, self._run.model.seq_len
        batches = [tally.stream.batch(node.batch_size, seq_len) for _ in range(node.grad_accumulation)]
        global_step = self._run.timetable.ends_at(tally.round_id - 1) + tally.progress.inner_step
        result = self._trainer.step(batches, global_step)
        seconds = time.perf_counter() - began
        tally.count(result, seconds)
        return result, seconds

    def _tally_of(self, round_id: int, samples_per_s: float = 0.0) -> Tally:
        return Tally(round_id, self._corpus.stream(self._run.seed, self._peer_id, round_id), samples_per_s)

    def _take_back(self) -> None:
        # The new anchor of what was sent goes into the local weights.
        if self._coming_back is not None:
            self._local.take_back(self._coming_back, self._outer.anchor)
            self._coming_back = None

    def write_pseudo_gradient(self, out: NDArray[np.float32]) -> None:
        """Form anchor minus local weights of this round's fragment, as they were sent, plus what is owed of
        earlier rounds where the codec loses much.

        Args:
            out: float32 `[fragment.num_elements]`, overwritten.
        """
        self._local.pseudo_gradient(self._number, self._outer.anchor, out)
        self._feedback.add(out)

    def note_sent(self, out: NDArray[np.float32], attempt: str) -> None:
        """Work out what will be owed once an attempt is committed; does nothing where the codec loses little.

        Args:
            out: float32 `[fragment.num_elements]`, overwritten. It must stay as it is until `settle`.
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
            average: Mean pseudo-gradient, float32 `[fragment.num_elements]`.
            path: Where to.

        Returns:
            What was written, with its digests.
        """
        run, steps = self._run, self._outer.steps(average, self.fragment)
        return stage(path, steps, run_id=run.run_id, round_id=self._round_id, model=run.model)

    def load(self, path: Path) -> None:
        """Take anchor and momentum from a checkpoint; the local weights stay. `follow` or `begin_round` comes
        next.

        Args:
            path: The checkpoint of a commit.

        Raises:
            CheckpointError: It can't be read; anchor and momentum are unusable then.
        """
        with self._anchor_in_use:
            load_into(path, self._outer.anchor, self._outer.momentum)

    def follow(self, head: GlobalState) -> None:
        """Begin the next round after the loaded commit of this one: of the local weights, only the fragment
        that was exchanged follows the anchor, `delay_steps` after it was sent. What has been trained for the
        next round counts.

        Args:
            head: The commit of this round.
        """
        self._take_back()
        if len(self._fragments) == 1 and not self._local.has_sent:
            self.begin_round(head.round_id + 1)
            return
        ahead, self._next = self._next, None
        self._coming_back = self._run.timetable.fragment_of(head.round_id)
        if ahead is None or ahead.progress.inner_step >= self._run.overlap.delay_steps:
            self._take_back()
        self._round_id = head.round_id + 1
        self._tally = ahead or self._tally_of(self._round_id, self.progress.samples_per_s)

    def stand_on(self, path: Path, head: GlobalState) -> None:
        """Take anchor and momentum from a checkpoint and begin the next round from the anchor, with a new
        inner optimizer.

        Args:
            path: The checkpoint of `head`.
            head: The commit to stand on.
        """
        self.load(path)
        self._trainer.reset()
        for feedback in chain.from_iterable(self._feedbacks.values()):
            feedback.forget()
        self.begin_round(head.round_id + 1)

    def digests(self) -> Digests:
        """Identify the state that this peer stands on.

        Returns:
            The digests of anchor and momentum.
        """
        return self._outer.digests()

    def evaluate(self) -> float | None:
        """Measure the anchor on held-out data, once all fragments have been exchanged equally often.

        With overlap it touches no local weights, and training may go on meanwhile.

        Returns:
            Nats per token, or None when the node evaluates nothing, or nothing now.
        """
        timetable = self._run.timetable
        if not self._held_out or (self._round_id - 1) % timetable.fragments:
            return None
        if timetable.is_plain:  # a round begins with the anchor as local weights
            return evaluate(self._model, self._held_out, self.device)
        return evaluate(standing_on(self._model, self._outer.anchor), self._held_out, self.device)
