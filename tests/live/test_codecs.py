"""Claims about swarms whose codec loses much: what is lost must neither split them nor stop them learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paceline.core.config import SwarmConfig
from paceline.core.events import Evaluated, ReduceEnded
from paceline.core.tuning import CodecName, CodecWarmup
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.local import LocalTrainingProvider
from paceline.federation.models import GlobalState
from paceline.federation.parameters import flatten
from paceline.learning.codecs import make_codec
from paceline.learning.model import num_parameters
from tests.bench.training.wire import reduce_bytes
from tests.live.swarms import LiveSwarm, commits_in, live_swarm, small_node, small_run

pytestmark = pytest.mark.live
PEERS = 3


SAVED = {"int4": 7, "int2": 9, "topk": 20}


@pytest.mark.parametrize(("codec", "warmup_rounds"), [("int2", 0), ("topk", 2)])
def test_a_swarm_with_a_lossy_codec_commits_the_same_bits_and_learns_also_where_a_warm_up_ends(
    codec: CodecName, warmup_rounds: int, tmp_path: Path
) -> None:
    run = small_run(rounds=5, codec=codec, codec_warmup=CodecWarmup(rounds=warmup_rounds))
    with live_swarm(tmp_path, run, peers=PEERS) as swarm:
        swarm.until(lambda: not swarm.local.running())
        names = swarm.local.names
        logs = swarm.logs(*names)
        assert {log.rounds for log in logs.values()} == {5}
        assert len({log.head_digest for log in logs.values()}) == 1
        in_fp32 = 4 * num_parameters(swarm.run.model) * 4 / 3  # two thirds up, two thirds of means
        for name in names:
            losses = [event.val_loss for event in swarm.events(name, Evaluated)]
            assert losses[-1] < losses[0] - 0.1
            reduced = [event for event in swarm.events(name, ReduceEnded) if event.complete]
            for event in reduced:
                assert event.bytes_out < in_fp32 / SAVED[run.codec_of(event.round_id)]
        _assert_training_in_process_gives_the_same(swarm)


def _assert_training_in_process_gives_the_same(swarm: LiveSwarm) -> None:
    # Bits and bytes, as long as everybody finished all steps: a straggler's weight is another one.
    ids = sorted(swarm.peer_id(name) for name in swarm.local.names)
    node = small_node().model_copy(update={"eval_batches": 0})
    whole = [swarm.run.inner_steps * node.batch_size] * PEERS
    with LocalTrainingProvider(SwarmConfig(run=swarm.run, node=node, peers=PEERS), node_ids=ids) as provider:
        coordinator, state, compared = DiLoCoCoordinator(), GlobalState(round_id=0), 0
        for commit in commits_in(swarm.states["peer-1"].log):
            if (commit.participating_nodes, commit.samples) != (ids, whole):
                break
            state = coordinator.run_round(state, provider.get_updates(commit.round_id, state, provider.nodes))
            mean = np.array(flatten(swarm.run.model, state.global_weights))
            provider.receive_state(state, provider.nodes)
            for digests in provider.digests().values():
                assert digests == (commit.weights_digest, commit.momentum_digest)
            reduced = [
                event
                for name in swarm.local.names
                for event in swarm.events(name, ReduceEnded)
                if event.round_id == commit.round_id
            ]
            if all(event.complete for event in reduced):  # else an attempt sent some of it in vain
                codec = make_codec(swarm.run.codec_of(commit.round_id))
                expected = reduce_bytes(codec, mean, PEERS)
                assert sum(event.bytes_out for event in reduced) == expected
                assert sum(event.bytes_in for event in reduced) == expected
            compared += 1
    print(f"the same bits and bytes in the first {compared} rounds, in which all finished all steps")
    if not compared:
        pytest.skip("on this busy machine the swarm did not wait for all steps of all peers")
