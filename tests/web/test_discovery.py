"""Which addresses Prometheus is told: those that are proven, of peers that are here, and well-formed."""

from __future__ import annotations

import pytest

from paceline.web.discovery import target_groups
from tests.web.staged import HOSTILE, IDS, peer, picture


def targets(*peers: object, **fields: object) -> list[str]:
    return [target for group in target_groups(picture(peers=peers, **fields)) for target in group.targets]


def test_every_live_peer_is_a_group_with_its_names() -> None:
    first, *others = target_groups(picture(peers=(peer(0, is_coordinator=True), peer(1), peer(2))))
    assert first.targets == ("127.0.0.1:9100",)
    assert first.labels == {
        "run_id": "demo-1a2b3c4d",
        "peer_id": IDS[0],
        "nickname": "able-lark-0",
        "__meta_paceline_phase": "train",
        "__meta_paceline_coordinator": "true",
    }
    assert [group.labels["peer_id"] for group in others] == IDS[1:3]


def test_only_a_proven_address_is_listed() -> None:
    assert targets(peer(0, is_reachable=None), peer(1, is_reachable=False), peer(2)) == ["127.0.0.1:9102"]


@pytest.mark.parametrize("standing", ["lost", "leave", "finished"])
def test_who_is_gone_is_not_listed(standing: str) -> None:
    assert targets(peer(0, standing=standing)) == []


def test_nobody_lives_in_a_replay() -> None:
    assert targets(peer(0), is_live=False) == []


@pytest.mark.parametrize(
    "address",
    [
        "203.0.113.7:9100",
        "[2001:db8::7]:9100",
        "[::ffff:203.0.113.7]:1",
        "peer.example.org:65535",
        "localhost:80",
    ],
)
def test_a_host_and_a_port_are_listed_as_they_are(address: str) -> None:
    assert targets(peer(0, metrics_address=address)) == [address]


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            ":",
            "9100",
            "host",
            "host:",
            ":9100",
            "host:0",
            "host:65536",
            "host:99999",
            "host:-1",
            "host:٣",
        ),
        *("http://host:80", "host:80/metrics", "host:80?x", "a b:80", "host:80\n", "a,b:80", "u@host:80"),
        *(
            "2001:db8::7:9100",
            "[host]:80",
            "[]:80",
            "-host:80",
            "host.:80",
            "höst:80",
            HOSTILE,
            f"{HOSTILE}:80",
        ),
    ],
)
def test_a_target_that_is_no_plain_host_and_port_is_left_out(address: str) -> None:
    assert targets(peer(0, metrics_address=address), peer(1)) == ["127.0.0.1:9101"]
