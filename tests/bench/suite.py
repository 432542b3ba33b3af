"""`scripts/bench quick` and `scripts/bench all`: every benchmark, each in a process of its own.

Some enter an empty network and can't come back; and one that fails is no reason not to run the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import documents, pages, plots
from tests.bench.documents import FAILED, MISSED
from tests.bench.tables import write_between_markers

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, PICTURES = Path("docs/performance.md"), Path("docs/plots")
_HURRIED_S, _PATIENT_S = 400.0, 6 * 3600.0
_BEAT_S, _LEAVE_S = 15.0, 60.0


@dataclass(frozen=True)
class Part:
    """One benchmark of the suite.

    Attributes:
        name: Its name on the command line, in the file's name, and in the markers.
        quick: Its arguments for a look; None where it is not part of that.
        full: Its arguments for everything.
    """

    name: str
    quick: tuple[str, ...] | None
    full: tuple[str, ...]


PARTS = (
    Part("average", ("--elements", "100000", "--repetitions", "3"), ()),
    Part("codecs", ("--elements", "4000000", "--repetitions", "3"), ()),
    Part(
        "sync",
        ("--elements", "1000000", "--codecs", "fp32,int8,topk", "--repeat", "1"),
        ("--codecs", "fp32,fp16,int8,int4,topk", "--repeat", "3"),
    ),
    Part("train", ("--quick",), ()),
    Part(
        "scale",
        ("--peers", "2,4", "--simulated", "100", "--rounds", "5", "--lookups", "30"),
        (),
    ),
    Part(
        "start",
        ("--repetitions", "3", "--joins", "1", "--fetches", "3", "--state-mb", "20"),
        ("--install",),
    ),
    Part("live", ("--quick",), ()),
    Part("monitor", None, ()),
)
"""In the order in which they run."""


@dataclass(frozen=True)
class Outcome:
    """How a benchmark ended.

    Attributes:
        name: Which.
        code: Its exit code.
        cause: What it said last, when it failed.
        seconds: How long it took.
    """

    name: str
    code: int
    cause: str
    seconds: float

    @property
    def spelled(self) -> str:
        """For people."""
        took = f"{self.name}: {self.seconds:.0f} s"
        match self.code:
            case 0:
                return took
            case documents.MISSED:
                return f"{took}, a target was missed"
            case documents.FAILED:
                return f"{took}, **not measured, or not all of it**: {self.cause}"
            case _:
                return f"{took}, **failed** with code {self.code}: {self.cause}"


class Quick:
    """`scripts/bench quick`."""

    HELP = "all benchmarks in small sizes, in under ten minutes on two cores; prints their tables"
    EPILOG = """\
  scripts/bench quick
  scripts/bench quick --only start,scale

So small that only gross changes show: a target that is missed doesn't count, and nothing in docs/ is touched.
Training that is finished (runs/train) is not done again. A benchmark that fails, or that this machine does
not allow (sync and live need root), is named at the end, and the others go on.

Exit codes: 0 everything was measured, 2 bad usage, 3 something was not; 130 interrupted.
"""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        _describe(parser, self.HELP, self.EPILOG)
        _add_only(parser, [part.name for part in PARTS if part.quick is not None])

    def run(self, options: argparse.Namespace) -> int:
        chosen = [
            (part.name, part.quick) for part in PARTS if part.quick is not None and part.name in options.only
        ]
        with tempfile.TemporaryDirectory(prefix="paceline-bench-") as folder:
            outcomes = run_all(chosen, Path(folder), _HURRIED_S)
        outcomes = [unjudged(outcome) for outcome in outcomes]
        print(summary(outcomes))
        return FAILED if any(outcome.code for outcome in outcomes) else 0


class All:
    """`scripts/bench all`."""

    HELP = "all benchmarks, full size: hours; writes tables and plots into docs/, and JSON into runs/bench"
    EPILOG = """\
  scripts/bench all
  scripts/bench all --only scale,start          these, and their tables and plots
  scripts/bench all --redraw                    measure nothing: tables and plots from runs/bench/*.json

Every benchmark leaves runs/bench/NAME.json, from which its table in docs/performance.md, between the markers
<!-- NAME: begin --> and <!-- NAME: end -->, and its picture in docs/plots/ are made: the same files give the
same text and the same pictures. A benchmark that fails, or that this machine does not allow (sync, live
and the bytes of scale need root), is named at the end, its table stays as it was, and the others go on.

Exit codes: 0 every target was reached, 1 one was missed, 2 bad usage, 3 something was not measured; 130
interrupted.
"""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        _describe(parser, self.HELP, self.EPILOG)
        _add_only(parser, [part.name for part in PARTS])
        parser.add_argument(
            "--folder", type=Path, default=Path("runs/bench"), help="where JSON goes (default runs/bench)"
        )
        parser.add_argument("--redraw", action="store_true", help="measure nothing")

    def run(self, options: argparse.Namespace) -> int:
        chosen = [part for part in PARTS if part.name in options.only]
        outcomes: list[Outcome] = []
        if not options.redraw:
            outcomes = run_all([(part.name, part.full) for part in chosen], options.folder, _PATIENT_S)
        measured = [part.name for part in chosen if _left_something(part.name, outcomes, options.redraw)]
        untold = tell(measured, options.folder, DOCUMENT, PICTURES)
        print("\n".join(filter(None, [summary(outcomes), *untold])))
        codes = {outcome.code for outcome in outcomes}
        if untold or codes - {0, MISSED}:
            return FAILED
        return max(codes, default=0)


def run_all(chosen: Sequence[tuple[str, Sequence[str]]], folder: Path, limit_s: float) -> list[Outcome]:
    """Run benchmarks one after another, and print what each prints.

    Args:
        chosen: Names and arguments.
        folder: Where their JSON files go.
        limit_s: How long each may take.

    Returns:
        How each ended, in order.
    """
    outcomes = []
    for number, (name, arguments) in enumerate(chosen, start=1):
        say(f"== {number} of {len(chosen)}: {name}")
        outcome, printed = run_one([name, *arguments, "--json", str(folder / f"{name}.json")], limit_s)
        print(f"== {documents.command([name, *arguments])}\n\n{printed}", flush=True)
        say(f"== {outcome.spelled}")
        outcomes.append(outcome)
    return outcomes


def run_one(arguments: Sequence[str], limit_s: float) -> tuple[Outcome, str]:
    """Run one benchmark in a process of its own; what it says on the way goes on to stderr.

    Args:
        arguments: Its name, and its arguments.
        limit_s: After how long it is ended.

    Returns:
        How it ended, and what it printed.
    """
    began, said = time.monotonic(), [""]
    settings = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.bench", *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=settings
        )
        ending = threading.Timer(limit_s, child.kill)
        ending.start()
        try:
            assert child.stderr is not None
            with _beating(arguments[0]):
                for line in child.stderr:
                    sys.stderr.write(line)
                    sys.stderr.flush()
                    said.append(line.strip() or said[-1])
        finally:
            ending.cancel()
            code = _end_of(child)
        output.seek(0)
        return Outcome(arguments[0], code, said[-1], time.monotonic() - began), output.read()


def _end_of(child: subprocess.Popen[str]) -> int:
    # It has ended, or Ctrl-C has reached it, too: then it has peers to stop.
    try:
        return child.wait(_LEAVE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def tell(names: Sequence[str], folder: Path, page: Path, pictures: Path) -> list[str]:
    """Write tables and plots from the files that are there.

    Args:
        names: Of which benchmarks.
        folder: Where their JSON files lie.
        page: The document with the markers.
        pictures: Where plots go.

    Returns:
        What could not be told, and why.
    """
    untold = []
    for name in names:
        try:
            document = documents.load(folder / f"{name}.json")
            write_between_markers(page, name, pages.page(document))
            if name in plots.PLOTS:
                plots.draw(document, pictures / f"{name}.svg")
        except (OSError, ValueError, KeyError) as error:
            untold.append(f"{name}: nothing written into {page}: {error}")
    return untold


def unjudged(outcome: Outcome) -> Outcome:
    """Let a missed target pass: it is one for full sizes."""
    return replace(outcome, code=0) if outcome.code == MISSED else outcome


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say how all of them ended."""
    return "\n".join(outcome.spelled for outcome in outcomes)


def _left_something(name: str, outcomes: Sequence[Outcome], redraw: bool) -> bool:
    return redraw or any(outcome.name == name and outcome.code in (0, MISSED) for outcome in outcomes)


@contextmanager
def _beating(name: str) -> Iterator[None]:
    # Whoever waits sees that it still runs, also while a benchmark has nothing to say.
    over, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not over.wait(_BEAT_S):
            say(f"   {name}: {time.monotonic() - began:.0f} s")

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()


def _describe(parser: argparse.ArgumentParser, text: str, epilog: str) -> None:
    parser.description, parser.epilog = text, epilog
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def _add_only(parser: argparse.ArgumentParser, names: list[str]) -> None:
    def chosen(text: str) -> list[str]:
        found = text.split(",")
        unknown = set(found) - set(names)
        if unknown:
            raise argparse.ArgumentTypeError(f"no such benchmark: {', '.join(sorted(unknown))}")
        return found

    parser.add_argument(
        "--only", type=chosen, default=names, metavar="NAMES", help=f"some of {','.join(names)} (default all)"
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


QUICK, ALL = Quick(), All()
