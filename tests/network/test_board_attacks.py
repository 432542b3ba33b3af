"""Whatever a raw hivemind node sends or answers, nothing changes on the board and nobody dies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import pytest

from paceline.core.compact import compact
from paceline.core.signing import SigningKey
from paceline.core.wire import seal
from tests.core.test_wire import forged
from tests.network.board_attacker import DICTIONARY, REGULAR, Attacker, Store, bomb, whole
from tests.network.boards import CREDITS, BoardPeer, boards, credit, key_id

pytestmark = pytest.mark.live
MALLORY = SigningKey.from_seed(b"\x66" * 32)
KEY = bytes(key_id())


@dataclass(frozen=True)
class Field:
    """Where attacks take place. The third peer keeps nothing itself: it sees what others tell it."""

    seed: BoardPeer
    victim: BoardPeer
    third: BoardPeer
    attacker: Attacker

    def seen(self) -> dict[str, bytes]:
        return {posted.record.peer_id: posted.sealed for posted in self.third.view().read(CREDITS)}

    def unharmed(self) -> None:
        """Both nodes live, and what the victim posts next is read by others."""
        assert self.seed.dht.is_alive()
        assert self.victim.dht.is_alive()
        posted = self.victim.post(7)
        assert self.seen()[self.victim.key.peer_id] == posted.sealed


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with boards() as swarm:
        seed, victim = swarm.peer(), swarm.peer()
        third = swarm.peer(client_mode=True)
        yield Field(seed, victim, third, swarm.keep(Attacker(swarm.seeds)))


@pytest.fixture
def honest(field: Field) -> Store:
    """The victim's record, as the victim itself would store it."""
    posted = field.victim.post(5)
    field.seed.post(6)
    return Store(
        KEY,
        msgpack.packb(field.victim.key.peer_id),
        msgpack.packb(posted.sealed),
        posted.record.expires_at,
    )


def mallorys(balance: Any = 10**9, **changes: Any) -> Store:
    """A record under the attacker's own name, rightly signed, whatever is in it."""
    expires_at = changes.pop("expires_at", time.time() + 60.0)
    record = credit(MALLORY.peer_id, 1, seq=int(time.time() * 1000))
    fields = {**record.model_dump(), "expires_at": expires_at, "balance": balance, **changes}
    return Store(
        KEY, msgpack.packb(MALLORY.peer_id), msgpack.packb(forged(compact(fields), key=MALLORY)), expires_at
    )


def without_mallory(seen: dict[str, bytes]) -> dict[str, bytes]:
    return {author: sealed for author, sealed in seen.items() if author != MALLORY.peer_id}


def with_wrong_signature(honest: Store) -> Store:
    return replace(honest, value=honest.value[:-1] + bytes([honest.value[-1] ^ 1]))


def as_a_dictionary(*records: Store, **wrapping: Any) -> Store:
    items = [(msgpack.unpackb(one.subkey), one.value, one.expires_at) for one in records]
    return Store(KEY, DICTIONARY, whole(items, **wrapping), time.time() + 60.0)


ATTACKS: dict[str, tuple[str, Callable[[Store], Store]]] = {
    "a forged signature": ("signature", with_wrong_signature),
    "a changed balance": ("signature", lambda it: replace(it, value=it.value.replace(b"\x05", b"\x06"))),
    "signed by somebody else": (
        "owner",
        lambda it: replace(mallorys(peer_id=str(msgpack.unpackb(it.subkey))), subkey=it.subkey),
    ),
    "replayed under another's subkey": (
        "owner",
        lambda it: replace(it, subkey=msgpack.packb(MALLORY.peer_id)),
    ),
    "replayed under another kind": ("owner", lambda it: replace(it, key=bytes(key_id("peer")))),
    "replayed with a later expiry": ("owner", lambda it: replace(it, expires_at=it.expires_at + 60.0)),
    "replayed with an expiry of infinity": ("owner", lambda it: replace(it, expires_at=math.inf)),
    "an expiry that is no number": ("owner", lambda it: replace(it, expires_at=math.nan)),
    "a signed expiry of infinity": ("schema", lambda _: mallorys(expires_at=math.inf)),
    "ten years ahead": ("far_future", lambda _: mallorys(expires_at=time.time() + 3.15e8)),
    "over two hours ahead": ("far_future", lambda _: mallorys(expires_at=time.time() + 7300.0)),
    "long expired": ("expired", lambda _: mallorys(expires_at=time.time() - 60.0)),
    "5 KB": ("size", lambda it: replace(it, value=msgpack.packb(bytes(5_000)))),
    "100 KB": ("size", lambda it: replace(it, value=bytes(100_000))),
    "5 KB and signed": ("size", lambda _: mallorys(run_id="x" * 5_000)),
    "text for a number": ("schema", lambda _: mallorys("many")),
    "a list for a number": ("schema", lambda _: mallorys([1])),
    "a number with a fraction": ("schema", lambda _: mallorys(1.5)),
    "an unknown field": ("schema", lambda _: mallorys(surprise=1)),
    "no msgpack": ("format", lambda it: replace(it, value=b"\xc1")),
    "a plain value over the whole key": ("owner", lambda it: replace(it, subkey=REGULAR)),
    "mallory's plain value over the whole key": ("owner", lambda _: replace(mallorys(), subkey=REGULAR)),
    "an unknown key": ("key", lambda it: replace(it, key=bytes(20))),
    "a bomb for a subkey": ("size", lambda it: replace(it, subkey=bomb())),
    "a bomb for a value": ("size", lambda it: replace(it, value=bomb())),
    "a forged dictionary": ("signature", lambda it: as_a_dictionary(with_wrong_signature(it))),
    "a dictionary for ever": ("owner", lambda it: as_a_dictionary(replace(it, expires_at=math.inf))),
    "a dictionary of anything": ("format", lambda it: as_a_dictionary(replace(it, value=None))),  # type: ignore[arg-type]
    "a dictionary of strangers": (
        "owner",
        lambda it: as_a_dictionary(replace(it, subkey=msgpack.packb(17)), maxsize=1),
    ),
}


@pytest.mark.parametrize("in_cache", [False, True], ids=["", "into the cache"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_changes_nothing_and_is_counted(
    field: Field, honest: Store, attack: str, in_cache: bool
) -> None:
    reason, make = ATTACKS[attack]
    before, counted = field.seen(), field.victim.rejections.by_reason()
    assert set(before) >= {field.victim.key.peer_id, field.seed.key.peer_id}
    for answer in field.attacker.store(replace(make(honest), in_cache=in_cache)):
        assert answer == [False]
    assert field.victim.rejections.by_reason()[reason] > counted[reason]
    assert field.seen() == before
    field.unharmed()


NO_DICTIONARIES = {
    "a bomb": bomb(),
    "a bomb within a dictionary": whole([("subkey", bomb(), 4e9), (["subkey"], b"", 4e9)]),
    "a dictionary within dictionaries": whole([(0, whole([(0, bomb(), 4e9)]), 4e9)])[:-1],
    "a number": msgpack.packb(5),
    "a dictionary of no items": msgpack.packb(msgpack.ExtType(0x50, msgpack.packb([None, 0.0, 5]))),
    "text for an expiry": whole([("subkey", b"", "soon")]),
    "nothing": b"",
}


@pytest.mark.parametrize("name", NO_DICTIONARIES)
def test_what_is_no_dictionary_of_records_ends_its_own_request_only(
    field: Field, honest: Store, name: str
) -> None:
    before = field.seen()
    for answer in field.attacker.store(replace(honest, subkey=DICTIONARY, value=NO_DICTIONARIES[name])):
        assert isinstance(answer, str)  # an error, not a yes
    assert field.seen() == before
    field.unharmed()


def test_a_record_replayed_after_a_newer_one_changes_nothing_even_when_it_expires(field: Field) -> None:
    victim = field.victim
    older = credit(victim.key.peer_id, 1, seq=1, expires_at=time.time() + 3.0)
    replay = Store(
        KEY,
        msgpack.packb(victim.key.peer_id),
        msgpack.packb(seal(older, victim.key)),
        older.expires_at,
    )
    newer = victim.post(2)
    for in_cache in (False, True):
        field.attacker.store(replace(replay, in_cache=in_cache))
        assert field.seen()[victim.key.peer_id] == newer.sealed
    while time.time() <= older.expires_at:
        time.sleep(0.05)
    assert field.seen()[victim.key.peer_id] == newer.sealed
    field.unharmed()


def test_good_records_in_a_dictionary_with_bad_ones_are_kept(field: Field, honest: Store) -> None:
    before, good = field.seen(), mallorys(balance=1)
    mixed = as_a_dictionary(with_wrong_signature(honest), good, maxsize=1)
    for answer in field.attacker.store(mixed):
        assert answer == [True]
    after = field.seen()
    assert after[MALLORY.peer_id] == msgpack.unpackb(good.value)
    assert without_mallory(after) == without_mallory(before)


def test_a_node_whose_cache_was_filled_by_others_still_tells_what_it_keeps(
    field: Field, honest: Store
) -> None:
    before = field.seen()
    field.attacker.store(replace(mallorys(expires_at=time.time() + 3000.0), in_cache=True))
    assert field.seen() == before


LIES: dict[str, Callable[[Store], bytes]] = {
    "nothing, for ever": lambda _: whole([]),
    "one record, for ever": lambda _: whole([(MALLORY.peer_id, mallorys(1).value, mallorys(1).expires_at)]),
    "a size that is text": lambda _: whole([], maxsize="x"),
    "a size of one": lambda it: whole([(msgpack.unpackb(it.subkey), it.value, it.expires_at)], maxsize=1),
    "a size that is no number": lambda _: whole([], maxsize=math.nan),
    "forged records": lambda it: whole([(msgpack.unpackb(it.subkey), it.value[:-1] + b"x", it.expires_at)]),
    "records of anything": lambda it: whole([(msgpack.unpackb(it.subkey), [1], it.expires_at)]),
    "a bomb": lambda _: bomb(),
    "no dictionary": lambda _: msgpack.packb(5),
    "no msgpack": lambda _: b"\xc1",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_lies_when_asked_hides_nobodys_records(field: Field, honest: Store, lie: str) -> None:
    before = field.seen()
    field.attacker.answer(key_id(), LIES[lie](honest))
    for _ in range(3):
        began = time.monotonic()
        assert without_mallory(field.seen()) == without_mallory(before)
        assert time.monotonic() - began < 8.0
    field.unharmed()
