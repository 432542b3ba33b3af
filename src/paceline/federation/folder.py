"""A federated session on disk: what lies where in its folder, and the file that says which session it is.

>>> SessionFolder(Path("runs/my-model-1a2b3c4d")).key("node-001").as_posix()
'runs/my-model-1a2b3c4d/node-001/identity.key'
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from paceline.core.config import RunConfig
from paceline.core.errors import ConfigError, DamagedLog, HistoryBroken, LedgerError
from paceline.core.records import MAX_MEMBERS, Frozen
from paceline.core.signing import PeerId
from paceline.federation.models import FederatedNode, TrainingConfig
from paceline.federation.recipe import seed_of
from paceline.peer.documents import read_document
from paceline.peer.folders import StateFolder
from paceline.peer.problems import first_problem

RUNS = Path("runs")
"""Where sessions lie unless told otherwise."""
SCHEME = "inproc://"
"""What the address of a node begins with that lives in the process which trains."""


class SessionFile(Frozen):
    """`session.json`, format 1: the recipe and the nodes of a session. All else follows from the run log."""

    format: Literal[1] = 1
    """Version of this format."""
    config: TrainingConfig
    """The training config."""
    nodes: Annotated[tuple[PeerId, ...], Field(min_length=1, max_length=MAX_MEMBERS)]
    """The nodes' peer ids, that of `node-001` first."""

    def belongs_to(self, run: RunConfig) -> bool:
        """Compare the session with the run of a log.

        Args:
            run: The run's parameters.

        Returns:
            Whether they follow from this config and these nodes.
        """
        return run.seed == seed_of(self.config) and sorted(self.nodes) == sorted(run.quorum.founders)

    def federated_nodes(self) -> list[FederatedNode]:
        """Describe the nodes as the fedtrain API does.

        Returns:
            One per node: its peer id, and an address that says its name, `inproc://node-001`.
        """
        return [
            FederatedNode(node_id=peer_id, address=f"{SCHEME}{name}")
            for peer_id, name in self.names().items()
        ]

    def names(self) -> dict[str, str]:
        """Name the nodes for people.

        Returns:
            `node-001` and so on by peer id, in their order.
        """
        return {peer_id: f"node-{number:03d}" for number, peer_id in enumerate(self.nodes, start=1)}


@dataclass(frozen=True)
class SessionFolder:
    """Where the parts of a session lie.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def file(self) -> Path:
        """What says that this is a session, and which; written last."""
        return self.path / "session.json"

    @property
    def log(self) -> Path:
        """The run log, where a peer's state folder has it too (`paceline.ledger`)."""
        return StateFolder(self.path).log

    @property
    def averages(self) -> Path:
        """The folder of the last averaged vectors (`paceline.federation.averages`)."""
        return self.path / "averages"

    def key(self, name: str) -> Path:
        """Name the private key of a node.

        Args:
            name: The node's name, such as `node-001`.

        Returns:
            Its file.
        """
        return StateFolder(self.path / name).key

    def read(self) -> SessionFile:
        """Read which session this is.

        Returns:
            The recipe and the nodes.

        Raises:
            ConfigError: There is no session here, or its file is malformed.
        """
        if not self.file.is_file():
            raise ConfigError(f"{self.path} holds no session", "make one: paceline init --config train.json")
        try:
            return SessionFile.model_validate(read_document(self.file))
        except ValidationError as error:
            problem = first_problem(error, SessionFile)
            raise ConfigError(f"{self.file}: {'.'.join(problem.path)}: {problem.text}") from error

    def check(self, file: SessionFile, run: RunConfig) -> None:
        """Refuse a session whose file and log don't belong together.

        Args:
            file: The session's file.
            run: The parameters with which its log begins.

        Raises:
            ConfigError: They don't.
        """
        if not file.belongs_to(run):
            raise ConfigError(
                f"{self.file} is not that of its log, which belongs to run {run.run_id}",
                "put the file back as it was, or begin another session",
            )


@contextmanager
def naming_damage() -> Iterator[None]:
    """Say of a damaged log what can be done about a session's: unlike a peer's, nobody else has a copy.

    Yields:
        Nothing.

    Raises:
        LedgerError: The log is damaged; the round is named where it is known.
    """
    try:
        yield
    except (DamagedLog, HistoryBroken) as error:
        raise LedgerError(error.cause, "put the folder back from a copy, or begin another session") from error
