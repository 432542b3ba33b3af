"""How pseudo-gradients and their mean travel: a codec turns float32 values into bytes and back.

    >>> codec = make_codec("fp16")
    >>> codec.decode(codec.encode(np.array([0.5, 1e9], np.float32)), 2).tolist()
    [0.5, 65504.0]

Which formats there are, and why: `docs/adr/0007`.
"""

from __future__ import annotations

from typing import assert_never

from paceline.core.tuning import CodecName
from paceline.learning.codecs.codec import Codec
from paceline.learning.codecs.floats import BF16_MAX, FP16_MAX, Bf16Codec, Fp16Codec, Fp32Codec
from paceline.learning.codecs.ints import Int4Codec, Int8Codec
from paceline.learning.codecs.levels import Int2Codec
from paceline.learning.codecs.top import TopkCodec
from paceline.learning.codecs.trial import self_test
from paceline.learning.codecs.union import UnionCodec


def make_codec(name: CodecName) -> Codec:
    """Choose a codec.

    Args:
        name: `codec` of the run's configuration.

    Returns:
        The codec.
    """
    match name:
        case "fp32":
            return Fp32Codec()
        case "fp16":
            return Fp16Codec()
        case "bf16":
            return Bf16Codec()
        case "int8":
            return Int8Codec()
        case "int4":
            return Int4Codec()
        case "int2":
            return Int2Codec()
        case "topk":
            return TopkCodec()
        case _:
            assert_never(name)


__all__ = [
    "BF16_MAX",
    "FP16_MAX",
    "Bf16Codec",
    "Codec",
    "Fp16Codec",
    "Fp32Codec",
    "Int2Codec",
    "Int4Codec",
    "Int8Codec",
    "TopkCodec",
    "UnionCodec",
    "make_codec",
    "self_test",
]
