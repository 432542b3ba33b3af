"""`scripts/bench train`: the same model, data, tokens and seeds, trained in many ways."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.bench import documents, pages
from tests.bench.tables import write_between_markers
from tests.bench.training import report
from tests.bench.training.others import install, unavailable
from tests.bench.training.recipe import SIZES, Row, Size, rows
from tests.bench.training.results import Result, Results
from tests.bench.training.running import train

HELP = "validation loss, bytes and utilisation at equal tokens: one large batch, others' ways, and ours"
_EPILOG = """\
  scripts/bench train --quick                          a look at all of ours: about two minutes
  scripts/bench train --list                           name the rows
  scripts/bench train '*adamw-h30*' one-process-adamw  some of them
  scripts/bench train --markdown docs/performance.md   and write the table where it belongs

Every row trains the same byte-level GPT on the standard library's sources with the same number of tokens,
from the same first weights. A row is called METHOD-INNER-hH-CODEC and chosen by its name or a pattern; all
are trained when none is named. Each row and seed is kept in a file of its own, so that an interrupted run
goes on where it was and nothing is trained twice; a row whose recipe has changed is trained anew, and --again
trains the chosen ones in any case.

Ours is trained in one process, node after node: tests hold that to the very bits of a live swarm, and the
bytes to what a live swarm sends. So its loss and bytes are a swarm's, and its inner / wall is what is left
after codec, mean, outer step and checkpoint, not after a network. Others run as real processes on loopback.
torchft needs an environment of its own: scripts/bench train --install.

Exit codes: 0 every figure was reached, 1 one was missed (--quick judges nothing), 2 bad usage, 130
interrupted.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names or patterns; all when left out")
    parser.add_argument("--list", action="store_true", help="name all rows")
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="small",
        help="small (default): some 50 s of processor time per row and seed; full: 6 minutes; quick: 5 s",
    )
    parser.add_argument(
        "--quick", action="store_const", dest="size", const="quick", help="the same as --size quick"
    )
    parser.add_argument("--seeds", type=int, help="how many seeds (default 3; 1 of size quick)")
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time, one thread each (default 2)")
    parser.add_argument("--again", action="store_true", help="train the chosen rows again")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/train"), help="where results are kept (default runs/train)"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table between the markers in this document"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--install", action="store_true", help="fetch torchft, and do nothing else")


def run(options: argparse.Namespace) -> int:
    size = SIZES[options.size]
    if options.install:
        install(options.folder)
        return 0
    if options.list:
        print("\n".join(f"{row.name:32} {unavailable(row, options.folder)}".rstrip() for row in rows()))
        return 0
    chosen = choose(options.rows)
    if not chosen:
        print(f"no row is called {', '.join(options.rows)}; see --list", file=sys.stderr)
        return 2
    results = Results(options.folder)
    seeds = range(options.seeds or size.seeds)
    try:
        _train_all(_due(chosen, size, seeds, results, options), size, results, options.jobs)
    except KeyboardInterrupt:
        say("interrupted; what was finished is kept")
        return documents.INTERRUPTED
    found = gather(size, seeds, results)
    text = report.markdown(found)
    print(text)
    document = documents.document("train", options.given, rows=report.as_json(found), markdown=text)
    if options.json:
        documents.save(options.json, document)
    if options.markdown:
        write_between_markers(options.markdown, "train", pages.page(document))
    missed = size.judged and not all(figure.reached for figure in report.figures(found))
    return documents.MISSED if missed else 0


def choose(patterns: Sequence[str]) -> list[Row]:
    """Find rows by their names or patterns."""
    return [row for row in rows() if not patterns or any(fnmatch.fnmatch(row.name, p) for p in patterns)]


def gather(size: Size, seeds: Sequence[int], results: Results) -> dict[Row, list[Result]]:
    """Read all that is there, also of rows that were trained earlier."""
    found = {row: [r for seed in seeds if (r := results.load(row, size, seed))] for row in rows()}
    return {row: each for row, each in found.items() if each}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _due(
    chosen: list[Row], size: Size, seeds: Sequence[int], results: Results, options: argparse.Namespace
) -> list[tuple[Row, int]]:
    due = []
    for row in chosen:
        reason = unavailable(row, options.folder)
        if reason:
            say(f"{row.name}: left out, {reason}")
            continue
        due += [(row, s) for s in seeds if options.again or results.load(row, size, s) is None]
    # A seed is finished before the next one begins: whoever interrupts has a table.
    return sorted(due, key=lambda each: each[1])


def _train_all(due: list[tuple[Row, int]], size: Size, results: Results, jobs: int) -> None:
    if not due:
        return
    say(f"{len(due)} to train, {size.tokens:,} tokens each, {jobs} at a time")
    began = time.monotonic()
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        work = {pool.submit(train, row, size, seed, results.folder): (row, seed) for row, seed in due}
        for done, future in enumerate(as_completed(work), start=1):
            told = _outcome(future, *work[future], size, results)
            took = time.monotonic() - began
            left = took / done * (len(due) - done)
            say(f"{took:6.0f} s  {done} of {len(due)}  {told}; about {left:.0f} s left")
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(future: Future[Result], row: Row, seed: int, size: Size, results: Results) -> str:
    try:
        result = future.result()
    except RuntimeError as error:  # somebody else's process failed: the other rows are none the worse
        return f"{row.name} seed {seed} failed: {error}"
    results.save(result, size)
    sent = f"{result.sent_bytes / 1e6:.2f} MB"
    return f"{row.name} seed {seed}: {result.val_loss:.4f} nats per byte, {sent}"
