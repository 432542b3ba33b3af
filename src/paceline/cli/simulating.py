"""`simulate`: the round protocol on thousands of bad days."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from paceline.cli.screen import console
from paceline.core.errors import ConfigError

if TYPE_CHECKING:
    from paceline.simulate.day import Day
    from paceline.simulate.many import Tally
    from paceline.simulate.scale import Growth

_EXIT_VIOLATED = 1
_SHOWN = 20
_COLUMNS = """
Per round: virtual seconds; records that a peer posts; its looks at the board, the records that are new to it
there, and what the looks fetch, old and new; states that are fetched whole, in all of the swarm.
"""
_TURNS = """\
A roster holds at most {} peers. In a larger swarm they take turns: a quarter of a full roster changes each
round, the others train for nothing in it and fetch its result. Much larger swarms need groups.
"""
_LEGEND = """\
Virtual seconds, a peer (p0, p1, … in the order of their first start), and what it does or says; !! marks what
is done to peers. Attempt 2.0 is the first one of the coordinator of term 2. Six hexadecimal digits name a
result or a commit. A heartbeat that says nothing new is left out.
"""


def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="How many days to simulate.")] = 1000,
    first: Annotated[int, typer.Option(min=0, help="The first day's seed.")] = 0,
    peers: Annotated[str, typer.Option(metavar="N..M", help="The least and the most founders.")] = "3..12",
    seed: Annotated[int | None, typer.Option(min=0, help="Replay this one day, step by step.")] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="N,N…", help="Measure what rounds cost so many peers instead.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, help="How many to simulate at once; 0 for one per core.")
    ] = 0,
) -> None:
    """Drive the round protocol through bad days in virtual time, and check its promises after every event.

    Crashes, restarts, lost disks, pauses, slow peers, lost, late, doubled and reordered records, partitions,
    clocks that are off, torn all-reduces, drift; then peace, in which a round must commit in time. Says which
    promise broke on which day and exits with 1.

        paceline simulate --seeds 10000 --peers 3..12

        paceline simulate --seed 4711

        paceline simulate --scale 10,100,1000
    """
    sizes = _sizes(peers)
    if scale is not None:
        _grow(_counts(scale))
    elif seed is not None:
        _replay(seed, sizes)
    else:
        _simulate(range(first, first + seeds), sizes, processes or os.cpu_count() or 1)


def _sizes(text: str) -> tuple[int, int]:
    least, _, most = text.partition("..")
    try:
        sizes = int(least), int(most or least)
    except ValueError:
        sizes = (0, 0)
    if not 2 <= sizes[0] <= sizes[1] <= 64:
        raise ConfigError(f"--peers {text} is no range within 2..64", "write it like 3..12")
    return sizes


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 2:
        raise ConfigError(f"--scale {text} is no list of numbers of peers", "write it like 10,100,1000")
    return counts


def _simulate(seeds: range, sizes: tuple[int, int], processes: int) -> None:
    from paceline.simulate.many import Tally, live_through_many

    tally, began = Tally(), time.monotonic()
    columns = (TextColumn("days"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as progress:
        task = progress.add_task("days", total=len(seeds))
        for day in live_through_many(seeds, sizes, processes):
            tally.add(day)
            progress.advance(task)
            if day.violation and len(tally.violations) <= _SHOWN:
                _show_violation(day)
    _show_tally(tally, time.monotonic() - began)
    if tally.violations:
        raise typer.Exit(_EXIT_VIOLATED)


def _show_violation(day: Day) -> None:
    console().print(f"seed {day.seed}: {day.what}", markup=False)


def _show_tally(tally: Tally, seconds: float) -> None:
    verdict = f"{len(tally.violations)} violations" if tally.violations else "no violation"
    console().print(
        f"{tally.days:,} days, {tally.rounds:,} rounds and {tally.virtual_s / 3600:,.1f} virtual hours "
        f"in {seconds:,.0f} s: {verdict}",
        markup=False,
    )
    console().print(
        f"a round committed everywhere {tally.recovery_s(0.5):.0f} s after the last fault in the median, "
        f"{tally.recovery_s(0.99):.0f} s at the 99th percentile, {tally.recovery_s(1.0):.0f} s at most",
        markup=False,
    )


def _replay(seed: int, sizes: tuple[int, int]) -> None:
    from paceline.simulate.day import live_through

    screen = console()

    def tell(now: float, name: str, what: str) -> None:
        screen.print(f"{now:8.2f}  {name or '!!':4} {what}", markup=False, highlight=False, soft_wrap=True)

    screen.print(_LEGEND, markup=False, highlight=False)
    day = live_through(seed, sizes, tell=tell)
    ended = (
        day.what or f"{day.rounds} rounds committed; all is well {day.recovery_s:.0f} s after the last fault"
    )
    screen.print(f"seed {seed}, {day.peers} peers, a run {day.kind}: {ended}", markup=False)
    if day.violation:
        raise typer.Exit(_EXIT_VIOLATED)


def _grow(counts: list[int]) -> None:
    from paceline.core.records import MAX_MEMBERS
    from paceline.simulate.scale import measure

    table = Table(box=None, pad_edge=False)
    for title in (
        "peers", "roster", "had a turn", "virtual s", "posts", "looks", "news", "kB looked at", "fetches",
    ):  # fmt: skip
        table.add_column(title, justify="right", no_wrap=True)
    found = [measure(count) for count in counts]
    for growth in found:
        table.add_row(
            *(f"{growth.peers:,}", f"{growth.members}", f"{growth.turns:,}", f"{growth.round_s:.1f}"),
            *(f"{growth.posts:.1f}", f"{growth.reads:.1f}", f"{growth.news:,.0f}"),
            *(f"{growth.read_kb:,.0f}", f"{growth.fetches:,.0f}"),
        )
    console().print(table)
    console().print(_COLUMNS, markup=False, highlight=False)
    for less, more in pairwise(found):
        console().print(_compared(less, more), markup=False, highlight=False)
    if max(counts) > MAX_MEMBERS:
        console().print(_TURNS.format(MAX_MEMBERS), markup=False, highlight=False)


def _compared(less: Growth, more: Growth) -> str:
    def times(name: str) -> str:
        before = getattr(less, name)
        return f"{getattr(more, name) / before:.2g}" if before else "-"

    return (
        f"{less.peers:,} to {more.peers:,} peers, {times('peers')} times as many: {times('round_s')} times "
        f"the seconds, {times('posts')} the posts, {times('news')} the news, {times('read_kb')} the kB"
    )
