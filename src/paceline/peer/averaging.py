"""A peer's part in the attempts of a round: average with a plan's roster, or fetch what another attempt left.

What comes of it is on disk before it is reported, and so before the vote.
"""

from __future__ import annotations

import threading
import time

import numpy as np
from numpy.typing import NDArray

from paceline.core.config import RunConfig
from paceline.core.errors import CheckpointError, NotFinite, TransferFailed
from paceline.core.events import ReduceEnded, RepairFailed, ResultStaged
from paceline.core.pace import reduce_limit_s
from paceline.core.records import RoundPlan
from paceline.core.rounds import Staged
from paceline.network.butterfly import ReduceOrder, ReduceOutcome
from paceline.peer.surroundings import Surroundings


class Averaging:
    """Carries out the plans that a peer follows.

    Guarantees:
        An average that would ruin the weights is refused and ends no peer.
        What a peer owes is kept when nothing of it was sent.

    Attributes:
        bytes_in: Received in all-reduces since the start.
        bytes_out: Sent.
    """

    def __init__(self, run: RunConfig, peer_id: str, around: Surroundings) -> None:
        """Take part from now on.

        Args:
            run: The run's parameters.
            peer_id: Who this is.
            around: What to work with.
        """
        self.bytes_in = self.bytes_out = 0
        self._run, self._peer_id, self._around = run, peer_id, around
        self._stopping = threading.Event()
        self._reducing: str | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The averager's buffer, as long as what this round exchanges."""
        return self._around.averager.buffer[: self._around.learner.fragment.num_elements]

    def stop(self) -> None:
        """End an all-reduce that is under way or about to begin; safe in a signal handler."""
        self._stopping.set()
        self._around.averager.cancel()
        self._around.averager.cancel(self._reducing)

    def follow(self, plan: RoundPlan, donors: tuple[str, ...]) -> None:
        """Get a plan's result and report it to the pacer.

        Args:
            plan: The plan.
            donors: Who holds the result, if it is that of an earlier attempt.
        """
        staged, blamed = self._adopt(plan, donors) if plan.adopts else self._reduce(plan)
        self._around.pacer.reduced(plan, staged, blamed)
        weights = dict(zip(plan.roster, plan.samples, strict=True))
        if staged and not plan.adopts and weights.get(self._peer_id):  # after the vote: nobody waits for it
            self._around.learner.note_sent(self.values, plan.digest())

    def _reduce(self, plan: RoundPlan) -> tuple[Staged | None, str]:
        # Average with the roster; with the whole result in hand, write it down for the vote.
        around, order = self._around, self._order(plan)
        around.learner.write_pseudo_gradient(self.values)
        self._reducing = order.key
        if self._stopping.is_set():
            around.averager.cancel(order.key)
        outcome = around.averager.reduce(order)
        self.bytes_in += outcome.bytes_in
        self.bytes_out += outcome.bytes_out
        self._tell(plan, outcome)
        if not outcome.complete:
            return None, outcome.blamed
        began = time.monotonic()
        try:
            info = around.learner.stage(self.values, around.shelf.staged(plan.round_id, plan.digest()))
        except NotFinite as error:
            # Somebody sent values that are as large as useless; who it was can't be told from a mean.
            self._tell(plan, ReduceOutcome(False, 0.0, 0, 0, cause=error.cause))
            return None, ""
        took_s = time.monotonic() - began
        around.emit(ResultStaged(round_id=plan.round_id, attempt=plan.attempt, seconds=took_s))
        return Staged(plan.digest(), info.weights_digest, info.momentum_digest), ""

    def _order(self, plan: RoundPlan) -> ReduceOrder:
        pace = self._run.pace
        return ReduceOrder(
            key=plan.digest(),
            roster=plan.roster,
            weights=plan.samples,
            start_s=pace.start_s,
            stall_s=pace.stall_s,
            total_s=reduce_limit_s(pace, plan.attempt),
            num_elements=len(self.values),
            codec=self._run.codec_of(plan.round_id),
        )

    def _tell(self, plan: RoundPlan, outcome: ReduceOutcome) -> None:
        self._around.emit(
            ReduceEnded(
                round_id=plan.round_id,
                attempt=plan.attempt,
                complete=outcome.complete,
                seconds=outcome.seconds,
                bytes_in=outcome.bytes_in,
                bytes_out=outcome.bytes_out,
                cause=outcome.cause,
                blamed=outcome.blamed,
            )
        )

    def _adopt(self, plan: RoundPlan, donors: tuple[str, ...]) -> tuple[Staged | None, str]:
        # Get the result of an earlier attempt from those who hold it, so that this peer can vote for it.
        around, result = self._around, plan.adopts
        assert result is not None
        others = tuple(donor for donor in donors if donor != self._peer_id)
        try:
            if around.shelf.holds(result.round_id, result.weights_digest) is None:
                path = around.shelf.staged(result.round_id, result.plan_digest)
                around.catch_up.fetch_result(result, others, path)
        except (TransferFailed, CheckpointError) as error:
            around.emit(RepairFailed(cause=error.cause))
            return None, ""
        return Staged(result.plan_digest, result.weights_digest, result.momentum_digest), ""
