"""Claims about what a run chooses by itself, and about which codec a round has."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from paceline.core.config import RunConfig
from paceline.core.tuning import (
    LONG_ROUNDS,
    CodecName,
    CodecWarmup,
    WarmupCodecName,
    outer_defaults,
    warmup_defaults,
)

CODECS, WARMUPS = get_args(CodecName), get_args(WarmupCodecName)
numbers = st.integers(1, 300)


@given(st.sampled_from(CODECS), st.sampled_from(WARMUPS), numbers, st.integers(0, 400), st.integers(1, 300))
def test_a_rounds_codec_follows_from_the_run_and_the_round_alone(
    codec: CodecName, warm: WarmupCodecName, rounds: int, warm_rounds: int, round_id: int
) -> None:
    run = RunConfig(codec=codec, rounds=rounds, codec_warmup=CodecWarmup(codec=warm, rounds=warm_rounds))
    again = RunConfig.model_validate_json(run.document())  # as a joiner gets it
    assert again.codec_of(round_id) == run.codec_of(round_id)
    assert run.codec_of(round_id) == (warm if round_id <= warm_rounds else codec)
    assert run.codecs == tuple(dict.fromkeys(run.codec_of(each) for each in range(1, rounds + 1)))


@pytest.mark.parametrize("codec", CODECS)
def test_only_topk_begins_with_another_codec_unless_told_otherwise(codec: CodecName) -> None:
    run = RunConfig(codec=codec, rounds=60)
    assert run.codecs == (("int4", "topk") if codec == "topk" else (codec,))


def test_a_warm_up_that_is_given_is_kept_and_what_it_leaves_open_follows_the_rounds() -> None:
    def warmup(**given: Any) -> CodecWarmup:
        return RunConfig.model_validate({"codec": "topk", "rounds": 60, "codec_warmup": given}).codec_warmup

    by_itself = warmup().rounds
    assert 0 < by_itself < 60
    assert warmup(rounds=0) == CodecWarmup(rounds=0)
    assert warmup(codec="int8") == CodecWarmup(codec="int8", rounds=by_itself)


@given(st.integers(1, 10_000_000))
def test_a_warm_up_ends_before_its_run_does(rounds: int) -> None:
    assert min(10, rounds // 2) <= warmup_defaults(rounds, "topk")["rounds"] <= min(100, rounds // 2)


def test_a_warm_up_with_a_codec_that_owes_something_is_refused() -> None:
    with pytest.raises(ValidationError, match="Input should be 'fp32'"):
        RunConfig.model_validate({"codec_warmup": {"codec": "int2", "rounds": 3}})


def test_a_run_without_a_warm_up_has_the_digest_that_it_had_before_there_was_any() -> None:
    assert "codec_warmup" not in RunConfig(codec="int4").document()
    assert "codec_warmup" in RunConfig(codec="topk", codec_warmup=CodecWarmup()).document()
    assert "codec_warmup" in RunConfig(codec_warmup=CodecWarmup(codec="int8")).document()


@given(st.integers(1, 64), st.integers(1, 1000))
def test_a_momentum_of_many_rounds_is_not_taken_for_few(peers: int, rounds: int) -> None:
    outer = outer_defaults(peers, rounds)
    assert outer["momentum"] == (0.9 if rounds >= LONG_ROUNDS else 0.5)
    assert 0 < outer["lr"] < 1
