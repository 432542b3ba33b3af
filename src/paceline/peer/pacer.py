"""Runs the round protocol beside training: reads the board, keeps the heartbeat, hands orders to the worker.

The pacer is a thread, so that a coordinator keeps pace and a peer stays alive to the others even while an
inner step takes long. The worker, in the main thread, takes orders at step boundaries.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard, assert_never

from paceline.core.actions import (
    Action,
    Apply,
    CancelReduce,
    Finish,
    Promise,
    Publish,
    Reduce,
    Repair,
    Tell,
)
from paceline.core.config import RunConfig
from paceline.core.errors import PacelineError
from paceline.core.events import Emit
from paceline.core.records import GlobalState, PeerRecord, Phase, Record, RoundPlan, RunRecord
from paceline.core.rounds import RoundMachine, Staged
from paceline.core.voice import Progress
from paceline.network.board import Board
from paceline.peer.twins import TwinFound

Order = Reduce | Apply | Repair | Finish
_EXCHANGING = (Phase.WAIT, Phase.REDUCE, Phase.ATTEST, Phase.APPLY)
_KINDS = ("peer", "plan", "receipt", "commit")
_REFRESH_S = 5.0
_STUCK_S = 300.0
_ANNOUNCE_RUN_S = 300.0
_UNHURRIED = 2.5  # while training, the board is read so many times less often


@dataclass(frozen=True)
class Duties:
    """What the pacer does on the machine's behalf, besides the board.

    Attributes:
        remember: Makes a promise durable.
        cancel_reduce: Ends the all-reduce of a plan soon, also one still to begin; called with the plan's
            digest, from the pacer's thread.
        emit: Tells facts.
        poll_s: Seconds between two looks at the board.
    """

    remember: Callable[[Promise], None]
    cancel_reduce: Callable[[str], None]
    emit: Emit
    poll_s: float


class Pacer:
    """The thread that drives a `RoundMachine`.

    Guarantees:
        A promise is on disk before the record that rests on it leaves.
        An error in the pacer's thread reaches the worker.
        Of two live peers with one identity, the one that started later gives way.

    Attributes:
        machine: The protocol; touched only under the pacer's lock.
    """

    def __init__(self, machine: RoundMachine, board: Board, run: RunConfig, duties: Duties) -> None:
        """Prepare; `start` begins.

        Args:
            machine: The round protocol of this peer.
            board: Where records are posted.
            run: The run, announced to joiners while this peer coordinates.
            duties: What else to do.
        """
        self.machine = machine
        self._board = board
        self._run = run
        self._duties = duties
        self._lock = threading.RLock()
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._refreshed_at = self._announced_at = float("-inf")
        self._worker_seen_at = time.monotonic()
        self._thread = threading.Thread(target=self._drive, name="pacer", daemon=True)

    def start(self) -> None:
        """Begin to read the board and to speak on it."""
        self._thread.start()

    def stop(self) -> None:
        """Take leave on the board, and end the thread."""
        with self._lock:
            self.machine.leave()
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=15.0)

    @property
    def stands_on(self) -> str:
        """Digest of the commit on which this peer stands."""
        return self.machine.standing.head.digest()

    def heads(self) -> dict[str, str]:
        """Tell who stands where.

        Returns:
            Digest of the last commit of each live peer, this one included, by peer id.
        """
        with self._lock:
            standing = self.machine.standing
            said = {peer: record.head_digest for peer, record in standing.live(time.monotonic()).items()}
            return said | {standing.me: standing.head.digest()}

    @property
    def wants_training(self) -> bool:
        """Whether the worker should take another inner step of its round rather than wait."""
        return self.machine.phase is Phase.TRAIN and self._orders.empty()

    @property
    def is_exchanging(self) -> bool:
        """Whether the round's steps are done and its exchange is under way or awaited."""
        return self.machine.phase in _EXCHANGING

    def next_order(self, timeout_s: float) -> Order | None:
        """Take the next order for the worker.

        Args:
            timeout_s: How long to wait for one; 0 to look only.

        Returns:
            The order, or None when there is none yet.

        Raises:
            PacelineError: The pacer's thread has failed; its error.
        """
        self._worker_seen_at = time.monotonic()
        try:
            return self._orders.get(block=timeout_s > 0, timeout=timeout_s or None)
        except queue.Empty:
            if self._error is not None:
                raise self._error from None
            return None

    @property
    def is_stuck(self) -> bool:
        """Whether the worker has not come by for so long, while it should train, that it must hang."""
        busy = self.machine.phase not in (Phase.TRAIN, Phase.WAIT)
        return not busy and time.monotonic() > self._worker_seen_at + _STUCK_S

    # What the worker reports

    def trained(self, progress: Progress) -> None:
        """Report an inner step.

        Args:
            progress: The round's progress.
        """
        with self._lock:
            before = self.machine.phase
            self.machine.trained(progress, time.monotonic())
            if self.machine.phase is not before:
                self._wake.set()

    def reduced(self, plan: RoundPlan, staged: Staged | None, blamed: str) -> None:
        """Report the end of a `Reduce`.

        Args:
            plan: Its plan.
            staged: The result that is now on disk, or None.
            blamed: Who is held responsible for a failure, or "".
        """
        with self._lock:
            self.machine.reduced(plan, staged, blamed)
        self._wake.set()

    def applied(self, head: GlobalState, ahead: Progress | None = None) -> None:
        """Report that this peer stands on a new commit.

        Args:
            head: The commit.
            ahead: What it has trained for the next round already.
        """
        with self._lock:
            self.machine.applied(head, time.monotonic(), ahead)
        self._wake.set()

    def repair_failed(self) -> None:
        """Report that a `Repair` got nothing."""
        with self._lock:
            self.machine.repair_failed(time.monotonic())
        self._wake.set()

    def lost_result(self) -> None:
        """Report that the result to be applied can't be read back from disk."""
        with self._lock:
            self.machine.lost_result(time.monotonic())
        self._wake.set()

    def publish(self, record: Record) -> None:
        """Post a record of the worker's, such as its metrics.

        Args:
            record: A draft, as for `Board.publish`.
        """
        self._outbox.put(record)
        self._wake.set()

    # The thread

    def _drive(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
                self._wake.wait(self._pause_s())
                self._wake.clear()
            self._empty_outbox()
            self._carry_out(self.machine.advance(time.monotonic()))  # the last heartbeat takes leave
            self._board.flush()
        except PacelineError as error:
            self._error = error
        except BaseException as error:
            self._error = PacelineError(f"the pacer failed: {error!r}", "report this with the events file")
            self._error.__cause__ = error

    def _pause_s(self) -> float:
        return self._duties.poll_s * (_UNHURRIED if self.machine.is_unhurried else 1.0)

    def _turn(self) -> None:
        if self.is_stuck:
            return  # a heart that beats for a worker that hangs would keep the others waiting
        posted = self._board.read(_KINDS)
        now = time.monotonic()
        with self._lock:
            for news in posted:
                if self._is_about_me(news.record):
                    self._refuse_twin(news.record)
                else:
                    self.machine.notice(news.record, news.sealed, now)
            actions = self.machine.advance(now)
            self._carry_out(actions)
        self._empty_outbox()
        self._keep_alive(now)

    def _empty_outbox(self) -> None:
        while not self._outbox.empty():
            self._board.publish(self._outbox.get())

    def _is_about_me(self, record: Record) -> TypeGuard[PeerRecord]:
        return isinstance(record, PeerRecord) and record.peer_id == self.machine.standing.me

    def _refuse_twin(self, record: PeerRecord) -> None:
        # A heartbeat of an earlier life may still be around. One that came after ours is a live twin's: if it
        # started before us, we leave; if not, it will, once it has read us.
        mine = self.machine.standing.peers.get(record.peer_id)
        if mine is not None and record.seq > mine.record.seq and record.boot_id < self.machine.voice.boot_id:
            raise TwinFound(record.peer_id)

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Publish(record):
                posted = self._board.publish(record)
                self.machine.notice(posted.record, posted.sealed, time.monotonic())
            case Promise():
                self._duties.remember(action)
            case Tell(event):
                self._duties.emit(event)
            case CancelReduce(plan_digest):
                self._duties.cancel_reduce(plan_digest)
            case Reduce() | Apply() | Repair() | Finish():
                self._orders.put(action)
            case _:
                assert_never(action)

    def _keep_alive(self, now: float) -> None:
        if now >= self._refreshed_at + _REFRESH_S:
            self._refreshed_at = now
            self._board.refresh()
        coordinates_or_starts = self.machine.is_coordinator or self._announced_at == float("-inf")
        if coordinates_or_starts and now >= self._announced_at + _ANNOUNCE_RUN_S:
            self._announced_at = now
            record = RunRecord(
                run_id=self._run.run_id,
                peer_id=self.machine.standing.me,
                seq=0,
                expires_at=0.0,
                document=self._run.document(),
            )
            self._board.publish(record)
