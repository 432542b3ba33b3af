"""`paceline run`: a whole simulation of the fedtrain API."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from paceline.cli.options import NUM_NODES
from paceline.cli.screen import console
from paceline.cli.stopping import Stopping
from paceline.core.errors import ConfigError

_INTERRUPTED = 130


def run(
    config: Annotated[
        Path,
        typer.Option("--config", metavar="TRAIN", help="Training config, JSON or YAML; see paceline init."),
    ],
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            min=1,
            help=f"How many simulated nodes, 64 at most. Default: the session's, {NUM_NODES} in a new one.",
        ),
    ] = None,
    param_names: Annotated[
        str, typer.Option("--param-names", metavar="A,B", help="Names of the simulated parameters.")
    ] = "weight,bias",
    param_size: Annotated[
        int, typer.Option("--param-size", min=1, help="Vector length of each parameter.")
    ] = 8,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The session's folder: a new one, or the one to go on with."),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin a new session in any case.")] = False,
) -> None:
    """Simulate federated training with synthetic Gaussian updates, from the first round to the last.

    Takes the session in runs/ that was used last for this config (and node count), if it has rounds left:
    the one that `paceline init` made, or one that was interrupted, which goes on after its last round.
    Otherwise, or when that session has other parameters, a new one begins in a folder of its own. Ctrl-C
    stops after the round, a second Ctrl-C at once; whatever was committed is on disk.

        paceline run --config train.json

        paceline run --config train.json --nodes 8 --param-names weight,bias --param-size 1000
    """
    from paceline.cli.forms import load_training

    training, parameters = load_training(config, "paceline up"), _parameters(param_names, param_size)
    with Stopping() as stopping, ExitStack() as stack:
        from paceline.cli.sessions import Wanted, choose, show, train  # heavy: after all that may be refused

        session = choose(stack, Wanted(training, nodes, parameters), output, new)
        stopping.politely(lambda: None)
        result = train(session, parameters, lambda: stopping.asked)
        show(session, result)
    if result.rounds_completed < training.global_rounds:
        console().print(f"stopped after round {result.rounds_completed}; the same command goes on")
        _exit(_INTERRUPTED)


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _parameters(text: str, size: int) -> dict[str, int]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) != len(names) or "__metadata__" in names:
        raise ConfigError(
            f"--param-names {text!r} is no list of different names", "write it like weight,bias"
        )
    return dict.fromkeys(names, size)
