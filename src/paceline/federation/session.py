"""A federated session on disk: nodes with keys, and the very run log that peers of a swarm keep.

Each round of a session ends as a round of a swarm does: a plan by whoever is at the front, a receipt signed
by each node, a commit that follows the last one, and all of it in a `paceline.ledger` log. `paceline verify`
and `paceline credits` therefore take a session's folder as they take a peer's.

    folder = create(config, num_nodes=4)
    with Session.open(folder) as session:
        result = session.train(provider)

A node's id in a session is its peer id, since the log can only credit those whose signatures it can check;
what people call it, `node-001`, is in its address `inproc://node-001`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from paceline.core import chain
from paceline.core.config import RunConfig
from paceline.core.errors import ConfigError, IdentityError, IdentityInUse
from paceline.core.records import GlobalState
from paceline.core.signing import SigningKey
from paceline.federation.averages import Averages, digest_of_vectors, write_whole
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.folder import RUNS, SessionFile, SessionFolder, naming_damage
from paceline.federation.models import FederatedNode, LocalUpdate, TrainingConfig, TrainingResult
from paceline.federation.notary import Notary
from paceline.federation.provider import UpdateProvider, hand_on
from paceline.federation.recipe import check_num_nodes, run_of
from paceline.ledger import Ledger
from paceline.network.identity import hold, load_or_create


def create(config: TrainingConfig, num_nodes: int, path: Path | None = None) -> Path:
    """Make a session: a key for each node, a log that stands on round 0, and the file that names both.

    Args:
        config: The training config.
        num_nodes: How many nodes, 1 to 64.
        path: Its folder, which must be empty or not exist; `runs/<run_id>` when left out.

    Returns:
        The folder.

    Raises:
        ConfigError: The numbers don't fit a run log, or the folder is in use for something else.
    """
    check_num_nodes(num_nodes)
    run_of(config, ())  # whatever it refuses, it refuses before there is a folder
    if path is not None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} is there already, and not empty", "choose another --output")
        _fill(SessionFolder(path), config, num_nodes)
        return path
    # The keys are part of the run's digest, hence of its name: they must be there first.
    unnamed = SessionFolder(RUNS / f".new-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        named = unnamed.path.with_name(_fill(unnamed, config, num_nodes).run_id)
        return unnamed.path.rename(named)
    except BaseException:
        shutil.rmtree(unnamed.path, ignore_errors=True)
        raise


def _fill(folder: SessionFolder, config: TrainingConfig, num_nodes: int) -> RunConfig:
    names = [f"node-{number:03d}" for number in range(1, num_nodes + 1)]
    nodes = [load_or_create(folder.key(name)).peer_id for name in names]
    file = SessionFile(config=config, nodes=tuple(nodes))
    run = run_of(config, nodes)
    # No vectors yet: the first updates tell which there are. Nor is there a momentum, ever.
    genesis = chain.genesis(run, digest_of_vectors({}), momentum_digest="")
    Ledger.open(folder.log, run, genesis).close()
    write_whole(folder.file, f"{file.model_dump_json(indent=2)}\n".encode())
    return run


class Session:
    """A session, open in one process.

    Guarantees:
        A session goes on after its last committed round.
        Two processes never write to one session.

    Attributes:
        folder: Where it lies.
        config: Its training config.
        run: The same, as the run that its log belongs to.
        nodes: Its nodes.
    """

    def __init__(
        self,
        folder: SessionFolder,
        file: SessionFile,
        ledger: Ledger,
        notary: Notary,
    ) -> None:
        """Put the parts of a session together; `open` finds them.

        Args:
            folder: Where it lies.
            file: Which it is.
            ledger: Its log, open.
            notary: What signs for its nodes.
        """
        self.folder, self.config, self.run = folder, file.config, ledger.run
        self.nodes: list[FederatedNode] = file.federated_nodes()
        self._averages = Averages(folder.averages)
        self._ledger, self._notary = ledger, notary

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Session]:
        """Open a session to train in it; others may read it meanwhile.

        Args:
            path: Its folder.

        Yields:
            The session. It is closed, with all that was committed on disk, when the block ends.

        Raises:
            ConfigError: There is no session, or its file is not that of its log.
            IdentityInUse: Another process trains in it.
            IdentityError: A node's key is gone, or is another's.
            LedgerError: The log does not verify.
        """
        folder = SessionFolder(path)
        file = folder.read()
        with _held(folder):
            keys = [_key(folder, name, peer_id) for peer_id, name in file.names().items()]
            with naming_damage():
                ledger = Ledger.reopen(folder.log)
            with ledger:
                folder.check(file, ledger.run)
                yield cls(folder, file, ledger, Notary(ledger.run, keys))

    @property
    def finished(self) -> bool:
        """Whether all rounds are committed."""
        return self._ledger.head().round_id >= self.config.global_rounds

    def head(self) -> GlobalState:
        """Tell the last commit.

        Returns:
            The commit as the log has it, without vectors; that of round 0 at the beginning.
        """
        return self._ledger.head()

    def state(self) -> GlobalState:
        """Load the last state.

        Returns:
            The last commit with its averaged vectors, checked against its `weights_digest`. What the next
            round stands on is the digest of the bare commit, `head()`.

        Raises:
            CheckpointError: They are not there any more, or are others.
        """
        head = self._ledger.head()
        return head.model_copy(update={"global_weights": self._averages.load(head)})

    def credits(self) -> dict[str, int]:
        """Count what each node contributed to all rounds so far.

        Returns:
            Samples by node id.
        """
        return self._ledger.credits()

    def recording(self, provider: UpdateProvider) -> UpdateProvider:
        """Stand between a coordinator and a provider, and commit each round before the nodes are told.

        The coordinator counts the rounds of one `run_training` from 1; the session goes on counting where it
        stands, and shows the provider its own round and state.

        Args:
            provider: Where the updates come from.

        Returns:
            A provider for `DiLoCoCoordinator.run_training`. It ends the training after the last round.
        """
        return _Recording(self, provider)

    def train(self, provider: UpdateProvider) -> TrainingResult:
        """Run the rounds that are left, or until the provider returns no updates.

        Args:
            provider: Where the updates come from.

        Returns:
            A summary of the whole session, but for its duration: that is this call's.
        """
        outcome = DiLoCoCoordinator().run_training(self.config, self.nodes, self.recording(provider))
        head = self._ledger.head()
        return TrainingResult(
            config=self.config,
            final_loss=head.avg_loss,
            rounds_completed=head.round_id,
            total_samples=sum(self._ledger.credits().values()),
            duration_seconds=outcome.duration_seconds,
        )

    def commit(self, state: GlobalState, updates: Sequence[LocalUpdate]) -> GlobalState:
        """Commit the next round.

        Args:
            state: What the coordinator made of the updates.
            updates: The updates.

        Returns:
            The state as it is committed: with nodes in the order of their ids, a place in the chain, and the
            digest of its vectors.

        Raises:
            ValueError: An update comes from none of this session's nodes. Nothing is committed.
            ConfigError: A parameter has a name that can't be stored.
            LedgerError: It could not be written. The log is as it was.
        """
        head = self._ledger.head()
        self._notary.check(updates)
        digest = self._averages.save(head.round_id + 1, state.global_weights)
        committed = self._ledger.append(self._notary.link(head, updates, state.avg_loss, digest))
        self._averages.prune(committed.round_id)
        return committed.model_copy(update={"global_weights": state.global_weights})


class _Recording(UpdateProvider):
    def __init__(self, session: Session, provider: UpdateProvider) -> None:
        self._session, self._provider = session, provider
        self._state = session.state()
        self._updates: list[LocalUpdate] = []

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        if self._session.finished:
            return []
        self._updates = self._provider.get_updates(self._state.round_id + 1, self._state, nodes)
        return self._updates

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        self._state = self._session.commit(state, self._updates)
        hand_on(self._provider, self._state, nodes)


@contextmanager
def _held(folder: SessionFolder) -> Iterator[None]:
    try:
        with hold(folder.file):
            yield
    except IdentityInUse as error:
        raise IdentityInUse(
            f"another process trains in {folder.path} ({error.cause})",
            "wait for it, or choose another folder",
            error.holder,
        ) from error


def _key(folder: SessionFolder, name: str, peer_id: str) -> SigningKey:
    path = folder.key(name)
    if not path.exists():
        raise IdentityError(f"the key {path} is gone", "put it back from a copy, or begin another session")
    key = load_or_create(path)
    if key.peer_id != peer_id:
        raise IdentityError(
            f"the key {path} is that of another node", "put the right one back, or begin another session"
        )
    return key
