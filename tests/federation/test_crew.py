"""Claims about what a coordinator knows of a swarm's peers."""

from __future__ import annotations

from paceline.core.events import Evaluated, PeerStarted, PeerStopped, RoundCommitted, StateFetched
from paceline.federation.crew import Crew

NAMES = ("peer-1", "peer-2", "peer-10")


def started(name: str) -> PeerStarted:
    return PeerStarted(
        peer_id=f"id of {name}",
        run_id="run",
        multiaddrs=(f"/ip4/127.0.0.1/tcp/4000/p2p/{name}",),
        metrics_address="127.0.0.1:9",
        round_id=1,
        parameters=1000,
        device="cpu",
    )


def committed(round_id: int) -> RoundCommitted:
    return RoundCommitted(round_id=round_id, loss=1.0, members=3, digest="0a" * 32, sync_s=0.1)


def fetched(round_id: int) -> StateFetched:
    return StateFetched(round_id=round_id, size_bytes=8000, seconds=1.0, donors=("id of peer-1",))


def crew_of(*names: str) -> Crew:
    crew = Crew(NAMES)
    for name in names:
        crew.take(name, started(name))
    return crew


def test_nodes_are_the_peers_that_have_been_up_in_their_order() -> None:
    crew = crew_of("peer-10", "peer-2")
    assert [node.node_id for node in crew.nodes()] == ["id of peer-2", "id of peer-10"]
    node = crew.nodes()[0]
    assert node.address == "/ip4/127.0.0.1/tcp/4000/p2p/peer-2"
    assert node.status == "training"
    assert node.capabilities == {
        "name": "peer-2",
        "device": "cpu",
        "parameters": 1000,
        "metrics_address": "127.0.0.1:9",
    }
    assert crew.missing() == ["peer-1"]


def test_who_committed_a_round_or_fetched_a_later_state_has_arrived() -> None:
    crew = crew_of(*NAMES)
    ids = [crew.node_id(name) for name in NAMES]
    crew.take("peer-1", committed(3))
    crew.take("peer-2", fetched(5))
    crew.take("peer-10", committed(2))
    assert crew.away(ids, 3) == ["id of peer-10"]
    assert crew.away(ids[:2], 3) == []
    assert crew.away(["a stranger"], 3) == []


def test_who_is_gone_for_good_is_told_and_not_waited_for() -> None:
    crew = crew_of(*NAMES)
    ids = [crew.node_id(name) for name in NAMES]
    crew.end("peer-1", "killed by SIGKILL")
    crew.take("peer-2", PeerStopped(round_id=2, cause="finished"))
    crew.end("peer-2", "")
    crew.take("peer-10", PeerStopped(round_id=2, cause="an error"))  # its supervisor starts it again
    assert crew.away(ids, 1) == ["id of peer-10"]
    assert crew.ended() == {"id of peer-1": "killed by SIGKILL", "id of peer-2": ""}
    assert [node.status for node in crew.nodes()] == ["failed", "done", "training"]
    assert not crew.all_ended()
    crew.end("peer-10", "no space left")
    assert crew.all_ended()


def test_who_is_started_again_by_hand_counts_again() -> None:
    crew = crew_of(*NAMES)
    crew.end("peer-1", "killed by SIGKILL")
    crew.take("peer-1", started("peer-1"))
    assert crew.ended() == {}
    assert crew.away(["id of peer-1"], 1) == ["id of peer-1"]


def test_a_peer_that_ends_before_it_was_up_is_named_with_its_reason() -> None:
    crew = crew_of("peer-1")
    assert crew.stillborn() == ""
    crew.end("peer-2", "no such device")
    assert crew.stillborn() == "peer-2 ended: no such device"


def test_an_evaluation_is_awaited_only_where_there_will_be_one() -> None:
    crew = crew_of(*NAMES)
    assert not crew.awaits_evaluation(1)  # nobody measured the beginning: nobody measures
    crew.take("peer-1", Evaluated(round_id=0, val_loss=5.5))
    crew.take("peer-2", Evaluated(round_id=0, val_loss=5.6))
    assert crew.val_losses == {0: 5.5}
    assert crew.awaits_evaluation(1)
    crew.take("peer-2", Evaluated(round_id=1, val_loss=4.5))
    assert not crew.awaits_evaluation(1)
    for name in NAMES:
        crew.end(name, "")
    assert not crew.awaits_evaluation(2)
