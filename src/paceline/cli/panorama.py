"""How a swarm looks at a terminal: pure functions from a picture of it to lines, whatever room there is."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paceline.cli.drawing import sparkline
from paceline.cli.screen import clock, count, harmless, size
from paceline.core.nicknames import named
from paceline.watch.picture import PeerView, Picture, RoundView, Standing
from paceline.watch.verdict import Tone, duration, verdict

_TONES: dict[Tone, str] = {
    "good": "green",
    "calm": "cyan",
    "watch": "yellow",
    "bad": "bold red",
    "over": "bold",
}
_PHASES: dict[Standing, str] = {
    "train": "green",
    "wait": "yellow",
    "reduce": "blue",
    "attest": "magenta",
    "apply": "cyan",
    "repair": "bright_magenta",
    "leave": "bright_black",
    "lost": "bold red",
    "finished": "bright_black",
}
_WIDE, _MIDDLE, _NARROW, _TINY = 112, 80, 56, 44
_FIXED_LINES = 11  # title, headings, losses, bytes, what was given up, and what is left free between
_LEAST_PEERS, _LEAST_ROUNDS, _MOST_ROUNDS = 3, 2, 8
_DIGITS = 8


def panorama(picture: Picture, width: int, height: int) -> RenderableType:
    """Draw a swarm.

    Args:
        picture: How it stands.
        width: Columns that there are; below some, less is shown.
        height: Lines that there are.

    Returns:
        Something for rich to print, no taller than that where it can be helped. Text from peers is harmless.
    """
    said = _verdict(picture, width)
    room = height - _FIXED_LINES - sum(-(-line.cell_len // width) for line in said)
    peers = max(_LEAST_PEERS, min(len(picture.peers), room - _LEAST_ROUNDS))
    rounds = max(1, min(_MOST_ROUNDS, room - peers))
    return Group(
        _title(picture, width),
        *said,
        Text(),
        _peers(picture, width, peers),
        Text(),
        *_losses(picture, width),
        _bytes(picture, width),
        Text(),
        _rounds(picture, width, rounds),
    )


def _title(picture: Picture, width: int) -> Text:
    working_on = min(picture.rounds_committed + 1, picture.rounds_planned)
    here = sum(peer.standing not in ("lost", "leave", "finished") for peer in picture.peers)
    title = Text.assemble(
        ("paceline ", "bold"),
        (harmless(picture.run_id), "cyan"),
        f"  round {working_on} of {picture.rounds_planned}",
    )
    if width >= _NARROW:
        speed = sum(peer.tokens_per_s for peer in picture.peers if peer.is_member)
        title.append(f"  {here} of " if picture.is_live else "  ").append(f"{len(picture.peers)} peers")
        title.append(f" here  {count(speed)} tokens/s" if picture.is_live else "")
    if width >= _MIDDLE and picture.last_commit_at is not None and picture.is_live:
        title.append(f"  last commit {duration(picture.at - picture.last_commit_at)} ago")
    title.truncate(width, overflow="ellipsis")
    return title


def _verdict(picture: Picture, width: int) -> list[Text]:
    said = verdict(picture)
    lines = [Text.assemble((said.word, _TONES[said.tone]), harmless(f"  {said.detail}"))]
    if said.advice:
        advice = Text(harmless(" ".join(said.advice.split())), "dim")
        advice.truncate(2 * width - width // 4, overflow="ellipsis")  # two lines, however words fall
        lines.append(advice)
    return lines


def _peers(picture: Picture, width: int, most: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1), expand=False)
    for name, is_number in _columns(width):
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis")
    shown = picture.peers if len(picture.peers) <= most else picture.peers[: most - 1]
    for peer in shown:
        table.add_row(*_row(peer, picture, width), style="dim" if peer.standing == "finished" else "")
    if len(shown) < len(picture.peers):
        return Group(table, Text(f"… and {len(picture.peers) - len(shown)} more", "dim"))
    return table if picture.peers else Text("no peer is known yet", "dim")


def _columns(width: int) -> list[tuple[str, bool]]:
    columns = [("", False), ("peer", False), ("phase", False)]
    if width >= _TINY:
        columns.append(("round", True))
    if width >= _MIDDLE:
        columns.append(("", False))
    columns.append(("steps", True))
    if width >= _NARROW:
        columns += [("loss", True), ("tokens/s", True)]
    if width >= _MIDDLE:
        columns.append(("credits", True))
    if width >= _WIDE:
        columns += [("sent", True), ("heard", True)]
    return columns


def _row(peer: PeerView, picture: Picture, width: int) -> list[RenderableType]:
    row: list[RenderableType] = [
        Text("▸" if peer.is_coordinator else " ", "bold yellow"),
        Text(named(peer.peer_id) if width >= _MIDDLE else harmless(peer.nickname)),
        Text(peer.standing, _PHASES[peer.standing]),
    ]
    if width >= _TINY:
        row.append(str(min(peer.round_id, picture.rounds_planned) or "–"))
    done = min(peer.inner_step, picture.inner_steps)
    if width >= _MIDDLE:
        row.append(
            ProgressBar(total=max(1, picture.inner_steps), completed=done, width=20 if width >= _WIDE else 8)
        )
    row.append(f"{done}/{picture.inner_steps}")
    if width >= _NARROW:
        row += ["–" if peer.loss is None else f"{peer.loss:.3f}", count(peer.tokens_per_s)]
    if width >= _MIDDLE:
        row.append(f"{peer.credits:,}")
    if width >= _WIDE:
        row += [size(peer.bytes_out), f"{duration(peer.seen_s)} ago" if picture.is_live else "–"]
    return row


def _losses(picture: Picture, width: int) -> list[Text]:
    lines = []
    for name, style, kind in (("training  ", "green", "avg_loss"), ("validation", "magenta", "val_loss")):
        committed = (view for view in picture.rounds if view.committed_at is not None)
        losses = [loss for view in committed if (loss := getattr(view, kind)) is not None]
        if losses:
            room = max(4, min(60, width - 24))
            lines.append(
                Text.assemble(
                    f"{name} ", (sparkline(losses, room), style), f" {losses[-1]:.3f}", overflow="crop"
                )
            )
    return lines or [Text("no round is committed yet", "dim")]


def _bytes(picture: Picture, width: int) -> Text:
    sent, other = picture.bytes_sent, picture.data_parallel_bytes
    line = Text(f"sent       {size(sent)}")
    if sent and other:
        line.append(f" where data-parallel training sends {size(other)}, {other / sent:,.0f} times as much")
    line.truncate(width, overflow="ellipsis")
    return line


def _rounds(picture: Picture, width: int, most: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    columns = ["round", "commit", "loss"] if width >= _TINY else ["round", "loss"]
    columns.append("members")
    columns += ["receipts"] if width >= _NARROW else []
    columns += ["front", "at"] if width >= _MIDDLE else []
    for name in columns:
        table.add_column(name, justify="left" if name in ("commit", "front") else "right", no_wrap=True)
    lines: list[RenderableType] = []
    shown = [view for view in picture.rounds if view.committed_at is not None][-most:]
    for view in reversed(shown):
        table.add_row(*_commit(view, picture, width))
    voids = [(view, void) for view in picture.rounds[-most - 1 :] for void in view.voids]
    for view, void in voids[-2:]:
        cause = harmless(f"round {view.round_id}: attempt {void.attempt} given up: {void.cause}")
        if void.blamed:
            cause += f" (blamed: {', '.join(map(named, void.blamed))})"
        line = Text(cause, "yellow")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return Group(table, *lines) if shown else Group(*lines)


def _commit(view: RoundView, picture: Picture, width: int) -> list[str]:
    row = [str(view.round_id), *([view.digest[:_DIGITS]] if width >= _TINY else [])]
    row += ["–" if view.avg_loss is None else f"{view.avg_loss:.3f}", str(len(view.members) or "–")]
    if width >= _NARROW:
        row.append(str(view.receipts or "–"))
    if width >= _MIDDLE:
        assert view.committed_at is not None
        since = view.committed_at if picture.begin is None else view.committed_at - picture.begin
        ago = f"{duration(picture.at - view.committed_at)} ago" if picture.is_live else clock(max(0.0, since))
        row += [named(view.author) or "–", ago]
    return row
