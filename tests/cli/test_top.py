"""Claims about `paceline top`: what it shows in whatever room there is, and how it comes and goes."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from paceline.cli.panorama import panorama
from paceline.core.nicknames import named, nickname
from paceline.ledger import Ledger
from paceline.watch.picture import PeerView, Picture, RoundView, Standing, VoidView
from tests.core.history import genesis_of, history, peers, run_of

KEYS = peers(4)
IDS = [key.peer_id for key in KEYS]
NOW = 10_000.0
HOSTILE = "gone \x1b[2J\x1b]0;title\x07 \u202e [bold]x[/bold]"


def peer(number: int, standing: Standing) -> PeerView:
    return PeerView(
        peer_id=IDS[number],
        nickname=nickname(IDS[number]),
        standing=standing,
        is_coordinator=number == 1,
        round_id=3,
        inner_step=10,
        samples_per_s=20.0,
        tokens_per_s=1280.0,
        loss=2.25,
        bytes_out=5_000_000,
        credits=1234,
        seen_s=0.5,
    )


PICTURE = Picture(
    run_id="demo-1a2b3c4d",
    at=NOW,
    is_live=True,
    rounds_planned=20,
    inner_steps=20,
    tokens_per_sample=64,
    parameters=1000,
    lease_s=8.0,
    coordinator=IDS[1],
    term=2,
    peers=(peer(0, "train"), peer(1, "wait"), peer(2, "reduce"), peer(3, "lost")),
    rounds=(
        *(
            RoundView(
                round_id=number,
                committed_at=NOW - 20 + 5 * number,
                author=IDS[1],
                members=tuple(IDS),
                samples=(80,) * 4,
                receipts=4,
                avg_loss=4.0 - number,
                val_loss=3.5 - number,
                digest=f"{number:064x}"[::-1],
            )
            for number in (1, 2)
        ),
        RoundView(round_id=3, voids=(VoidView(term=2, attempt=0, cause=HOSTILE, blamed=(IDS[3],)),)),
    ),
    rounds_committed=2,
    attempts_voided=1,
    last_commit_at=NOW - 10,
    bytes_sent=20_000_000,
    data_parallel_bytes=400_000_000,
    quorum_needed=3,
    quorum_here=3,
)


def drawn(width: int, height: int = 40, picture: Picture = PICTURE) -> str:
    screen = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    screen.print(panorama(picture, width, height))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_a_wide_terminal_shows_everything() -> None:
    text = drawn(120)
    title, said, lost, _, head, first, front, *rest = text.splitlines()
    assert title.startswith("paceline demo-1a2b3c4d  round 3 of 20  3 of 4 peers here  5,120 tokens/s")
    assert title.endswith("last commit 10 s ago")
    assert said == "Learning  validation loss 1.500, down 40% over 1 round"
    assert lost == f"Lost: {named(IDS[3])}, silent for 0.5 s. The others go on."
    assert " ".join(head.split()) == "peer phase round steps loss tokens/s credits sent heard"
    assert first.startswith(f"   {named(IDS[0])}")
    assert (
        first.split()[-8:] == ["10/20", "2.250", "1,280", "1,234", "5", "MB", "0.5", "s"]
        or "0.5 s ago" in first
    )
    assert front.startswith(f"▸  {named(IDS[1])}")
    assert "training   █▁ 2.000" in text
    assert "validation █▁ 1.500" in text
    assert "sent       20 MB where data-parallel training sends 400 MB, 20 times as much" in text
    assert f"    2  20000000  2.000        4         4  {named(IDS[1])}" in text
    assert any(line.startswith("round 3: attempt 0 given up: gone") for line in rest)
    assert f"(blamed: {named(IDS[3])})" in text


@pytest.mark.parametrize("width", [20, 30, 44, 56, 70, 80, 112, 200])
def test_no_line_is_wider_than_the_terminal_and_what_matters_most_stays(width: int) -> None:
    lines = drawn(width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith("paceline")
    assert any(line.startswith("Learning") for line in lines)
    assert any("training" in line for line in lines)
    if width >= 44:
        for standing in ("train", "wait", "reduce", "lost"):
            assert any(standing in line for line in lines)


@pytest.mark.parametrize("height", [20, 24, 40])
def test_a_picture_is_no_taller_than_the_terminal(height: int) -> None:
    many = PICTURE.model_copy(update={"peers": PICTURE.peers * 16})
    lines = drawn(110, height, many).splitlines()
    assert len(lines) <= height
    assert any(line.startswith("… and ") for line in lines)


def test_what_peers_wrote_can_not_act_on_the_terminal_or_be_taken_for_markup() -> None:
    text = drawn(200)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[bold]x[/bold]" in text


def test_an_empty_picture_can_be_drawn() -> None:
    empty = PICTURE.model_copy(
        update={"peers": (), "rounds": (), "rounds_committed": 0, "last_commit_at": None, "begin": NOW}
    )
    text = drawn(100, 40, empty)
    assert "Looking for peers" in text
    assert "no peer is known yet" in text
    assert "no round is committed yet" in text


# From here on with the real command.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, path = run_of(KEYS, rounds=9), tmp_path_factory.mktemp("top") / "node"
    with Ledger.open(path / "log.sqlite", run, genesis_of(run)) as ledger:
        for link in history(run, KEYS, 3):
            ledger.append(link)
    return path


def test_into_a_pipe_it_prints_one_picture_and_leaves(folder: Path) -> None:
    command = [sys.executable, "-m", "paceline.cli", "top", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "Ended  3 of 9 rounds committed" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


_SIZELESS = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
"""pytest-xdist sets these two, and they would outdo the terminal's own size."""


@contextmanager
def at_a_terminal(
    folder: Path, *options: str, columns: int = 100
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `top` at a terminal of its own; yields the process and the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    command = [sys.executable, "-m", "paceline.cli", "top", str(folder), *options]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=_SIZELESS | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait(30)
        os.close(ours)
        os.close(theirs)


def read_until(terminal: int, condition: Callable[[bytes], object], limit_s: float = 120.0) -> bytes:
    deadline, seen = time.monotonic() + limit_s, b""
    while not condition(seen):
        assert time.monotonic() < deadline, seen[-2000:]
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    return seen


ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


def shown(seen: bytes) -> bool:
    return ENTER in seen and b"rounds committed" in seen


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x1b"])
def test_a_key_leaves_the_screen_as_it_was(key: bytes, folder: Path) -> None:
    with at_a_terminal(folder) as (process, terminal):
        before = termios.tcgetattr(terminal)
        assert b"q leaves" in read_until(terminal, lambda seen: shown(seen) and b"q leaves" in seen)
        os.write(terminal, b"x\x1b[A\x1bOB")  # other keys, arrows among them, do nothing
        read_until(terminal, lambda seen: b"q leaves" in seen)
        assert process.poll() is None
        os.write(terminal, key)
        assert LEAVE in read_until(terminal, lambda seen: LEAVE in seen)
        assert process.wait(60) == 0
        assert termios.tcgetattr(terminal)[3] == before[3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_cleanly(number: signal.Signals, folder: Path) -> None:
    with at_a_terminal(folder) as (process, terminal):
        before = termios.tcgetattr(terminal)
        read_until(terminal, shown)
        process.send_signal(number)
        left = read_until(terminal, lambda seen: LEAVE in seen)
        assert process.wait(60) == 0
        assert b"Traceback" not in left
        assert termios.tcgetattr(terminal)[3] == before[3]


def test_a_terminal_that_is_made_narrower_shows_less(folder: Path) -> None:
    with at_a_terminal(folder) as (process, terminal):
        assert b"receipts" in read_until(terminal, lambda seen: shown(seen) and b"receipts" in seen)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 40, 0, 0))
        frames = read_until(
            terminal, lambda seen: any(_is_narrow(frame) for frame in seen.split(b"paceline ")[2:])
        )
        assert frames
        os.write(terminal, b"q")
        assert process.wait(60) == 0


def _is_narrow(frame: bytes) -> bool:
    return b"q leaves" in frame and b"receipts" not in frame


def test_once_at_a_terminal_prints_one_picture_without_the_alternate_screen(folder: Path) -> None:
    with at_a_terminal(folder, "--once") as (process, terminal):
        seen = read_until(terminal, lambda seen: b"rounds committed" in seen)
        assert process.wait(60) == 0
        assert ENTER not in seen
