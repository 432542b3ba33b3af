"""A stranger that forges, replays and lies while a swarm trains changes nothing but a counter."""

from __future__ import annotations

import secrets
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from prometheus_client.parser import text_string_to_metric_families

from paceline.core.events import PeerStarted
from paceline.core.signing import SigningKey
from paceline.network.board import Board, Posted
from paceline.network.dht import PeerDht
from paceline.network.validator import KEYS, RecordValidator, Rejections
from tests.live.swarms import LiveSwarm, live_swarm, seed_address, small_run
from tests.network.board_attacker import DICTIONARY, Attacker, Store, bomb, whole
from tests.network.boards import key_id
from tests.network.test_board_attacks import ATTACKS

pytestmark = pytest.mark.live


class Spam:
    """Sends whatever it reads on the board back in every wrong way, and lies when it is asked."""

    def __init__(self, seed: str) -> None:
        self._sender, self._liar = Attacker([seed]), Attacker([seed])
        key = SigningKey.from_seed(secrets.token_bytes(32))
        self._reader = PeerDht(
            [seed],
            record_validators=[RecordValidator(Rejections())],
            client_mode=True,
            use_relay=False,
            nat_port_map=False,
        )
        self._reader.start_or_raise()
        self._board = Board(self._reader, key, run_id=None, rejections=Rejections())
        self._attacks: list[Callable[[Store], Store]] = [make for _, make in ATTACKS.values()]
        self._replays: list[Store] = []
        self.sent = 0

    def burst(self) -> None:
        for posted in self._board.read():
            original = as_stored(posted)
            self._replays.append(original)
            wrong = [make(original) for make in self._attacks]
            self._send(*wrong, *(replace(one, in_cache=True) for one in wrong))
            self._send(replace(original, subkey=DICTIONARY, value=bomb()))
        self._send(*self._replays[-200:])

    def lie(self, answer: bytes) -> None:
        for kind in KEYS:
            self._liar.answer(key_id(kind), answer)

    def shutdown(self) -> None:
        self._reader.shutdown()
        self._sender.shutdown()
        self._liar.shutdown()

    def _send(self, *requests: Store) -> None:
        if requests:
            self._sender.store(*requests)
            self.sent += len(requests)


def as_stored(posted: Posted) -> Store:
    record = posted.record
    return Store(
        bytes(key_id(record.kind)),
        msgpack.packb(record.peer_id),
        msgpack.packb(posted.sealed),
        record.expires_at,
    )


def rejected(swarm: LiveSwarm, name: str) -> dict[str, float]:
    """What a peer has refused so far, by reason, as its metrics tell; nothing once it has ended."""
    address = swarm.events(name, PeerStarted)[0].metrics_address
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except OSError:
        return {}
    (family,) = [family for family in families if family.name == "paceline_records_rejected"]
    return {sample.labels["reason"]: sample.value for sample in family.samples if sample.value}


def test_a_swarm_finishes_with_one_chain_while_a_stranger_attacks_it(tmp_path: Path) -> None:
    with live_swarm(tmp_path, small_run(rounds=4), peers=3) as swarm:
        spam = Spam(seed_address(swarm))
        counted: dict[str, float] = {}
        try:
            lies = [whole([]), whole([], maxsize="x"), bomb(), whole([("x" * 52, b"forged", 4e9)])]
            while swarm.local.running():
                spam.burst()
                spam.lie(lies[spam.sent % len(lies)])
                for name in swarm.local.names:
                    if swarm.events(name, PeerStarted):
                        counted |= rejected(swarm, name)
                time.sleep(0.2)
        finally:
            spam.shutdown()
        logs = swarm.logs(*swarm.local.names)
        assert {log.rounds for log in logs.values()} == {4}
        assert len({log.head_digest for log in logs.values()}) == 1
        assert [end.code for end in swarm.local.ends()] == [0, 0, 0]
        assert {"signature", "owner", "schema", "size", "far_future", "key"} <= set(counted), counted
        print(f"{spam.sent} forged records; one peer refused {counted}")
