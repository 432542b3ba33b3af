"""Claims about how peers are spelled for people, and found again by what people type."""

from __future__ import annotations

import pytest

from paceline.core.nicknames import matching, named, nickname
from paceline.core.signing import short
from tests.core.history import peers

IDS = [key.peer_id for key in peers(40)]
ONE = IDS[0]


def test_a_peer_is_named_by_its_nickname_and_its_short_id() -> None:
    assert named(ONE) == f"{nickname(ONE)} {short(ONE)}"
    assert named("") == ""


@pytest.mark.parametrize(
    "text", [ONE, short(ONE), nickname(ONE), named(ONE), f"  {named(ONE)} ", ONE[:16], nickname(ONE)[:-2]]
)
def test_a_peer_is_found_by_whatever_names_it(text: str) -> None:
    others = [peer for peer in IDS[1:] if not peer.startswith(ONE[:16])]
    assert matching(text, [*others, ONE, ONE]) == [ONE]


def test_what_several_peers_begin_with_finds_them_all_and_nothing_finds_none() -> None:
    assert matching("12D3KooW", IDS) == sorted(IDS)
    assert matching("", IDS) == []
    assert matching("nobody-here", IDS) == []


def test_an_exact_name_wins_over_those_that_begin_with_it() -> None:
    assert matching("ab", ["ab", "abc"]) == ["ab"]
