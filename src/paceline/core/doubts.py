"""What speaks against a run's choices: settings that are allowed, and that were measured to learn badly.

>>> [doubt.said for doubt in doubts(RunConfig())]
[]
>>> hasty = RunConfig.model_validate({"outer": {"momentum": 0.9}})
>>> [doubt.remedy for doubt in doubts(hasty)]
['--set run.outer.momentum=0.5']
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paceline.core.config import MuonConfig, RunConfig
from paceline.core.tuning import LONG_ROUNDS

_STRONG = 0.8
TOPK_TURNS = 200
"""A part of the model that is exchanged less often through topk lags behind every dense codec."""


@dataclass(frozen=True)
class Doubt:
    """One thing to think over.

    Attributes:
        said: What, and why.
        remedy: What to set instead.
    """

    said: str
    remedy: str


def doubts(run: RunConfig) -> Iterator[Doubt]:
    """Look through a run's parameters.

    Args:
        run: The run.

    Yields:
        What speaks against them; nothing for the defaults.
    """
    turns = run.rounds // run.overlap.fragments
    if run.codec == "topk":
        yield from _of_topk(run, turns)
    elif run.outer.momentum > _STRONG and turns < LONG_ROUNDS:
        yield Doubt(
            f"an outer momentum of {run.outer.momentum:g} echoes for more rounds than pay off in {turns}",
            "--set run.outer.momentum=0.5",
        )
    if run.codec_warmup.rounds >= run.rounds and run.codec_warmup.codec != run.codec:
        yield Doubt(
            f"the warm-up takes all {run.rounds} rounds: {run.codec} is never used",
            f"--set run.codec={run.codec_warmup.codec}, or fewer codec_warmup.rounds",
        )


def _of_topk(run: RunConfig, turns: int) -> Iterator[Doubt]:
    if turns < TOPK_TURNS:
        yield Doubt(
            f"topk sends 1 value of 64 in a round, and {turns} rounds are few for that",
            "--set run.codec=int4",
        )
    if isinstance(run.inner.optimizer, MuonConfig):
        yield Doubt("topk pairs with AdamW: Muon moves all values alike", "--set run.codec=int4")
    if run.outer.momentum:
        yield Doubt(
            "topk's residual is a momentum of its own: an outer momentum on top makes things worse",
            "--set run.outer.momentum=0",
        )
