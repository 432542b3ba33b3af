"""`scripts/bench`: measure what the code costs, against something else that does the same."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.bench import averaging, codecs, documents, live, monitor, scale, start, suite, sync
from tests.bench.timing import Comparison, table
from tests.bench.training import command as training

_EPILOG = """\
  scripts/bench quick                                  a look at everything, in under ten minutes
  scripts/bench all                                    everything, full size, into docs/performance.md
  scripts/bench average
  scripts/bench average --elements 100000 --repetitions 21 --json runs/average.json
  scripts/bench codecs --threads 1
  scripts/bench live --quick
  scripts/bench monitor --pairs 20 --json runs/monitor.json
  scripts/bench scale --peers 2,4,8
  scripts/bench start --install
  scripts/bench train --quick
  scripts/bench sync --codecs fp32,int8,topk --link 1gbit --json runs/sync.json

But for live, scale and train, each figure is measured by turns with its reference, A B A B, in one run: a
busy machine slows both alike. The ratio is what counts (docs/performance.md); milliseconds depend on the
machine and the day.

Exit codes: 0 every target was reached, 1 one was missed, 2 bad usage, 3 it can't be measured here, or failed,
130 interrupted.
"""


class Benchmark(Protocol):
    """One thing to time: a module of this package."""

    HELP: str

    def add_options(self, parser: argparse.ArgumentParser, /) -> None: ...

    def measure(self, options: argparse.Namespace, /) -> Iterator[Comparison]: ...


class Program(Protocol):
    """A benchmark that does more than compare: a module that prints for itself."""

    HELP: str

    def add_options(self, parser: argparse.ArgumentParser, /) -> None: ...

    def run(self, options: argparse.Namespace, /) -> int: ...


BENCHMARKS: dict[str, Benchmark] = {
    "average": averaging,
    "codecs": codecs,
    "monitor": monitor,
    "start": start,
    "sync": sync,
}
PROGRAMS: dict[str, Program] = {
    "live": live,
    "scale": scale,
    "train": training,
    "quick": suite.QUICK,
    "all": suite.ALL,
}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    options.given = given
    try:
        program = PROGRAMS.get(options.benchmark)
        return program.run(options) if program else compare(options)
    except OSError as error:
        print(f"error: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return documents.INTERRUPTED
    except Exception:  # a missed target has the code that Python gives to what was not caught
        traceback.print_exc()
    return documents.FAILED


def compare(options: argparse.Namespace) -> int:
    """Time something by turns with its reference."""
    comparisons = []
    for comparison in BENCHMARKS[options.benchmark].measure(options):
        print(
            f"{comparison.name}: {comparison.ratio:.2f} of {comparison.reference}",
            file=sys.stderr,
            flush=True,
        )
        comparisons.append(comparison)
    print(table(comparisons))
    if options.json:
        figures = [each.as_json() for each in comparisons]
        documents.save(
            options.json, documents.document(options.benchmark, options.given, comparisons=figures)
        )
    return 0 if all(each.reached for each in comparisons) else documents.MISSED


def _parser() -> argparse.ArgumentParser:
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
    for name, program in PROGRAMS.items():
        program.add_options(commands.add_parser(name, help=program.HELP, description=program.HELP))
    return parser


if __name__ == "__main__":
    sys.exit(main())
