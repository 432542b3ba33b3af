"""`paceline init`: make the hand-out of a new run, or a session of the fedtrain API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from paceline.cli.options import NUM_NODES, Sets, Training
from paceline.cli.screen import console


def init(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="YAML with the section run, such as configs/demo.yaml."),
    ] = None,
    train: Training = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            min=1,
            help=f"With --config: how many simulated nodes, 64 at most. Default: {NUM_NODES}.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for run.json or the session; runs/<run_id> if left out."),
    ] = None,
    sets: Sets = None,
) -> None:
    """Create a run of a swarm, or with --config a session of the fedtrain API.

    Of a swarm: its canonical parameters, their digest, and run.json to hand out. Nothing is started and
    nothing is sent. Then start a seed, and give run.json to everybody:

        paceline init configs/gpt-150m.yaml -o gpt

        paceline seed gpt/run.json --listen /ip4/0.0.0.0/tcp/4001 --announce /ip4/203.0.113.7/tcp/4001

        paceline join gpt/run.json --config configs/node.yaml

    Of the fedtrain API: a folder with a key for each simulated node and a run log, which outlives this
    process. Shows the nodes' addresses and the config. Then train in it, and look at a round:

        paceline init --config train.json --nodes 4

        paceline run --config train.json

        paceline status --round-id 5 --config train.json
    """
    from paceline.cli.forms import Form, check_forms, load_training

    check_forms(
        Form("paceline init CONFIG for a swarm", {"CONFIG": config}, {"--set": sets}),
        Form("paceline init --config TRAIN for the fedtrain API", {"--config": train}, {"--nodes": nodes}),
    )
    if config is not None:
        _create(config, output, sets or ())
    elif train is not None:
        training = load_training(train, "paceline init")
        from paceline.cli.sessions import begin  # heavy: after everything that may be refused

        begin(training, nodes or NUM_NODES, train, output)


def _create(config: Path, output: Path | None, sets: Sequence[str]) -> None:
    from paceline.cli.forms import check_swarm
    from paceline.core.doubts import doubts
    from paceline.peer.folders import RunFolder
    from paceline.peer.settings import load_swarm

    check_swarm(config, "paceline init --config")
    swarm = load_swarm(config, sets)
    run = swarm.run
    folder = RunFolder(output or Path("runs") / run.run_id)
    from paceline.peer.compose import create_run  # heavy: after everything that may be refused

    folder.path.mkdir(parents=True, exist_ok=True)
    create_run(swarm, folder.path)
    screen = console()
    screen.print(f"run      {run.run_id}\ndigest   {run.digest()}\nhand-out {folder.handout}")
    for doubt in doubts(run):
        screen.print(f"note     {doubt.said}: {doubt.remedy}", markup=False)
    least, majority = run.quorum.min_members, run.expected_peers // 2 + 1
    if not run.quorum.founders and least < majority:
        screen.print(
            f"note     no founders are named: two groups of {least} could each begin this run. "
            f"With {run.expected_peers} peers, --set run.quorum.min_members={majority} rules that out."
        )
    screen.print(f"next     paceline seed {folder.handout} --listen /ip4/0.0.0.0/tcp/4001")
