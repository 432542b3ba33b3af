"""A peer writes down with whom it was connected, and finds its swarm by that when no seed is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.network.dht import PeerDht
from paceline.network.neighbours import MOST, keep_neighbours, recall_neighbours

LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]
ID = "12D3KooWRaMvwBz4Nh2R8wvU2qPQhgSvu2jzbVstRXVfH2KtcyDV"
OTHER = "12D3KooWCYCMo3Uj4N9CvhZSS9G9rYG2bJ1CAspfAN11YzAR2DmE"


def address(port: int) -> str:
    return f"/ip4/127.0.0.1/tcp/{port}/p2p/{ID}"


def test_what_is_kept_is_recalled(tmp_path: Path) -> None:
    path = tmp_path / "neighbours.json"
    keep_neighbours(path, [address(2), address(1)])
    assert recall_neighbours(path) == (address(1), address(2))


def test_being_alone_does_not_erase_better_days(tmp_path: Path) -> None:
    path = tmp_path / "neighbours.json"
    keep_neighbours(path, [address(1)])
    keep_neighbours(path, [])
    assert recall_neighbours(path) == (address(1),)


def test_a_crowd_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "neighbours.json"
    keep_neighbours(path, [address(port) for port in range(1, 200)])
    assert len(recall_neighbours(path)) == MOST


def test_a_crowd_displaces_no_member(tmp_path: Path) -> None:
    path = tmp_path / "neighbours.json"
    member = f"/ip4/9.9.9.9/tcp/1/p2p/{ID}"
    crowd = [f"/ip4/1.1.1.1/tcp/{port}/p2p/{OTHER}" for port in range(1, 200)]
    keep_neighbours(path, [*crowd, member], members=[ID])
    assert recall_neighbours(path)[0] == member


@pytest.mark.parametrize("content", ["", "{", "7", "[1, null]", '["x", "/ip4/1.2.3.4/tcp/5"]', "\ud800"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "neighbours.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    assert recall_neighbours(path) == ()


@pytest.mark.live
def test_those_who_were_met_through_a_seed_are_found_without_it() -> None:
    with PeerDht(host_maddrs=LOOPBACK) as seed:
        address_of_seed = [str(maddr) for maddr in seed.get_visible_maddrs()]
        with PeerDht(address_of_seed, host_maddrs=LOOPBACK) as one:
            with PeerDht(address_of_seed, host_maddrs=LOOPBACK) as two:
                assert two.store("key", "value", 4e9)
                met = two.neighbours()
            assert str(one.peer_id) in " ".join(met)
            seed.shutdown()
            with PeerDht([*address_of_seed, *met], host_maddrs=LOOPBACK) as again:
                assert again.get("key", latest=True).value == "value"
