"""Members that die, stall, lie or come late, over socket pairs: who learns what, and how soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import base58
import numpy as np
import pytest
from hivemind.proto.averaging_pb2 import (
    ACCEPTED,
    AVERAGED_PART,
    CANCELLED,
    DUPLICATE_PEER_ID,
    NO_CODE,
    PART_FOR_AVERAGING,
    PROTOCOL_VIOLATION,
    AveragingData,
)
from numpy.typing import NDArray

from paceline.learning.codecs import Fp32Codec
from paceline.learning.codecs.codec import Payload
from paceline.network.butterfly import Fault, ReduceOrder, ReduceOutcome
from paceline.network.line import Line
from paceline.network.messages import Message, carry, complaint
from paceline.network.reducer import WINDOW
from tests.network.loopback import PART_ELEMENTS, Loopback, Member, loopback

SOON_S = 3.0
"""What a busy machine may add to any limit."""
LARGE = 60_000
"""Elements of a vector whose reduce takes a while at these part sizes."""


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():
            await asyncio.sleep(0.001)


def _under_way(member: Member, num_bytes: int = 10_000) -> Callable[[], object]:
    return lambda: member.attempt is not None and member.attempt.reducer.group.bytes_in > num_bytes


async def _disturbed(
    swarm: Loopback, order: ReduceOrder, disturb: Callable[[Member], Awaitable[None] | None]
) -> tuple[list[ReduceOutcome], float]:
    """Run a round, disturb its second member midway; give the others' outcomes and the time they took."""
    victim = swarm.members[1]
    rest = [member for member in swarm.members if member is not victim]
    last = asyncio.create_task(swarm.reduce(victim, order))
    working = asyncio.create_task(swarm.round(order, rest))
    await _until(_under_way(rest[0]))
    began = time.monotonic()
    pending = disturb(victim)
    if pending is not None:
        await pending
    outcomes = await working
    seconds = time.monotonic() - began
    victim.awake.set()
    last.cancel()
    return outcomes, seconds


def _all_blame(outcomes: list[ReduceOutcome], peer_id: str) -> bool:
    return all(not o.complete and o.cause and o.blamed == peer_id for o in outcomes)


def test_a_member_that_dies_ends_the_attempt_at_once_for_everybody() -> None:
    with loopback(num_elements=LARGE) as swarm:
        order = swarm.order(stall_s=15.0)
        outcomes, seconds = asyncio.run(_disturbed(swarm, order, lambda victim: swarm.cut(victim.peer_id)))
        assert _all_blame(outcomes, swarm.roster[1]), outcomes
        assert seconds < SOON_S


def test_a_member_that_freezes_ends_the_attempt_after_the_stall_limit() -> None:
    with loopback(num_elements=LARGE) as swarm:
        order = swarm.order(stall_s=1.0)
        outcomes, seconds = asyncio.run(_disturbed(swarm, order, lambda victim: victim.awake.clear()))
        assert _all_blame(outcomes, swarm.roster[1]), outcomes
        assert 0.9 < seconds < 1.0 + SOON_S


def test_a_member_that_cancels_ends_the_attempt_at_once_for_everybody() -> None:
    def cancel(victim: Member) -> None:
        assert victim.attempt is not None
        victim.attempt.cancel()

    with loopback(num_elements=LARGE) as swarm:
        outcomes, seconds = asyncio.run(_disturbed(swarm, swarm.order(stall_s=15.0), cancel))
        assert _all_blame(outcomes, swarm.roster[1]), outcomes
        assert seconds < SOON_S


def test_a_member_that_sends_and_never_reads_is_blamed_after_the_stall_limit() -> None:
    async def play(swarm: Loopback) -> ReduceOutcome:
        order = swarm.order(start_s=15.0, stall_s=1.0)
        deaf, victim = swarm.members
        working = asyncio.create_task(swarm.reduce(victim, order))
        line = await swarm.greet(deaf.peer_id, victim.peer_id, order)
        await _accepted(line)
        for _ in range(WINDOW):
            await line.send(_part(bytes(4 * swarm.arithmetic.part_elements)), 5.0)
        return await working

    with loopback(2, num_elements=4_000_000, part_elements=200_000) as swarm:
        began = time.monotonic()
        assert _all_blame([asyncio.run(play(swarm))], swarm.roster[0])
        assert time.monotonic() - began < 2.0 + SOON_S


def test_a_slow_member_is_waited_for_while_bytes_move() -> None:
    with loopback(2, num_elements=2000, part_elements=1000) as swarm:
        swarm.members[0].bytes_per_s = 2000.0
        outcomes = asyncio.run(swarm.round(swarm.order(stall_s=1.0)))
        assert all(outcome.complete for outcome in outcomes), outcomes
        assert outcomes[0].seconds > 2 * 4000 / 2000.0  # a part and a mean, each longer than the limit


def test_a_member_too_slow_for_the_whole_ends_the_attempt_at_the_total_limit() -> None:
    with loopback(3, num_elements=LARGE) as swarm:
        swarm.members[1].bytes_per_s = 5000.0
        began = time.monotonic()
        outcomes = asyncio.run(swarm.round(swarm.order(total_s=1.5)))
        assert time.monotonic() - began < 1.5 + SOON_S
        assert not any(outcome.complete for outcome in outcomes)
        assert {outcomes[0].blamed, outcomes[2].blamed} == {swarm.roster[1]}


def test_a_member_that_never_begins_is_blamed_after_the_start_limit() -> None:
    with loopback(3) as swarm:
        began = time.monotonic()
        rest = [swarm.members[0], swarm.members[2]]
        outcomes = asyncio.run(swarm.round(swarm.order(start_s=1.0), rest))
        assert _all_blame(outcomes, swarm.roster[1]), outcomes
        assert 0.9 < time.monotonic() - began < 1.0 + SOON_S


def test_a_member_that_is_gone_from_the_start_is_blamed_before_the_start_limit() -> None:
    with loopback(3) as swarm:
        swarm.cut(swarm.roster[1])
        began = time.monotonic()
        rest = [swarm.members[0], swarm.members[2]]
        outcomes = asyncio.run(swarm.round(swarm.order(start_s=15.0, stall_s=1.0), rest))
        assert _all_blame(outcomes, swarm.roster[1]), outcomes
        assert time.monotonic() - began < 1.0 + SOON_S


def test_a_member_that_learns_of_the_plan_late_is_waited_for() -> None:
    with loopback(3) as swarm:
        swarm.members[1].start_s = 2.5
        outcomes = asyncio.run(swarm.round(swarm.order(start_s=15.0, stall_s=1.5)))
        assert all(outcome.complete for outcome in outcomes), outcomes


async def _accepted(line: Line) -> None:
    while (message := await line.receive()) is not None and message.code == NO_CODE:
        pass
    assert message is not None
    assert message.code == ACCEPTED


def _part(payload: bytes, code: int = PART_FOR_AVERAGING) -> Message:
    return carry(code, payload)


GOOD = np.ones(PART_ELEMENTS, np.float32)


def _with(value: float) -> bytes:
    spoiled = GOOD.copy()
    spoiled[3] = value
    return spoiled.tobytes()


BAD_MESSAGES = {
    "a NaN": _part(_with(np.nan)),
    "an infinity": _part(_with(np.inf)),
    "a part that is too short": _part(GOOD[:-1].tobytes()),
    "one element that would broadcast": _part(GOOD[:1].tobytes()),
    "a part that is too long": _part(GOOD.tobytes() + b"1234"),
    "an empty part": _part(b""),
    "a mean instead of a part": _part(GOOD.tobytes(), AVERAGED_PART),
    "no code": _part(GOOD.tobytes(), NO_CODE),
}


@pytest.mark.parametrize("message", BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
def test_a_bad_part_ends_the_attempt_at_once_and_is_blamed(message: Message) -> None:
    async def play(swarm: Loopback) -> list[ReduceOutcome]:
        order = swarm.order(start_s=15.0, stall_s=15.0)
        liar, victim, bystander = swarm.members
        working = asyncio.create_task(swarm.round(order, [victim, bystander]))
        line = await swarm.greet(liar.peer_id, victim.peer_id, order)
        await _accepted(line)
        await line.send(message, 5.0)
        return await working

    with loopback(3) as swarm:
        began = time.monotonic()
        assert _all_blame(asyncio.run(play(swarm)), swarm.roster[0])
        assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00" + (1 << 40).to_bytes(8, "big") + b"x" * 100,
        b"\x00" + (100).to_bytes(8, "big") + b"\xff" * 100,
        b"\x07" + bytes(40),
    ],
    ids=["a terabyte claimed", "no protobuf", "no marker"],
)
def test_bytes_that_are_no_message_end_the_attempt_at_once(raw: bytes) -> None:
    async def play(swarm: Loopback) -> ReduceOutcome:
        order = swarm.order(start_s=15.0, stall_s=15.0)
        liar, victim = swarm.members
        working = asyncio.create_task(swarm.reduce(victim, order))
        line = await swarm.greet(liar.peer_id, victim.peer_id, order)
        await _accepted(line)
        line._writer.write(raw)
        return await working

    with loopback(2) as swarm:
        began = time.monotonic()
        assert _all_blame([asyncio.run(play(swarm))], swarm.roster[0])
        assert time.monotonic() - began < SOON_S


async def _send_all(swarm: Loopback, order: ReduceOrder, liar: Member, victim: Member, extra: int) -> int:
    """Send parts without waiting for means, until there is a complaint; tells how many means came."""
    line = await swarm.greet(liar.peer_id, victim.peer_id, order)
    await _accepted(line)
    slices = victim.attempt.reducer.group.slices if victim.attempt else None
    assert slices is not None
    place = order.roster.index(victim.peer_id)
    for part in range(slices.num_parts(place) + extra):
        span = slices.part(place, min(part, slices.num_parts(place) - 1))
        await line.send(_part(np.ones(span.stop - span.start, np.float32).tobytes()), 5.0)
    means = 0
    while (message := await line.receive()) is not None and message.code in (NO_CODE, AVERAGED_PART):
        means += message.code == AVERAGED_PART
    line.hang_up()
    return means


def test_parts_too_far_ahead_are_refused() -> None:
    async def play(swarm: Loopback) -> ReduceOutcome:
        order = swarm.order(start_s=15.0, stall_s=15.0)
        liar, victim, _ = swarm.members  # the third never comes, so that no mean is ever ready
        working = asyncio.create_task(swarm.reduce(victim, order))
        await _until(lambda: victim.attempt)
        assert await _send_all(swarm, order, liar, victim, 0) == 0
        return await working

    with loopback(3) as swarm:
        assert _all_blame([asyncio.run(play(swarm))], swarm.roster[0])


def test_more_parts_than_a_slice_has_are_refused() -> None:
    async def play(swarm: Loopback) -> ReduceOutcome:
        order = swarm.order(start_s=15.0, stall_s=15.0)
        liar, victim = swarm.members
        working = asyncio.create_task(swarm.reduce(victim, order))
        await _until(lambda: victim.attempt)
        await _send_all(swarm, order, liar, victim, 1)
        return await working

    with loopback(2, num_elements=4 * PART_ELEMENTS) as swarm:
        assert _all_blame([asyncio.run(play(swarm))], swarm.roster[0])


def test_a_second_stream_of_a_member_is_refused_and_harms_nobody() -> None:
    async def play(swarm: Loopback) -> tuple[list[ReduceOutcome], Message | None]:
        order = swarm.order()
        first, second = swarm.members[0], swarm.members[1]
        working = asyncio.create_task(swarm.round(order))
        await _until(_under_way(second))
        line = await swarm.greet(first.peer_id, second.peer_id, order)
        answer = await line.receive()
        line.hang_up()
        return await working, answer

    with loopback(num_elements=LARGE) as swarm:
        outcomes, answer = asyncio.run(play(swarm))
        assert answer is not None
        assert answer.code == DUPLICATE_PEER_ID
        assert all(outcome.complete for outcome in outcomes), outcomes


def test_a_member_outside_the_roster_is_refused_and_harms_nobody() -> None:
    async def play(swarm: Loopback) -> tuple[list[ReduceOutcome], Message | None]:
        stranger, *rest = swarm.members
        order = ReduceOrder("ab", tuple(member.peer_id for member in rest), (1, 1, 1), 5.0, 5.0, 20.0)
        working = asyncio.create_task(swarm.round(order, rest))
        await _until(lambda: rest[0].attempt)
        line = await swarm.greet(stranger.peer_id, rest[0].peer_id, order)
        answer = await line.receive()
        line.hang_up()
        return await working, answer

    with loopback() as swarm:
        outcomes, answer = asyncio.run(play(swarm))
        assert answer is not None
        assert answer.code == PROTOCOL_VIOLATION
        assert all(outcome.complete for outcome in outcomes), outcomes


class Poisoned(Fp32Codec):
    """Cannot bear one payload: stands for a member to whom one reducer's mean arrives spoiled."""

    poison: bytes = b""

    def decode_into(self, data: Payload, out: NDArray[np.float32]) -> None:
        if bytes(data) == self.poison:
            raise ValueError("poison")
        super().decode_into(data, out)


def test_a_member_that_fails_to_receive_goes_on_serving_the_others() -> None:
    with loopback(3) as swarm:
        for member in swarm.members:
            member.terms.buffer[:] = 0.0
        swarm.members[1].terms.buffer[0] = 3.0
        unlucky = Poisoned()
        unlucky.poison = np.array([1.0] + [0.0] * (PART_ELEMENTS - 1), np.float32).tobytes()
        terms = swarm.members[2].terms
        object.__setattr__(terms, "arithmetic", replace(terms.arithmetic, codec=unlucky))
        outcomes = asyncio.run(swarm.round(swarm.order()))
        assert [outcome.complete for outcome in outcomes] == [True, True, False]
        assert outcomes[2].blamed == swarm.roster[0]
        np.testing.assert_array_equal(swarm.members[0].terms.buffer, swarm.members[1].terms.buffer)


def test_values_that_are_not_finite_are_blamed_on_their_owner() -> None:
    with loopback(3) as swarm:
        swarm.members[1].terms.buffer[500] = np.nan
        outcomes = asyncio.run(swarm.round(swarm.order(stall_s=15.0)))
        assert _all_blame(outcomes, swarm.roster[1]), outcomes


def test_a_mean_beyond_float32_fails_rather_than_becoming_infinite() -> None:
    with loopback(10, num_elements=160) as swarm:  # ten tenths, each rounded up
        for member in swarm.members:
            member.terms.buffer[:] = np.finfo(np.float32).max
        outcomes = asyncio.run(swarm.round(swarm.order(stall_s=15.0)))
        assert not any(outcome.complete for outcome in outcomes)


def test_the_buffer_is_left_alone_once_an_attempt_is_over() -> None:
    async def play(swarm: Loopback) -> None:
        order = swarm.order()
        watched, victim, other = swarm.members
        tasks = [asyncio.create_task(swarm.reduce(member, order)) for member in (victim, other)]
        working = asyncio.create_task(swarm.reduce(watched, order))
        await _until(_under_way(watched))
        assert watched.attempt is not None
        watched.attempt.cancel()
        assert not (await working).complete
        watched.terms.buffer[:] = 7.0
        await asyncio.gather(*tasks)
        assert (watched.terms.buffer == 7.0).all()

    with loopback(3, num_elements=LARGE) as swarm:
        asyncio.run(play(swarm))


def test_a_complaint_names_the_culprit_and_not_the_messenger() -> None:
    async def play(swarm: Loopback) -> ReduceOutcome:
        order = swarm.order(start_s=15.0, stall_s=15.0)
        messenger, listener, culprit = swarm.members
        working = asyncio.create_task(swarm.reduce(listener, order))
        line = await swarm.greet(messenger.peer_id, listener.peer_id, order)
        await _accepted(line)
        await line.send(complaint(Fault("x", culprit.peer_id)), 5.0)
        return await working

    with loopback(3) as swarm:
        outcome = asyncio.run(play(swarm))
        assert outcome.blamed == swarm.roster[2]
        assert "gave up because of" in outcome.cause


@pytest.mark.parametrize("accused", ["listener", "a stranger", "nobody", "garbage"])
def test_a_complaint_that_blames_no_other_member_falls_back_on_who_makes_it(accused: str) -> None:
    async def play(swarm: Loopback) -> ReduceOutcome:
        order = ReduceOrder("ab", swarm.roster[:2], (1, 1), 15.0, 15.0, 20.0)
        messenger, listener, stranger = swarm.members
        working = asyncio.create_task(swarm.reduce(listener, order))
        line = await swarm.greet(messenger.peer_id, listener.peer_id, order)
        await _accepted(line)
        blamed = {
            "listener": base58.b58decode(listener.peer_id),
            "a stranger": base58.b58decode(stranger.peer_id),
            "nobody": b"",
            "garbage": b"\xff" * 900,
        }[accused]
        await line.send(AveragingData(code=CANCELLED, peer_id=blamed), 5.0)
        return await working

    with loopback(3) as swarm:
        assert _all_blame([asyncio.run(play(swarm))], swarm.roster[0])
