"""Finding out which run a swarm trains, from nothing but an address."""

from __future__ import annotations

import time

from pydantic import ValidationError

from paceline.core.config import Handout, RunConfig
from paceline.core.errors import JoinError, RunMismatch
from paceline.core.records import RunRecord
from paceline.network.board import Board

_PATIENCE_S, _FIRST_PATIENCE_S = 20.0, 1.5
_LOOK_AGAIN_S = 0.5


def seeds_of(target: Handout | str) -> tuple[str, ...]:
    """List the addresses to connect to.

    Args:
        target: A hand-out, or one multiaddr.

    Returns:
        Multiaddrs with peer ids.

    Raises:
        JoinError: No address has been filled in yet.
    """
    if isinstance(target, str):
        return (target,)
    filled = tuple(seed for seed in target.seeds if "/tcp/0/" not in seed)
    if not filled:
        raise JoinError(
            "the hand-out has no seed's address yet",
            "start one with `paceline seed RUN_JSON`; it fills its address in",
        )
    return filled


def find_run(board: Board, target: Handout | str, patience_s: float = _PATIENCE_S) -> RunConfig:
    """Agree with the swarm on the run's parameters.

    Args:
        board: The swarm's board.
        target: A hand-out, which pins the run's digest, or a multiaddr, which pins nothing.
        patience_s: How long to look for the run's document.

    Returns:
        The run's parameters.

    Raises:
        RunMismatch: The swarm trains another run.
        JoinError: Nobody announces a run, or several are announced and none was named.
    """
    pinned = target.digest if isinstance(target, Handout) else None
    ours = target.run_config if isinstance(target, Handout) else None
    # The first peer of a new run finds no announcement, but one slow answer is no proof of that.
    deadline = time.monotonic() + (_FIRST_PATIENCE_S if ours else patience_s)
    while True:
        announced = _announced(board)
        if pinned in announced:
            return announced[pinned]
        if announced and pinned is not None:
            raise RunMismatch(pinned, ", ".join(announced))
        if len(announced) == 1:
            return next(iter(announced.values()))
        if announced:
            names = ", ".join(run.run_id for run in announced.values())
            raise JoinError(f"several runs are announced there: {names}", "join with the run.json of one")
        if time.monotonic() >= deadline:
            if ours is not None:
                return ours
            raise JoinError(
                f"no run was announced within {patience_s:.0f} s",
                "wait until a peer of the run is there, or join with its run.json",
            )
        time.sleep(_LOOK_AGAIN_S)


def _announced(board: Board) -> dict[str, RunConfig]:
    found: dict[str, RunConfig] = {}
    for posted in board.read(("run",)):
        if isinstance(posted.record, RunRecord):
            try:
                run = RunConfig.model_validate_json(posted.record.document)
            except ValidationError:
                continue
            if run.run_id == posted.record.run_id:
                found[run.digest()] = run
    return found
