"""Sessions of the fedtrain API, as `paceline init` and `paceline run` make, choose, train and show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from paceline.cli.options import NUM_NODES
from paceline.cli.rounds import Rounds, Watched
from paceline.cli.screen import Fitting, console, harmless
from paceline.cli.tables import credit_table
from paceline.core.errors import ConfigError, PacelineError
from paceline.core.nicknames import nickname
from paceline.federation.folder import SessionFolder
from paceline.federation.history import newest
from paceline.federation.models import TrainingConfig, TrainingResult
from paceline.federation.session import Session, create
from paceline.federation.synthetic import SyntheticProvider


@dataclass(frozen=True)
class Wanted:
    """What a session has to be like for `paceline run` to train in it.

    Attributes:
        config: Its training config.
        num_nodes: How many nodes it has; None for any number.
        parameters: Length of each simulated parameter by name.
    """

    config: TrainingConfig
    num_nodes: int | None
    parameters: Mapping[str, int]

    def obstacle(self, session: Session) -> str:
        """Look for what is in the way of training in a session.

        Args:
            session: The session.

        Returns:
            What it is; empty when there is nothing.
        """
        if session.config != self.config:
            return "its training config is another one"
        if self.num_nodes not in (None, len(session.nodes)):
            return f"it has {len(session.nodes)} nodes"
        if session.finished:
            return "it is finished"
        if not session.head().round_id:
            return ""
        lengths = {name: len(vector) for name, vector in session.state().global_weights.items()}
        spelled = ", ".join(f"{name}[{length}]" for name, length in lengths.items())
        return "" if lengths == self.parameters else f"its parameters are {spelled}"


def begin(training: TrainingConfig, num_nodes: int, config: Path, output: Path | None) -> None:
    """Make a session, and say what it is and what comes next.

    Args:
        training: The training config.
        num_nodes: How many nodes.
        config: Where the config was read.
        output: The session's folder; `runs/<run_id>` when None.
    """
    path = create(training, num_nodes, output)
    session, screen = SessionFolder(path).read(), console()
    screen.print(f"session  {path}", markup=False)
    _show_config(training, num_nodes)
    screen.print()
    table = Table(box=None, pad_edge=False)
    for title in ("address", "nickname", "node id"):
        table.add_column(title, no_wrap=True)
    for node in session.federated_nodes():
        table.add_row(node.address, nickname(node.node_id), node.node_id)
    screen.print(Fitting([table]))
    screen.print()
    number = "" if num_nodes == NUM_NODES else f" --nodes {num_nodes}"
    place = "" if output is None else f" -o {output}"
    screen.print(f"next     paceline run --config {config}{number}{place}", markup=False)


def choose(stack: ExitStack, wanted: Wanted, output: Path | None, new: bool) -> Session:
    """Open the session to train in, and say which.

    Args:
        stack: Closes it in the end.
        wanted: What it has to be like.
        output: Its folder, when the operator names one.
        new: Whether it must be a new one.

    Returns:
        One that has rounds left.

    Raises:
        ConfigError: The named folder holds something else.
    """
    session = None
    if output is not None and SessionFolder(output).file.is_file() and not new:
        session = stack.enter_context(Session.open(output))
        if obstacle := wanted.obstacle(session):
            raise ConfigError(f"the session {output} can't be used: {obstacle}", "choose another --output")
    elif output is None and not new:
        last = newest(wanted.config, wanted.num_nodes)
        session = _reopened(stack, last, wanted) if last is not None else None
    if session is None:
        path = create(wanted.config, wanted.num_nodes or NUM_NODES, output)
        session = stack.enter_context(Session.open(path))
    done = session.head().round_id
    state = f", goes on after round {done}" if done else ""
    console().print(f"session  {session.folder.path}{state}", markup=False)
    _show_config(session.config, len(session.nodes))
    return session


def train(session: Session, parameters: Mapping[str, int], stop_asked: Callable[[], bool]) -> TrainingResult:
    """Train with synthetic updates until the session is finished or somebody wants to stop.

    Args:
        session: The session.
        parameters: Length of each simulated parameter by name, all the same.
        stop_asked: Whether it is time to stop.

    Returns:
        What came out.
    """
    size = next(iter(parameters.values()))
    provider = SyntheticProvider(session.config, tuple(parameters), size, seed=session.run.seed)
    with Rounds(session.config.global_rounds) as rounds:
        return session.train(Watched(provider, rounds, stop_asked))


def show(session: Session, result: TrainingResult) -> None:
    """Print what came out.

    Args:
        session: The session.
        result: Its result.
    """
    screen, path = console(), session.folder.path
    screen.print(f"rounds   {result.rounds_completed:,} of {session.config.global_rounds:,}")
    screen.print(f"loss     {result.final_loss:.6g} after the last round")
    screen.print(f"samples  {result.total_samples:,}")
    screen.print(f"duration {result.duration_seconds:.4f} s")
    screen.print()
    names = session.folder.read().names()
    balances = session.credits()
    screen.print(credit_table(balances, names))
    screen.print()
    screen.print(f"check it paceline verify {path}", markup=False)


def _reopened(stack: ExitStack, path: Path, wanted: Wanted) -> Session | None:
    with ExitStack() as attempt:
        try:
            session = attempt.enter_context(Session.open(path))
            obstacle = wanted.obstacle(session)
        except PacelineError as error:
            obstacle = error.cause
        else:
            if not obstacle:
                stack.enter_context(attempt.pop_all())
                return session
            if session.finished:
                return None  # as everybody expects
    console().print(f"note     not going on with {path}: {obstacle}", markup=False)
    return None


def _show_config(config: TrainingConfig, num_nodes: int) -> None:
    screen = console()
    screen.print(f"model    {harmless(config.model_name)}", markup=False)
    screen.print(
        f"recipe   {config.global_rounds:,} rounds of {config.local_steps:,} local steps, "
        f"batches of {config.batch_size:,}, learning rate {config.learning_rate:g}"
    )
    expected = "" if config.num_nodes == num_nodes else f"; the config expects {config.num_nodes} (--nodes)"
    screen.print(f"nodes    {num_nodes}{expected}")
