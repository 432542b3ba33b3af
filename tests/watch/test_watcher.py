"""A watch over real boards: peers that train nothing, and say what peers say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from paceline.core.config import PaceConfig, QuorumConfig, RunConfig
from paceline.core.errors import ConfigError, JoinError, ProcessDied
from paceline.core.proof import prove
from paceline.core.records import Record, RunRecord
from paceline.core.signing import SigningKey
from paceline.network.identity import load_or_create
from paceline.telemetry import Health, MetricsServer
from paceline.watch.notice import notice
from paceline.watch.picture import PeerView, Picture
from paceline.watch.sighting import Sighting
from paceline.watch.verdict import verdict
from paceline.watch.watcher import Watcher
from tests.core.history import commit_of, genesis_of, next_state, receipt_of, run_of
from tests.network.boards import BoardPeer, Boards, boards, until
from tests.watch.statements import beat

PACE = PaceConfig(lease_s=4)


class Crowd:
    """Two nodes that say what they are told to say, under the identities that their daemons have."""

    def __init__(self, started: Boards, folder: Path) -> None:
        self.peers: list[BoardPeer] = []
        self._started, self._folder = started, folder
        for number in range(2):
            self.peers.append(self._start(number, "/ip4/127.0.0.1/tcp/0"))
        self.places = {number: peer.maddrs[0] for number, peer in enumerate(self.peers)}
        founders = tuple(sorted(peer.key.peer_id for peer in self.peers))
        self.run = RunConfig(name="seen", rounds=9, pace=PACE, quorum=QuorumConfig(founders=founders))
        for peer in self.peers:
            peer.board = peer.view(run_id=self.run.run_id)
        self.say(0, RunRecord(**self.head(0), document=self.run.document()))

    def _start(self, number: int, listen: str) -> BoardPeer:
        path = self._folder / f"{number}.key"
        key = load_or_create(path)
        peer = self._started.peer(identity_path=str(path), host_maddrs=[listen])
        peer.key = key
        return peer

    def start_again(self, number: int) -> None:
        """Where it was, after it was killed."""
        listen = self.places[number].partition("/p2p/")[0]
        self._started.seeds = [place for other, place in self.places.items() if other != number]
        self.peers[number] = self._start(number, listen)
        self.peers[number].board = self.peers[number].view(run_id=self.run.run_id)

    def begin_again(self) -> None:
        """The first where it was, after all were killed."""
        self._started.seeds = []
        self.peers[0] = self._start(0, self.places[0].partition("/p2p/")[0])

    @property
    def address(self) -> str:
        return self.places[0]

    def head(self, peer: int) -> dict[str, object]:
        return {"run_id": self.run.run_id, "peer_id": self.id(peer), "seq": 0, "expires_at": 0.0}

    def id(self, peer: int) -> str:
        return self.peers[peer].key.peer_id

    def say(self, peer: int, record: Record) -> None:
        self.peers[peer].board.publish(record)
        self.peers[peer].board.flush()

    def beat(self, peer: int, **changes: object) -> None:
        said: dict[str, Any] = {**self.head(peer), "coordinator": self.id(0), **changes}
        self.say(peer, beat(0, run=self.run, **said))

    def commit(self, round_id: int = 1) -> str:
        keys = sorted((peer.key for peer in self.peers), key=lambda key: key.peer_id)
        head = genesis_of(self.run)
        for _ in range(round_id):
            head = next_state(self.run, head, keys)
        commit = commit_of(head, self.peers[0].key)
        self.say(0, commit)
        for number, peer in enumerate(self.peers):
            self.say(number, receipt_of(commit, peer.key))
        return head.digest()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with boards() as started:
        yield Crowd(started, tmp_path)


def peer(picture: Picture, peer_id: str) -> PeerView | None:
    return next((view for view in picture.peers if view.peer_id == peer_id), None)


def stands(watcher: Watcher, peer_id: str) -> str:
    view = peer(watcher.picture(), peer_id)
    return view.standing if view else ""


def test_what_is_said_on_the_board_is_seen(crowd: Crowd) -> None:
    crowd.beat(0)
    crowd.beat(1, phase="wait", inner_step=7)
    with Watcher(crowd.address) as watcher:
        assert watcher.run == crowd.run
        until(lambda: stands(watcher, crowd.id(1)) == "wait")
        version = watcher.changed(0, 60.0)
        digest = crowd.commit()
        until(lambda: watcher.picture().rounds_committed == 1)
        assert watcher.changed(version, 60.0) > version
        picture = watcher.picture()
        assert picture.rounds[0].digest == digest
        assert (picture.is_live, picture.coordinator) == (True, crowd.id(0))
        assert watcher.picture(rounds=1).rounds[0].round_id == 2


def test_a_peer_that_falls_silent_is_seen_as_lost_and_the_other_is_not(crowd: Crowd) -> None:
    crowd.beat(0)
    crowd.beat(1)
    with Watcher(crowd.address) as watcher:
        until(lambda: stands(watcher, crowd.id(0)) == stands(watcher, crowd.id(1)) == "train")
        crowd.peers[1].kill()

        def is_lost() -> bool:
            crowd.beat(0)
            return stands(watcher, crowd.id(1)) == "lost"

        until(is_lost)
        assert stands(watcher, crowd.id(0)) == "train"


def test_what_was_seen_before_a_restart_is_shown_after_it(crowd: Crowd, tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    crowd.beat(0)
    crowd.beat(1)
    digest = crowd.commit()
    with Watcher(crowd.address, path) as watcher:
        until(lambda: watcher.picture().rounds_committed == 1)
        begin = watcher.begin
    crowd.commit(round_id=2)  # while nobody watches; of round 1 nothing is left on the board
    with Watcher(crowd.address, path) as watcher:
        assert watcher.picture().rounds[0].digest == digest
        assert watcher.begin == begin
        until(lambda: watcher.picture().rounds_committed == 2)
        assert [view.round_id for view in watcher.picture().rounds] == [1, 2, 3]
        until(lambda: not watcher.picture(at=begin).is_live)  # the past is played back
        assert watcher.picture(at=begin).rounds_committed <= 1


def test_a_watch_that_is_started_again_finds_the_swarm_without_its_seed(crowd: Crowd, tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    for number in range(2):
        crowd.beat(number)
    with Watcher(crowd.address, path) as watcher:
        until(lambda: len(watcher.picture().peers) == 2)
        until(lambda: len(watcher._history.neighbours()) == 2)
    seed = crowd.address
    crowd.say(1, RunRecord(**crowd.head(1), document=crowd.run.document()))
    crowd.peers[0].kill()
    with Watcher(seed, path) as watcher:
        crowd.beat(1, inner_step=9)
        until(lambda: stands(watcher, crowd.id(1)) == "train")


def test_a_watch_goes_on_while_its_seed_is_gone_and_after_it_has_come_back(crowd: Crowd) -> None:
    for number in range(2):
        crowd.beat(number)
    with Watcher(crowd.address) as watcher:
        until(lambda: len(watcher.picture().peers) == 2)
        crowd.peers[0].kill()

        def seed_stands(how: str, *speakers: int) -> bool:
            for number in speakers:
                crowd.beat(number)
            return stands(watcher, crowd.id(0)) == how and stands(watcher, crowd.id(1)) == "train"

        until(lambda: seed_stands("lost", 1))
        crowd.start_again(0)
        until(lambda: seed_stands("train", 0, 1), limit_s=120.0)


def test_a_peer_is_reachable_once_it_has_proven_its_address(crowd: Crowd) -> None:
    key, addresses = crowd.peers[0].key, list[str]()
    healthy = partial(Health, healthy=True)

    def answer(nonce: str) -> str:
        return prove(key, nonce, crowd.run.run_id, addresses[0])

    with MetricsServer("127.0.0.1", 0, CollectorRegistry(), healthy, answer) as server:
        addresses.append(server.address)
        crowd.beat(0, metrics_address=server.address)
        crowd.beat(1, metrics_address=server.address)  # announces what is not its own
        with Watcher(crowd.address) as watcher:

            def verdicts() -> list[bool | None]:
                for number in range(2):  # both stay here
                    crowd.beat(number, metrics_address=server.address)
                views = [peer(watcher.picture(), crowd.id(number)) for number in range(2)]
                return [view.is_reachable if view else None for view in views]

            until(lambda: None not in verdicts())
            assert verdicts() == [True, False]


def test_a_run_that_nobody_announces_is_an_error_and_no_hang() -> None:
    with boards() as started:
        address = started.peer().maddrs[0]
        with pytest.raises(JoinError, match="no run was announced"), Watcher(address):
            pass


def test_nobody_there_is_an_error_and_no_hang(tmp_path: Path) -> None:
    key = load_or_create(tmp_path / "key")
    with pytest.raises(JoinError), Watcher(f"/ip4/127.0.0.1/tcp/1/p2p/{key.peer_id}"):
        pass


def test_a_history_in_use_is_refused_and_the_network_let_go(crowd: Crowd, tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    crowd.beat(0)
    another = Watcher(crowd.address, path)
    with Watcher(crowd.address, path), pytest.raises(ConfigError, match="another monitor"), another:
        pass
    with Watcher(crowd.address, path) as watcher:
        assert watcher.trouble == ""


@pytest.mark.parametrize("how", ["the process is killed", "the daemon is killed", "it does not answer"])
def test_a_watch_whose_network_died_starts_it_again_and_takes_nobody_for_lost_meanwhile(
    crowd: Crowd, how: str
) -> None:
    crowd.beat(0)
    crowd.beat(1)
    with Watcher(crowd.address) as watcher:
        until(lambda: stands(watcher, crowd.id(0)) == stands(watcher, crowd.id(1)) == "train")
        pid = watcher._sighting.lookout.dht.pid
        assert pid is not None
        stop_network(pid, how)
        seen = set[str]()

        def is_back() -> bool:
            for number in range(2):
                crowd.beat(number, phase="wait")
            picture = watcher.picture()
            if picture.blind_since is not None:
                seen.update(view.standing for view in picture.peers)
                assert verdict(picture).word == "The monitor is blind"
                assert notice(picture).startswith("This observer itself has been cut off")
            return picture.blind_since is None and stands(watcher, crowd.id(1)) == "wait"

        until(lambda: watcher.picture().blind_since is not None)
        until(is_back)
        assert seen <= {"train", "wait"}
        assert watcher._sighting.lookout.dht.pid != pid
        assert watcher.trouble == ""
        digest = crowd.commit()
        until(lambda: watcher.picture().rounds_committed == 1)
        assert watcher.picture().rounds[0].digest == digest


def stop_network(pid: int, how: str) -> None:
    if how == "the process is killed":
        os.kill(pid, signal.SIGKILL)
    elif how == "it does not answer":
        os.kill(pid, signal.SIGSTOP)
    else:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


def test_a_connection_that_cant_be_opened_is_tried_again_with_growing_patience() -> None:
    key = SigningKey.from_seed(b"nobody" + bytes(26))
    sighting = Sighting(f"/ip4/127.0.0.1/tcp/1/p2p/{key.peer_id}")
    sighting.run = run_of([key])
    waits = [sighting.lose(ProcessDied("DHT"))]
    assert not sighting.regain((), time.monotonic())  # it is not time yet
    assert sighting.cause == ProcessDied("DHT").cause
    for _ in range(2):
        assert not sighting.regain((), time.monotonic() + 100)
        assert "no seed answered" in sighting.cause
    waits.append(sighting.lose(ProcessDied("DHT")))
    assert waits == [1.0, 8.0]


def test_a_watch_whose_swarm_is_gone_with_its_network_keeps_trying(crowd: Crowd) -> None:
    crowd.beat(0)
    with Watcher(crowd.address) as watcher:
        until(lambda: stands(watcher, crowd.id(0)) == "train")
        for each in crowd.peers:
            each.kill()
        pid = watcher._sighting.lookout.dht.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: "no seed answered" in watcher.trouble)
        assert watcher.picture().blind_since is not None
        crowd.begin_again()
        until(lambda: watcher.picture().blind_since is None)
