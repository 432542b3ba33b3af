"""From configuration to a wired peer: the only wiring there is.

The order matters. Processes are forked before threads start and before CUDA wakes up: first the DHT, then,
once the run's parameters are known, the averager, and only then model, pacer and servers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from paceline.core.config import Handout, NodeConfig, RunConfig, SwarmConfig
from paceline.core.errors import CheckpointError, ProcessDied, SeedsUnreachable
from paceline.core.events import Emit, PeerStarted
from paceline.core.proof import prove
from paceline.core.records import Phase
from paceline.core.rounds import Remembered, RoundMachine
from paceline.core.signing import SigningKey
from paceline.learning.aggregate import mean_factors, weighted_mean
from paceline.learning.codecs import make_codec, self_test
from paceline.learning.fragments import largest
from paceline.ledger import Ledger
from paceline.network.averager import Averager
from paceline.network.board import Board
from paceline.network.butterfly import Arithmetic
from paceline.network.dht import PeerDht
from paceline.network.identity import hold, load_or_create
from paceline.network.neighbours import keep_neighbours, recall_neighbours
from paceline.network.transfer import ServeLimits, StateServer
from paceline.network.validator import RecordValidator, Rejections
from paceline.peer.aside import Aside, open_ledger
from paceline.peer.catch_up import CatchUp
from paceline.peer.directory import find_run, seeds_of
from paceline.peer.folders import RunFolder, StateFolder
from paceline.peer.learner import Learner
from paceline.peer.observer import SwarmView, observe
from paceline.peer.pacer import Duties, Pacer
from paceline.peer.settings import save_handout
from paceline.peer.shelf import Lending, Shelf
from paceline.peer.surroundings import Surroundings
from paceline.peer.twins import Listening, new_boot_id
from paceline.peer.worker import Worker
from paceline.telemetry import Health, JsonlSink, MetricsServer, PrometheusSink, fan_out


def create_run(swarm: SwarmConfig, folder: Path) -> Handout:
    """Create a run: its canonical parameters and the hand-out. Starts and sends nothing.

    Args:
        swarm: The run, as configured.
        folder: Gets `run.json` and the creator's key.

    Returns:
        The hand-out. Its one seed address has port 0, to be filled in by `paceline seed`.
    """
    authority = load_or_create(folder / "authority.key").peer_id
    handout = Handout(
        run_id=swarm.run.run_id,
        seeds=(f"/ip4/127.0.0.1/tcp/0/p2p/{authority}",),
        run_digest=swarm.run.digest(),
        run_config=swarm.run,
        authority=authority,
    )
    save_handout(RunFolder(folder).handout, handout)
    return handout


@contextmanager
def join(node: NodeConfig, target: Handout | str, emit_extra: Emit | None = None) -> Iterator[Worker]:
    """Wire a peer: connect, agree on the run, fork, load, and be ready to work.

    Args:
        node: This node's own settings.
        target: The run's hand-out, or the multiaddr of any of its peers.
        emit_extra: One more sink for events.

    Yields:
        The worker; call its `run` in the main thread.

    Raises:
        JoinError: The swarm could not be reached, or trains another run.
        IdentityError: The key is unusable or in use.
        ConfigError: Data or device can't be used as configured.
    """
    folder = StateFolder(node.state_dir)
    with ExitStack() as stack:
        stack.enter_context(hold(folder.key))
        key = load_or_create(folder.key)
        rejections = Rejections()
        dht = _connect(stack, node, folder, seeds_of(target), rejections)
        board = Board(dht, key, run_id=None, rejections=rejections)
        run = find_run(board, target)
        board.run_id = run.run_id
        listening = Listening(Board(dht, key, run_id=run.run_id, rejections=rejections), key.peer_id)
        shelf = Shelf(folder.checkpoints, run.run_id, run.model, node.keep_checkpoints)
        lent = ServeLimits(bytes_per_s=_bytes_per_s(node.network.lend_mbit_s))
        averager = _start_averager(stack, dht, run, StateServer(Lending(shelf, folder.log), lent))
        learner = Learner(run, node, key.peer_id)
        registry = CollectorRegistry()
        jsonl = stack.enter_context(JsonlSink(folder.events))
        free_space = partial(shutil.disk_usage, folder.path)
        prometheus = PrometheusSink(registry, key.peer_id, rejections.by_reason, disk=free_space)
        emit = fan_out(jsonl, prometheus, *([emit_extra] if emit_extra else []))
        aside = Aside(folder.aside, emit)
        ledger = stack.enter_context(open_ledger(folder.log, run, learner.first, aside))
        machine = _restore(run, key, ledger, shelf, learner)
        duties = Duties(ledger.remember, averager.cancel, emit, node.network.poll_s)
        pacer = Pacer(machine, board, run, duties)
        proof = partial(_proof, key, machine)
        health = partial(_health, pacer)
        server = MetricsServer(node.metrics.host, node.metrics.port, registry, health, proof)
        machine.voice.metrics_address = _reachable(stack.enter_context(server).address, dht)
        catch_up = CatchUp(run, averager, shelf, learner.num_elements, aside, emit)
        around = Surroundings(
            learner=learner,
            averager=averager,
            pacer=pacer,
            ledger=ledger,
            shelf=shelf,
            catch_up=catch_up,
            emit=emit,
            check_children=lambda: _check_children(dht, averager),
            note_neighbours=lambda: keep_neighbours(
                folder.neighbours, dht.neighbours(), ledger.head().participating_nodes
            ),
        )
        listening.refuse_twin()
        emit(
            PeerStarted(
                peer_id=key.peer_id,
                run_id=run.run_id,
                multiaddrs=tuple(str(address) for address in dht.get_visible_maddrs()),
                metrics_address=machine.voice.metrics_address,
                round_id=ledger.head().round_id + 1,
                parameters=learner.num_elements,
                device=str(learner.device),
            )
        )
        yield Worker(run, node, key.peer_id, around)


class SeedPeer:
    """A bootstrap peer that serves the DHT and nothing else.

    Attributes:
        multiaddrs: Where it is reached.
    """

    def __init__(self, multiaddrs: Sequence[str]) -> None:
        self.multiaddrs = tuple(multiaddrs)


@contextmanager
def seed(
    key_path: Path, listen: tuple[str, ...], run: RunConfig | None, initial_peers: tuple[str, ...] = ()
) -> Iterator[SeedPeer]:
    """Serve as a bootstrap address.

    Args:
        key_path: The seed's key; created when missing.
        listen: Multiaddrs to listen on.
        run: Unused by the DHT itself: a seed serves any run whose peers come to it.
        initial_peers: Other peers to connect to.

    Yields:
        The running seed.

    Raises:
        JoinError: The network did not start, or no initial peer answered.
        IdentityError: The key is unusable or in use.
    """
    del run
    with hold(key_path):
        load_or_create(key_path)
        dht = PeerDht(
            initial_peers,
            record_validators=[RecordValidator(Rejections())],
            identity_path=str(key_path),
            host_maddrs=list(listen),
        )
        with dht:
            yield SeedPeer([str(address) for address in dht.get_visible_maddrs()])


def _connect(
    stack: ExitStack, node: NodeConfig, folder: StateFolder, seeds: tuple[str, ...], rejections: Rejections
) -> PeerDht:
    try:
        return _start_dht(stack, node, folder, seeds, rejections)
    except SeedsUnreachable:
        known = recall_neighbours(folder.neighbours)
        if not known:
            raise
        return _start_dht(stack, node, folder, (*seeds, *known), rejections)


def _start_dht(
    stack: ExitStack, node: NodeConfig, folder: StateFolder, seeds: tuple[str, ...], rejections: Rejections
) -> PeerDht:
    network = node.network
    dht = PeerDht(
        seeds,
        record_validators=[RecordValidator(rejections)],
        identity_path=str(folder.key),
        host_maddrs=list(network.listen),
        announce_maddrs=list(network.announce) or None,
        use_relay=network.relay,
        nat_port_map=network.relay,
        startup_timeout=network.startup_s,
    )
    stack.callback(dht.shutdown)
    dht.start_or_raise(network.startup_s)
    return dht


def _start_averager(stack: ExitStack, dht: PeerDht, run: RunConfig, server: StateServer) -> Averager:
    codecs = [make_codec(name) for name in run.codecs]
    for codec in codecs:
        self_test(codec)
    first, *others = (Arithmetic(codec, weighted_mean, factors=mean_factors) for codec in codecs)
    averager = Averager(
        dht,
        num_elements=largest(run.model, run.overlap.fragments),
        arithmetic=first,
        others=others,
        prefix=run.run_id,
        services=[server],
    )
    stack.callback(averager.shutdown)
    averager.start_or_raise()
    return averager


def _bytes_per_s(mbit_s: float | None) -> float | None:
    return None if mbit_s is None else mbit_s * 125_000


def _restore(run: RunConfig, key: SigningKey, ledger: Ledger, shelf: Shelf, learner: Learner) -> RoundMachine:
    # A log whose head has no state on this disk is as good as none: the peer repairs itself from others.
    head, logged, promised = ledger.head(), ledger.head().round_id, ledger.promised()
    if head.round_id:
        try:
            learner.stand_on(shelf.promote(head), head)
        except CheckpointError:
            shelf.put_away(shelf.committed(head.round_id))
            head = learner.first
    # The promise holds in any case: its vote counts again once this peer is back in that round.
    remembered = Remembered(promised, shelf.recall(promised.vote), logged)
    machine = RoundMachine(run, key.peer_id, head, time.monotonic(), remembered)
    machine.voice.boot_id = new_boot_id(time.time())
    return machine


def _reachable(address: str, dht: PeerDht) -> str:
    # A server bound to all addresses is announced under one that others can use.
    host, _, port = address.rpartition(":")
    if host.strip("[]") not in ("0.0.0.0", "::"):
        return address
    found = [str(maddr).split("/")[2] for maddr in dht.get_visible_maddrs() if str(maddr).startswith("/ip4/")]
    return f"{next((ip for ip in found if not ip.startswith('127.')), '127.0.0.1')}:{port}"


def _proof(key: SigningKey, machine: RoundMachine, nonce: str) -> str:
    return prove(key, nonce, machine.standing.run.run_id, machine.voice.metrics_address)


def _check_children(dht: PeerDht, averager: Averager) -> None:
    dht.check()  # first: without the daemon, both end
    if not averager.is_alive():
        raise ProcessDied("averager")


def _health(pacer: Pacer) -> Health:
    machine = pacer.machine
    cause = "leaving" if machine.phase is Phase.LEAVE else "the worker hangs" if pacer.is_stuck else ""
    return Health(
        healthy=not cause,
        round_id=machine.standing.round_id,
        phase=machine.phase,
        cause=cause,
    )


__all__ = ["SeedPeer", "SwarmView", "create_run", "join", "observe", "seed"]
