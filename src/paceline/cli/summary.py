"""What came out of a local run: counted, checked against the logs, written down and shown."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from paceline import ledger
from paceline.cli.progress import Progress
from paceline.cli.screen import clock, count, size
from paceline.cli.tables import credit_table
from paceline.core.errors import LedgerError
from paceline.core.records import Frozen
from paceline.peer.agreement import check_same_chain
from paceline.peer.folders import RunFolder

PROMPT = "def "
"""What the text sample begins with."""
_FLOAT_BYTES = 4


class RunSummary(Frozen):
    """The outcome of `paceline up`, as `summary.json` keeps it."""

    success: bool
    """Whether the run was finished, and all logs verify and hold one chain."""
    error: str = ""
    """What went wrong otherwise."""
    run_id: str
    """The run."""
    seconds: float
    """How long it took, from the first process to the last."""
    parameters: int
    """Weights of the model."""
    peers: int
    """Peers started."""
    val_loss_before: float | None
    """Validation loss of the first weights, nats per token."""
    val_loss_after: float | None
    """Validation loss of the last committed anchor, nats per token."""
    train_loss: float | None
    """Training loss of the last committed round, nats per token."""
    rounds_committed: int
    """Rounds committed."""
    attempts_voided: int
    """Attempts given up on the way."""
    bytes_sent: dict[str, int]
    """Bytes of pseudo-gradients and means that each peer sent, failed attempts included."""
    bytes_synchronous: int
    """Bytes that each peer would have sent in synchronous data-parallel training of the same steps."""
    credits: dict[str, int]
    """Sequences by peer id, counted from the longest log."""
    head_digest: str
    """Digest of the last commit."""
    ended_early: dict[str, str]
    """Peers that did not finish, with the reason."""


def synchronous_bytes(peers: int, parameters: int, steps: int) -> int:
    """Count what one peer sends when gradients are averaged after every step.

    Ring all-reduce of fp32 gradients: 2 (n - 1) / n of the gradient's size, per step and peer (Patarasuk and
    Yuan, "Bandwidth optimal all-reduce algorithms", 2009).

    Args:
        peers: n.
        parameters: Weights of the model.
        steps: Inner steps that each peer did.

    Returns:
        Bytes.
    """
    return round(2 * (peers - 1) / peers * _FLOAT_BYTES * parameters * steps)


def summarise(progress: Progress, folder: RunFolder, seconds: float) -> RunSummary:
    """Count what came out, and check every log.

    Args:
        progress: The run, over.
        folder: Its folder.
        seconds: How long it took.

    Returns:
        The summary; `success` is False when a log does not verify or holds another chain than the others.
    """
    logs, error = _checked_logs(folder.logs())
    longest = max(logs.values(), key=lambda log: log.rounds, default=None)
    rounds = longest.rounds if longest is not None else 0
    if not error and rounds < progress.run.rounds:
        error = f"{rounds} of {progress.run.rounds} rounds are committed"
    riders = progress.riders.values()
    parameters = max((rider.parameters for rider in riders), default=0)
    measured = progress.val_losses
    return RunSummary(
        success=not error,
        error=error,
        run_id=progress.run.run_id,
        seconds=seconds,
        parameters=parameters,
        peers=len(progress.riders),
        val_loss_before=measured.get(0),
        val_loss_after=measured[max(measured)] if measured else None,
        train_loss=progress.losses.get(progress.rounds_committed),
        rounds_committed=rounds,
        attempts_voided=len(progress.voided),
        bytes_sent={rider.name: rider.bytes_out for rider in riders},
        bytes_synchronous=synchronous_bytes(len(riders), parameters, progress.run.timetable.ends_at(rounds)),
        credits=longest.credits if longest is not None else {},
        head_digest=longest.head_digest if longest is not None else "",
        ended_early={rider.name: rider.ended for rider in riders if rider.ended},
    )


def show(summary: RunSummary, progress: Progress, folder: RunFolder, screen: Console) -> None:
    """Print a summary.

    Args:
        summary: What came out.
        progress: The run, for the peers' names.
        folder: Where everything lies.
        screen: Where to.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(summary, folder):
        table.add_row(name, text)
    screen.print()
    screen.print(table)
    screen.print()
    names = {rider.peer_id: rider.name for rider in progress.riders.values()}
    screen.print(credit_table(summary.credits, names))
    for name, reason in summary.ended_early.items():
        who = progress.riders[name].called
        screen.print(f"{who} did not finish: {reason}", style="yellow", markup=False)


def show_sample(checkpoint: Path, screen: Console) -> None:
    """Print what the trained model writes after `PROMPT`.

    Args:
        checkpoint: The checkpoint.
        screen: Where to.
    """
    from paceline.cli.writing import write_on

    text = write_on(checkpoint, PROMPT, num_bytes=240, temperature=0.7, seed=0)
    screen.print("\nThe model writes:\n", style="bold")
    screen.print(text, markup=False, style="italic")


def _checked_logs(paths: list[Path]) -> tuple[dict[Path, ledger.VerifiedLog], str]:
    logs: dict[Path, ledger.VerifiedLog] = {}
    try:
        for path in paths:
            logs[path] = ledger.verify(path)
        check_same_chain(logs)
    except LedgerError as error:
        return logs, error.cause
    return logs, ""


def _facts(summary: RunSummary, folder: RunFolder) -> list[tuple[str, str]]:
    sent = sum(summary.bytes_sent.values()) / max(1, len(summary.bytes_sent))
    saved = f", {summary.bytes_synchronous / sent:.0f} times as much" if sent else ""
    voided = f", {summary.attempts_voided} attempts voided" if summary.attempts_voided else ", none voided"
    agreement = "all logs verify and hold the same chain" if summary.success else summary.error
    return [
        ("run", f"{summary.run_id}: {count(summary.parameters)} weights, {clock(summary.seconds)}"),
        ("validation", _validation(summary)),
        ("rounds", f"{summary.rounds_committed} committed{voided}"),
        ("sent", f"{size(sent)} per peer"),
        ("", f"synchronous training: {size(summary.bytes_synchronous)}{saved}"),
        ("history", f"{agreement}, head {summary.head_digest[:16]}"),
        ("loss curve", str(folder.chart)),
        ("everything", str(folder.path)),
    ]


def _validation(summary: RunSummary) -> str:
    before, after = summary.val_loss_before, summary.val_loss_after
    if before is None or after is None:
        return "not measured"
    return f"{before:.3f} → {after:.3f} nats per token ({after / before - 1:+.0%})"
