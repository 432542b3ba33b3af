"""`paceline top`: a swarm at a terminal, drawn anew as it moves."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from paceline.cli.screen import console
from paceline.cli.sources import source_of
from paceline.cli.stopping import Stopping

if TYPE_CHECKING:
    from paceline.watch.picture import Picture
    from paceline.watch.source import Source

_FRAME_S, _LOOK_S = 0.5, 0.1
_FIRST_LOOK_S = 15.0
_TALL = 1000
_LEAVE = b"qQ\x1b"
_ARROWS = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]")


def top(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FOLDER",
            help="A run.json or a seed's multiaddr is watched live, and so is the folder of a local run that"
            " goes on; of anything else its end is shown.",
        ),
    ],
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture and leave, as into a pipe.")
    ] = False,
) -> None:
    """Show a swarm at the terminal: how it does, its peers, its losses and its last commits.

    Reads the DHT as a client and takes no part. `q` leaves, and so does Ctrl-C.

        paceline top run.json

        paceline top runs/demo-1a2b3c4d-20260101-120000

        paceline top run.json --once
    """
    screen = console()
    with Stopping() as stopping, source_of(target) as source:
        stopping.politely(lambda: None)
        if once or not screen.is_terminal or screen.is_dumb_terminal or not sys.stdin.isatty():
            _wait_for_peers(source, stopping)
            _print(source.picture(), screen)
        else:
            _stay(source, screen, stopping)


def _print(picture: Picture, screen: Console) -> None:
    from paceline.cli.panorama import panorama

    screen.print(panorama(picture, screen.width, _TALL))


def _stay(source: Source, screen: Console, stopping: Stopping) -> None:
    from paceline.cli.panorama import panorama

    with _keys() as keys, Live(console=screen, screen=True, auto_refresh=False) as live:
        drawn_at, version = float("-inf"), 0
        while not stopping.asked:
            news = source.changed(version, 0.0)
            now = time.monotonic()
            if news > version or now >= drawn_at + _FRAME_S:
                drawn_at, version = now, news
                width, height = screen.size
                picture = panorama(source.picture(), width, height - 1)
                live.update(Group(picture, Text("q leaves", "dim")), refresh=True)
            if keys.left(_LOOK_S):
                return


def _wait_for_peers(source: Source, stopping: Stopping) -> None:
    # The board is read once a second: whoever looks at once would see nobody.
    deadline, version = time.monotonic() + _FIRST_LOOK_S, 0
    while source.is_live and not stopping.asked and time.monotonic() < deadline:
        version = source.changed(version, _FRAME_S)
        if source.picture(rounds=1).peers:
            return


class _Keys:
    """What is typed, key by key, while it is entered."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def left(self, patience_s: float) -> bool:
        readable, _, _ = select.select([self._descriptor], [], [], patience_s)
        if not readable:
            return False
        typed = os.read(self._descriptor, 64)
        # Nothing to read is the end of the terminal. An arrow begins like escape, and is none.
        keys = _ARROWS.sub(b"", typed)
        return not typed or any(key in _LEAVE for key in keys)


@contextmanager
def _keys() -> Iterator[_Keys]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
