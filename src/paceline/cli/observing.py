"""`observe` and `report`: a swarm, or what is left of one, on a page."""

from __future__ import annotations

import ipaddress
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paceline.cli.screen import complain, console, size
from paceline.cli.sources import source_of
from paceline.cli.stopping import Stopping

if TYPE_CHECKING:
    from paceline.watch.source import Source

_LOOK_S = 0.5


def observe(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|LOG",
            help="A run.json or a seed's multiaddr is watched live, and so is the folder of a local run that"
            " goes on; the folder of one that is over, a node's folder, a log or a history is played back.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to serve on; 0.0.0.0 lets everybody look who can reach this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 picks a free one.")] = 8088,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep what is seen in this file: it survives a restart, and plays back."
        ),
    ] = None,
) -> None:
    """Show a swarm on a page, and serve it to Prometheus: /metrics, and /sd to find its peers.

    Reads the DHT as a client and takes no part; everything is read only. A finished run gets a slider. Ctrl-C
    ends it. docs/metrics.md lists the metrics; ops/ has a configuration for Prometheus, alerts, and a
    dashboard for Grafana.

        paceline observe run.json --history runs/watch.sqlite

        paceline observe runs/node
    """
    screen = console()
    with Stopping() as stopping, source_of(target, history) as source:
        from paceline.web.app import Observatory
        from paceline.web.server import WebServer

        with WebServer(host, port, Observatory(source)) as server:
            stopping.politely(lambda: None)
            screen.print(f"run      {source.run.run_id}, {_what(source)}", markup=False)
            screen.print(f"page     http://{server.address}/", markup=False)
            screen.print(f"metrics  http://{server.address}/metrics, peers at /sd", markup=False)
            if not _is_loopback(host):
                screen.print("note     whoever can reach this machine can look; nobody can change anything")
            _stay(source, stopping)


def report(
    log: Annotated[
        Path,
        typer.Argument(metavar="LOG", help="A run's folder, a node's folder, a log, or a monitor's history."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")] = Path(
        "report.html"
    ),
) -> None:
    """Save a run as one HTML file: the page with everything in it, and a slider over its rounds.

    The file loads nothing from anywhere, and can be kept, sent and opened without a network.

        paceline report runs/node -o report.html
    """
    from paceline.watch.replay import Replay
    from paceline.web.report import report as whole_page

    with closing(Replay.open(log)) as replay:
        text = whole_page(replay)
    # Written whole or not at all.
    part = output.with_name(f".{output.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    console().print(f"{output}: {size(len(text.encode()))}, opens in any browser", markup=False)


def _stay(source: Source, stopping: Stopping) -> None:
    version, told = 0, ""
    while not stopping.asked:
        version = source.changed(version, _LOOK_S)
        trouble = getattr(source, "trouble", "")
        if trouble and trouble != told:
            complain(trouble)
        elif told and not trouble:
            complain("that is over: the monitor is well again")
        told = trouble


def _what(source: Source) -> str:
    if source.is_live:
        return "watched live"
    return f"played back: {source.picture(rounds=1).rounds_committed} rounds"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
