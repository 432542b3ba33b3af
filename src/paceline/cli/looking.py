"""What `paceline status --round-id` and `paceline verify --update` do: look at the fedtrain API's results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError
from rich.table import Table

from paceline.cli.forms import load_training
from paceline.cli.screen import Fitting, complain, console, harmless
from paceline.core.errors import ConfigError
from paceline.core.nicknames import named

if TYPE_CHECKING:
    from paceline.federation.history import RoundStatus
    from paceline.federation.models import LocalUpdate

_FAILED = 1


def show_round(round_id: int, config: Path | None, session: Path | None) -> None:
    """Show one round of a session, from its log.

    Args:
        round_id: The round.
        config: Only a session of this training config.
        session: The session's folder; the one in `runs/` that was used last when None.
    """
    path = _session_of(config, session)
    from paceline.federation.history import read_round

    status = read_round(path, round_id)
    screen = console()
    screen.print(f"session  {path}", markup=False)
    for line in _told(status):
        screen.print(line, markup=False)
    screen.print()
    screen.print(_contributions(status))


def check_update(path: Path, expected: str) -> None:
    """Compare an update's gradients with a hash.

    Args:
        path: JSON (or YAML) of a `LocalUpdate`.
        expected: The SHA-256 that its gradients should have.

    Raises:
        Exit: They have another one.
    """
    update = _load_update(path)
    from paceline.federation.hashing import HashVerifier

    verifier, expected = HashVerifier(), expected.strip().lower()
    if verifier.verify(update, expected):
        console().print(f"{path}: verified, SHA-256 {expected}", markup=False)
        return
    found = verifier.compute_hash(update.gradients)
    whole = re.fullmatch(r"[0-9a-f]{64}", expected) is not None
    complain(
        f"{path}: the SHA-256 of its gradients is {found}, not {harmless(expected)!r}",
        "get the update again from the node that made it" if whole else "give all 64 hexadecimal digits",
    )
    raise typer.Exit(_FAILED)


def _session_of(config: Path | None, session: Path | None) -> Path:
    from paceline.federation.folder import RUNS, SessionFolder
    from paceline.federation.history import newest

    wanted = None if config is None else load_training(config)
    if session is not None:
        if wanted is not None and SessionFolder(session).read().config != wanted:
            raise ConfigError(
                f"{session} is a session of another config than {config}", "leave one of them out"
            )
        return session
    path = newest(wanted)
    if path is None:
        of = f" of {config}" if config is not None else ""
        raise ConfigError(
            f"there is no session{of} in {RUNS}/",
            f"paceline init --config {config or 'train.json'}, or --session FOLDER for one elsewhere",
        )
    return path


def _told(status: RoundStatus) -> list[str]:
    state, config, samples = status.state, status.session.config, sum(status.state.samples)
    lines = [
        f"model    {harmless(config.model_name)}: {config.local_steps:,} local steps per round, batches of "
        f"{config.batch_size:,}, learning rate {config.learning_rate:g}",
        f"round    {state.round_id} of {config.global_rounds}; the last one committed is {status.last_round}",
        f"nodes    {len(state.participating_nodes)} of {len(status.session.nodes)}",
    ]
    if state.round_id:
        lines += [
            f"loss     {state.avg_loss:.6g} on average",
            f"digest   {state.weights_digest} of the averages",
            f"commit   {state.digest()}",
            f"samples  {samples:,} in this round, {sum(status.credits.values()):,} so far",
        ]
    return lines


def _contributions(status: RoundStatus) -> Fitting:
    return Fitting([_table(status, has_whole_ids=True), _table(status, has_whole_ids=False)])


def _table(status: RoundStatus, *, has_whole_ids: bool) -> Table:
    table, state = Table(box=None, pad_edge=False), status.state
    table.add_column("node", no_wrap=True)
    table.add_column("", no_wrap=True)
    for title in ("samples", "credits"):
        table.add_column(title, justify="right")
    if has_whole_ids:
        table.add_column("node id", no_wrap=True)
    samples = dict(zip(state.participating_nodes, state.samples, strict=True))
    for peer, name in status.session.names().items():
        took_part = f"{samples[peer]:,}" if peer in samples else "–"
        row = [name, named(peer), took_part, f"{status.credits.get(peer, 0):,}"]
        table.add_row(*row, *([peer] if has_whole_ids else []))
    return table


def _load_update(path: Path) -> LocalUpdate:
    from paceline.federation.models import LocalUpdate
    from paceline.peer.documents import read_document
    from paceline.peer.problems import first_problem

    document = read_document(path)
    try:
        # Not `load_as`, which looks at each number twice.
        return LocalUpdate.model_validate(document)
    except ValidationError as error:
        problem = first_problem(error, LocalUpdate)
        key = ".".join(problem.path)
        raise ConfigError(
            f"{path}: {f'{key}: ' if key else ''}{problem.text}", "it should be a LocalUpdate as JSON"
        ) from error
