"""How a local run looks: pure functions from its progress to lines and pictures."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paceline.cli.progress import Progress, Rider
from paceline.cli.screen import clock, count

_SPARKS = "▁▂▃▄▅▆▇█"
_BAR_WIDTH = 24


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


def _riders(progress: Progress) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("", "peer", "phase", "round", "inner steps", ""):
        table.add_column(name, no_wrap=True, min_width=8 if name == "phase" else None)
    for name in ("loss", "tokens/s", "credits"):
        table.add_column(name, justify="right", no_wrap=True)
    for rider in progress.riders.values():
        table.add_row(*_row(rider, progress), style="dim" if rider.ended is not None else "")
    return table


def _row(rider: Rider, progress: Progress) -> list[RenderableType]:
    total = progress.run.inner_steps
    front = rider.peer_id == progress.front and bool(rider.peer_id) and rider.ended is None
    return [
        Text("▸" if front else " ", style="bold yellow"),
        rider.name,
        Text(rider.phase, style="red" if rider.ended else ""),
        str(rider.round_id or "–"),
        ProgressBar(total=total, completed=rider.inner_step, width=_BAR_WIDTH),
        f"{rider.inner_step:>4}/{total}",
        "–" if rider.loss is None else f"{rider.loss:.3f}",
        count(rider.tokens_per_s),
        f"{rider.balance:,}",
    ]


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
