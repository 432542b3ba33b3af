"""`scripts/bench monitor`: what a monitor costs the peers that it watches.

A swarm trains on this machine. In windows that take turns it is watched and not watched, now the one first
and now the other, so that whatever else goes on here hits both alike. While it is not watched, the monitor is
stopped (SIGSTOP), daemon and all: it asks nothing and takes no processor.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from paceline.core.events import StepDone
from tests.bench.timing import Comparison
from tests.live.swarms import LiveSwarm, descendants, live_swarm, small_node, small_run

HELP = (
    "what a monitor costs the peers that it watches: their processor time, and how long an inner step takes"
)
MOST = 1.01
"""A watched peer may use a hundredth of a core more than one that is not watched."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SETTLE_S = 3.0
_WATCH = """
import signal, sys, threading
from pathlib import Path
from paceline.peer.settings import load_handout
from paceline.watch.watcher import Watcher
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
with Watcher(load_handout(Path(sys.argv[1]))):
    print("watching", flush=True)
    done.wait()
"""


@dataclass(frozen=True)
class Window:
    """What was measured in one stretch of time.

    Attributes:
        step_s: Mean duration of the inner steps of all peers.
        beside: Processor seconds per second that a peer used besides its main process, for its board and its
            network daemon: mean over the peers.
        monitor: The same of all monitors together.
    """

    step_s: float
    beside: float
    monitor: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=int, default=4, help="how many peers train (default 4)")
    parser.add_argument("--pairs", type=int, default=8, help="windows of each kind (default 8)")
    parser.add_argument(
        "--monitors",
        type=int,
        default=1,
        help="how many watch at once; their cost is divided by that (default 1)",
    )
    parser.add_argument("--window", type=float, default=20.0, help="seconds per window (default 20)")


def measure(options: argparse.Namespace) -> Iterator[Comparison]:
    run = small_run(rounds=100_000, inner_steps=100)
    node = small_node().model_copy(update={"eval_batches": 0})
    pairs: list[tuple[Window, Window]] = []
    with (
        tempfile.TemporaryDirectory(prefix="paceline-bench-") as folder,
        live_swarm(Path(folder), run, options.peers, node) as swarm,
        _monitors(swarm, options.monitors) as monitors,
    ):
        for number in range(options.pairs):
            kinds = (True, False) if number % 2 else (False, True)
            windows = {
                watched: _window(swarm, monitors, options.window, watched=watched) for watched in kinds
            }
            pairs.append((windows[True], windows[False]))
            print(f"{number + 1} of {options.pairs}: {_told(*pairs[-1])}", file=sys.stderr, flush=True)
    extra = [1.0 + (watched.beside - alone.beside) / options.monitors for watched, alone in pairs]
    used = median(watched.monitor for watched, _ in pairs)
    kind = f"{options.peers} peers that nobody watches"
    yield Comparison("a second on one core of a watched peer", extra, [1.0] * len(pairs), kind, MOST)
    steps = [watched.step_s for watched, _ in pairs], [alone.step_s for _, alone in pairs]
    yield Comparison(f"inner step, monitors on the same machine ({100 * used:.1f} % of a core)", *steps, kind)


def _told(watched: Window, alone: Window) -> str:
    return (
        f"besides training {100 * watched.beside:.2f} % of a core watched, {100 * alone.beside:.2f} % not; "
        f"inner step {1000 * watched.step_s:.2f} ms watched, {1000 * alone.step_s:.2f} ms not"
    )


@contextmanager
def _monitors(swarm: LiveSwarm, number: int) -> Iterator[set[int]]:
    swarm.until(lambda: all(swarm.height(name) >= 1 for name in swarm.states))
    command = [sys.executable, "-c", _WATCH, str(swarm.folder.handout)]
    with ExitStack() as stack:
        processes: set[int] = set()
        for _ in range(number):
            monitor = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(monitor.terminate)
            assert monitor.stdout is not None
            assert monitor.stdout.readline() == b"watching\n"
            processes |= {monitor.pid, *descendants(monitor.pid)}
        stack.callback(_signal, processes, signal.SIGCONT)
        yield processes


def _signal(processes: Collection[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)


def _window(swarm: LiveSwarm, monitors: set[int], seconds: float, *, watched: bool) -> Window:
    _signal(monitors, signal.SIGCONT if watched else signal.SIGSTOP)
    time.sleep(_SETTLE_S)
    names = swarm.local.names
    seen = {name: len(swarm.events(name, StepDone)) for name in names}
    trees = [descendants(swarm.main_pid(name)) for name in names]
    before, began = [_used_s(tree) for tree in (*trees, monitors)], time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - began
    *beside, watcher = (
        (_used_s(tree) - used) / took_s for tree, used in zip((*trees, monitors), before, strict=True)
    )
    steps = [step.seconds for name in names for step in swarm.events(name, StepDone)[seen[name] :]]
    return Window(mean(steps), mean(beside), watcher)


def _used_s(pids: Collection[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S
