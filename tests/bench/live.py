"""`scripts/bench live`: how much of their time real peers train when their link is slow."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, get_args

from paceline.core.tuning import CodecName
from tests.bench import documents, private_net

if TYPE_CHECKING:
    from tests.bench.live_swarm import Case, Observed
    from tests.bench.live_times import PeerBytes, PeerTimes

HELP = "real peers on a slow link: their utilisation, what keeps it down, and their bytes; needs root"
PLAIN, OVERLAPPED = 0.95, 0.99
"""The least share of the time that inner steps are to take."""
_MISSED, _UNAVAILABLE = documents.MISSED, documents.FAILED
_CASES = "plain-fp32,plain-int8,overlap2-fp32,overlap1-int8"
_QUICK = "plain-int8,overlap1-int8"
_EPILOG = """\
  scripts/bench live
  scripts/bench live --quick
  scripts/bench live --cases plain-int8,overlap2-int8 --phase 40 --json runs/live.json

Four peers, each on a virtual host of its own with its own network daemon, train together; all that they send
goes over one link. A case is plain-CODEC, or overlapP-CODEC for P fragments that are exchanged while training
goes on. At first an inner step is timed while four train at once, and H is chosen so that the inner steps of
a round take --phase seconds. Utilisation is inner steps over wall time, from a peer's first commit to its
last.

Four peers on a machine with few processors compete for them: a step takes longer while others of this machine
average. The table shows by how much; in utilisation it does not show.

Exit codes: 0 every target was reached (--quick judges nothing), 1 one was missed, 2 bad usage, 3 no such
link can be had here.
"""


@dataclass(frozen=True)
class Figures:
    """What one case gave.

    Attributes:
        case: What it is called.
        inner_steps: H.
        utilisation: Of a median peer.
        target: The least that will do.
        times: Where an average peer's time went.
        reduce_s: A median all-reduce.
        sent: What an average peer sent per round.
        voids: Attempts that were given up.
        load: Of the machine, at the end.
    """

    case: str
    inner_steps: int
    utilisation: float
    target: float
    times: PeerTimes
    reduce_s: float
    sent: PeerBytes
    voids: int
    load: float

    @property
    def reached(self) -> bool:
        """Whether the target was reached."""
        return self.utilisation >= self.target


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", default="", help=f"what to run (default {_CASES}; of --quick {_QUICK})")
    parser.add_argument("--phase", type=float, default=0.0, help="seconds of inner steps (20; quick: 6)")
    parser.add_argument("--inner-steps", type=int, default=0, help="H, instead of choosing it by --phase")
    parser.add_argument("--rounds", type=int, default=0, help="exchanges of everything (3; quick: 2)")
    parser.add_argument("--dim", type=int, default=256, help="width of the model (256: 3.3 M parameters)")
    parser.add_argument("--delay", type=float, default=0.25, help="delay_steps as a share of H (0.25)")
    parser.add_argument("--link", choices=tuple(private_net.RATES), default="100mbit", help="(100mbit)")
    parser.add_argument("--quick", action="store_true", help="two short cases, judged by nothing")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what the peers told there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")


def run(options: argparse.Namespace) -> int:
    from tests.bench import live_link, live_swarm  # seconds to import, which --help need not wait for

    reason = live_link.reason_unavailable()
    if reason:
        print(f"no slow link can be made here: {reason}", file=sys.stderr)
        return _UNAVAILABLE
    cases = parse(options.cases or (_QUICK if options.quick else _CASES), options.delay)
    phase_s, rounds = options.phase or (6.0 if options.quick else 20.0), options.rounds or 3 - options.quick
    load = os.getloadavg()[0]
    inner_steps = options.inner_steps or round(phase_s / live_swarm.step_seconds(options.dim))
    inner_steps = max(8, inner_steps)  # a quarter of them has to be something
    _say(f"load before {load:.1f}; H is {inner_steps}")
    found = []
    for case in cases:
        how: dict[str, Any] = {
            "dim": options.dim,
            "inner_steps": inner_steps,
            "rounds": rounds,
            "rate": options.link,
        }
        how["keep"] = options.keep / case.name.replace(", ", "-") if options.keep else None
        figures = figures_of(case, live_swarm.observe(case, **how), inner_steps)
        _say(f"{figures.case}: utilisation {figures.utilisation:.1%}, load {figures.load:.1f}")
        found.append(figures)
        if options.json:
            write(options.json, found, options)
    print(table(found))
    return _MISSED if not options.quick and not all(each.reached for each in found) else 0


def parse(text: str, delay: float) -> list[Case]:
    """Read names of cases.

    Args:
        text: Such as `plain-fp32,overlap2-int8`.
        delay: Share of H that a part may be on its way.

    Raises:
        SystemExit: One is none.
    """
    from tests.bench.live_swarm import Case

    found = []
    for name in text.split(","):
        match = re.fullmatch(r"(plain|overlap([1-4]))-(\w+)", name)
        if match is None or match[3] not in get_args(CodecName):
            raise SystemExit(f"{name!r} is no case: plain-CODEC, or overlapP-CODEC with 1 to 4 fragments")
        found.append(Case(match[3], int(match[2]), delay) if match[2] else Case(match[3]))
    return found


def figures_of(case: Case, observed: Observed, inner_steps: int) -> Figures:
    """Work out what a training gave."""
    from paceline.core.events import ReduceEnded
    from tests.bench import live_times

    tales = observed.tales
    times = [live_times.peer_times(tales, name) for name in tales]
    quiet = live_times.quiet_spans(tales)
    sent = [live_times.peer_bytes(tale, observed.samples[name], quiet) for name, tale in tales.items()]
    reduced = [t.event.seconds for tale in tales.values() for t in tale if isinstance(t.event, ReduceEnded)]
    average = live_times.PeerBytes(
        *(fmean(getattr(each, part) for each in sent) for part in ("wire", "payload", "board"))
    )
    return Figures(
        case.name,
        inner_steps,
        median(each.utilisation for each in times),
        OVERLAPPED if case.delay else PLAIN,
        live_times.average(times),
        median(reduced),
        average,
        observed.voids,
        observed.load,
    )


def table(found: Sequence[Figures]) -> str:
    """Lay the figures out for people, in Markdown: a column for each case."""
    rows = [["", *(each.case for each in found)], ["---", *("--:" for _ in found)]]

    def row(name: str, cells: list[str]) -> None:
        rows.append([name, *cells])

    row("utilisation", [f"{each.utilisation:.1%}" for each in found])
    row("target", [f"{each.target:.0%}{'' if each.reached else ' **missed**'}" for each in found])
    row("round, s", [f"{each.times.wall_s / each.times.rounds:.2f}" for each in found])
    for part in found[0].times.parts_s:
        row(f"· {part}, s", [f"{each.times.parts_s[part] / each.times.rounds:.3f}" for each in found])
    row("one all-reduce, s", [f"{each.reduce_s:.2f}" for each in found])
    row("from last step to commit, s", [f"{each.times.exchange_s:.2f}" for each in found])
    row("step, nothing exchanged, ms", [f"{1e3 * each.times.step_s:.0f}" for each in found])
    row("step during an exchange, ms", [f"{1e3 * each.times.ahead_s:.0f}" for each in found])
    for part in ("wire", "payload", "board", "rest"):
        name = {"wire": "sent per peer and round, MB"}.get(part, f"· {part}, MB")
        row(name, [f"{getattr(each.sent, part) / 1e6:.2f}" for each in found])
    row("rounds, attempts given up", [f"{each.times.rounds}, {each.voids}" for each in found])
    row("load", [f"{each.load:.1f}" for each in found])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def write(path: Path, found: Sequence[Figures], options: argparse.Namespace) -> None:
    """Keep the figures, with where and when they were measured."""
    cases = [asdict(each) | {"reached": each.reached} for each in found]
    documents.save(
        path,
        documents.document(
            "live", options.given, link=options.link, dim=options.dim, cases=cases, markdown=table(found)
        ),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
