"""A peer's checkpoints: staged results, committed states, and what it lends to others."""

from __future__ import annotations

from contextlib import suppress
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

    def staged(self, round_id: int, plan_digest: str) -> Path:
        """Name the file of a result that is not decided yet; each attempt's has a name of its own.

        Args:
            round_id: Its round.
            plan_digest: Digest of the plan that was averaged.

        Returns:
            A path; the file need not exist.
        """
        return self.folder / f"staged-{plan_digest[:16]}-{file_name(round_id)}"

    def incoming(self, round_id: int) -> Path:
        """Name the file into which a state is fetched from others.

        Args:
            round_id: Its round.

        Returns:
            A path; what is there from an interrupted transfer is used again.
        """
        return self.folder / f"incoming-{round_id:06d}.raw"

    def holds(self, round_id: int, weights_digest: str) -> Path | None:
        """Find a file with exactly this state, staged or committed.

        Args:
            round_id: Its round.
            weights_digest: The anchor's digest.

        Returns:
            The file, or None.
        """
        name = file_name(round_id)
        for path in (self.folder / name, *sorted(self.folder.glob(f"staged-*-{name}"))):
            try:
                if read_info(path).weights_digest == weights_digest:
                    return path
            except CheckpointError:
                continue
        return None

    def recall(self, vote: Vote | None) -> Staged | None:
        """Find out, after a restart, whether the result that this peer voted for is still here.

        Args:
            vote: The vote.

        Returns:
            The result, or None.
        """
        if vote is None or self.holds(vote.round_id, vote.weights_digest) is None:
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
        held = self.holds(head.round_id, head.weights_digest)
        if held is None:
            raise CheckpointError(f"no checkpoint of round {head.round_id} in {self.folder}", "fetch it")
        path = self.committed(head.round_id)
        if held != path:
            held.replace(path)
        return path

    def put_away(self, path: Path) -> None:
        """Rename a file that can't be read: its state has to come from others.

        Args:
            path: The file; it need not exist.
        """
        with suppress(FileNotFoundError):
            path.replace(path.with_suffix(".damaged"))

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

    def set_aside(self, after_round: int, folder: Path) -> None:
        """Move away the states of a history that this peer leaves.

        Args:
            after_round: States of later rounds go, committed or not.
            folder: Where to; it is made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.safetensors")):
            number = path.stem.rpartition("-")[2]
            if number.isdecimal() and int(number) > after_round:
                path.replace(folder / path.name)

    def tidy(self, head: GlobalState) -> None:
        """Remove what a commit has made superfluous.

        Args:
            head: The last commit.
        """
        prune(self.folder, self._keep)
        for path in [*self.folder.glob("staged-*.safetensors"), *self.folder.glob("incoming-*.raw")]:
            if int(path.stem.rpartition("-")[2]) <= head.round_id:
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

    def state(self, round_id: int, weights_digest: str) -> StateFile | None:
        """Find a state, committed or staged.

        Args:
            round_id: Its round.
            weights_digest: The anchor's digest.

        Returns:
            Where it lies, or None.
        """
        path = self._shelf.holds(round_id, weights_digest)
        if path is None:
            return None
        offset, length = data_section(path)
        return StateFile(path, offset, length // 8)

    def links(self, after_round: int, limit: int) -> list[Link]:
        """Read history.

        Args:
            after_round: The round before the first one wanted.
            limit: How many rounds at most.

        Returns:
            Links in order.
        """
        return self._reader.links(after_round, limit)
