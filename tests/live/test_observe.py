"""A real swarm, a real observer beside it, and a real Prometheus that finds the peers through it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from paceline.core.nicknames import nickname
from paceline.core.signing import short
from paceline.watch.picture import Picture
from tests.live.swarms import COMMAND, LiveSwarm, live_swarm, small_run
from tests.web.prometheus import Prometheus, dashboard_queries, filled_in, needs_prometheus, prometheus_of

pytestmark = pytest.mark.live
PEERS = 4
QUERIES = dashboard_queries()


class Observer:
    """A running `paceline observe`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        self._client = httpx.Client(base_url=f"http://{address}", timeout=60, trust_env=False)

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def picture(self) -> Picture:
        return Picture.model_validate(self.get("/api/picture"))

    def leave(self) -> int:
        self._client.close()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=120)


@contextmanager
def observing(folder: Path, *arguments: str) -> Iterator[Observer]:
    """Run `paceline observe` until the end of the block."""
    output, told = folder / "observer.txt", folder / "observer-errors.txt"
    with output.open("w") as out, told.open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "observe", "--port", "0", *arguments], stdout=out, stderr=errors, text=True
        )
    try:
        while (found := re.search(r"^page +http://(.*)/$", output.read_text(), re.MULTILINE)) is None:
            with pytest.raises(subprocess.TimeoutExpired):  # or it has ended, and says why
                process.wait(timeout=0.2)
        yield Observer(process, found[1])
        assert "Traceback" not in told.read_text()
    finally:
        process.kill()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSwarm]:
    with live_swarm(tmp_path_factory.mktemp("observed"), small_run(rounds=100_000), PEERS) as running:
        running.until(lambda: all(running.height(name) >= 1 for name in running.states))
        yield running


@pytest.fixture(scope="module")
def observer(swarm: LiveSwarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observer]:
    folder = tmp_path_factory.mktemp("observer")
    history = str(folder / "watch.sqlite")
    with observing(folder, str(swarm.folder.handout), "--history", history) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(
    swarm: LiveSwarm, observer: Observer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus") / "run"
    with prometheus_of(observer.address, folder) as running:
        running.diagnosis = lambda: f"{observer.get('/api/picture')}\n{swarm.diagnosis()}"
        yield running


def scraped(prometheus: Prometheus) -> dict[str, str]:
    return {target["labels"]["peer_id"]: target["health"] for target in prometheus.targets("paceline-peers")}


@needs_prometheus
def test_prometheus_finds_every_peer_through_the_observer_and_scrapes_them_all(
    swarm: LiveSwarm, prometheus: Prometheus
) -> None:
    ids = {swarm.peer_id(name) for name in swarm.states}
    prometheus.until(lambda: scraped(prometheus) == dict.fromkeys(ids, "up"))
    for target in prometheus.targets("paceline-peers"):
        labels = target["labels"]
        assert labels["nickname"] == nickname(labels["peer_id"])
        assert labels["run_id"] == swarm.run.run_id
    prometheus.until(lambda: [whole["health"] for whole in prometheus.targets("paceline-observer")] == ["up"])
    prometheus.until(lambda: len(prometheus.query("paceline_commits_total >= 1")) == PEERS)
    prometheus.until(lambda: len(prometheus.query("paceline_swarm_peer_credits > 0")) == PEERS)
    (free,) = {each["value"][1] for each in prometheus.query("count(paceline_disk_free_bytes > 0)")}
    assert free == str(PEERS)


@needs_prometheus
@pytest.mark.parametrize("expression", QUERIES, ids=lambda text: text[:70])
def test_every_query_of_the_dashboard_finds_data(
    swarm: LiveSwarm, prometheus: Prometheus, expression: str
) -> None:
    asked = filled_in(expression, swarm.run.run_id)
    if "changes(paceline_swarm_term" in expression:
        prometheus.query(asked)  # valid; it marks what need not happen
    else:
        prometheus.until(lambda: prometheus.query(asked))


@needs_prometheus
def test_every_alert_can_be_evaluated(prometheus: Prometheus) -> None:
    def judged() -> dict[str, str]:
        groups = prometheus.ask("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    prometheus.until(lambda: "unknown" not in judged().values())
    assert set(judged().values()) == {"ok"}, judged()
    assert not prometheus.firing("PacelineObserverDown")


@needs_prometheus
def test_a_stalled_run_fires_its_alert_and_the_next_commit_clears_it(
    swarm: LiveSwarm, observer: Observer, prometheus: Prometheus
) -> None:
    prometheus.until(lambda: observer.picture().rounds_committed >= 3)
    prometheus.until(lambda: not prometheus.firing("PacelineStalled"))
    pids = [swarm.main_pid(name) for name in swarm.states]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        prometheus.until(lambda: prometheus.firing("PacelineStalled"))
        prometheus.until(lambda: observer.picture().notice.startswith("Nobody has been heard since"))
        assert {peer.standing for peer in observer.picture().peers} == {"lost"}
        prometheus.until(lambda: scraped(prometheus) == {})
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    height = observer.picture().rounds_committed
    prometheus.until(lambda: observer.picture().rounds_committed > height)
    prometheus.until(lambda: not prometheus.firing("PacelineStalled"))
    prometheus.until(lambda: len(scraped(prometheus)) == PEERS)
    assert observer.picture().notice == ""


def test_a_killed_peer_is_lost_and_no_longer_listed(swarm: LiveSwarm, observer: Observer) -> None:
    ids = {swarm.peer_id(name) for name in swarm.states}
    swarm.until(lambda: {group["labels"]["peer_id"] for group in observer.get("/sd")} == ids)
    name = next(iter(swarm.states))
    gone = swarm.peer_id(name)
    swarm.kill(name)
    swarm.until(lambda: standings(observer)[gone] == "lost")
    assert {group["labels"]["peer_id"] for group in observer.get("/sd")} == ids - {gone}
    height = observer.picture().rounds_committed
    swarm.until(lambda: observer.picture().rounds_committed > height)


def standings(observer: Observer) -> dict[str, str]:
    return {peer.peer_id: peer.standing for peer in observer.picture().peers}


def test_the_observer_tells_the_same_as_the_peers_do(swarm: LiveSwarm, observer: Observer) -> None:
    shown = observer.picture()
    assert shown.run_id == swarm.run.run_id
    assert shown.is_live
    logs = swarm.logs(*[name for name in swarm.states if standings(observer)[swarm.peer_id(name)] != "lost"])
    longest = max(logs.values(), key=lambda log: log.rounds)
    known = {view.round_id: view.digest for view in shown.rounds if view.committed_at is not None}
    if longest.rounds in known:
        assert known[longest.rounds] == longest.head_digest
    assert shown.rounds_committed >= longest.rounds - 1
    assert all(short(peer.peer_id) for peer in shown.peers)


def test_an_observer_leaves_in_order_and_goes_on_where_it_was(
    swarm: LiveSwarm, observer: Observer, tmp_path: Path
) -> None:
    before = observer.get("/api/span")
    assert observer.leave() == 0
    history = str(Path(str(observer.process.args[-1])))  # type: ignore[index]
    with observing(tmp_path, str(swarm.folder.handout), "--history", history) as again:
        swarm.until(lambda: again.get("/api/span")["rounds"] > before["rounds"])
        assert again.get("/api/span")["begin"] == before["begin"]
        assert again.leave() == 0
