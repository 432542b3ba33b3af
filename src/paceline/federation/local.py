"""Real training of some nodes within this process: the quickest way to try a recipe.

Every node is the learner of a swarm's peer (`paceline.peer.learner`): the same model, data stream, inner
training, codec, outer step and checkpoints. What is left out is the network.

    from paceline import DiLoCoCoordinator, LocalTrainingProvider, TrainingConfig

    config = TrainingConfig(model_name="tiny", learning_rate=4e-3, batch_size=8,
                            local_steps=20, global_rounds=10, num_nodes=4)
    with LocalTrainingProvider.from_config(config) as provider:
        result = DiLoCoCoordinator().run_training(config, provider.nodes, provider)
        print(result.final_loss, provider.val_losses)
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from paceline.core.config import RunConfig, SwarmConfig
from paceline.core.errors import ConfigError
from paceline.core.events import Evaluated
from paceline.federation.models import FederatedNode, GlobalState, LocalUpdate, TrainingConfig
from paceline.federation.parameters import by_name, flatten
from paceline.federation.provider import UpdateProvider
from paceline.federation.template import Tell, swarm_of, untold
from paceline.learning.checkpoint import file_name, newest, prune
from paceline.learning.codecs import Codec, make_codec
from paceline.learning.flat import Flat
from paceline.learning.outer import Digests
from paceline.peer.learner import Learner


class LocalTrainingProvider(UpdateProvider):
    """Nodes in this process that train one after the other, from one anchor, each on its own stream of data.

    What a node reports is its pseudo-gradient, anchor − local weights, as float32 arrays by parameter name,
    as the others decode it from the run's codec, together with what that lost of the last one where it loses
    much. Their mean, the coordinator's state, goes the codec's way back in `receive_state`, to every node's
    outer step. A swarm weights that mean by samples; the plain mean is the same as long as nobody skips a
    step.

    With `overlap` a round's vectors are zero but for its fragment, and a new anchor goes into a node's
    weights `delay_steps` later, as in a swarm whose commits come in time.

    With AdamW each node takes some 28 bytes of memory per parameter: weights, gradients, two moments, anchor,
    momentum and pseudo-gradient; 4 more with a codec that loses much.

    Guarantees:
        After every round all nodes stand on the same bits.
        The same recipe and node ids leave the same bits.
        What a codec loses is lost here as in a swarm.

    Attributes:
        run: What is trained, and how.
        folder: Where the checkpoints lie; `paceline sample FOLDER` writes with the last one.
    """

    def __init__(
        self,
        swarm: SwarmConfig,
        folder: Path | None = None,
        *,
        node_ids: Sequence[str] | None = None,
        tell: Tell = untold,
    ) -> None:
        """Build the nodes; may take seconds.

        Args:
            swarm: What to train: a run, how its nodes look, and how many there are. Its `state_dir`, and what
                it says of networks, is not used.
            folder: Where checkpoints go; a temporary folder, removed with this object, when left out.
            node_ids: What the nodes are called, which chooses their streams of data; `node-001` and so on
                when left out.
            tell: Told of every step and evaluation.

        Raises:
            ConfigError: Data or device can't be used as configured, or the folder holds checkpoints already.
            ValueError: Two nodes have one id, or there are no nodes.
        """
        self.run: RunConfig = swarm.run
        self._node, self._tell = swarm.node, tell
        ids = list(node_ids) if node_ids is not None else [f"node-{n:03d}" for n in range(1, swarm.peers + 1)]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"node ids name each node once, and at least one: {ids}")
        self._learners = {node_id: Learner(self.run, self._node, node_id) for node_id in ids}
        self._codecs = {name: make_codec(name) for name in self.run.codecs}
        self.folder = Path(tempfile.mkdtemp(prefix="paceline-")) if folder is None else _unused(folder)
        self._tidy = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        if folder is not None:
            self._tidy.detach()
        self._round_id = 1
        self._val_losses: dict[int, float] = {}
        self._measure()

    @classmethod
    def from_config(
        cls, config: TrainingConfig, base: SwarmConfig | None = None, *, tell: Tell = untold
    ) -> LocalTrainingProvider:
        """Build the nodes that a training configuration asks for.

        Args:
            config: What is passed to the coordinator, too.
            base: All that it does not say, such as architecture, data and seed (see `swarm_of`).
            tell: Told of every step and evaluation.

        Returns:
            The provider.
        """
        return cls(swarm_of(config, base), tell=tell)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder, if there is one. Happens by itself when this object goes."""
        self._tidy()

    @property
    def nodes(self) -> list[FederatedNode]:
        """The nodes, for the coordinator. A state that is distributed to one of them reaches all."""
        return [
            FederatedNode(
                node_id=node_id,
                address=f"inproc://{node_id}",
                capabilities={"device": str(learner.device), "parameters": learner.num_elements},
            ).reached_by(lambda state: self.receive_state(state, []))
            for node_id, learner in self._learners.items()
        ]

    @property
    def val_losses(self) -> dict[int, float]:
        """Loss on held-out data after each round, nats per token; that of the first weights under 0."""
        return dict(self._val_losses)

    @property
    def val_loss(self) -> float | None:
        """Loss on held-out data now, nats per token; None when the recipe evaluates nothing."""
        return self._val_losses.get(self._round_id - 1)

    @property
    def checkpoint(self) -> Path | None:
        """The last round's checkpoint: anchor and outer momentum. None before the first round."""
        return newest(self.folder)

    @property
    def _codec(self) -> Codec:
        return self._codecs[self.run.codec_of(self._round_id)]

    def digests(self) -> dict[str, Digests]:
        """Identify the states that the nodes stand on, each computed from that node's own memory.

        Returns:
            By node id, the digests of anchor and momentum.
        """
        return {node_id: learner.digests() for node_id, learner in self._learners.items()}

    def get_updates(self, round_id: int, state: GlobalState, nodes: list[FederatedNode]) -> list[LocalUpdate]:
        """Let nodes train for a round. Asked again for the same round, it reports the same again.

        Args:
            round_id: The round, which has to be the one that the nodes are in.
            state: Not used: the nodes have taken it already.
            nodes: Who trains.

        Returns:
            One update for each of these nodes, but for one whose every step was skipped; empty once the run's
            rounds are done.

        Raises:
            ValueError: The nodes are in another round, or some of them are not of this provider.
        """
        strangers = [node.node_id for node in nodes if node.node_id not in self._learners]
        if strangers:
            raise ValueError(f"nodes that this provider does not have: {', '.join(map(repr, strangers))}")
        self._check_round(round_id)
        if round_id > self.run.rounds:
            return []
        updates = [self._train(node.node_id) for node in nodes]
        return [update for update in updates if update.samples_used]

    def receive_state(self, state: GlobalState, nodes: list[FederatedNode]) -> None:
        """Take the outer step on every node, also on those that did not train, and evaluate.

        A state that the nodes stand on already changes nothing.

        Args:
            state: The state after the round that the nodes are in: the mean of the pseudo-gradients. Those of
                its participating nodes count as sent.
            nodes: Not used: a node in this process can't miss a round.

        Raises:
            ValueError: The nodes are in another round, or the state does not fit the model, or would leave
                weights that are not finite. Nothing has changed then.
        """
        if state.round_id == self._round_id - 1:
            return
        self._check_round(state.round_id)
        learners = list(self._learners.values())
        fragment, path = learners[0].fragment, self.folder / file_name(state.round_id)
        mean = flatten(self.run.model, state.global_weights)
        average = _travelled(self._codec.back, mean if fragment.is_whole else fragment.take(mean))
        learners[0].stage(average, path)
        self._settle(average, state.participating_nodes)
        for learner in learners:
            learner.load(path)
            learner.follow(state)
        prune(self.folder, self._node.keep_checkpoints)
        self._round_id += 1
        self._measure()

    def _check_round(self, round_id: int) -> None:
        if round_id != self._round_id:
            raise ValueError(f"round {round_id}, where the nodes are in round {self._round_id}")

    def _train(self, node_id: str) -> LocalUpdate:
        learner, emit = self._learners[node_id], partial(self._tell, node_id)
        while learner.progress.inner_step < self.run.timetable.steps_of(self._round_id):
            learner.train(emit)
        learner.send()
        sent = np.empty(learner.fragment.num_elements, np.float32)
        learner.write_pseudo_gradient(sent)
        pseudo_gradient = np.zeros(learner.num_elements, np.float32)
        learner.fragment.put(_travelled(self._codec, sent), pseudo_gradient)
        return LocalUpdate(
            node_id=node_id,
            round_id=self._round_id,
            gradients=by_name(self.run.model, pseudo_gradient),
            loss=learner.progress.loss,
            samples_used=learner.progress.samples,
        )

    def _settle(self, room: Flat, took_part: Sequence[str]) -> None:
        # Nothing fails after the vote in one process, so that any name will do for the attempt.
        for node_id, learner in self._learners.items():
            learner.note_sent(room, "")
            learner.settle(room, "", took_part=node_id in took_part)

    def _measure(self) -> None:
        # Once for all: they stand on the same bits, and their held-out data is the same.
        node_id, learner = next(iter(self._learners.items()))
        val_loss = learner.evaluate()
        if val_loss is not None:
            self._val_losses[self._round_id - 1] = val_loss
            self._tell(node_id, Evaluated(round_id=self._round_id - 1, val_loss=val_loss))


def _travelled(codec: Codec, values: Flat) -> Flat:
    # The cuts between a swarm's slices and parts lie where the codec's own blocks end: they don't show.
    codec.decode_into(codec.encode(values), values)
    return values


def _unused(folder: Path) -> Path:
    if newest(folder) is not None:
        raise ConfigError(f"{folder} holds checkpoints of another training", "name a new folder")
    return folder
