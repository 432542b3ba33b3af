"""Of two processes with one key, the one that comes second finds out before it says a word."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from paceline.core.errors import IdentityError
from paceline.core.nicknames import named
from paceline.core.records import PeerRecord, Phase
from paceline.peer import twins
from paceline.peer.twins import Listening, TwinFound, new_boot_id
from tests.network.boards import RUN, BoardPeer, boards

pytestmark = pytest.mark.live


def heartbeat(peer: BoardPeer, phase: Phase = Phase.TRAIN) -> None:
    head = {"run_id": RUN, "peer_id": peer.key.peer_id, "seq": 0, "expires_at": 0.0}
    progress = {"inner_step": 0, "samples": 0, "samples_per_s": 0.0, "loss": 0.0}
    place = {"round_id": 1, "head_digest": "ab" * 32, "phase": phase, "term": 0, "coordinator": ""}
    peer.board.publish(PeerRecord.model_validate({**head, **place, **progress}))
    peer.board.flush()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[BoardPeer, BoardPeer]]:
    with boards() as swarm:
        yield swarm.peer(), swarm.peer()


@pytest.fixture
def original(pair: tuple[BoardPeer, BoardPeer]) -> BoardPeer:
    return BoardPeer(pair[0].dht, pair[0].rejections)


@pytest.fixture
def twin(pair: tuple[BoardPeer, BoardPeer], original: BoardPeer) -> BoardPeer:
    return BoardPeer(pair[1].dht, pair[1].rejections, original.key)


def listen(peer: BoardPeer) -> Listening:
    return Listening(peer.view(), peer.key.peer_id)


def test_a_start_is_refused_while_another_process_keeps_this_identitys_heartbeat_up(
    original: BoardPeer, twin: BoardPeer
) -> None:
    heartbeat(original)
    listening = listen(twin)
    heartbeat(original)
    with pytest.raises(TwinFound, match=named(original.key.peer_id)) as found:
        listening.refuse_twin()
    assert isinstance(found.value, IdentityError)
    assert "state_dir" in found.value.remedy


def test_a_twin_is_found_however_long_getting_ready_took(
    original: BoardPeer, twin: BoardPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "_LISTEN_S", 0.0)
    heartbeat(original)
    listening = listen(twin)
    heartbeat(original)
    with pytest.raises(TwinFound):
        listening.refuse_twin()


def test_a_start_after_a_crash_or_a_farewell_is_not_refused(
    original: BoardPeer, twin: BoardPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "_LISTEN_S", 1.0)
    heartbeat(original)  # its last words before a crash
    listening = listen(twin)
    listening.refuse_twin()
    heartbeat(original, Phase.LEAVE)
    began = time.monotonic()
    listen(twin).refuse_twin()
    assert time.monotonic() - began < 0.9


def test_what_a_replica_kept_back_of_a_dead_predecessor_is_no_twin(
    original: BoardPeer, twin: BoardPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "_LISTEN_S", 1.0)
    heartbeat(original)
    listening = listen(twin)
    listening._began_at += 10.0  # so long ago was its last heartbeat
    heartbeat(original)
    listening.refuse_twin()


def test_a_peer_whose_identity_has_been_silent_waits_for_nothing(
    original: BoardPeer, twin: BoardPeer
) -> None:
    stranger = BoardPeer(original.dht, original.rejections)
    heartbeat(stranger)
    began = time.monotonic()
    listen(twin).refuse_twin()
    assert time.monotonic() - began < 2.0


def test_later_starts_have_greater_names() -> None:
    names = [new_boot_id(now) for now in (1.0, 1_700_000_000.0, 1_700_000_000.01, 4e9)]
    assert names == sorted(names)
    assert {len(name) for name in names} == {16}
    assert new_boot_id(1.0) != new_boot_id(1.0)
