"""How a local run looks: pure functions from its progress to lines and pictures."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paceline.cli.progress import Progress, Rider
from paceline.cli.screen import Fitting, clock, count
from paceline.core.nicknames import named, nickname

_SPARKS = "▁▂▃▄▅▆▇█"
_COLUMNS = ("phase", "round", "bar", "steps", "loss", "tokens/s", "credits")
_NUMBERS = frozenset({"steps", "loss", "tokens/s", "credits"})
_ALL = frozenset(_COLUMNS)
_WITHOUT_BAR = _ALL - {"bar"}
_LAYOUTS: tuple[tuple[Callable[[str], str], int, frozenset[str]], ...] = (
    (named, 24, _ALL),
    (nickname, 24, _ALL),
    (nickname, 8, _ALL),
    (nickname, 0, _WITHOUT_BAR),
    (nickname, 0, _WITHOUT_BAR - {"round"}),
    (nickname, 0, frozenset({"phase", "steps", "loss"})),
    (nickname, 0, frozenset({"phase"})),
)
"""How peers are spelled, how long the bar is, and what else is shown: the more room, the more."""


def round_line(progress: Progress, round_id: int) -> str:
    """Sum up a committed round.

    Args:
        progress: How the run stands.
        round_id: The round.

    Returns:
        One line.
    """
    measured = progress.val_losses.get(round_id)
    parts = [
        f"round {round_id} of {progress.run.rounds} committed by {progress.members} peers",
        f"loss {progress.losses.get(round_id, float('nan')):.3f}",
        *([f"validation {measured:.3f}"] if measured is not None else []),
        f"{count(progress.tokens_per_s)} tokens/s",
        *([f"{progress.front_name} at the front"] if progress.front else []),
    ]
    return ", ".join(parts)


def draw(progress: Progress, seconds: float, lines: list[str]) -> RenderableType:
    """Draw the run.

    Args:
        progress: How it stands.
        seconds: How long it has been going.
        lines: What happened last.

    Returns:
        Something for rich to print.
    """
    run = progress.run
    working_on = min(progress.rounds_committed + 1, run.rounds)
    title = Text.assemble(
        ("paceline ", "bold"),
        (run.run_id, "cyan"),
        f"   round {working_on} of {run.rounds}   {count(progress.tokens_per_s)} tokens/s   {clock(seconds)}",
    )
    return Group(title, Text(), _riders(progress), Text(), _losses(progress), *map(Text, lines))


def _riders(progress: Progress) -> Fitting:
    return Fitting([_table(progress, *layout) for layout in _LAYOUTS])


def _table(
    progress: Progress, spelled: Callable[[str], str], bar_width: int, columns: frozenset[str]
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("", "peer", ""):
        table.add_column(name, no_wrap=True)
    for name in _COLUMNS:
        if name in columns:
            table.add_column(
                "" if name == "bar" else name,
                justify="right" if name in _NUMBERS else "left",
                min_width=8 if name == "phase" else None,
                no_wrap=True,
            )
    for rider in progress.riders.values():
        cells = _cells(rider, progress, bar_width)
        table.add_row(
            Text("▸" if _leads(rider, progress) else " ", style="bold yellow"),
            rider.name,
            spelled(rider.peer_id) if rider.peer_id else "",
            *(cells[name] for name in _COLUMNS if name in columns),
            style="dim" if rider.ended is not None else "",
        )
    return table


def _leads(rider: Rider, progress: Progress) -> bool:
    return rider.peer_id == progress.front and bool(rider.peer_id) and rider.ended is None


def _cells(rider: Rider, progress: Progress, bar_width: int) -> dict[str, RenderableType]:
    total = progress.run.timetable.steps_of(max(1, rider.round_id))
    return {
        "phase": Text(rider.phase, style="red" if rider.ended else ""),
        "round": str(rider.round_id or "–"),
        "bar": ProgressBar(total=total, completed=rider.inner_step, width=bar_width),
        "steps": f"{rider.inner_step:>4}/{total}",
        "loss": "–" if rider.loss is None else f"{rider.loss:.3f}",
        "tokens/s": count(rider.tokens_per_s),
        "credits": f"{rider.balance:,}",
    }


def _losses(progress: Progress) -> Text:
    text = Text("training   ").append(sparkline(list(progress.losses.values())), "green")
    if progress.val_losses:
        text.append("\nvalidation ").append(sparkline(list(progress.val_losses.values())), "magenta")
        last = progress.val_losses[max(progress.val_losses)]
        text.append(f" {last:.3f} nats per token")
    return text


def sparkline(values: list[float], width: int = 40) -> str:
    """Draw numbers as a row of small bars.

    Args:
        values: The numbers, of which the last `width` are shown.
        width: At most so many letters.

    Returns:
        One letter per number, from `▁` for the least to `█` for the largest.
    """
    shown = values[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    span = (high - low) or 1.0
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1))] for value in shown)
