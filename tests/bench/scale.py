"""`scripts/bench scale`: what a round costs when a swarm grows, with next to nothing to train.

Real peers first, each a process tree of its own, in a network namespace with only a loopback device, so that
every byte between them is counted. Then larger swarms of which only the protocol runs, over a virtual network
(`paceline simulate --scale`): their seconds are those of the protocol, not of this machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from paceline.core.errors import PacelineError
from tests.bench import documents, private_net, scale_report
from tests.bench.documents import Document
from tests.bench.processes import available_bytes
from tests.bench.tables import size

HELP = "what a round costs a peer of a swarm of 2 to 32 real peers, and of up to 1,000 simulated ones"
_EPILOG = """\
  scripts/bench scale
  scripts/bench scale --peers 2,4 --simulated 100      a look: two minutes
  scripts/bench scale --peers 16 --simulated ''        real peers only
  scripts/bench scale --json runs/scale.json

Peers train a GPT of width 16 for 2 inner steps per round, so that what is measured is the protocol: records,
votes, the exchange, files. They look at the board every 0.2 s, as peers do unless told otherwise; a round
takes several such looks, whatever the machine. Every figure is per peer and round, but for the visitor's: a
client of the DHT that stores a record, gets it back, and looks at all that peers read.

Bytes are counted only in a network namespace of our own, which needs root; without it the column is empty.
A size that doesn't fit into memory is left out and named.

Exit codes: 0 all sizes were measured or are too large for this machine, 2 bad usage, 3 a swarm failed.
"""
_FIRST_GUESS_BYTES = 500e6
"""Of memory per peer, until one was measured."""
_SPARE_BYTES = 1e9


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    parser.description = HELP
    parser.add_argument(
        "--peers", type=_sizes, default=[2, 4, 8, 16, 32], help="real swarms (default 2,4,8,16,32)"
    )
    parser.add_argument(
        "--simulated", type=_sizes, default=[100, 300, 1000], help="simulated swarms (default 100,300,1000)"
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds to measure of each (default 15)")
    parser.add_argument(
        "--lookups", type=int, default=100, help="calls of each kind by a visitor (default 100)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")


def run(options: argparse.Namespace) -> int:
    found: dict[str, list[Document]] = {"real": [], "simulated": [], "problems": []}

    def keep() -> Document:
        document = documents.document("scale", options.given, **found)
        if options.json:
            documents.save(options.json, document)
        return document

    for _ in chain(_measured(options, found), _simulated(options.simulated, found)):
        keep()  # whoever interrupts has what is finished
    print(scale_report.markdown(keep()))
    return documents.FAILED if any(problem["failed"] for problem in found["problems"]) else 0


def too_large(peers: int, each_bytes: float, available: int) -> str:
    """Tell why a swarm can't be started here; empty when it can."""
    needed = peers * each_bytes + _SPARE_BYTES
    return f"needs some {size(needed)} of memory, {size(available)} are free" if needed > available else ""


def _measured(options: argparse.Namespace, found: dict[str, list[Document]]) -> Iterator[None]:
    if not options.peers:
        return
    from tests.bench.scale_swarm import cost_of  # seconds to import, which --help need not wait for

    alone, costs = _is_alone(), found["real"]
    for peers in options.peers:
        each = costs[-1]["pss_bytes"] if costs else _FIRST_GUESS_BYTES
        reason = too_large(peers, each, available_bytes())
        if reason:
            found["problems"].append({"peers": peers, "cause": f"left out: {reason}", "failed": False})
            say(f"{peers} peers: left out, {reason}")
            continue
        say(f"{peers} peers: starting; {options.rounds} rounds are measured")
        try:
            costs.append(asdict(cost_of(peers, options.rounds, options.lookups, alone)))
            say(f"{peers} peers: {scale_report.told(costs[-1])}")
        except (
            AssertionError,
            PacelineError,
            RuntimeError,
            TimeoutError,
        ) as error:  # the other sizes are none the worse
            found["problems"].append({"peers": peers, "cause": f"failed: {str(error)[:200]}", "failed": True})
            say(f"{peers} peers: failed, {str(error)[:2000]}")
        yield


def _is_alone() -> bool:
    try:
        private_net.enter()
    except OSError as error:
        say(f"bytes are not counted: {error}")
        return False
    return True


def _simulated(sizes: Sequence[int], found: dict[str, list[Document]]) -> Iterator[None]:
    from paceline.simulate.scale import measure

    for peers in sizes:
        say(f"{peers} simulated peers")
        began = time.monotonic()
        growth = asdict(measure(peers))
        found["simulated"].append(growth | {"took_s": time.monotonic() - began})
        yield


def _sizes(text: str) -> list[int]:
    sizes = [int(word) for word in text.split(",") if word.strip()]
    if any(peers < 2 for peers in sizes):
        raise argparse.ArgumentTypeError("a swarm has two peers at least")
    return sizes


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
