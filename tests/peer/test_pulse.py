"""Claims about how a supervisor tells from outside whether its peer lives, works or hangs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from paceline.core.events import Event, PeerStarted, RoundCommitted
from paceline.peer.pulse import Pulse, complaint_of
from paceline.telemetry import Health, JsonlSink, MetricsServer

WELL = Health(healthy=True)
HANGS = Health(healthy=False, cause="the worker hangs")
LEAVES = Health(healthy=False, cause="leaving")


class Peer:
    """What of a peer its supervisor can see."""

    def __init__(self, server: MetricsServer, events: Path) -> None:
        self.server, self.events = server, events

    health = WELL

    @property
    def port(self) -> int:
        return int(self.server.address.rpartition(":")[2])

    def tell(self, event: Event) -> None:
        with JsonlSink(self.events) as sink:
            sink(event)

    def start(self) -> None:
        self.tell(
            PeerStarted(
                peer_id="p",
                run_id="r",
                multiaddrs=(),
                metrics_address=f"203.0.113.7:{self.port}",  # what a router announces; nobody is there
                round_id=1,
                parameters=1,
                device="cpu",
            )
        )

    def commit(self) -> None:
        self.tell(RoundCommitted(round_id=1, loss=1.0, members=2, digest="ab", sync_s=0.1))

    def pulse(self) -> Pulse:
        return Pulse(self.events, "0.0.0.0", now=0.0, patience_s=100.0)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    peers: list[Peer] = []
    server = MetricsServer("127.0.0.1", 0, CollectorRegistry(), lambda: peers[0].health)
    with server:
        peers.append(Peer(server, tmp_path / "events.jsonl"))
        yield peers[0]


def test_only_what_is_committed_in_this_life_counts(peer: Peer) -> None:
    peer.commit()
    pulse = peer.pulse()
    pulse.hung(1.0)
    assert not pulse.committed
    peer.commit()
    pulse.hung(2.0)
    assert pulse.committed


def test_a_peer_hangs_when_it_has_said_so_for_long(peer: Peer) -> None:
    pulse = peer.pulse()
    peer.start()
    peer.health = HANGS
    assert [pulse.hung(now) for now in (30.0, 60.0, 99.0)] == ["", "", ""]
    assert pulse.hung(101.0) == "the worker hangs"


@pytest.mark.parametrize("health", [WELL, LEAVES])
def test_a_peer_that_works_or_leaves_does_not_hang(health: Health, peer: Peer) -> None:
    pulse = peer.pulse()
    peer.start()
    peer.health = health
    assert {pulse.hung(30.0 * look) for look in range(1, 20)} == {""}


def test_patience_begins_anew_when_a_peer_has_recovered(peer: Peer) -> None:
    pulse = peer.pulse()
    peer.start()
    for now, peer.health in ((80.0, HANGS), (120.0, WELL), (160.0, HANGS)):
        pulse.hung(now)
    assert pulse.hung(219.0) == ""
    assert pulse.hung(221.0) == "the worker hangs"


def test_a_peer_that_falls_silent_hangs(peer: Peer) -> None:
    pulse = peer.pulse()
    peer.start()
    pulse.hung(30.0)
    peer.server.__exit__(None, None, None)
    assert pulse.hung(60.0) == ""
    assert pulse.hung(131.0) == "it does not answer"


def test_a_peer_that_has_never_answered_is_not_taken_for_hung(peer: Peer) -> None:
    pulse = peer.pulse()
    assert pulse.hung(1000.0) == ""
    peer.start()
    peer.server.__exit__(None, None, None)
    assert [pulse.hung(1000.0 + 30.0 * look) for look in range(10)] == [""] * 10


def test_an_answer_that_is_no_health_is_none() -> None:
    assert complaint_of("127.0.0.1", 1) is None
