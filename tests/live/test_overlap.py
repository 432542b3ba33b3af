"""Claims about real swarms that train on while a round is exchanged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from paceline.core.config import GptConfig, RunConfig
from paceline.core.events import Event, PeerStopped, PhaseChanged, ReduceEnded, RoundCommitted, StepDone
from paceline.core.overlap import OverlapConfig
from paceline.learning.checkpoint import load, newest
from paceline.learning.fragments import cut
from tests.live.swarms import LiveSwarm, live_swarm, small_run

pytestmark = pytest.mark.live

ROUNDS = 8


def run() -> RunConfig:
    return small_run(
        name="overlap",
        inner_steps=60,
        rounds=ROUNDS,
        model=GptConfig(dim=192, layers=4, heads=4, seq_len=32),
        overlap=OverlapConfig(fragments=2, delay_steps=8),
    )


def first_steps(swarm: LiveSwarm, name: str) -> dict[int, int]:
    """By round, after how many commits a peer did its first step of it."""
    commits, found = 0, dict[int, int]()
    for event in swarm.events(name, Event):
        if isinstance(event, RoundCommitted):
            commits = event.round_id
        elif isinstance(event, StepDone):
            found.setdefault(event.round_id, commits)
    return found


def reductions(swarm: LiveSwarm, name: str) -> int:
    return sum(event.phase == "reduce" for event in swarm.events(name, PhaseChanged))


def await_exchange(swarm: LiveSwarm, name: str) -> None:
    """Return at the beginning of a peer's next all-reduce."""
    deadline, seen = time.monotonic() + 120, reductions(swarm, name)
    while reductions(swarm, name) == seen:
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Survived(NamedTuple):
    """A run that is over."""

    swarm: LiveSwarm
    killed: str
    """Who was killed while it exchanged a round."""
    asked: str
    """Who was asked to leave while it exchanged a round."""
    left_s: float
    """How long that took."""
    rest: list[str]
    """Who was there to the end."""


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    """Four peers of which two are there to the end."""
    with live_swarm(tmp_path_factory.mktemp("overlap"), run(), peers=4) as swarm:
        names = sorted(swarm.local.names)
        swarm.until(lambda: all(swarm.height(name) >= 2 for name in names))
        killed, asked = [name for name in names if name != swarm.coordinator()][:2]
        await_exchange(swarm, killed)
        swarm.kill(killed)
        height = swarm.height(asked)
        swarm.until(lambda: swarm.height(asked) > height)
        await_exchange(swarm, asked)
        os.kill(swarm.main_pid(asked), signal.SIGINT)
        began = time.monotonic()
        swarm.until(lambda: swarm.events(asked, PeerStopped))
        left_s = time.monotonic() - began
        swarm.until(lambda: not swarm.local.running())
        yield Survived(swarm, killed, asked, left_s, sorted(set(names) - {killed, asked}))


def test_steps_are_done_while_rounds_are_exchanged(survived: Survived) -> None:
    swarm = survived.swarm
    for name in survived.rest:
        begun = first_steps(swarm, name)
        early = [round_id for round_id, commits in begun.items() if commits < round_id - 1]
        assert len(early) >= ROUNDS // 2, begun
        assert {event.round_id for event in swarm.events(name, StepDone) if event.ahead} >= set(early)


def test_the_rest_goes_on_after_a_peer_is_killed_in_the_middle_of_an_exchange(survived: Survived) -> None:
    swarm = survived.swarm
    assert len(swarm.events(survived.killed, ReduceEnded)) < reductions(swarm, survived.killed)
    logs = swarm.logs(*survived.rest)
    assert {log.rounds for log in logs.values()} == {ROUNDS}
    assert len({log.head_digest for log in logs.values()}) == 1


def test_a_peer_that_is_asked_to_leave_in_the_middle_of_an_exchange_leaves_soon(survived: Survived) -> None:
    stopped = survived.swarm.events(survived.asked, PeerStopped)
    assert [event.cause for event in stopped] == ["asked"]
    assert survived.left_s < 15


def test_all_stand_on_the_same_anchor_though_their_local_weights_differ(survived: Survived) -> None:
    swarm = survived.swarm
    found = []
    for name in survived.rest:
        path = newest(swarm.states[name].checkpoints)
        assert path is not None
        found.append(load(path))
    one, other = found
    assert one.info.round_id == other.info.round_id == ROUNDS
    assert np.array_equal(one.anchor, other.anchor)
    assert np.array_equal(one.momentum, other.momentum)


def test_a_round_changes_its_fragment_of_the_anchor_and_nothing_else(survived: Survived) -> None:
    swarm = survived.swarm
    name, run = survived.rest[0], swarm.run
    paths = sorted(swarm.states[name].checkpoints.glob("round-*.safetensors"))[-2:]
    before, after = (load(path) for path in paths)
    exchanged = run.timetable.fragment_of(ROUNDS)
    for number, fragment in enumerate(cut(run.model, run.overlap.fragments)):
        same = np.array_equal(fragment.take(before.anchor), fragment.take(after.anchor))
        assert same == (number != exchanged)


def test_fragments_take_turns_and_half_as_much_travels(survived: Survived) -> None:
    swarm = survived.swarm
    name, run = survived.rest[0], swarm.run
    parts = cut(run.model, 2)
    done = [event for event in swarm.events(name, ReduceEnded) if event.complete]
    for event in done:
        part = parts[run.timetable.fragment_of(event.round_id)]
        assert event.bytes_out <= 2 * 2 * part.num_elements  # 16 bits each way


def test_credits_are_those_of_steps_that_were_done(survived: Survived) -> None:
    swarm = survived.swarm
    logs = swarm.logs(*survived.rest)
    for name in survived.rest:
        trained = sum(event.tokens for event in swarm.events(name, StepDone)) // run().model.seq_len
        credited = logs[name].credits[swarm.peer_id(name)]
        assert 0.8 * trained <= credited <= trained
