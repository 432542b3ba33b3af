"""Where things lie: a node's state folder, and the folder of a local run.

>>> StateFolder(Path("runs/node")).log.name
'log.sqlite'
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StateFolder:
    """Everything that one peer keeps, in one folder.

    Attributes:
        path: The folder: `state_dir` of the node's configuration.
    """

    path: Path

    @property
    def key(self) -> Path:
        """The peer's private key."""
        return self.path / "identity.key"

    @property
    def log(self) -> Path:
        """The run log (`paceline.ledger`)."""
        return self.path / "log.sqlite"

    @property
    def events(self) -> Path:
        """Everything that happened, one JSON object per line (`paceline.telemetry`)."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the latest checkpoints."""
        return self.path / "checkpoints"

    @property
    def neighbours(self) -> Path:
        """Addresses to try when no seed answers (`paceline.network.neighbours`)."""
        return self.path / "neighbours.json"

    @property
    def aside(self) -> Path:
        """Where files go that this peer can't go on with (`paceline.peer.aside`)."""
        return self.path / "aside"

    @property
    def output(self) -> Path:
        """What the peer's process printed, when `paceline up` runs it."""
        return self.path / "output.txt"

    @property
    def settings(self) -> Path:
        """The node's configuration, when `paceline up` wrote it."""
        return self.path / "node.yaml"


@dataclass(frozen=True)
class RunFolder:
    """A local run: its hand-out, and one state folder per peer.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def handout(self) -> Path:
        """The hand-out."""
        return self.path / "run.json"

    @property
    def seed(self) -> StateFolder:
        """The seed's folder."""
        return StateFolder(self.path / "seed")

    @property
    def chart(self) -> Path:
        """The loss curve."""
        return self.path / "loss.png"

    @property
    def summary(self) -> Path:
        """What came out, for programs."""
        return self.path / "summary.json"

    def peer(self, number: int) -> StateFolder:
        """Name one peer's folder.

        Args:
            number: 1 for the first peer.

        Returns:
            Its state folder.
        """
        return StateFolder(self.path / f"peer-{number}")

    def logs(self) -> list[Path]:
        """Find the run logs of all peers.

        Returns:
            The files that exist, in the order of their names.
        """
        return sorted(log for log in self.path.glob(f"*/{StateFolder(self.path).log.name}") if log.is_file())
