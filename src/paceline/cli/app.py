"""All commands in one application, and the one place where an error becomes an exit code.

Exit codes: 0 ok, 1 a check failed, 2 bad usage or configuration, 3 could not join, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from paceline import __version__
from paceline.cli import creating, doctor, federated, joining, observing, reading, simulating, top
from paceline.cli.local import up
from paceline.cli.screen import complain
from paceline.core.errors import ConfigError, IdentityError, JoinError, PacelineError, UnusableState

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_JOINED, EXIT_INTERRUPTED = 1, 2, 3, 130

_HELP = """Train one neural network together, peer to peer: no company, server or chain in the middle.

- Try it on this machine: `paceline up configs/demo.yaml`
- Join a run: `paceline join run.json --config configs/node.yaml`
- Start a run of your own: `paceline init configs/gpt-150m.yaml`
- Simulate federated training, no network: `paceline run --config train.json`
- Trust nobody: `paceline verify runs/node`
"""
_EXITS = "Exit codes: 0 ok, 1 a check failed, 2 bad usage or configuration, 3 could not join."


class _Commands(TyperGroup):
    """All commands; what one of them raises becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PacelineError as error:
            complain(error.cause, error.remedy)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=_Commands,
    help=_HELP,
    epilog=_EXITS,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
_TRAIN, _LOOK = "Train", "Look"
app.command(rich_help_panel=_TRAIN)(up)
app.command(rich_help_panel=_TRAIN)(creating.init)
app.command(rich_help_panel=_TRAIN)(federated.run)
app.command(rich_help_panel=_TRAIN)(joining.seed)
app.command(rich_help_panel=_TRAIN)(joining.join)
app.command(rich_help_panel=_LOOK)(reading.status)
app.command(rich_help_panel=_LOOK)(observing.observe)
app.command(rich_help_panel=_LOOK)(observing.report)
app.command(rich_help_panel=_LOOK)(reading.credits)
app.command(rich_help_panel=_LOOK)(reading.verify)
app.command(rich_help_panel=_LOOK)(reading.sample)
app.command(rich_help_panel=_LOOK)(top.top)
app.command(rich_help_panel=_LOOK)(doctor.doctor)
app.command(rich_help_panel=_LOOK)(simulating.simulate)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"paceline {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", is_eager=True, callback=_show_version
    ),
) -> None:
    del version  # its callback has done it


def run() -> None:
    """Run the command that this process was called with, and exit with its code.

    Raises:
        OSError: One that names no file, which no operator could have caused.
    """
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}", "check the path, its permissions and the disk")
        sys.exit(EXIT_FAILED)


def exit_code(error: PacelineError) -> int:
    """Choose the exit code for an error.

    Args:
        error: What stopped the command.

    Returns:
        2 for what the operator chose, 3 for a swarm that could not be joined, 1 for anything else.
    """
    match error:
        case ConfigError() | IdentityError() | UnusableState():
            return EXIT_USAGE
        case JoinError():
            return EXIT_NOT_JOINED
        case _:
            return EXIT_FAILED
