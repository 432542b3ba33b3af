"""Names for people: they stay what they are, and are fit to be read out."""

from __future__ import annotations

import re

from paceline.core import nicknames
from paceline.core.nicknames import nickname
from tests.core.history import peers


def test_nicknames_are_what_they_were() -> None:
    # People know their peers by these names: no word may ever be added, removed or moved.
    assert {key.peer_id[-6:]: nickname(key.peer_id) for key in peers(4)} == {
        "x6nXTN": "proud-mustang",
        "2NASuq": "minty-whimbrel",
        "SUKPH5": "famous-coyote",
        "3ANaba": "rosy-wallaby",
    }


def test_there_are_more_nicknames_than_swarms_have_peers() -> None:
    words = nicknames._ADJECTIVES, nicknames._NOUNS
    assert all(len(set(some)) == len(some) >= 128 for some in words)
    assert not set(words[0]) & set(words[1])
    assert all(re.fullmatch("[a-z]{3,13}", word) for some in words for word in some)
    assert len({nickname(key.peer_id) for key in peers(250)}) > 240


def test_any_text_has_a_nickname() -> None:
    for text in ("", "\udcff", "x" * 100_000, "\x00<b>"):
        assert re.fullmatch("[a-z]+-[a-z]+", nickname(text))
