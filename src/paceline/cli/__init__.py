"""The command line. The only floor that prints to people, and the only one that exits.

`paceline --help` imports neither torch nor hivemind: whatever is heavy is imported inside the command that
needs it.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run `paceline` with the arguments of this process, and exit."""
    from paceline.cli.app import run

    run()
