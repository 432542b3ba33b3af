"""What `scripts/bench train` compares: one model, one corpus, one number of tokens, many ways to train.

All rows of one seed start from the same weights and read the same text: node k's stream of `learning/data.py`
in round r of H steps. So rows with one H read the same batches, and rows with another H other windows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from paceline.core.config import GptConfig, NodeConfig, RunConfig
from paceline.core.tuning import CodecName

Method = Literal["one process", "ours", "gloo", "hivemind", "torchft", "torchft streaming"]
Inner = Literal["adamw", "muon"]
_BESIDE: tuple[Method, ...] = ("hivemind", "torchft", "torchft streaming")
_LOSSY: tuple[CodecName, ...] = ("fp32", "int8", "int4", "int2")
_PUBLISHED = (0.6, 0.9)
_MUON_LR = 0.02
_OUTERS = ((1.0, 0.0), _PUBLISHED, (1.0, 0.5), (0.8, 0.7))
OURS: Method = "ours"
ONE: Method = "one process"


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        name: Its name on the command line.
        model: The model.
        batch_size: Sequences per node and inner step.
        nodes: How many nodes.
        steps: Inner steps of each node, whatever H is.
        seeds: As many as are taken unless told otherwise.
        held_out: Batches of the final evaluation.
        lr: Peak learning rate of AdamW.
        judged: Whether its figures count: it has enough rounds, and seeds.
    """

    name: str
    model: GptConfig
    batch_size: int
    nodes: int
    steps: int
    seeds: int
    held_out: int
    lr: float
    judged: bool

    @property
    def tokens(self) -> int:
        """Tokens that all nodes together train on."""
        return self.steps * self.nodes * self.batch_size * self.model.seq_len


SIZES = {
    "full": Size("full", GptConfig(dim=128, layers=4, heads=4, seq_len=128), 4, 4, 1800, 3, 64, 4e-3, True),
    "small": Size("small", GptConfig(dim=48, layers=1, heads=2, seq_len=64), 8, 4, 1800, 3, 64, 4e-3, True),
    "quick": Size("quick", GptConfig(dim=32, layers=1, heads=2, seq_len=64), 4, 4, 120, 1, 16, 8e-3, False),
}


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        method: Who averages.
        inner: The inner optimizer.
        inner_steps: H; 1 where gradients are averaged in every step.
        codec: How values travel, where the method is ours.
        outer: Outer step size and momentum, where it is ours or torchft's; the run's defaults when None.
        delay_steps: How many steps a new anchor comes late, where the method is ours; 0 where training waits.
        warmup_rounds: Rounds of another codec before it; the run's default when None.
        rate: The inner learning rate, as a multiple of the size's.
    """

    method: Method
    inner: Inner = "adamw"
    inner_steps: int = 1
    codec: CodecName = "fp32"
    outer: tuple[float, float] | None = None
    delay_steps: int = 0
    warmup_rounds: int | None = None
    rate: float = 1.0

    @property
    def name(self) -> str:
        """What to call it on the command line and in file names."""
        parts = [self.method.replace(" ", "-"), self.inner]
        if self.inner_steps > 1:
            parts.append(f"h{self.inner_steps}")
        if self.method == OURS:
            parts.append(self.codec)
        return "-".join([*parts, *(f"{key}-{value}" for key, value in self.settings.items())])

    @property
    def settings(self) -> dict[str, str]:
        """What is not as usual, by what it is called."""
        changed = {
            "outer": "{:g}-{:g}".format(*self.outer) if self.outer else "",
            "late": f"{self.delay_steps}" if self.delay_steps else "",
            "warm-up": "" if self.warmup_rounds is None else f"{self.warmup_rounds}",
            "rate": f"{self.rate:g}" if self.rate != 1 else "",
        }
        return {key: value for key, value in changed.items() if value}

    def run(self, size: Size, seed: int) -> RunConfig:
        """Spell it as a run's parameters."""
        lr = self.rate * (size.lr if self.inner == "adamw" else _MUON_LR)
        fields: dict[str, Any] = {
            "name": "train",
            "seed": seed,
            "expected_peers": size.nodes,
            "inner_steps": self.inner_steps,
            "rounds": -(-size.steps // self.inner_steps),
            "model": size.model,
            "inner": {"optimizer": {"type": self.inner, "lr": lr}},
            "codec": self.codec,
        }
        if self.outer:
            fields["outer"] = {"lr": self.outer[0], "momentum": self.outer[1]}
        if self.warmup_rounds is not None:
            fields["codec_warmup"] = {"rounds": self.warmup_rounds}
        if self.delay_steps:
            fields["overlap"] = {"delay_steps": self.delay_steps}
        return RunConfig.model_validate(fields)

    def digest(self, size: Size, seed: int) -> str:
        """Identify all that its figures depend on."""
        what = [self.method, asdict(size) | {"model": None}, self.run(size, seed).document()]
        what += [_SPELLING[self.codec]] if self.codec in _SPELLING else []
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


_SPELLING = {"topk": "gaps"}
"""How a codec's bytes are spelled, where that has changed: results from before are not those of today."""


def node(size: Size) -> NodeConfig:
    """How every node looks. Nobody evaluates on the way: all are measured alike at the end."""
    return NodeConfig(device="cpu", threads=1, batch_size=size.batch_size, eval_batches=0)


def node_ids(size: Size) -> list[str]:
    """Whose streams of data are read."""
    return [f"node-{number:03d}" for number in range(1, size.nodes + 1)]


def rows() -> Iterator[Row]:
    """All ways to train, the ones that figures are about first."""
    yield Row(ONE)
    yield from (Row(OURS, "adamw", 30, codec) for codec in get_args(CodecName))
    yield from (Row(OURS, "adamw", h, codec) for h in (100, 10) for codec in _LOSSY)
    yield Row(ONE, "muon")
    yield from (Row(OURS, "muon", h, codec) for h in (30, 100, 10) for codec in _LOSSY)
    yield from (Row(method, "adamw", 30) for method in _BESIDE)
    yield Row("gloo")
    yield from _trials()


def _trials() -> Iterator[Row]:
    # What the recipe and the product's defaults were chosen by.
    yield Row(OURS, "adamw", 30, "int8", delay_steps=5)
    yield from (Row(OURS, "adamw", 30, "fp32", outer) for outer in _OUTERS)
    yield Row(OURS, "adamw", 10, "int8", (0.8, 0.5))
    yield from (Row(OURS, "adamw", 30, "topk", warmup_rounds=rounds) for rounds in (0, 30))
    for rate in (0.5, 2.0):
        yield Row(ONE, rate=rate)
        yield Row(OURS, "adamw", 30, "fp32", rate=rate)


def row_called(name: str) -> Row:
    """Find a row by its name."""
    return next(row for row in rows() if row.name == name)
