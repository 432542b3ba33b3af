"""What a swarm's peers would have written into their folders, without a swarm."""

from __future__ import annotations

import numpy as np

from paceline.core.chain import Link
from paceline.core.config import GptConfig, RunConfig
from paceline.core.records import GlobalState
from paceline.learning import checkpoint
from paceline.learning.checkpoint import file_name
from paceline.learning.checkpoint_header import CheckpointInfo
from paceline.learning.flat import Flat
from paceline.learning.fragments import cut
from paceline.learning.model import num_parameters
from paceline.learning.outer import OuterState
from paceline.ledger import Ledger
from paceline.peer.folders import StateFolder
from tests.core.history import commit_of, genesis_of, link_of, next_state, peers, run_of

KEYS = peers(3)
MODEL = GptConfig(dim=8, layers=1, heads=1, seq_len=8)
RUN = run_of(KEYS, model=MODEL)
STREAMED = run_of(
    KEYS, model=MODEL.model_copy(update={"layers": 2}), overlap={"fragments": 2, "delay_steps": 1}
)


class Past:
    """A swarm's rounds as its peers would have written them down."""

    def __init__(self, rounds: int, run: RunConfig = RUN) -> None:
        chance, size = np.random.default_rng(0), num_parameters(run.model)
        self.run = run
        self.means: list[Flat] = [chance.normal(size=size).astype(np.float32) for _ in range(rounds)]
        self.links: list[Link] = []
        self.states: list[GlobalState] = [genesis_of(run)]
        self._outer = OuterState(np.ones(size, np.float32), np.zeros(size, np.float32), run.outer)

    def commit(self, round_id: int, *folders: StateFolder) -> None:
        """Write the next round into some peers' folders."""
        run, mean, outer = self.run, self.means[round_id - 1], self._outer
        fragment = cut(run.model, run.overlap.fragments)[run.timetable.fragment_of(round_id)]
        fragment.keep_only(mean)
        for part, anchor, momentum_there in list(outer.steps(fragment.take(mean), fragment)):
            outer.anchor[part], outer.momentum[part] = anchor, momentum_there
        weights, momentum = outer.digests()
        head = self.states[-1]
        state = next_state(run, head, KEYS, weights_digest=weights, momentum_digest=momentum)
        self.states.append(state)
        self.links.append(link_of(commit_of(state, KEYS[0]), KEYS[0], KEYS[:2]))
        for folder in folders:
            self.keep(folder, state)
            self.log(folder)

    def keep(self, folder: StateFolder, state: GlobalState) -> None:
        info = CheckpointInfo(
            run_id=self.run.run_id,
            round_id=state.round_id,
            weights_digest=state.weights_digest,
            momentum_digest=state.momentum_digest,
            model=self.run.model,
        )
        path = folder.checkpoints / file_name(state.round_id)
        checkpoint.save(path, info, self._outer.anchor, self._outer.momentum)

    def log(self, folder: StateFolder) -> None:
        with Ledger.open(folder.log, self.run, self.states[0]) as ledger:
            for link in self.links[ledger.head().round_id :]:
                ledger.append(link)
