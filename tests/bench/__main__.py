"""`scripts/bench`: measure what the code costs, against something else that does the same."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tests.bench import averaging, codecs, live, monitor, sync
from tests.bench.timing import Comparison, table
from tests.bench.training import command as training

_MISSED = 1
_EPILOG = """\
  scripts/bench average
  scripts/bench average --elements 100000 --repetitions 21 --json runs/average.json
  scripts/bench codecs --threads 1
  scripts/bench live --quick
  scripts/bench monitor --pairs 20 --json runs/monitor.json
  scripts/bench train --quick
  scripts/bench sync --codecs fp32,int8,topk --link 1gbit --json runs/sync.json

But for live and train, each figure is measured by turns with its reference, A B A B, in one run: a busy
machine slows both alike. The ratio is what counts (docs/performance.md); milliseconds depend on the machine
and the day.

Exit codes: 0 every target was reached, 1 one was missed, 2 bad usage.
"""


class Benchmark(Protocol):
    """One thing to time: a module of this package."""

    HELP: str

    def add_options(self, parser: argparse.ArgumentParser, /) -> None: ...

    def measure(self, options: argparse.Namespace, /) -> Iterator[Comparison]: ...


BENCHMARKS: dict[str, Benchmark] = {
    "average": averaging,
    "codecs": codecs,
    "monitor": monitor,
    "sync": sync,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure what the code costs, against something else that does the same.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, benchmark in BENCHMARKS.items():
        command = commands.add_parser(name, help=benchmark.HELP, description=benchmark.HELP)
        command.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
        benchmark.add_options(command)
    training.add_options(commands.add_parser("train", help=training.HELP, description=training.HELP))
    live.add_options(commands.add_parser("live", help=live.HELP, description=live.HELP))
    options = parser.parse_args(arguments)
    if options.benchmark == "live":
        return live.run(options)
    return training.run(options) if options.benchmark == "train" else compare(options)


def compare(options: argparse.Namespace) -> int:
    """Time something by turns with its reference."""
    comparisons = []
    for comparison in BENCHMARKS[options.benchmark].measure(options):
        print(f"{comparison.name}: {comparison.ratio:.2f} of {comparison.reference}", file=sys.stderr)
        comparisons.append(comparison)
    print(table(comparisons))
    if options.json:
        write(options.json, options.benchmark, comparisons)
    return 0 if all(each.reached for each in comparisons) else _MISSED


def write(path: Path, name: str, comparisons: list[Comparison]) -> None:
    """Keep the figures, with where and when they were measured."""
    document = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "comparisons": [each.as_json() for each in comparisons],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
