"""Claims about error feedback."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from paceline.core.tuning import WarmupCodecName
from paceline.learning.codecs import Codec, Int2Codec, TopkCodec, make_codec
from paceline.learning.feedback import Feedback
from paceline.learning.flat import Flat

LOSSY = pytest.mark.parametrize("codec", [Int2Codec(), TopkCodec()], ids=lambda codec: codec.name)
N = 2 * 4096 + 77


def normal(seed: int, n: int = N) -> Flat:
    return np.random.default_rng(seed).standard_normal(n, dtype=np.float32)


@LOSSY
def test_what_was_sent_and_what_remains_add_up_to_what_was_meant(codec: Codec) -> None:
    feedback, owed = Feedback(codec, N), np.zeros(N, np.float32)
    for round_id in range(3):
        values = normal(round_id)
        meant = values + np.float32(codec.feedback or 0) * owed
        feedback.add(values)
        np.testing.assert_array_equal(values, meant)
        sent = codec.decode(codec.encode(values), N)
        feedback.subtract(values, "plan")
        feedback.settle(values, "plan", took_part=True)
        owed = meant - sent
        np.testing.assert_array_equal(feedback.residual, owed)
    assert np.abs(owed).max() > 0


@LOSSY
def test_a_round_that_fails_leaves_the_residual_as_it_was(codec: Codec) -> None:
    feedback = Feedback(codec, N)
    values = normal(0)
    feedback.add(values)
    feedback.subtract(values, "first")
    feedback.settle(values, "first", took_part=True)
    before = feedback.residual.copy()
    for attempt in ("second", "third"):  # an attempt that failed, and the one that is made instead
        again = normal(1)
        feedback.add(again)
        feedback.subtract(again, attempt)
        np.testing.assert_array_equal(feedback.residual, before)
    feedback.settle(again, "third", took_part=True)
    assert (feedback.residual == again).all()
    assert (feedback.residual != before).any()


@LOSSY
def test_a_peer_that_was_left_out_keeps_its_residual_and_one_that_lost_track_sends_nothing_twice(
    codec: Codec,
) -> None:
    feedback = Feedback(codec, N)
    values = normal(0)
    feedback.add(values)
    feedback.subtract(values, "plan")
    feedback.settle(values, "plan", took_part=True)
    before = feedback.residual.copy()
    feedback.settle(normal(1), "another", took_part=False)
    np.testing.assert_array_equal(feedback.residual, before)
    later = normal(2)
    feedback.add(later)
    feedback.subtract(later, "later attempt")
    feedback.settle(later, "earlier attempt", took_part=True)
    assert not feedback.residual.any()


@LOSSY
def test_a_residual_is_forgotten_with_the_state_that_it_belongs_to(codec: Codec) -> None:
    feedback, values = Feedback(codec, N), normal(0)
    feedback.add(values)
    feedback.subtract(values, "plan")
    feedback.settle(values, "plan", took_part=True)
    feedback.forget()
    fresh = normal(1)
    feedback.add(fresh)
    np.testing.assert_array_equal(fresh, normal(1))
    feedback.settle(fresh, "plan", took_part=True)
    assert not feedback.residual.any()


@pytest.mark.parametrize("name", get_args(WarmupCodecName))
def test_a_codec_that_loses_little_costs_no_memory_here(name: WarmupCodecName) -> None:
    feedback, values = Feedback(make_codec(name), N), normal(0)
    assert not feedback.is_needed
    assert feedback.residual.size == 0
    feedback.add(values)
    feedback.subtract(values, "plan")
    feedback.settle(values, "plan", took_part=True)
    feedback.forget()
    np.testing.assert_array_equal(values, normal(0))


class HeedlessTopk(TopkCodec):
    feedback = None


class HeedlessInt2(Int2Codec):
    feedback = None


def distance_reached(codec: Codec, rounds: int = 400) -> float:
    """Let two peers descend their own parabolas; tell how far from the middle of both they end up.

    They pull hard in opposite directions, and what little they agree on is all in the second coordinate:
    top-k sends the first one only, and two levels don't tell the coordinates apart.
    """
    pulls = [np.zeros(64, np.float32), np.zeros(64, np.float32)]
    pulls[0][:2], pulls[1][:2] = (6, 4), (-6, -3)
    target = (pulls[0] + pulls[1]) / 2
    place, total = np.zeros(64, np.float32), np.zeros(64)
    owed = [Feedback(codec, 64) for _ in pulls]
    for round_id in range(rounds):
        mean = np.zeros(64, np.float32)
        for feedback, pull in zip(owed, pulls, strict=True):
            values = np.float32(0.02) * (place - pull)
            feedback.add(values)
            codec.accumulate(codec.encode(values), 64, 0.5, mean)
            feedback.subtract(values, "plan")
            feedback.settle(values, "plan", took_part=True)
        place -= mean
        total += place if round_id >= rounds // 2 else 0  # it goes on circling
    return float(np.linalg.norm(total / (rounds - rounds // 2) - target) / np.linalg.norm(target))


@pytest.mark.parametrize(
    ("heedless", "heeding"), [(HeedlessTopk(), TopkCodec()), (HeedlessInt2(), Int2Codec())]
)
def test_training_converges_with_error_feedback_where_it_does_not_without(
    heedless: Codec, heeding: Codec
) -> None:
    assert distance_reached(heedless) > 0.7
    assert distance_reached(heeding) < 0.01
