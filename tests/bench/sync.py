"""`scripts/bench sync`: what one all-reduce costs, ours against hivemind's and torch.distributed's gloo.

Four peers, each a process tree of its own, in a network namespace with only a loopback device. In every
repetition each contender's peers are started, average once to warm up and once to be measured, and once more
with an eye on their memory; then the next contender's turn comes. How they find one another isn't measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from tests.bench import private_net
from tests.bench.timing import Comparison

if TYPE_CHECKING:
    from tests.bench.sync_swarm import Cost

HELP = "one all-reduce among four peers, ours per codec, against hivemind's own and gloo's; needs root"
STOCK = "hivemind fp32"
MOST_OF_STOCK = {"fp32": 0.5, "int8": 0.25, "topk": 0.25}
"""By codec: the most of stock hivemind's wall and processor time, in fp32."""
MOST_BYTES = {"topk": 0.016}
MOST_MEMORY = 0.6
MOST_OF_LINK = 1.15
"""How much longer than its own bytes take on a shared link an all-reduce may take there."""
_REFERENCES = (STOCK, "hivemind fp16", "gloo fp32")


@dataclass
class Figures:
    """What was measured of one contender, one of each per repetition; memory in bytes."""

    costs: list[Cost] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--elements", type=int, default=40_000_000, help="values (default 40 M)")
    parser.add_argument("--codecs", default="fp32,fp16", help="ours to be measured (default fp32,fp16)")
    parser.add_argument("--repeat", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--link", choices=tuple(private_net.RATES), default="", help="a link that all share")
    parser.add_argument("--only-ours", action="store_true", help="leave out hivemind, gloo and all ratios")
    parser.add_argument("--no-memory", action="store_true", help="leave out the look at memory")


def measure(options: argparse.Namespace) -> Iterator[Comparison]:
    codecs = [f"ours {codec}" for codec in options.codecs.split(",") if codec]
    names = codecs if options.only_ours else [*codecs, *_REFERENCES]
    found = _by_turns(names, options)
    print(_table(found), flush=True)
    for name in names:
        if options.link:
            yield _against_link(name, found[name], private_net.RATES[options.link])
        if not options.only_ours and name != STOCK:
            yield from _against_stock(name, found, bool(options.link))


def _by_turns(names: list[str], options: argparse.Namespace) -> dict[str, Figures]:
    from tests.bench.sync_swarm import swarm  # seconds to import, which --help need not wait for

    private_net.enter()
    found = {name: Figures() for name in names}
    for turn in range(1, options.repeat + 1):
        for name in names:
            kind, _, how = name.partition(" ")
            with swarm(kind, how, options.elements) as members:
                members.cost()
                cost = members.cost(options.link)
                found[name].costs.append(cost)
                if not options.no_memory:
                    found[name].peaks.append(members.peak_bytes())
            print(f"{turn} of {options.repeat}: {name}: {_told(cost)}", file=sys.stderr, flush=True)
    return found


def _told(cost: Cost) -> str:
    return (
        f"{cost.wall_s:.2f} s, {cost.cpu_s:.2f} CPU s ({cost.daemons_s:.2f} of daemons),"
        f" {cost.wire_bytes / 1e6:.1f} MB, off by {cost.error:.1e}"
    )


def _against_link(name: str, figures: Figures, bits_per_s: float) -> Comparison:
    walls = [cost.wall_s for cost in figures.costs]
    limits = [8 * cost.wire_bytes / bits_per_s for cost in figures.costs]
    target = MOST_OF_LINK if name.startswith("ours") else None
    return Comparison(f"{name}, wall", walls, limits, "its own bytes at the link's rate", target)


def _against_stock(name: str, found: dict[str, Figures], on_link: bool) -> Iterator[Comparison]:
    ours, stock = found[name], found[STOCK]
    kind, _, how = name.partition(" ")
    time, size = (most.get(how) if kind == "ours" else None for most in (MOST_OF_STOCK, MOST_BYTES))
    memory = MOST_MEMORY if kind == "ours" else None
    time = None if on_link else time  # there bytes decide
    for what, key, unit, target in (
        ("wall", "wall_s", "s", time),
        ("CPU", "cpu_s", "s", time),
        ("bytes on the wire", "wire_bytes", "MB", size),
    ):
        mine, theirs = ([float(getattr(cost, key)) for cost in each.costs] for each in (ours, stock))
        yield Comparison(f"{name}, {what}", mine, theirs, STOCK, target, unit)
    if ours.peaks:
        yield Comparison(f"{name}, peak memory", ours.peaks, stock.peaks, STOCK, memory, "GB")


def _table(found: dict[str, Figures]) -> str:
    lines = [f"{'median of':16}{'wall s':>8}{'CPU s':>8}{'daemons':>9}{'MB':>9}{'PSS GB':>8}{'off by':>9}"]
    for name, figures in found.items():
        wall, cpu, daemons, wire, error = (
            median(getattr(cost, key) for cost in figures.costs)
            for key in ("wall_s", "cpu_s", "daemons_s", "wire_bytes", "error")
        )
        peak = f"{median(figures.peaks) / 1e9:.2f}" if figures.peaks else "-"
        lines.append(f"{name:16}{wall:8.2f}{cpu:8.2f}{daemons:9.2f}{wire / 1e6:9.1f}{peak:>8}{error:9.1e}")
    return "\n".join(lines) + "\n"
