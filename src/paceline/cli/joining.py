"""`paceline seed` and `paceline join`: the processes that make a swarm."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paceline.cli.options import Run, Sets
from paceline.cli.screen import console
from paceline.cli.stopping import Stopping
from paceline.core.errors import ProcessDied

if TYPE_CHECKING:
    from paceline.core.config import NodeConfig
    from paceline.core.events import Emit, Event

_ANY = ("/ip4/0.0.0.0/tcp/0",)
_LOOK_S = 0.2


def seed(
    handout: Annotated[
        Path | None,
        typer.Argument(metavar="RUN_JSON", help="Serve this run, and write the seed's address into it."),
    ] = None,
    key: Annotated[
        Path, typer.Option("--key", help="The seed's key; made on first start. It fixes the peer id.")
    ] = Path("runs/seed/identity.key"),
    listen: Annotated[
        list[str] | None, typer.Option("--listen", metavar="ADDR", help="Multiaddr to listen on.")
    ] = None,
    announce: Annotated[
        list[str] | None,
        typer.Option("--announce", metavar="ADDR", help="Multiaddr to hand out, when it differs (NAT)."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option("--peer", metavar="ADDR", help="Another seed or peer to connect to.")
    ] = None,
) -> None:
    """Serve as a bootstrap address: a peer of the DHT that trains nothing. Ctrl-C ends it.

    Prints its address, which is all that others need, and writes it into run.json if one is given.

        paceline seed run.json --listen /ip4/0.0.0.0/tcp/4001

        paceline seed run.json --listen /ip4/0.0.0.0/tcp/4001 --announce /ip4/203.0.113.7/tcp/4001
    """
    from paceline.peer.settings import load_handout, save_handout, with_seeds

    document = load_handout(handout) if handout is not None else None
    from paceline.core.nicknames import named
    from paceline.peer.compose import seed as serve  # heavy: after everything that may be refused

    run = document.run_config if document is not None else None
    screen = console()
    with (
        Stopping() as stopping,
        serve(key, tuple(listen or _ANY), run, initial_peers=tuple(peer or ())) as serving,
    ):
        stopping.politely(lambda: None)
        peer_id = serving.multiaddrs[0].rsplit("/p2p/", 1)[-1]
        addresses = [_whole(address, peer_id) for address in announce or serving.multiaddrs]
        if handout is not None and document is not None:
            save_handout(handout, with_seeds(document, peer_id, addresses))
        screen.print(f"peer     {named(peer_id)}")
        for address in addresses:
            screen.print(f"seed     {address}")
        screen.print(f"join by  paceline join {handout or addresses[0]}")
        while not stopping.asked:
            time.sleep(_LOOK_S)
            _check_node()


def join(
    run: Run,
    config: Annotated[
        Path | None, typer.Option("--config", help="This node's YAML, such as configs/node.yaml.")
    ] = None,
    sets: Sets = None,
    supervised: Annotated[
        bool,
        typer.Option(
            "--supervised/--unsupervised",
            help="Watch over the peer from a small process of its own: when it ends before the run does, say"
            " why and start it again, after 1 s at first and a minute at most.",
        ),
    ] = False,
) -> None:
    """Join a run and train until it is finished. Ctrl-C leaves the swarm in order.

    One seed multiaddr is enough: the run's parameters, the weights and the history come from the swarm, and
    everything is checked. Start the same command again to continue where this node's log ends, or let
    --supervised do so: it restarts a peer that was killed, that hangs, that lost the swarm or ran out of
    disk, and gives up only on what a person has to mend (exit code 2).

        paceline join run.json --supervised

        paceline join /ip4/203.0.113.7/tcp/4001/p2p/12D3Koo… --set device=cuda:0 --set batch_size=32
    """
    from paceline.cli.targets import run_target
    from paceline.peer.settings import load_node

    node, target = load_node(config, sets or ()), run_target(run)
    if supervised:
        _exit(_supervise(_arguments(run, config, sets or ()), node))
    from paceline.peer.compose import join as joined  # heavy: after everything that may be refused
    from paceline.telemetry import LogSink

    log = LogSink(write=lambda line: console().print(line, markup=False))
    with Stopping() as stopping, joined(node, target, _without_routine(log)) as worker:
        stopping.politely(worker.stop)
        worker.run()


def _check_node() -> None:
    if not active_children():
        raise ProcessDied("DHT")


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _arguments(run: str, config: Path | None, sets: Sequence[str]) -> list[str]:
    chosen = [] if config is None else ["--config", str(config)]
    return ["join", *chosen, *(part for text in sets for part in ("--set", text)), "--", run]


def _supervise(arguments: list[str], node: NodeConfig) -> int:
    from paceline.peer.child import COMMAND
    from paceline.peer.folders import StateFolder
    from paceline.peer.pulse import Pulse
    from paceline.peer.supervisor import Supervisor, Surroundings
    from paceline.telemetry import LogSink, fan_out

    events = StateFolder(node.state_dir).events
    log = LogSink(write=_say, label="peer")
    around = Surroundings(
        new_pulse=lambda now: Pulse(events, node.metrics.host, now),
        emit=fan_out(log, _appending_to(events)),
        tell=_say,
    )
    supervisor = Supervisor([*COMMAND, *arguments], around)
    with Stopping() as stopping:
        stopping.politely(supervisor.leave)
        return supervisor.run()


def _appending_to(path: Path) -> Emit:
    # Opened for each event anew: the file is the peer's while it lives.
    from paceline.telemetry import JsonlSink

    def emit(event: Event) -> None:
        with JsonlSink(path) as sink:
            sink(event)

    return emit


def _say(line: str) -> None:
    with suppress(OSError):  # a terminal that is gone is no reason to leave the peer alone
        print(line, file=sys.stderr, flush=True)


def _whole(address: str, peer_id: str) -> str:
    return address if "/p2p/" in address else f"{address}/p2p/{peer_id}"


def _without_routine(sink: Emit) -> Emit:
    from paceline.core import events

    routine = (
        events.StepDone,
        events.PhaseChanged,
        events.RoundPlanned,
        events.ResultStaged,
        events.CreditsCounted,
    )
    return lambda event: None if isinstance(event, routine) else sink(event)
