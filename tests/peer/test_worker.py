"""Claims about what a worker does with the outcome of an all-reduce. Its learner is real."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from paceline.core.actions import Apply, Reduce, Repair
from paceline.core.config import OuterConfig
from paceline.core.errors import CheckpointError
from paceline.core.events import Evaluated, Event, ReduceEnded, ResultStaged, RoundCommitted
from paceline.core.overlap import OverlapConfig
from paceline.core.records import GlobalState, RoundPlan, WorkerMetrics
from paceline.core.rounds import Staged
from paceline.network.butterfly import ReduceOrder, ReduceOutcome
from paceline.peer.catch_up import CaughtUp
from paceline.peer.learner import Learner
from paceline.peer.shelf import Shelf
from paceline.peer.surroundings import Surroundings
from paceline.peer.worker import Worker
from tests.peer.test_learner import learner_with, train
from tests.protocol.virtual import peer_ids

ME, OTHER = peer_ids(2)


class Stage:
    """A worker in a round that ends as the test says."""

    def __init__(self, learner: Learner, tmp_path: Path, mean: float) -> None:
        self.told: list[Event] = []
        self.reported: list[Staged | None] = []
        self.published: list[object] = []
        self.codecs: list[str | None] = []
        self.buffer = np.zeros(learner.num_elements, np.float32)
        self._mean = mean

        def ignored(*_: object) -> None:
            pass

        def reduced(plan: object, staged: Staged | None, blamed: str) -> None:
            self.reported.append(staged)

        staged = tmp_path / "staged"
        around = SimpleNamespace(
            learner=learner,
            averager=SimpleNamespace(buffer=self.buffer, reduce=self._reduce, cancel=ignored),
            pacer=SimpleNamespace(
                reduced=reduced, applied=ignored, publish=self.published.append, lost_result=ignored
            ),
            ledger=SimpleNamespace(head=lambda: SimpleNamespace(round_id=9), credits=dict),
            shelf=SimpleNamespace(staged=lambda *_: staged, promote=lambda _: staged, tidy=ignored),
            emit=self.told.append,
            note_neighbours=ignored,
        )
        self.worker = Worker(learner._run, learner._node, ME, cast(Surroundings, around))

    def _reduce(self, order: ReduceOrder) -> ReduceOutcome:
        self.codecs.append(order.codec)
        self.buffer[:] = self._mean
        return ReduceOutcome(True, 1.0, 0, 0)

    def plan(self, round_id: int, samples: dict[str, int]) -> Any:
        """What a coordinator would have named."""
        return SimpleNamespace(
            roster=tuple(samples),
            samples=tuple(samples.values()),
            adopts=None,
            round_id=round_id,
            attempt=1,
            digest=lambda: "ab" * 32,
        )

    def goes_through(self, round_id: int, **samples: int) -> None:
        """A plan, its all-reduce, and its commit if there is a result."""
        plan = self.plan(round_id, samples)
        self.worker._carry_out(Reduce(cast(RoundPlan, plan), ()))
        self.worker._beside.wait()
        if self.reported[-1] is None:
            return
        state = GlobalState(
            round_id=round_id, participating_nodes=list(samples), samples=list(samples.values())
        )
        object.__setattr__(state, "averaged_plan_digest", plan.digest)
        commit: Any = SimpleNamespace(state=state)
        self.worker._carry_out(Apply(commit, cast(Any, None)))
        if self.worker._applying:  # what it begins with runs beside training
            self.worker._apply(self.worker._applying)


@pytest.mark.parametrize("weight", [0, 4])
def test_what_a_peer_owes_is_kept_when_nothing_of_it_was_sent(weight: int, tmp_path: Path) -> None:
    learner = learner_with("topk", tmp_path, codec_warmup={"rounds": 0})
    stage = Stage(learner, tmp_path, mean=0.0)
    train(learner, 1)
    stage.goes_through(1, **{ME: 4, OTHER: 4})
    owed = learner._feedback.residual.copy()
    assert np.abs(owed).sum() > 0
    train(learner, 2)
    stage.goes_through(2, **{ME: weight, OTHER: 4})
    assert np.array_equal(learner._feedback.residual, owed) is not bool(weight)
    assert np.abs(learner._feedback.residual).sum() > 0


def test_every_attempt_of_a_round_goes_through_that_rounds_codec(tmp_path: Path) -> None:
    learner = learner_with("topk", tmp_path, rounds=4, codec_warmup={"codec": "int8", "rounds": 2})
    stage = Stage(learner, tmp_path, mean=0.0)
    for round_id in (1, 2, 3, 4):
        train(learner, round_id)
        stage.goes_through(round_id, **{ME: 4, OTHER: 4})
        assert learner._feedback.residual.any() == (round_id >= 3)  # what topk owes
    assert stage.codecs == ["int8", "int8", "topk", "topk"]


def test_an_average_that_would_ruin_the_weights_is_refused_and_ends_no_peer(tmp_path: Path) -> None:
    learner = learner_with("int8", tmp_path, outer=OuterConfig(lr=0.6, momentum=0.9))
    stage = Stage(learner, tmp_path, mean=3e38)
    train(learner, 1)
    stage.goes_through(1, **{ME: 1, OTHER: 3})
    assert stage.reported == [None]
    ended = [event for event in stage.told if isinstance(event, ReduceEnded)]
    assert not ended[-1].complete and "not finite" in ended[-1].cause
    assert np.isfinite(learner._outer.anchor).all()


def test_a_result_is_told_of_when_it_is_on_disk(tmp_path: Path) -> None:
    learner = learner_with("fp32", tmp_path)
    stage = Stage(learner, tmp_path, mean=0.0)
    train(learner, 1)
    stage.goes_through(1, **{ME: 4, OTHER: 4})
    names = [event.name for event in stage.told]
    assert names.index("ReduceEnded") + 1 == names.index("ResultStaged")
    (staged,) = [event for event in stage.told if isinstance(event, ResultStaged)]
    assert (staged.round_id, staged.attempt) == (1, 1) and staged.seconds > 0


def test_with_overlap_an_exchange_does_not_wait_until_an_anchor_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The peer has told of its steps, and is in the plan: the others would wait, and blame it.
    learner = learner_with("fp32", tmp_path, inner_steps=4, overlap=OverlapConfig(delay_steps=2))
    stage, may_end = Stage(learner, tmp_path, mean=0.0), threading.Event()
    monkeypatch.setattr(learner, "evaluate", lambda: 2.0 if may_end.wait(60) else None)
    train(learner, 1)
    stage.goes_through(1, **{ME: 4, OTHER: 4})
    train(learner, 2)
    stage.worker._carry_out(Reduce(cast(RoundPlan, stage.plan(2, {ME: 4, OTHER: 4})), ()))
    stage.worker._beside.wait()
    assert len(stage.reported) == 2 and not may_end.is_set()
    may_end.set()
    stage.worker._measuring.wait()


def test_a_checkpoint_that_cant_be_read_is_put_away_so_that_the_next_start_asks_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_with("fp32", tmp_path)
    stage = Stage(learner, tmp_path, mean=0.0)
    train(learner, 1)
    stage.goes_through(1, **{ME: 4, OTHER: 4})
    shelf, held = Shelf(tmp_path, learner._run.run_id, learner._run.model, 2), tmp_path / "staged"
    content = held.read_bytes()
    held.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # its header is sound
    found = CaughtUp(GlobalState(round_id=1), held, 0, ())
    around: Any = stage.worker._around
    around.shelf, around.catch_up = shelf, SimpleNamespace(repair=lambda *_: found)
    around.pacer.stands_on, around.pacer.heads = "", dict
    with pytest.raises(CheckpointError):
        stage.worker._carry_out(Repair(("x",)))
    assert not held.exists() and held.with_suffix(".damaged").exists()


def test_with_overlap_training_goes_on_while_an_anchor_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_with("fp32", tmp_path, inner_steps=4, overlap=OverlapConfig(delay_steps=2))
    stage, may_end = Stage(learner, tmp_path, mean=0.0), threading.Event()

    def measure() -> float | None:
        return 2.0 if may_end.wait(10) else None

    monkeypatch.setattr(learner, "evaluate", measure)
    train(learner, 1)
    stage.goes_through(1, **{ME: 4, OTHER: 4})
    assert isinstance(stage.told[-1], RoundCommitted) or stage.told[-1].name == "CreditsCounted"
    learner.train(stage.told.append)
    may_end.set()
    stage.worker._measuring.wait()
    assert [event.val_loss for event in stage.told if isinstance(event, Evaluated)] == [2.0]
    metrics = [record for record in stage.published if isinstance(record, WorkerMetrics)]
    assert [record.val_loss for record in metrics] == [2.0]
