"""Others' ways to train the same: real processes on loopback, torchft's in an environment of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from paceline.learning.flat import Flat
from tests.bench.training.peer import Job
from tests.bench.training.recipe import ONE, OURS, Method, Row, Size
from tests.bench.training.results import Result, stamp
from tests.bench.training.together import held_out_loss
from tests.bench.training.wire import ring_bytes

PACKAGES: dict[Method, str] = {"torchft": "torchft==0.2.0", "torchft streaming": "torchft==0.2.0"}
"""What is fetched into an environment of its own."""
_BYTES_PER_VALUE: dict[Method, int] = {"gloo": 4, "hivemind": 2, "torchft": 4, "torchft streaming": 4}
_ROOT = Path(__file__).resolve().parents[3]
_LIMIT_S = 3600.0


def environment(row: Row, folder: Path) -> Path | None:
    """Tell where a row's environment lies, or None where this one will do."""
    package = PACKAGES.get(row.method)
    return folder / f"env-{package.partition('==')[0]}" if package else None


def unavailable(row: Row, folder: Path) -> str:
    """Tell why a row can't be trained here; empty when it can."""
    place = environment(row, folder)
    if place is not None and not _lighthouse(place).exists():
        return "not installed: scripts/bench train --install"
    return ""


def install(folder: Path) -> None:
    """Fetch what others need from PyPI; torch and all that is ours are shared with this environment."""
    for package in sorted(set(PACKAGES.values())):
        place = folder / f"env-{package.partition('==')[0]}"
        venv.create(place, with_pip=True, clear=True)
        (site,) = place.glob("lib/python3*/site-packages")
        (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        subprocess.run([place / "bin/python", "-m", "pip", "install", "--quiet", package], check=True)


def train(row: Row, size: Size, seed: int, folder: Path, steps: int | None = None) -> Result:
    """Start all processes of a row, wait for them, and measure where they ended.

    Raises:
        RuntimeError: A process failed; with what it printed last.
    """
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paceline-bench-")))
        address = stack.enter_context(_server(row, size, folder, place))
        job = Job(row.name, size.name, seed, steps or size.steps, address)
        (place / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
        python = (environment(row, folder) or Path(sys.prefix)) / "bin/python"
        run_peers([str(python), "-m", "tests.bench.training.peer", str(place)], size.nodes, place)
        weights: Flat = np.mean([np.load(place / f"weights-{n}.npy") for n in range(size.nodes)], axis=0)
        times = [json.loads((place / f"times-{n}").read_text()) for n in range(size.nodes)]
    exchanges = job.steps // row.inner_steps
    return Result(
        row=row.name,
        seed=seed,
        digest=row.digest(size, seed),
        val_loss=held_out_loss(size, weights),
        sent_bytes=ring_bytes(weights.size, size.nodes) // 4 * _BYTES_PER_VALUE[row.method] * exchanges,
        train_s=sum(each["train_s"] for each in times),
        wall_s=sum(each["wall_s"] for each in times),
        parameters=weights.size,
        **stamp(),
    )


def run_peers(command: list[str], count: int, place: Path) -> None:
    """Run processes that end together; when one fails, all others are ended."""
    children = []
    try:
        for number in range(count):
            with (place / f"output-{number}").open("wb") as output:
                settings = os.environ | {"PYTHONPATH": f"{_ROOT / 'src'}:{_ROOT}", "OMP_NUM_THREADS": "1"}
                children.append(
                    subprocess.Popen(
                        [*command, str(number)], stdout=output, stderr=output, env=settings, cwd=_ROOT
                    )
                )
        deadline = time.monotonic() + _LIMIT_S
        while any(child.poll() is None for child in children):
            failed = [n for n, child in enumerate(children) if child.poll()]
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        bad = [n for n, child in enumerate(children) if child.poll() != 0]
        if bad:
            said = (place / f"output-{bad[0]}").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"process {bad[0]} of {command} failed:\n{said[-3000:]}")
    finally:
        for child in children:
            child.kill()
            child.wait()


@contextmanager
def _server(row: Row, size: Size, folder: Path, place: Path) -> Iterator[str]:
    home = environment(row, folder)
    if home is None:
        yield ""
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(home / "bin/python"),
        str(_lighthouse(home)),
        "--min_replicas",
        str(size.nodes),
        "--bind",
        f"127.0.0.1:{port}",
    ]
    patient = ["--heartbeat_timeout_ms", "60000"]
    with (place / "lighthouse").open("wb") as output:
        child = subprocess.Popen([*command, *patient], stdout=output, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


def _lighthouse(home: Path) -> Path:
    return home / "bin/torchft_lighthouse"


HERE: tuple[Method, ...] = (OURS, ONE)
"""Methods that need no second process."""
