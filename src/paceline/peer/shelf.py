"""A peer's checkpoints: staged results, committed states, and what it lends to others."""

from __future__ import annotations

from pathlib import Path

from paceline.core.chain import Link
from paceline.core.config import GptConfig
from paceline.core.errors import CheckpointError
from paceline.core.records import GlobalState, Vote
from paceline.core.rounds import Staged
from paceline.learning.checkpoint import (
    assemble,
    data_section,
    file_name,
    prune,
    read_info,
)
from paceline.learning.checkpoint_header import CheckpointInfo
from paceline.ledger import LogReader
from paceline.network.transfer import StateFile


class Shelf:
    """Finds, promotes and removes checkpoints in one folder.

    Attributes:
        folder: Where they lie.
    """

    def __init__(self, folder: Path, run_id: str, model: GptConfig, keep: int) -> None:
        """Look at a folder; it need not exist.

        Args:
            folder: Where checkpoints lie.
            run_id: The run.
            model: The model.
            keep: How many committed ones to keep.
        """
        self.folder = folder
        self._run_id, self._model, self._keep = run_id, model, keep

    def committed(self, round_id: int) -> Path:
        """Name the file of a committed state.

        Args:
            round_id: Its round.

        Returns:
            A path; the file need not exist.
        """
        return self.folder / file_name(round_id)

    def staged(self, round_id: int) -> Path:
        """Name the file of a result that is not decided yet.

        Args:
            round_id: Its round.

        Returns:
            A path; the file need not exist.
        """
        return self.folder / f"staged-{file_name(round_id)}"

    def incoming(self, round_id: int) -> Path:
        """Name the file into which a state is fetched from others.

        Args:
            round_id: Its round.

        Returns:
            A path; what is there from an interrupted transfer is used again.
        """
        return self.folder / f"incoming-{round_id:06d}.raw"

    def holds(self, source: GlobalState | Vote) -> Path | None:
        """Find a file with exactly this result, staged or committed.

        Args:
            source: Names the round and the digests.

        Returns:
            The file, or None.
        """
        for path in (self.committed(source.round_id), self.staged(source.round_id)):
            try:
                info = read_info(path)
            except CheckpointError:
                continue
            if (info.weights_digest, info.momentum_digest) == (source.weights_digest, source.momentum_digest):
                return path
        return None

    def recall(self, vote: Vote | None) -> Staged | None:
        """Find out, after a restart, whether the result that this peer voted for is still here.

        Args:
            vote: The vote.

        Returns:
            The result, or None.
        """
        if vote is None or self.holds(vote) is None:
            return None
        return Staged(vote.plan_digest, vote.weights_digest, vote.momentum_digest)

    def promote(self, head: GlobalState) -> Path:
        """Turn the staged result of a round into its committed state.

        Args:
            head: The commit.

        Returns:
            The committed file.

        Raises:
            CheckpointError: The result is not here.
        """
        held = self.holds(head)
        if held is None:
            raise CheckpointError(f"no checkpoint of round {head.round_id} in {self.folder}", "fetch it")
        path = self.committed(head.round_id)
        if held != path:
            held.replace(path)
        return path

    def take_in(self, raw: Path, source: GlobalState | Vote, path: Path) -> None:
        """Make a checkpoint of a fetched state, and remove the raw file.

        Args:
            raw: Anchor and momentum as fetched.
            source: Names the round and the digests.
            path: Where the checkpoint goes.

        Raises:
            CheckpointError: The bytes do not have these digests, or the disk refuses.
        """
        info = CheckpointInfo(
            run_id=self._run_id,
            round_id=source.round_id,
            weights_digest=source.weights_digest,
            momentum_digest=source.momentum_digest,
            model=self._model,
        )
        assemble(path, info, raw)
        raw.unlink(missing_ok=True)

    def tidy(self, head: GlobalState) -> None:
        """Remove what a commit has made superfluous.

        Args:
            head: The last commit.
        """
        prune(self.folder, self._keep)
        for path in [*self.folder.glob("staged-round-*.safetensors"), *self.folder.glob("incoming-*.raw")]:
            if int("".join(filter(str.isdigit, path.name))) <= head.round_id:
                path.unlink(missing_ok=True)


class Lending:
    """What this peer gives to others: a `network.transfer.Library`, used in the averager's process."""

    def __init__(self, shelf: Shelf, log: Path) -> None:
        """Name the sources; nothing is opened before it is asked for.

        Args:
            shelf: Checkpoints.
            log: The run log's file.
        """
        self._shelf = shelf
        self._reader = LogReader(log)

    def state(self, round_id: int) -> StateFile | None:
        """Find the state of a round, committed or else staged.

        Args:
            round_id: The round.

        Returns:
            Where it lies, or None.
        """
        for path in (self._shelf.committed(round_id), self._shelf.staged(round_id)):
            try:
                offset, length = data_section(path)
            except CheckpointError:
                continue
            return StateFile(path, offset, length // 8)
        return None

    def links(self, after_round: int, limit: int) -> list[Link]:
        """Read history.

        Args:
            after_round: The round before the first one wanted.
            limit: How many rounds at most.

        Returns:
            Links in order.
        """
        return self._reader.links(after_round, limit)
