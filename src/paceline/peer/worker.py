"""One peer at work. READ THIS FIRST: everything else is what this file hands off.

The worker trains, and at step boundaries carries out the orders that the round protocol gives it through the
pacer (`peer/pacer.py`, `core/rounds.py`):

    Reduce    all-reduce with exactly the plan's roster, put the result on disk, report it (`averaging.py`)
    Apply     the round is committed: log it, stand on the new anchor, train on
    Repair    the swarm is ahead: fetch history and state from others
    Finish    the run is over

With overlap, Reduce, the reading that Apply begins with and what a commit brings along run beside training
(`peer/beside.py`): the main thread trains on, as far as the run's timetable allows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import assert_never

from paceline.core.actions import Apply, Finish, Reduce, Repair
from paceline.core.config import NodeConfig, RunConfig
from paceline.core.errors import CheckpointError, HistoryForked, TransferFailed
from paceline.core.events import (
    CreditsCounted,
    Evaluated,
    PeerStopped,
    RepairFailed,
    RoundCommitted,
    StateFetched,
)
from paceline.core.records import CreditRecord, GlobalState, WorkerMetrics
from paceline.peer.averaging import Averaging
from paceline.peer.beside import Beside
from paceline.peer.surroundings import Surroundings

_IDLE_S = 0.5
_PARTING_S = 15.0


class Worker:
    """Drives one peer through its rounds, in the main thread.

    Attributes:
        peer_id: Who this is.
    """

    def __init__(self, run: RunConfig, node: NodeConfig, peer_id: str, around: Surroundings) -> None:
        """Take a place in the swarm; `run` begins.

        Args:
            run: The run's parameters.
            node: This node's own settings.
            peer_id: Who this is.
            around: What to work with.
        """
        self.peer_id = peer_id
        self._run, self._node, self._around = run, node, around
        self._stopping = threading.Event()
        self._averaging = Averaging(run, peer_id, around)
        self._beside, self._measuring = Beside(), Beside()
        self._applying: Apply | None = None
        self._unreadable: CheckpointError | None = None
        self._train_s = 0.0
        self._trained_at = time.monotonic()
        self._tokens = 0

    @property
    def round_id(self) -> int:
        """The last committed round in this peer's log."""
        return self._around.ledger.head().round_id

    def stop(self) -> None:
        """Ask the worker to leave at the next step boundary; safe in a signal handler."""
        self._stopping.set()
        self._averaging.stop()

    def run(self) -> None:
        """Work until the run is finished or `stop` is called.

        Raises:
            PacelineError: Something that a restart may cure: a child process died, the disk is full.
        """
        pacer, cause = self._around.pacer, "an error"
        self._measure(self._around.ledger.head())
        pacer.start()
        try:
            while not self._stopping.is_set():
                may_train = self._may_train
                order = pacer.next_order(timeout_s=0.0 if may_train or self._applying else _IDLE_S)
                if isinstance(order, Finish):
                    self._measuring.wait()
                    cause = "finished"
                    return
                if order is not None:
                    self._carry_out(order)
                elif self._applying and not (may_train and self._beside.is_busy):
                    self._apply(self._applying)
                elif may_train:
                    self._train()
                self._beside.check()
                self._measuring.check()
                self._around.check_children()
            cause = "asked"
        finally:
            if self._beside.is_busy or self._measuring.is_busy:
                self.stop()
                self._beside.leave(_PARTING_S)
                self._measuring.leave(_PARTING_S)
            pacer.stop()
            self._around.emit(PeerStopped(round_id=self.round_id, cause=cause))

    def _carry_out(self, order: Reduce | Apply | Repair) -> None:
        match order:
            case Reduce(plan, donors):
                self._around.learner.send()
                self._do(partial(self._averaging.follow, plan, donors), self._beside)
            case Apply():
                self._applying = order
                self._do(partial(self._load, order), self._beside)
                if not self._beside.is_busy:
                    self._apply(order)
            case Repair():
                self._repair(order)
            case _:
                assert_never(order)

    def _do(self, job: Callable[[], None], beside: Beside) -> None:
        # Beside training, if training may go on meanwhile.
        if self._run.overlap.delay_steps:
            beside.begin(job)
        else:
            job()

    @property
    def _may_train(self) -> bool:
        pacer, learner = self._around.pacer, self._around.learner
        if pacer.wants_training:
            return True
        most = self._run.timetable.most_ahead(learner.round_id)
        return pacer.is_exchanging and learner.ahead.inner_step < most

    def _train(self) -> None:
        learner, pacer = self._around.learner, self._around.pacer
        if pacer.wants_training:
            learner.take_up()
        else:
            learner.send()
        result, seconds = learner.train(self._around.emit)
        self._train_s, self._trained_at = self._train_s + seconds, time.monotonic()
        self._tokens += result.tokens
        if not learner.is_ahead:
            pacer.trained(learner.progress)

    def _load(self, order: Apply) -> None:
        around, state = self._around, order.commit.state
        self._unreadable = None
        self._measuring.leave(None)  # the anchor is still in use
        try:
            around.learner.load(around.shelf.promote(state))
        except CheckpointError as error:
            self._unreadable = error
            return
        if around.ledger.head().round_id < state.round_id:  # a repair that failed later may have logged it
            around.ledger.append(order.link)  # after the state: the log's head must have one

    def _apply(self, order: Apply) -> None:
        around, state = self._around, order.commit.state
        self._beside.wait()
        self._applying = None
        if self._unreadable is not None:
            around.emit(RepairFailed(cause=self._unreadable.cause))
            around.pacer.lost_result()
            return
        round_loss, speed = around.learner.progress.loss, self._tokens / max(self._train_s, 1e-9)
        took_part = state.samples_of(self.peer_id) > 0
        around.learner.settle(self._averaging.values, state.averaged_plan_digest(), took_part=took_part)
        around.learner.follow(state)
        sync_s = time.monotonic() - self._trained_at
        around.emit(
            RoundCommitted(
                round_id=state.round_id,
                loss=state.avg_loss,
                members=len(state.participating_nodes),
                digest=state.digest(),
                sync_s=sync_s,
            )
        )
        around.pacer.applied(state, around.learner.progress)
        metrics = WorkerMetrics(
            run_id=self._run.run_id,
            peer_id=self.peer_id,
            seq=0,
            expires_at=0.0,
            round_id=state.round_id,
            loss=round_loss,
            tokens_per_s=speed,
            train_s=self._train_s,
            sync_s=sync_s,
            bytes_in=self._averaging.bytes_in,
            bytes_out=self._averaging.bytes_out,
        )
        self._train_s, self._tokens = 0.0, 0
        # Not in line with the exchanges: the others would wait for the next one, and blame this peer.
        self._do(partial(self._conclude, state, metrics), self._measuring)

    def _conclude(self, head: GlobalState, metrics: WorkerMetrics) -> None:
        # Where training waits for exchanges, before it moves away from the anchor.
        val_loss = self._settle_on(head)
        self._around.pacer.publish(metrics.model_copy(update={"val_loss": val_loss}))

    def _repair(self, order: Repair) -> None:
        around, began = self._around, time.monotonic()
        self._beside.wait()
        self._measuring.wait()  # it looks at anchor, log and files
        try:
            caught_up = around.catch_up.repair(
                around.ledger, order.donors, around.pacer.stands_on, around.pacer.heads()
            )
        except (TransferFailed, CheckpointError, HistoryForked) as error:
            around.emit(RepairFailed(cause=error.cause))
            around.pacer.repair_failed()
            return
        try:
            around.learner.stand_on(caught_up.path, caught_up.head)
        except CheckpointError:  # the weights are unusable now, and the next start must not find that file
            around.shelf.put_away(caught_up.path)
            raise
        around.emit(
            StateFetched(
                round_id=caught_up.head.round_id,
                size_bytes=caught_up.size_bytes,
                seconds=time.monotonic() - began,
                donors=caught_up.donors,
            )
        )
        around.pacer.applied(caught_up.head)
        self._settle_on(caught_up.head)

    def _settle_on(self, head: GlobalState) -> float | None:
        # What a new anchor brings along.
        around = self._around
        balance = around.ledger.credits().get(self.peer_id, 0)
        around.emit(CreditsCounted(round_id=head.round_id, balance=balance))
        around.pacer.publish(
            CreditRecord(
                run_id=self._run.run_id,
                peer_id=self.peer_id,
                seq=0,
                expires_at=0.0,
                round_id=head.round_id,
                head_digest=head.digest(),
                balance=balance,
            )
        )
        around.shelf.tidy(head)
        around.note_neighbours()
        return self._measure(head)

    def _measure(self, head: GlobalState) -> float | None:
        val_loss = self._around.learner.evaluate()
        if val_loss is not None:
            self._around.emit(Evaluated(round_id=head.round_id, val_loss=val_loss))
        return val_loss
