"""Callers at the door: who is let in, who waits, and who is hung up on. Over socket pairs."""

from __future__ import annotations

import asyncio

import pytest
from hivemind.proto.averaging_pb2 import (
    ACCEPTED,
    BAD_GROUP_ID,
    NO_CODE,
    PART_FOR_AVERAGING,
    PROTOCOL_VIOLATION,
    AveragingData,
)

from paceline.network import reception
from paceline.network.butterfly import ReduceOrder
from paceline.network.line import Line
from paceline.network.messages import Message, carry
from tests.network.loopback import Loopback, loopback


async def _answer(line: Line) -> Message | None:
    async with asyncio.timeout(20.0):
        while (message := await line.receive()) is not None and message.code == NO_CODE:
            pass
        return message


async def _hung_up(line: Line) -> bool:
    async with asyncio.timeout(20.0):
        while await line.receive() is not None:
            pass
    return True


def test_no_caller_is_served_that_is_not_in_the_roster() -> None:
    async def play(swarm: Loopback) -> Message | None:
        stranger, *rest = swarm.members
        order = ReduceOrder("ab", tuple(member.peer_id for member in rest), (1, 1), 5.0, 5.0, 5.0)
        working = asyncio.create_task(swarm.reduce(rest[0], order))
        line = await swarm.greet(stranger.peer_id, rest[0].peer_id, order)
        answer = await _answer(line)
        working.cancel()
        return answer

    with loopback(3) as swarm:
        answer = asyncio.run(play(swarm))
        assert answer is not None
        assert answer.code == PROTOCOL_VIOLATION


def test_a_caller_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "GREETING_S", 0.2)

    async def play(swarm: Loopback) -> bool:
        return await _hung_up(await swarm.dial(*swarm.roster))

    with loopback(2) as swarm:
        assert asyncio.run(play(swarm))


@pytest.mark.parametrize("same_peer", [True, False])
def test_callers_beyond_the_limit_are_hung_up_on(monkeypatch: pytest.MonkeyPatch, same_peer: bool) -> None:
    monkeypatch.setattr(reception, "MAX_CALLERS_PER_PEER" if same_peer else "MAX_CALLERS", 3)

    async def play(swarm: Loopback) -> None:
        callee, *callers = swarm.roster
        waiting = [await swarm.dial(callers[0 if same_peer else n % 2], callee) for n in range(3)]
        assert await _hung_up(await swarm.dial(callers[0], callee))
        waiting.pop().hang_up()  # whoever leaves makes room
        order = swarm.order()
        async with asyncio.timeout(20.0):
            while (answer := await (await swarm.greet(callers[0], callee, order)).receive()) is None:
                await asyncio.sleep(0.01)
        assert answer.code == NO_CODE

    with loopback(3) as swarm:
        asyncio.run(play(swarm))


def test_a_caller_with_an_unknown_attempt_is_kept_informed_and_let_in_when_it_begins() -> None:
    async def play(swarm: Loopback) -> None:
        early, late = swarm.members
        order = swarm.order()
        line = await swarm.greet(early.peer_id, late.peer_id, order)
        message = await line.receive()
        assert message is not None
        assert message.code == NO_CODE
        working = asyncio.create_task(swarm.reduce(late, order))
        answer = await _answer(line)
        assert answer is not None
        assert answer.code == ACCEPTED
        working.cancel()

    with loopback(2) as swarm:
        asyncio.run(play(swarm))


def test_a_caller_with_an_unknown_attempt_is_sent_away_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "PATIENCE_S", 0.3)

    async def play(swarm: Loopback) -> Message | None:
        return await _answer(await swarm.greet(swarm.roster[0], swarm.roster[1], swarm.order()))

    with loopback(2) as swarm:
        answer = asyncio.run(play(swarm))
        assert answer is not None
        assert answer.code == BAD_GROUP_ID


def test_a_member_sent_away_too_early_calls_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "PATIENCE_S", 0.1)
    with loopback(2) as swarm:
        swarm.members[1].start_s = 1.0
        outcomes = asyncio.run(swarm.round(swarm.order()))
        assert all(outcome.complete for outcome in outcomes), outcomes


def test_a_caller_who_goes_on_talking_before_it_is_answered_is_sent_away() -> None:
    async def play(swarm: Loopback) -> Message | None:
        line = await swarm.greet(swarm.roster[0], swarm.roster[1], swarm.order())
        await line.send(AveragingData(code=PART_FOR_AVERAGING), 5.0)
        return await _answer(line)

    with loopback(2) as swarm:
        answer = asyncio.run(play(swarm))
        assert answer is not None
        assert answer.code == BAD_GROUP_ID


def test_a_greeting_that_carries_a_part_is_hung_up_on() -> None:
    async def play(swarm: Loopback) -> bool:
        line = await swarm.dial(*swarm.roster)
        await line.send(carry(PART_FOR_AVERAGING, bytes(2000)), 5.0)
        return await _hung_up(line)

    with loopback(2) as swarm:
        assert asyncio.run(play(swarm))


def test_an_attempt_that_is_over_answers_late_callers_and_is_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reception, "KEEP_S", 0.3)

    async def play(swarm: Loopback) -> None:
        order, (late, early) = swarm.order(start_s=0.2), swarm.members
        outcome = await swarm.reduce(early, order)
        assert outcome.blamed == late.peer_id
        answer = await _answer(await swarm.greet(late.peer_id, early.peer_id, order))
        assert answer is not None
        assert answer.code == ACCEPTED or answer.peer_id
        early.reception.forget_later(order.group_id)
        async with asyncio.timeout(20.0):
            while early.reception.knows(order.group_id):
                await asyncio.sleep(0.01)

    with loopback(2) as swarm:
        asyncio.run(play(swarm))
