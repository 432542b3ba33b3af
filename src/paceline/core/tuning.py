"""What a run chooses by itself: the outer step, and the codec of its first rounds.

What was measured for these choices: `docs/codecs.md` and `docs/performance.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from paceline.core.records import Frozen

CodecName = Literal["fp32", "fp16", "bf16", "int8", "int4", "int2", "topk"]
"""All codecs."""
WarmupCodecName = Literal["fp32", "fp16", "bf16", "int8", "int4"]
"""Those that owe nothing, so that whoever follows them begins without a residual."""
LONG_ROUNDS = 100
"""From so many rounds on the published outer step is taken: for its momentum of .9 20 were by far too few, 60
still too few, and it was published for 128 (DiLoCo, arXiv 2311.08105)."""
_WARMUP_LEAST, _WARMUP_SHARE, _WARMUP_MOST = 10, 20, 100


class CodecWarmup(Frozen):
    """Another codec for the first rounds: what is far from its goal wants to be moved as a whole."""

    codec: WarmupCodecName = "int4"
    """How pseudo-gradients and their mean travel meanwhile."""
    rounds: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """For so many rounds, from the first one on; 0 for none. With fragments it counts exchanges, as the run's
    `rounds` do."""

    def codec_of(self, round_id: int, codec: CodecName) -> CodecName:
        """Choose a round's codec.

        Args:
            round_id: The round, from 1.
            codec: The run's.

        Returns:
            The codec's name.
        """
        return self.codec if round_id <= self.rounds else codec


def outer_defaults(peers: int, turns: int, codec: str = "fp16") -> dict[str, float]:
    """Choose the outer step for a number of peers and rounds, and a codec.

    What top-k leaves out comes later through its residual, which is a momentum of its own: there the whole
    mean is taken, without another one (SparseLoCo). Otherwise .8 with a momentum of .5 was best of what was
    tried over tens of rounds with 4 peers. For `LONG_ROUNDS` and more it is the published momentum of .9,
    with step sizes that were tuned for 1, 2, 4, 8 peers: .4, .6, .6, .8, independent of model size.

    Args:
        peers: Expected peers.
        turns: How often each part of the model is exchanged: planned rounds over fragments.
        codec: How pseudo-gradients travel.

    Returns:
        `lr` and `momentum` for `OuterConfig`.
    """
    if codec == "topk":
        return {"lr": 1.0, "momentum": 0.0}
    if turns < LONG_ROUNDS:
        return {"lr": 0.4 if peers <= 1 else 0.8, "momentum": 0.5}
    return {"lr": 0.4 if peers <= 1 else 0.6 if peers < 8 else 0.8, "momentum": 0.9}


def warmup_defaults(rounds: int, codec: str, fragments: int = 1) -> dict[str, Any]:
    """Choose the codec of a run's first rounds.

    Only topk has a warm-up by itself: each part of the model is exchanged 10 times, or a twentieth of its
    turns if that is more, up to 100; half of the run at most.

    Args:
        rounds: Planned rounds.
        codec: How pseudo-gradients travel.
        fragments: Parts of the model, exchanged in turns.

    Returns:
        `codec` and `rounds` for `CodecWarmup`.
    """
    if codec != "topk":
        return {"codec": "int4", "rounds": 0}
    turns = rounds // fragments
    wanted = min(max(_WARMUP_LEAST, turns // _WARMUP_SHARE), _WARMUP_MOST, turns // 2)
    return {"codec": "int4", "rounds": max(0, wanted) * fragments}
