"""The kinds of swarm that faults happen to, and what this machine needs for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from paceline.core.config import GptConfig
from tests.nemesis.lab import CpuShare, Lab, SmallDisk
from tests.nemesis.networks import LabPlace
from tests.nemesis.paces import SharedPlace
from tests.nemesis.swarm import Setting, Swarm

TRAINING_DOMINATES = {"model": GptConfig(dim=96, layers=4, heads=4, seq_len=32), "inner_steps": 120}
"""As in any real run, where rounds take minutes: there one measures what others cost while it trains."""
LOOPBACK, NETWORK, SHARES = "loopback", "namespaces", "processor shares"


@contextmanager
def open_stage(stage: str, path: Path, peers: int) -> Iterator[Swarm]:
    """Start the swarm of a stage, and end it."""
    with ExitStack() as stack:
        if stage == NETWORK:
            lab = stack.enter_context(Lab(hosts=peers + 1))
            yield stack.enter_context(Swarm(path, Setting(peers=peers), LabPlace(lab)))
        elif stage == SHARES:
            place = SharedPlace(stack)
            swarm = stack.enter_context(Swarm(path, Setting(peers=peers, run=TRAINING_DOMINATES), place))
            place.limit()
            yield swarm
        else:
            yield stack.enter_context(Swarm(path, Setting(peers=peers)))


def unavailable(stage: str) -> str | None:
    """Say why this machine can't have a stage, or None."""
    if stage == NETWORK:
        return Lab.reason_unavailable()
    return CpuShare.reason_unavailable() if stage == SHARES else None


def no_small_disk() -> str | None:
    """Say why this machine can't have a small disk, or None."""
    return SmallDisk.reason_unavailable()
