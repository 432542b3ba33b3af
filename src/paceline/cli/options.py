"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Override one setting; the value is YAML. May be given several times, the last one wins.",
    ),
]
RUN_HELP = "A run.json, a folder with one, or the multiaddr of a seed."
Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)]
Training = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="TRAIN",
        help="Training config of the fedtrain API: JSON or YAML with model_name, learning_rate, batch_size, "
        "local_steps, global_rounds and num_nodes.",
    ),
]
NUM_NODES = 4
"""How many simulated nodes a session gets unless told otherwise."""
