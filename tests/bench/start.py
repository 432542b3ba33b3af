"""`scripts/bench start`: how long a newcomer waits, from the install to the first inner step.

Processes are started by turns with their reference. The peer that joins finds a swarm of two that trains on
this machine meanwhile: it competes for the processor with them, as on a machine with other work. A state is
fetched from two donors by the code that a joiner runs, hashed chunk by chunk and written to a file, by turns
with the very same bytes through one plain TCP connection on loopback, neither encrypted nor checked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.timing import Comparison, by_turns

HELP = "how long a newcomer waits: install, import, --help, joining up to the first step, fetching a state"
ROOT = Path(__file__).resolve().parents[2]
_NOT_COPIED = shutil.ignore_patterns(
    ".venv", "runs", "shared", "__pycache__", ".*_cache", ".coverage*", "node_modules"
)
_NOTHING, _TORCH = ("-c", "pass"), ("-c", "import torch")
_PYTHON, _TORCHES = "python -c pass", "python -c 'import torch'"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repetitions", type=int, default=7, help="starts of each process (default 7)")
    parser.add_argument("--joins", type=int, default=3, help="peers that join, one after another (default 3)")
    parser.add_argument("--fetches", type=int, default=5, help="states that are fetched (default 5)")
    parser.add_argument("--state-mb", type=int, default=100, help="size of the state in MB (default 100)")
    parser.add_argument(
        "--install",
        action="store_true",
        help="also run scripts/install in a fresh copy of this folder: minutes, and mostly what pip has to"
        " download, so that it depends on its cache",
    )


def measure(options: argparse.Namespace) -> Iterator[Comparison]:
    yield from _processes(options.repetitions)
    if options.joins:
        yield _joining(options.joins)
    if options.fetches:
        yield _fetching(options.state_mb, options.fetches)
    if options.install:
        yield _installing()


def _processes(repetitions: int) -> Iterator[Comparison]:
    package, usage = ("-c", "import paceline"), ("-m", "paceline.cli", "--help")
    for name, ours, theirs, reference in (
        ("import paceline", package, _NOTHING, _PYTHON),
        ("paceline --help", usage, _NOTHING, _PYTHON),
        ("paceline --help", usage, _TORCH, _TORCHES),
    ):
        times = by_turns(lambda ours=ours: _python(ours), lambda theirs=theirs: _python(theirs), repetitions)  # type: ignore[misc]
        yield Comparison(name, *times, reference)


def _joining(count: int) -> Comparison:
    from tests.bench.joining import first_steps_s

    joined, imported = [], []
    with tempfile.TemporaryDirectory(prefix="paceline-bench-") as folder:
        for number, taken_s in enumerate(first_steps_s(Path(folder), count), start=1):
            joined.append(taken_s)
            imported.append(_timed(("-c", "import torch, hivemind")))
            say(f"{number} of {count} joined: first inner step after {taken_s:.1f} s")
    return Comparison("join to the first inner step", joined, imported, "python -c 'import torch, hivemind'")


def _fetching(state_mb: int, count: int) -> Comparison:
    from tests.bench.catch_up import Catch

    ours, theirs = [], []
    with tempfile.TemporaryDirectory(prefix="paceline-bench-") as name, Catch(Path(name), state_mb) as catch:
        for number in range(count + 1):
            took_s, plain_s = catch.fetch(), catch.copy()
            if number:  # the first of each meets a cold file and a new connection
                ours.append(took_s)
                theirs.append(plain_s)
            say(f"{number} of {count} fetched: {took_s:.2f} s, plain TCP {plain_s:.2f} s")
        return Comparison(
            f"fetch a state of {state_mb} MB from 2 donors",
            ours,
            theirs,
            "the same bytes over plain TCP",
            size_bytes=catch.size_bytes,
        )


def _installing() -> Comparison:
    with tempfile.TemporaryDirectory(prefix="paceline-bench-") as name:
        folder = Path(name) / "checkout"
        shutil.copytree(ROOT, folder, ignore=_NOT_COPIED)
        say("scripts/install in a fresh copy, what pip has cached included")
        ours_s = _seconds(["scripts/install"], folder)
        say(f"installed after {ours_s:.0f} s")
        theirs_s = _seconds([sys.executable, "-m", "venv", "empty"], Path(name))
    return Comparison("scripts/install", [ours_s], [theirs_s], "python -m venv")


def _python(arguments: Sequence[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _timed(arguments: Sequence[str]) -> float:
    began = time.perf_counter()
    _python(arguments)
    return time.perf_counter() - began


def _seconds(command: Sequence[str], folder: Path) -> float:
    began = time.perf_counter()
    settings = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    subprocess.run(command, check=True, cwd=folder, env=settings, stdout=sys.stderr)
    return time.perf_counter() - began


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
