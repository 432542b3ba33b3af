"""A watch over a swarm that trains: rounds go by, a peer dies, the monitor is started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.core.events import CreditsCounted
from paceline.peer.settings import load_handout
from paceline.watch.picture import PeerView
from paceline.watch.replay import Replay
from paceline.watch.watcher import Watcher
from tests.live.swarms import live_swarm, small_run

pytestmark = pytest.mark.live
LOST_WITHIN_S = 15.0


def test_a_watch_sees_a_swarm_train_a_peer_die_and_its_own_restart(tmp_path: Path) -> None:
    path = tmp_path / "watch.sqlite"
    with live_swarm(tmp_path / "run", small_run(rounds=1000, inner_steps=15), peers=3) as swarm:
        swarm.until(lambda: all(swarm.height(name) >= 2 for name in swarm.states))
        ids = {name: swarm.peer_id(name) for name in swarm.states}
        handout = load_handout(swarm.folder.handout)
        with Watcher(handout, path) as watcher:

            def view(name: str) -> PeerView | None:
                return next((p for p in watcher.picture().peers if p.peer_id == ids[name]), None)

            # It began late, and knows the whole chain all the same.
            swarm.until(lambda: [v.round_id for v in watcher.picture().rounds][:2] == [1, 2])
            height = watcher.picture().rounds_committed
            swarm.until(lambda: watcher.picture().rounds_committed >= height + 2)
            picture = watcher.picture()
            assert [v.round_id for v in picture.rounds[:height]] == list(range(1, height + 1))
            assert picture.coordinator in ids.values()
            swarm.until(lambda: (p := watcher.picture()).data_parallel_bytes > p.bytes_sent > 0)
            swarm.until(lambda: {span.standing for span in watcher.picture().spans} >= {"train", "wait"})
            swarm.until(lambda: all((v := view(name)) and v.is_reachable for name in swarm.states))
            swarm.until(lambda: _credits_agree(swarm.events("peer-1", CreditsCounted), view("peer-1")))

            swarm.kill("peer-2")
            swarm.until(lambda: (v := view("peer-2")) and v.standing == "lost")
            lost = view("peer-2")
            assert lost is not None
            assert lost.seen_s < LOST_WITHIN_S
            height = watcher.picture().rounds_committed
            swarm.until(lambda: watcher.picture().rounds_committed > height)
            before = watcher.picture(rounds=None)
        with Watcher(handout, path) as watcher:
            again = watcher.picture(rounds=None)
            known = [v.digest for v in before.rounds if v.committed_at is not None]
            assert [v.digest for v in again.rounds][: len(known)] == known
            assert again.bytes_sent >= before.bytes_sent
            swarm.until(lambda: watcher.picture().rounds_committed > before.rounds_committed)
            assert (v := view("peer-2")) is None or v.standing == "lost"
    # And the folder that the run has left tells the same story.
    replay = Replay.open(swarm.folder.path)
    played = [v.digest for v in replay.picture(rounds=None).rounds]
    assert played[: len(known)] == known
    assert {span.standing for span in replay.picture().spans} >= {"train", "reduce", "attest"}


def _credits_agree(counted: list[CreditsCounted], shown: PeerView | None) -> bool:
    return shown is not None and shown.credits in {event.balance for event in counted[-2:]}
