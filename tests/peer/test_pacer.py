"""Claims about the thread between the round protocol and the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from paceline.core.actions import Promise, Reduce
from paceline.core.chain import genesis
from paceline.core.config import QuorumConfig, RunConfig
from paceline.core.errors import IdentityError, PacelineError
from paceline.core.records import CreditRecord, PeerRecord, Phase, Record, RoundReceipt
from paceline.core.rounds import RoundMachine, Staged
from paceline.core.signing import SigningKey
from paceline.core.voice import Progress
from paceline.core.wire import seal
from paceline.network.board import Board, Posted
from paceline.peer.pacer import Duties, Pacer

KEY = SigningKey.from_seed(b"\x05" * 32)
DIGEST = "ab" * 32


class OpenBoard:
    """A board without a network: it keeps what is published, and shows what the test puts there."""

    def __init__(self, log: list[object]) -> None:
        self.log = log
        self.shown: list[Posted] = []
        self.fails_with: Exception | None = None
        self._seq = 0

    def publish(self, draft: Record) -> Posted:
        self._seq += 1
        record = draft.model_copy(update={"seq": self._seq, "expires_at": time.time() + 60})
        self.log.append(record)
        return Posted(record, seal(record, KEY))

    def read(self, kinds: object) -> list[Posted]:
        if self.fails_with is not None:
            raise self.fails_with
        shown, self.shown = self.shown, []
        return shown

    def refresh(self) -> None:
        pass

    def flush(self) -> None:
        self.log.append("flushed")


@contextmanager
def pacing() -> Iterator[tuple[Pacer, OpenBoard, list[object]]]:
    """A peer all alone in a run that one peer may commit."""
    run = RunConfig(name="alone", inner_steps=2, quorum=QuorumConfig(min_members=1, founders=(KEY.peer_id,)))
    machine = RoundMachine(run, KEY.peer_id, genesis(run, DIGEST, DIGEST), time.monotonic())
    machine.voice.boot_id = "this start"
    log: list[object] = []
    board = OpenBoard(log)
    duties = Duties(log.append, lambda plan_digest: None, lambda event: None, poll_s=0.01)
    pacer = Pacer(machine, cast(Board, board), run, duties)
    pacer.start()
    try:
        yield pacer, board, log
    finally:
        pacer.stop()


def until(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_a_promise_is_on_disk_before_the_record_that_rests_on_it_leaves() -> None:
    with pacing() as (pacer, _, log):
        pacer.trained(Progress(inner_step=2, samples=8, loss=2.0))
        order = pacer.next_order(timeout_s=30.0)
        assert isinstance(order, Reduce)
        pacer.reduced(order.plan, Staged(order.plan.digest(), DIGEST, DIGEST), "")
        until(lambda: any(isinstance(entry, RoundReceipt) for entry in log))
        at = next(n for n, entry in enumerate(log) if isinstance(entry, RoundReceipt))
        receipt = log[at]
        assert isinstance(receipt, RoundReceipt)
        assert any(isinstance(entry, Promise) and entry.vote == receipt.vote() for entry in log[:at])


def test_what_was_to_be_posted_is_posted_before_a_peer_takes_leave() -> None:
    with pacing() as (pacer, _, log):
        until(lambda: log)
        with pacer._lock:  # the thread can't take it out on its way
            record = {"run_id": "x", "peer_id": KEY.peer_id, "seq": 0, "expires_at": 0.0, "round_id": 1}
            pacer.publish(CreditRecord.model_validate({**record, "head_digest": DIGEST, "balance": 1}))
            pacer._stopping.set()
        pacer.stop()
        at = next(n for n, entry in enumerate(log) if isinstance(entry, CreditRecord))
        assert any(isinstance(entry, PeerRecord) and entry.phase is Phase.LEAVE for entry in log[at:])


def test_an_error_in_the_pacers_thread_reaches_the_worker() -> None:
    with pacing() as (pacer, board, _):
        board.fails_with = RuntimeError("the board is gone")
        with pytest.raises(PacelineError, match="the board is gone"):
            while True:
                pacer.next_order(timeout_s=0.05)


def test_of_two_live_peers_with_one_identity_the_one_that_started_later_gives_way() -> None:
    def heartbeat(seq: int, boot_id: str, template: PeerRecord) -> Posted:
        record = template.model_copy(update={"seq": seq, "boot_id": boot_id})
        return Posted(record, seal(record, KEY))

    with pacing() as (pacer, board, log):
        until(lambda: any(isinstance(entry, PeerRecord) for entry in log))
        mine = next(entry for entry in log if isinstance(entry, PeerRecord))
        for seq, boot_id in ((0, "earlier life"), (10**6, "younger twin")):
            board.shown = [heartbeat(seq, boot_id, mine)]
            until(lambda: not board.shown)
            assert pacer.next_order(timeout_s=0.05) is None
            assert pacer.machine.standing.peers[KEY.peer_id].record.boot_id == "this start"
        board.shown = [heartbeat(10**6, "older twin", mine)]
        with pytest.raises(IdentityError, match="another live peer"):
            while True:
                pacer.next_order(timeout_s=0.05)


def test_a_peer_takes_leave_on_the_board_before_it_stops() -> None:
    with pacing() as (pacer, _, log):
        until(lambda: any(isinstance(entry, PeerRecord) for entry in log))
        pacer.stop()
        last = [entry for entry in log if isinstance(entry, PeerRecord)][-1]
        assert last.phase == "leave"
        assert log[-1] == "flushed"
