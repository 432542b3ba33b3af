"""`scripts/nemesis`: hurt a real swarm on this machine, and tell what came out."""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.nemesis import table
from tests.nemesis.catalogue import FAULTS, Fault
from tests.nemesis.running import Runner
from tests.nemesis.stages import unavailable
from tests.nemesis.table import Outcome

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_EPILOG = """\
A fault is chosen by its name or a pattern; without any, all are done (about 20 minutes on two quiet cores):

  scripts/nemesis --list
  scripts/nemesis member-killed-during-reduce 'coordinator-*'
  scripts/nemesis --json runs/nemesis.json --markdown docs/reliability.md

Peers are real `paceline join` process trees, with a seed, on loopback or in network namespaces. A fault is
"ok" when every promise held and every figure was reached, "failed" when not, and "skipped" when this machine
can't do it: small disks, namespaces and processor quotas need root on Linux. With --json, outcomes of
earlier runs stay in the file until their fault is done again, so one row can be measured anew.

Exit codes: 0 all ok or skipped, 1 something failed, 2 bad usage, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/nemesis",
        description="Hurt a real swarm on this machine in every way that is known, and tell what came out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="names or patterns; all when left out")
    parser.add_argument("--list", action="store_true", help="name all faults, and what each must lead to")
    parser.add_argument("--peers", type=int, default=5, help="how many peers a swarm has (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the outcomes in this file")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table between the markers in this document"
    )
    options = parser.parse_args(arguments)
    if options.list:
        list_faults()
        return 0
    if options.peers < 3:
        parser.error("--peers: a swarm that survives anything has 3 peers at least")
    chosen, unknown = choose(options.faults)
    if unknown:
        parser.error(f"no fault is called {', '.join(unknown)}; see --list")
    signal.signal(signal.SIGTERM, _as_interrupt)
    return run(chosen, options.peers, options.json, options.markdown)


def choose(patterns: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """Find faults by their names or patterns; the second list is what matches nothing."""
    unknown = [p for p in patterns if not any(fnmatch.fnmatch(f.name, p) for f in FAULTS)]
    chosen = [f for f in FAULTS if not patterns or any(fnmatch.fnmatch(f.name, p) for p in patterns)]
    return chosen, unknown


def list_faults() -> None:
    for fault in FAULTS:
        reason = fault.unavailable() or unavailable(fault.stage)
        print(f"{fault.name}\n    {fault.sentence}\n    must: {fault.promise}")
        if reason:
            print(f"    not on this machine: {reason}")


def run(faults: Sequence[Fault], peers: int, json: Path | None, document: Path | None) -> int:
    began, outcomes = time.monotonic(), list[Outcome]()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    try:
        with Runner(peers, say) as runner:
            for outcome in runner.run(faults):
                outcomes.append(outcome)
                if json:
                    table.merge(json, [outcome])
    except KeyboardInterrupt:
        say("interrupted; every process is gone")
        return _INTERRUPTED
    rows = table.load(json) if json else outcomes
    order = {fault.name: number for number, fault in enumerate(FAULTS)}
    rows = sorted((row for row in rows if row.name in order), key=lambda row: order[row.name])
    text = table.markdown(rows)
    print(f"\n{text}")
    if document:
        table.write_between_markers(document, text)
    return _FAILED if any(outcome.has_failed for outcome in outcomes) else 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
