"""Reading sessions from disk, also while another process trains in them: which there are, what was done."""

from __future__ import annotations

from pathlib import Path

from paceline.core.credits import credit
from paceline.core.errors import ConfigError, PacelineError
from paceline.core.records import Frozen, GlobalState
from paceline.federation.folder import RUNS, SessionFile, SessionFolder, naming_damage
from paceline.federation.models import TrainingConfig
from paceline.ledger.replay import replay


class RoundStatus(Frozen):
    """What a session's log says about one round."""

    session: SessionFile
    """The session."""
    run_id: str
    """Its run."""
    state: GlobalState
    """The commit, without vectors; that of round 0 names all nodes."""
    last_round: int
    """The last committed round of the session."""
    credits: dict[str, int]
    """Samples that each node contributed up to this round, by node id."""


def read_round(path: Path, round_id: int) -> RoundStatus:
    """Look a round up in a session's log, after checking all of the log.

    Args:
        path: The session's folder.
        round_id: The round; 0 is the beginning.

    Returns:
        What happened in it.

    Raises:
        ConfigError: There is no session, or its file is not that of its log.
        PacelineError: The round is not committed.
        LedgerError: The log does not verify.
    """
    folder = SessionFolder(path)
    session = folder.read()
    asked = _Asked(round_id)
    with naming_damage():
        found = replay(folder.log, asked.look_at)
    folder.check(session, found.run)
    last = found.head.round_id
    if round_id > last:
        raise PacelineError(
            f"round {round_id} is not committed; the last one is {last}",
            f"ask for an earlier round of {path}, or go on with it: paceline run",
        )
    return RoundStatus(
        session=session,
        run_id=found.run.run_id,
        state=asked.state,
        last_round=last,
        credits=asked.balances,
    )


class _Asked:
    # What is left of a chain that passes by, up to one round of it.
    def __init__(self, round_id: int) -> None:
        self._round_id = round_id
        self.state, self.balances = GlobalState(round_id=0), dict[str, int]()

    def look_at(self, state: GlobalState) -> None:
        if state.round_id == 0:
            self.state, self.balances = state, {}
        elif state.round_id <= self._round_id:
            self.state, self.balances = state, credit(self.balances, state)


def sessions(base: Path = RUNS) -> list[tuple[Path, SessionFile]]:
    """List the sessions in a folder.

    Args:
        base: The folder that holds their folders.

    Returns:
        Their folders and files, whichever was written to last at the front. What can't be read is left out.
    """
    found: list[tuple[float, Path, SessionFile]] = []
    for file in base.glob("[!.]*/session.json"):  # a hidden one is not finished yet
        folder = SessionFolder(file.parent)
        try:
            found.append((folder.log.stat().st_mtime_ns, folder.path, folder.read()))
        except (ConfigError, OSError):
            continue
    return [(path, session) for _, path, session in sorted(found, key=lambda entry: entry[0], reverse=True)]


def newest(config: TrainingConfig | None, num_nodes: int | None = None, base: Path = RUNS) -> Path | None:
    """Find the session that was written to last.

    Args:
        config: Only sessions of this training config; None for any.
        num_nodes: Only sessions of so many nodes; None for any number.
        base: The folder that holds their folders.

    Returns:
        Its folder, or None.
    """
    for path, session in sessions(base):
        if config in (None, session.config) and num_nodes in (None, len(session.nodes)):
            return path
    return None
