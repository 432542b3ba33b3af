"""What a swarm's peers would have written into their folders, without a swarm."""

from __future__ import annotations

import numpy as np

from paceline.core.chain import Link
from paceline.core.config import GptConfig
from paceline.core.records import GlobalState
from paceline.learning import checkpoint
from paceline.learning.checkpoint import file_name
from paceline.learning.checkpoint_header import CheckpointInfo
from paceline.learning.flat import Flat
from paceline.learning.model import num_parameters
from paceline.learning.outer import OuterState
from paceline.ledger import Ledger
from paceline.peer.folders import StateFolder
from tests.core.history import commit_of, genesis_of, link_of, next_state, peers, run_of

KEYS = peers(3)
MODEL = GptConfig(dim=8, layers=1, heads=1, seq_len=8)
RUN = run_of(KEYS, model=MODEL)
SIZE = num_parameters(MODEL)


class Past:
    """A swarm's rounds as its peers would have written them down."""

    def __init__(self, rounds: int) -> None:
        chance = np.random.default_rng(0)
        self.means: list[Flat] = [chance.normal(size=SIZE).astype(np.float32) for _ in range(rounds)]
        self.links: list[Link] = []
        self.states: list[GlobalState] = [genesis_of(RUN)]
        self._outer = OuterState(np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32), RUN.outer)

    def commit(self, round_id: int, *folders: StateFolder) -> None:
        """Write the next round into some peers' folders."""
        weights, momentum = self._outer.apply(self.means[round_id - 1])
        head = self.states[-1]
        state = next_state(RUN, head, KEYS, weights_digest=weights, momentum_digest=momentum)
        self.states.append(state)
        self.links.append(link_of(commit_of(state, KEYS[0]), KEYS[0], KEYS[:2]))
        for folder in folders:
            self.keep(folder, state)
            self.log(folder)

    def keep(self, folder: StateFolder, state: GlobalState) -> None:
        info = CheckpointInfo(
            run_id=RUN.run_id,
            round_id=state.round_id,
            weights_digest=state.weights_digest,
            momentum_digest=state.momentum_digest,
            model=MODEL,
        )
        path = folder.checkpoints / file_name(state.round_id)
        checkpoint.save(path, info, self._outer.anchor, self._outer.momentum)

    def log(self, folder: StateFolder) -> None:
        with Ledger.open(folder.log, RUN, self.states[0]) as ledger:
            for link in self.links[ledger.head().round_id :]:
                ledger.append(link)
