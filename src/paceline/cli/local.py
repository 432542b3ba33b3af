"""`paceline up`: a whole swarm on this machine."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paceline.cli.options import Sets
from paceline.cli.screen import complain, console
from paceline.cli.stopping import Stopping
from paceline.core.errors import PacelineError

if TYPE_CHECKING:
    from paceline.cli.live import Telling, View
    from paceline.cli.progress import Progress
    from paceline.core.config import SwarmConfig
    from paceline.peer.folders import RunFolder
    from paceline.peer.swarm import LocalSwarm

_REFRESH_S = 0.2
_LEAVE_S = 20.0
_STRAGGLE_S = 30.0
_IMPORTS_S = 120.0
_FAILED, _INTERRUPTED = 1, 130


def up(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG", help="YAML with the sections run, node and peers, such as configs/demo.yaml."
        ),
    ],
    peers: Annotated[int | None, typer.Option("--peers", min=1, help="How many peers to start.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="How many rounds to train.")] = None,
    supervised: Annotated[
        bool,
        typer.Option(
            "--supervised/--unsupervised", help="Start a peer again when it ends before the run does, or not."
        ),
    ] = True,
    sets: Sets = None,
) -> None:
    """Start a swarm on this machine, watch it train, and sum up what came out.

    A seed and some peers, each a process of its own, find each other on loopback and train one model. Every
    run gets a folder of its own with all logs, checkpoints and events. A peer that is killed or fails is
    started again and catches up: try it. Ctrl-C stops all of it in order; a second Ctrl-C at once.

        paceline up configs/demo.yaml

        paceline up configs/demo.yaml --peers 2 --rounds 3 --set run.inner.optimizer.lr=0.003
    """
    from paceline.core.doubts import doubts
    from paceline.peer.swarm import LocalSwarm, found_run

    screen = console()
    with Stopping() as stopping:
        swarm, folder = found_run(_settings(config, peers, rounds, sets or []), datetime.now())
        from paceline.peer.compose import create_run  # heavy: after everything that may be refused

        create_run(swarm, folder.path)
        screen.print(f"run {swarm.run.run_id} in {folder.path}", markup=False)
        for doubt in doubts(swarm.run):
            screen.print(f"note: {doubt.said}: {doubt.remedy}", markup=False)
        began = time.monotonic()
        with LocalSwarm(folder, swarm.node, swarm.peers, supervised=supervised) as local:
            local.start_seed(swarm.node.network.listen, swarm.node.network.startup_s + _IMPORTS_S)
            local.start_peers()
            progress = _watched(local, swarm, stopping, began)
            local.stop_seed()
        if stopping.asked:
            screen.print(f"stopped after round {progress.rounds_committed}; everything lies in {folder.path}")
            _exit(_INTERRUPTED)
        _exit(_summed_up(progress, folder, time.monotonic() - began))


def _settings(config: Path, peers: int | None, rounds: int | None, sets: list[str]) -> SwarmConfig:
    from paceline.cli.forms import check_swarm
    from paceline.peer.settings import load_swarm

    check_swarm(config, "paceline run --config")
    if peers is not None:
        sets = [f"peers={peers}", f"run.expected_peers={peers}", *sets]
    if rounds is not None:
        sets = [f"run.rounds={rounds}", *sets]
    return load_swarm(config, sets)


def _watched(local: LocalSwarm, swarm: SwarmConfig, stopping: Stopping, began: float) -> Progress:
    from paceline.cli.live import Telling, view_on
    from paceline.cli.progress import Progress, Rider

    progress, telling = Progress(swarm.run, {name: Rider(name) for name in local.names}), Telling()
    stopping.politely(lambda: None)
    with view_on(console(), began) as view:
        view.say(f"the seed is up, {len(local.names)} peers start")
        end = _End(local, view)
        while local.running():
            _catch_up(local, progress, telling, view)
            end.hasten(progress, stopping)
            time.sleep(_REFRESH_S)
        _catch_up(local, progress, telling, view)
    return progress


class _End:
    """Brings a run to its end: when people ask for it, and when peers are left that can't finish any more."""

    def __init__(self, local: LocalSwarm, view: View) -> None:
        self._local, self._view = local, view
        self._finished, self._finished_at = 0, float("inf")
        self._deadline: float | None = None

    def hasten(self, progress: Progress, stopping: Stopping) -> None:
        """Ask all to leave when it is time, and end who doesn't.

        Args:
            progress: How the run stands.
            stopping: Whether people want it to stop.
        """
        now, finished = time.monotonic(), sum(r.ended == "" for r in progress.riders.values())
        if finished > self._finished:
            self._finished, self._finished_at = finished, now
        if self._deadline is not None:
            if now > self._deadline:
                self._local.kill()
        elif stopping.asked:
            self._ask_to_leave("the peers are asked to leave; Ctrl-C again ends them at once")
        elif now > self._finished_at + _STRAGGLE_S:
            # Whoever finished has waited for those that were there; one that comes back now finds nobody.
            self._ask_to_leave("the run is finished; the peers that came too late are asked to leave")

    def _ask_to_leave(self, why: str) -> None:
        self._view.say(why)
        self._local.ask_to_leave()
        self._deadline = time.monotonic() + _LEAVE_S


def _catch_up(local: LocalSwarm, progress: Progress, telling: Telling, view: View) -> None:
    if line := local.keep_seed():
        view.say(line)
    ends = local.ends()  # before the news: the last of them tell whether a peer finished
    for name, told in local.news():
        progress.take(name, told.event)
        if line := telling.line(name, told.event):
            view.say(line)
    for ended in ends:
        progress.end(ended.name, ended.reason)
        if ended.code:
            view.say(f"{progress.riders[ended.name].called} ended: {ended.reason}")
            view.say(f"the others go on; to start it again: {ended.command}")
    view.refresh(progress)


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _summed_up(progress: Progress, folder: RunFolder, seconds: float) -> int:
    from paceline.cli.chart import draw_losses
    from paceline.cli.summary import show, show_sample, summarise
    from paceline.cli.targets import checkpoint_target

    if all(rider.ended for rider in progress.riders.values()):
        reasons = "; ".join(f"{rider.called}: {rider.ended}" for rider in progress.riders.values())
        raise PacelineError(f"every peer has ended ({reasons})", f"read {folder.path}/*/output.txt")
    summary = summarise(progress, folder, seconds)
    folder.summary.write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draw_losses(progress, folder.chart)
    screen = console()
    show(summary, progress, folder, screen)
    if summary.rounds_committed:
        show_sample(checkpoint_target(folder.path), screen)
    if not summary.success:
        complain(summary.error)
    return 0 if summary.success else _FAILED
