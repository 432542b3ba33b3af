"""`paceline init`: make the hand-out of a new run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paceline.cli.options import Sets
from paceline.cli.screen import console


def init(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML with the section run, such as configs/demo.yaml.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for run.json; runs/<run_id> when left out.")
    ] = None,
    sets: Sets = None,
) -> None:
    """Create a run: its canonical parameters, their digest, and run.json to hand out.

    Nothing is started and nothing is sent. Then start a seed, and give run.json to everybody:

        paceline init configs/gpt-150m.yaml -o gpt

        paceline seed gpt/run.json --listen /ip4/0.0.0.0/tcp/4001 --announce /ip4/203.0.113.7/tcp/4001

        paceline join gpt/run.json --config configs/node.yaml
    """
    from paceline.peer.folders import RunFolder
    from paceline.peer.settings import load_swarm

    swarm = load_swarm(config, sets or ())
    run = swarm.run
    folder = RunFolder(output or Path("runs") / run.run_id)
    from paceline.peer.compose import create_run  # heavy: after everything that may be refused

    folder.path.mkdir(parents=True, exist_ok=True)
    create_run(swarm, folder.path)
    screen = console()
    screen.print(f"run      {run.run_id}\ndigest   {run.digest()}\nhand-out {folder.handout}")
    least, majority = run.quorum.min_members, run.expected_peers // 2 + 1
    if not run.quorum.founders and least < majority:
        screen.print(
            f"note     no founders are named: two groups of {least} could each begin this run. "
            f"With {run.expected_peers} peers, --set run.quorum.min_members={majority} rules that out."
        )
    screen.print(f"next     paceline seed {folder.handout} --listen /ip4/0.0.0.0/tcp/4001")
