"""Rehearsals: what a node does in a round, tried in processes of their own, so that whatever happens to them
is a finding and not the end of the checkup.

What these processes (`paceline.peer.rehearsing`) need lies in a folder, and what came of it is written there.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from paceline.core.config import NodeConfig, RunConfig
from paceline.core.errors import PacelineError
from paceline.core.records import Frozen
from paceline.core.tuning import CodecName
from paceline.peer.checkup import BUNDLE_HINT
from paceline.peer.child import Child
from paceline.peer.folders import StateFolder

LIMIT_S = 480.0
"""A rehearsal that takes longer, the imports included, is given up."""
AVERAGE_ELEMENTS = (1 << 21) + 3
"""Values averaged: several parts, the last of them cut short."""
POLL_S = 0.05
_COMMAND = (sys.executable, "-m", "paceline.peer.rehearsing")
T = TypeVar("T", bound=Frozen)


class Averaged(Frozen):
    """What one of two peers got."""

    complete: bool
    """Whether it holds the whole mean."""
    cause: str
    """Why not."""
    sha256: str
    """Digest of the mean's bytes."""
    seconds: float
    """How long the all-reduce took."""


class Trained(Frozen):
    """How training went."""

    device: str
    """Where it ran."""
    steps: int
    """Steps that were measured."""
    samples_per_s: float
    """Sequences per second."""
    step_s: float
    """Seconds per inner step."""
    loss: float | None
    """Loss of the last step, nats per token; None when it was not finite."""
    peak_bytes: int
    """The most memory that the process held."""


class Start(Frozen):
    """What a rehearsing peer begins with."""

    codec: CodecName
    """How values travel."""
    roster: tuple[str, str]
    """Both peers, sorted."""
    places: tuple[int, int]
    """The place in the roster of each."""


def rehearse_average(codec: CodecName) -> tuple[Averaged, Averaged]:
    """Let two peers on loopback average, each a process tree of its own.

    Args:
        codec: How values travel.

    Returns:
        What each of them got.

    Raises:
        PacelineError: One of them ended without a result.
    """
    from paceline.network.identity import load_or_create

    with _folder() as folder:
        ids = [load_or_create(state_of(folder, number).key).peer_id for number in (0, 1)]
        first, second = sorted(ids)
        places = (int(ids[0] == second), int(ids[1] == second))
        write(folder / "start.json", Start(codec=codec, roster=(first, second), places=places))
        commands = [[*_COMMAND, "average", str(folder), str(number)] for number in (0, 1)]
        _run(commands, folder)
        return read(result_of(folder, 0), Averaged), read(result_of(folder, 1), Averaged)


def rehearse_training(run: RunConfig, node: NodeConfig) -> Trained:
    """Take a few inner steps as the node would.

    Args:
        run: The run's parameters.
        node: The node's own settings.

    Returns:
        How it went.

    Raises:
        PacelineError: It ended without a result.
    """
    with _folder() as folder:
        write(folder / "run.json", run)
        write(folder / "node.json", node)
        _run([[*_COMMAND, "train", str(folder)]], folder)
        return read(result_of(folder, 0), Trained)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="paceline-doctor-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(commands: Sequence[Sequence[str]], folder: Path) -> None:
    children: list[Child] = []
    try:
        for number, command in enumerate(commands):
            children.append(Child(f"rehearsal {number}", command, state_of(folder, number).output))
        deadline = time.monotonic() + LIMIT_S
        for child in children:
            while not child.wait(POLL_S):
                _raise_for(children)
                if time.monotonic() > deadline:
                    raise PacelineError(f"it was not done after {LIMIT_S:.0f} s", "free the machine, or wait")
        _raise_for(children)
    finally:
        for child in children:
            child.kill()
            child.wait(timeout_s=30)


def _raise_for(children: Sequence[Child]) -> None:
    for child in children:
        if child.exit_code():
            words = child.last_words()
            starved = "SIGKILL" in words or "emory" in words
            remedy = "see whether the system ran out of memory: dmesg | tail" if starved else BUNDLE_HINT
            raise PacelineError(f"it ended: {words}", remedy)


def state_of(folder: Path, number: int) -> StateFolder:
    """Name the folder of one of the processes.

    Args:
        folder: The rehearsal's folder.
        number: Which process.

    Returns:
        Its own folder.
    """
    return StateFolder(folder / str(number))


def result_of(folder: Path, number: int) -> Path:
    """Name the file that takes a process's result.

    Args:
        folder: The rehearsal's folder.
        number: Which process.

    Returns:
        The file.
    """
    return folder / f"result-{number}.json"


def write(path: Path, content: Frozen) -> None:
    """Write a document.

    Args:
        path: The file.
        content: What.
    """
    path.write_text(content.model_dump_json(), encoding="utf-8")


def read(path: Path, kind: type[T]) -> T:
    """Read a document.

    Args:
        path: The file.
        kind: What it holds.

    Returns:
        What it holds.
    """
    return kind.model_validate_json(path.read_text(encoding="utf-8"))
