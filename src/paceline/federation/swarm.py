"""The same `run_training` call, driving a swarm of live peers on this machine.

Every peer is a process tree of its own, started, watched and stopped as `paceline up` does it.

    from paceline import DiLoCoCoordinator, SwarmUpdateProvider, TrainingConfig

    config = TrainingConfig(model_name="tiny", learning_rate=4e-3, batch_size=8,
                            local_steps=20, global_rounds=10, num_nodes=4)
    with SwarmUpdateProvider.from_config(config) as provider:
        result = DiLoCoCoordinator().run_training(config, provider.nodes, provider)
        print(result.final_loss, provider.val_losses)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from paceline.core.config import RunConfig, SwarmConfig
from paceline.core.errors import ConfigError, JoinError, SwarmStalled
from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig
from paceline.federation.parameters import by_name
from paceline.federation.provider import UpdateProvider
from paceline.federation.template import Tell, swarm_of, untold
from paceline.federation.watch import Watch
from paceline.peer.folders import RunFolder
from paceline.peer.settings import load_handout
from paceline.peer.swarm import found_run

_POLL_S = 0.2
_PATIENCE_S = 1800.0


class SwarmUpdateProvider(UpdateProvider):
    """A seed and some peers, each an ordinary supervised `paceline join`, watched round after round.

    The swarm coordinates itself: it trains, averages and commits at its own pace, and goes on whether or not
    somebody watches. `get_updates` waits for a round's commit and reads it.

    Nobody in a swarm ever holds another peer's pseudo-gradient, not even its reducers, who see slices. So
    every update of a round carries the round's mean pseudo-gradient, weighted by samples, as the peers have
    averaged it; it is recovered from the outer momentum in two checkpoints in a row. The mean of the updates
    is that mean. Samples and losses are each peer's own.

    Leaving the `with` block asks the peers to leave and ends every process. Use one from the main thread: on
    Linux the peers end with the thread that started them.

    Attributes:
        run: What is trained; with `paceline up`'s founders once the swarm has been started.
    """

    def __init__(self, swarm: SwarmConfig, *, patience_s: float = _PATIENCE_S, tell: Tell = untold) -> None:
        """Prepare; entering the `with` block starts the swarm.

        Args:
            swarm: What to start; its folder is made in `node.state_dir`, or else in `runs`.
            patience_s: How long to wait for a start, a round or a node before that is an error, in seconds.
            tell: Told what happens to whom.
        """
        self.run: RunConfig = swarm.run
        self._swarm, self._patience_s, self._tell = swarm, patience_s, tell
        self._place: RunFolder | None = None
        self._starts_it = True
        self._around: Watch | None = None
        self._round_id = 0

    @classmethod
    def from_config(
        cls,
        config: TrainingConfig,
        base: SwarmConfig | None = None,
        *,
        patience_s: float = _PATIENCE_S,
        tell: Tell = untold,
    ) -> Self:
        """Prepare the swarm that a training configuration asks for.

        Args:
            config: What is passed to the coordinator, too.
            base: All that it does not say, such as architecture, data and seed (see `swarm_of`).
            patience_s: As for the constructor.
            tell: As for the constructor.

        Returns:
            The provider.
        """
        return cls(swarm_of(config, base), patience_s=patience_s, tell=tell)

    @classmethod
    def of_folder(cls, path: Path, *, patience_s: float = _PATIENCE_S, tell: Tell = untold) -> Self:
        """Prepare to watch a run that `paceline up` has started on this machine; it is not stopped from here.

        Its rounds are read from the first one on, and the peers must still have the checkpoints: watch it
        early, or start it with a larger `node.keep_checkpoints`.

        Args:
            path: The run's folder.
            patience_s: As for the constructor.
            tell: As for the constructor.

        Returns:
            The provider.

        Raises:
            ConfigError: This is not the folder of a local run.
        """
        folder = RunFolder(path)
        run = load_handout(folder.handout).run_config
        peers = sum(1 for place in path.glob("peer-*") if place.is_dir())
        if run is None or not peers:
            raise ConfigError(
                f"{path} is not the folder of a local run", "name one that paceline up has made"
            )
        provider = cls(SwarmConfig(run=run, peers=peers), patience_s=patience_s, tell=tell)
        provider._place, provider._starts_it = folder, False
        return provider

    def __enter__(self) -> Self:
        if self._starts_it:
            self._found()
        assert self._place is not None
        self._around = Watch(self._place, self._swarm)
        try:
            if self._starts_it:
                self._around.local.start_seed(self._swarm.node.network.listen, self._patience_s)
                self._around.local.start_peers()
            self._until(self._is_up, lambda: f"{', '.join(self._seen.crew.missing())} did not start")
        except BaseException:
            self._around.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen.end()

    @property
    def folder(self) -> Path:
        """The run's folder, with all logs, checkpoints and events."""
        return self._seen.folder.path

    @property
    def nodes(self) -> list[FederatedNode]:
        """The peers, for the coordinator, in the order of their numbers; `status` as it is now.

        Distributing a state to one of them waits until it stands on that round.
        """
        return [node.reached_by(partial(self._reach, node.node_id)) for node in self._seen.crew.nodes()]

    @property
    def ended(self) -> dict[str, str]:
        """Nodes that are gone for good: reason by node id, empty for one that finished."""
        return self._seen.crew.ended()

    @property
    def val_losses(self) -> dict[int, float]:
        """Loss on held-out data after each round, nats per token; that of the first weights under 0."""
        return dict(self._seen.crew.val_losses)

    @property
    def val_loss(self) -> float | None:
        """Loss on held-out data after the last round received; None when the peers evaluate nothing."""
        return self._seen.crew.val_losses.get(self._round_id)

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        """Wait until the swarm has committed a round, and report it.

        Args:
            round_id: The round: 1, and then one more each time.
            state: Not used: the peers stand on it already.
            nodes: Not used but for a check: who takes part is up to the swarm.

        Returns:
            One update per member of the round's roster: its samples from the commit; its loss from its
            receipt, or the round's mean loss when it gave none that backs the commit; the round's mean
            pseudo-gradient. Empty once the run's rounds are done.

        Raises:
            ValueError: It is another round's turn, or some nodes are not of this swarm.
            SwarmStalled: The round does not come, or its checkpoint is gone.
        """
        known = {node.node_id for node in self.nodes}
        strangers = [node.node_id for node in nodes if node.node_id not in known]
        if strangers:
            raise ValueError(f"nodes that this swarm does not have: {', '.join(map(repr, strangers))}")
        follower = self._seen.follower
        follower.check_turn(round_id)
        if round_id > self.run.rounds:
            return []
        self._until(lambda: self._is_committed(round_id), lambda: f"round {round_id} was not committed")
        committed, mean = follower.take(round_id)
        gradients = by_name(self.run.model, mean)
        return [
            LocalUpdate(
                node_id=node_id,
                round_id=round_id,
                gradients=gradients,
                loss=committed.losses.get(node_id, committed.state.avg_loss),
                samples_used=samples,
            )
            for node_id, samples in zip(
                committed.state.participating_nodes, committed.state.samples, strict=True
            )
        ]

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Wait until the nodes stand on a round, and until it is evaluated.

        They get it by the signed commit on the DHT, and whoever missed the round by state transfer. Who is
        gone for good is not waited for (see `ended`).

        Args:
            state: The state after a round.
            nodes: Whom to wait for; others than this swarm's are skipped.

        Raises:
            SwarmStalled: Names the nodes that did not arrive.
        """
        self._wait_for([node.node_id for node in nodes], state)

    def _reach(self, node_id: str, state: GlobalState) -> None:
        self._wait_for([node_id], state)

    def _wait_for(self, node_ids: list[str], state: GlobalState) -> None:
        crew, round_id = self._seen.crew, state.round_id

        def away() -> str:
            return ", ".join(crew.away(node_ids, round_id)) or "the evaluation"

        self._until(
            lambda: not crew.away(node_ids, round_id) and not crew.awaits_evaluation(round_id),
            lambda: f"{away()} did not arrive at round {round_id}",
        )
        self._round_id = round_id

    @property
    def _seen(self) -> Watch:
        if self._around is None:
            raise ConfigError("the swarm is not there yet", "use the provider in a `with` statement")
        return self._around

    def _found(self) -> None:
        from paceline.peer.compose import create_run  # brings hivemind along

        self._swarm, self._place = found_run(self._swarm, datetime.now())
        self.run = self._swarm.run
        create_run(self._swarm, self._place.path)

    def _is_up(self) -> bool:
        crew = self._seen.crew
        if stillborn := crew.stillborn():
            raise JoinError(stillborn, f"see {self.folder}/*/output.txt")
        return not crew.missing()

    def _is_committed(self, round_id: int) -> bool:
        crew, follower = self._seen.crew, self._seen.follower
        if not follower.has(round_id) and crew.all_ended():
            reasons = "; ".join(
                f"{node_id}: {reason or 'finished'}" for node_id, reason in crew.ended().items()
            )
            raise SwarmStalled(f"every peer has ended before round {round_id} ({reasons})", self._advice())
        return follower.has(round_id)

    def _until(self, condition: Callable[[], bool], overdue: Callable[[], str]) -> None:
        deadline = time.monotonic() + self._patience_s
        self._look()
        while not condition():
            if time.monotonic() > deadline:
                raise SwarmStalled(f"{overdue()} within {self._patience_s:.0f} s", self._advice())
            time.sleep(_POLL_S)
            self._look()

    def _look(self) -> None:
        for name, event in self._seen.look():
            self._tell(self._seen.crew.node_id(name), event)

    def _advice(self) -> str:
        return f"read {self.folder}/*/output.txt"
