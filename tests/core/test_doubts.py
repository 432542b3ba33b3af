"""Claims about what speaks against a run's choices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.core.config import RunConfig
from paceline.core.doubts import doubts
from paceline.core.tuning import CodecName

MANY = {"codec": "topk", "rounds": 1000}


@given(st.integers(1, 64), st.integers(1, 10_000), st.sampled_from(["fp32", "fp16", "int8", "int4", "int2"]))
def test_nothing_speaks_against_what_a_run_chooses_by_itself(
    peers: int, rounds: int, codec: CodecName
) -> None:
    assert list(doubts(RunConfig(expected_peers=peers, rounds=rounds, codec=codec))) == []


@pytest.mark.parametrize(
    ("changes", "said", "remedy"),
    [
        ({"codec": "topk", "rounds": 50}, "50 rounds are few", "--set run.codec=int4"),
        (MANY | {"overlap": {"fragments": 4}, "rounds": 400}, "100 rounds are few", "--set run.codec=int4"),
        (MANY | {"inner": {"optimizer": {"type": "muon"}}}, "pairs with AdamW", "--set run.codec=int4"),
        (MANY | {"outer": {"momentum": 0.1}}, "a momentum of its own", "--set run.outer.momentum=0"),
        ({"rounds": 50, "outer": {"momentum": 0.9}}, "0.9 echoes", "--set run.outer.momentum=0.5"),
        ({"codec_warmup": {"rounds": 10}}, "all 10 rounds: fp16 is never used", "--set run.codec=int4"),
    ],
)
def test_each_doubt_says_why_and_what_to_set_instead(changes: dict[str, Any], said: str, remedy: str) -> None:
    (doubt,) = doubts(RunConfig.model_validate(changes))
    assert said in doubt.said
    assert doubt.remedy.startswith(remedy)


def test_topk_over_many_rounds_with_adamw_is_not_doubted() -> None:
    assert list(doubts(RunConfig.model_validate(MANY))) == []
