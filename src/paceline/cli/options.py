"""Options that several commands share."""

from __future__ import annotations

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
Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run.json, a folder with one, or the multiaddr of a seed."),
]
