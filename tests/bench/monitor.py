"""`scripts/bench monitor`: what a monitor costs the peers that it watches.

A swarm trains on this machine. In windows that take turns it is watched and not watched, now the one first
and now the other, so that whatever else goes on here hits both alike. While it is not watched, the monitor is
stopped (SIGSTOP), daemon and all: it asks nothing and takes no processor.

What a monitor asks is answered by a peer's network processes alone. So their use of the processor is measured
first with peers that do nothing but speak as peers do, where nothing else hides it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

from paceline.core.config import Handout
from paceline.core.events import StepDone
from paceline.core.records import CreditRecord, RunRecord, WorkerMetrics
from paceline.core.voice import HEARTBEAT_S
from paceline.peer.settings import save_handout
from tests.bench.processes import used_s
from tests.bench.timing import Comparison
from tests.core.history import commit_of, genesis_of, next_state, receipt_of, run_of
from tests.live.swarms import LiveSwarm, descendants, live_swarm, small_node, small_run
from tests.network.boards import boards
from tests.watch.statements import beat, plan_of

HELP = (
    "what a monitor costs the peers that it watches: their processor time, and how long an inner step takes"
)
MOST = 1.01
"""A watched peer may use a hundredth of a core more than one that is not watched."""
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
        step_s: Mean duration of the inner steps of all peers; 0 when nobody trains.
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
    parser.add_argument("--quick", action="store_true", help="leave out the swarm that trains")
    parser.add_argument("--window", type=float, default=20.0, help="seconds per window (default 20)")


def measure(options: argparse.Namespace) -> Iterator[Comparison]:
    kind = f"{options.peers} peers that nobody watches"
    with tempfile.TemporaryDirectory(prefix="paceline-bench-") as folder:
        with _speaking(Path(folder), options.peers) as (handout, trees, speak):
            pairs = list(_by_turns(handout, partial(_heard, trees, speak), options))
        yield _extra("a second on one core of a watched peer that only speaks", pairs, kind, options.monitors)
        if options.quick:
            return
        run = small_run(rounds=100_000, inner_steps=100)
        node = small_node().model_copy(update={"eval_batches": 0})
        with live_swarm(Path(folder), run, options.peers, node) as swarm:
            swarm.until(lambda: all(swarm.height(name) >= 1 for name in swarm.states))
            pairs = list(_by_turns(swarm.folder.handout, partial(_trained, swarm), options))
    yield _extra("a second on one core of a watched peer that trains", pairs, kind, options.monitors)
    used = median(watched.monitor for watched, _ in pairs)
    steps = [watched.step_s for watched, _ in pairs], [alone.step_s for _, alone in pairs]
    yield Comparison(f"inner step, monitors on the same machine ({100 * used:.1f} % of a core)", *steps, kind)


def _extra(name: str, pairs: list[tuple[Window, Window]], kind: str, monitors: int) -> Comparison:
    extra = [1.0 + (watched.beside - alone.beside) / monitors for watched, alone in pairs]
    return Comparison(name, extra, [1.0] * len(pairs), kind, MOST)


def _by_turns(
    handout: Path, look: Callable[[set[int], float], Window], options: argparse.Namespace
) -> Iterator[tuple[Window, Window]]:
    with _monitors(handout, options.monitors) as monitors:
        for number in range(options.pairs):
            windows: dict[bool, Window] = {}
            for watched in (True, False) if number % 2 else (False, True):
                _signal(monitors, signal.SIGCONT if watched else signal.SIGSTOP)
                time.sleep(_SETTLE_S)
                windows[watched] = look(monitors, options.window)
            print(f"{number + 1} of {options.pairs}: {_told(windows)}", file=sys.stderr, flush=True)
            yield windows[True], windows[False]


@contextmanager
def _speaking(folder: Path, num_peers: int) -> Iterator[tuple[Path, list[set[int]], Callable[[], None]]]:
    # Nodes, a board on which stands what a round leaves there, and heartbeats as often as peers make them.
    with boards() as started:
        peers = [started.peer(host_maddrs=["/ip4/127.0.0.1/tcp/0"]) for _ in range(num_peers)]
        peers.sort(key=lambda peer: peer.key.peer_id)
        keys = [peer.key for peer in peers]
        run = run_of(keys)
        state = next_state(run, genesis_of(run), keys)
        commit, measured = commit_of(state, keys[0]), {"loss": 2.0, "val_loss": 1.5, "tokens_per_s": 9000.0}
        for peer in peers:
            peer.board = peer.view(run_id=run.run_id)
            head = {
                "run_id": run.run_id,
                "peer_id": peer.key.peer_id,
                "seq": 0,
                "expires_at": 0.0,
                "round_id": 1,
            }
            peer.board.publish(receipt_of(commit, peer.key))
            peer.board.publish(WorkerMetrics.model_validate(head | measured))
            balance = {"head_digest": state.digest(), "balance": 8}
            peer.board.publish(CreditRecord.model_validate(head | balance))
        first = {"run_id": run.run_id, "peer_id": keys[0].peer_id, "seq": 0, "expires_at": 0.0}
        for record in (plan_of(state, keys[0]), commit, RunRecord(**first, document=run.document())):
            peers[0].board.publish(record)
        handout = folder / "speaking.json"
        save_handout(handout, Handout(run_id=run.run_id, seeds=tuple(peers[0].maddrs), run_config=run))

        def speak() -> None:
            for peer in peers:
                content = {"peer_id": peer.key.peer_id, "head_digest": state.digest()}
                peer.board.publish(beat(0, 2, run=run).model_copy(update=content))

        yield handout, [{peer.dht.pid, *descendants(peer.dht.pid)} for peer in peers], speak


def _heard(trees: list[set[int]], speak: Callable[[], None], monitors: set[int], seconds: float) -> Window:
    before, began = [used_s(tree) for tree in (*trees, monitors)], time.monotonic()
    while time.monotonic() < began + seconds:
        speak()
        time.sleep(HEARTBEAT_S)
    return Window(0.0, *_since(before, [*trees, monitors], began))


def _trained(swarm: LiveSwarm, monitors: set[int], seconds: float) -> Window:
    names = swarm.local.names
    seen = {name: len(swarm.events(name, StepDone)) for name in names}
    trees = [descendants(swarm.main_pid(name)) for name in names]
    before, began = [used_s(tree) for tree in (*trees, monitors)], time.monotonic()
    time.sleep(seconds)
    used = _since(before, [*trees, monitors], began)
    steps = [step.seconds for name in names for step in swarm.events(name, StepDone)[seen[name] :]]
    return Window(mean(steps), *used)


def _since(before: list[float], trees: list[set[int]], began: float) -> tuple[float, float]:
    took_s = time.monotonic() - began
    *peers, monitors = ((used_s(tree) - used) / took_s for tree, used in zip(trees, before, strict=True))
    return mean(peers), monitors


def _told(windows: dict[bool, Window]) -> str:
    told = [
        f"{100 * window.beside:.2f} % of a core besides training {how}"
        + (f", inner step {1000 * window.step_s:.2f} ms" if window.step_s else "")
        for window, how in ((windows[True], "watched"), (windows[False], "alone"))
    ]
    return "; ".join(told)


@contextmanager
def _monitors(handout: Path, number: int) -> Iterator[set[int]]:
    command = [sys.executable, "-c", _WATCH, str(handout)]
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
