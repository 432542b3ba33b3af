"""The page in a real browser, over a real swarm that `paceline observe` watches."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.core.signing import short
from paceline.peer.child import Child
from tests.live.swarms import COMMAND, LiveSwarm, live_swarm, small_run
from tests.web.browsing import Visit, Visitor, needs_chromium

pytestmark = [pytest.mark.live, needs_chromium]
PATIENCE_MS = 240_000.0
LOST_WITHIN_S = 15.0


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSwarm]:
    """Four peers, unsupervised, with many rounds before them."""
    with live_swarm(tmp_path_factory.mktemp("page"), small_run(rounds=1000), peers=4) as running:
        yield running


@pytest.fixture(scope="module")
def address(swarm: LiveSwarm) -> Iterator[str]:
    """Where `paceline observe` says that its page is."""
    output = swarm.folder.path / "observe.txt"
    command = [*COMMAND, "observe", str(swarm.folder.handout), "--port", "0"]
    observer = Child("observe", command, output)
    try:
        swarm.until(lambda: observer.exit_code() is not None or "http://" in output.read_text())
        found = re.search(r"^page +(http://[^/\s]+)/$", output.read_text(), re.MULTILINE)
        assert found, output.read_text()
        yield found[1]
        observer.ask_to_leave()
        assert observer.wait(timeout_s=60)
        assert observer.exit_code() == 0, output.read_text()
    finally:
        observer.kill()


def round_shown(seen: Visit) -> int:
    return int(seen.text("[data-stat=round] .number").replace(",", ""))


def test_a_live_swarm_is_seen_to_move_and_a_killed_peer_to_be_lost(
    swarm: LiveSwarm, address: str, visit: Visitor
) -> None:
    seen = visit().open(address)
    assert seen.text("#run") == swarm.run.run_id
    seen.until("document.querySelectorAll('#peers-body tr').length === 4", limit_ms=PATIENCE_MS)
    first = round_shown(seen)
    advanced = (
        "(first) => Number(document.querySelector('[data-stat=round] .number').textContent) >= first + 2"
    )
    seen.until(advanced, first, limit_ms=PATIENCE_MS)
    everybody = {short(swarm.peer_id(name)) for name in swarm.states}
    assert set(seen.texts("#peers-body .name code")) == everybody
    seen.until("document.querySelectorAll('#chain > li:not([data-open])').length >= 2", limit_ms=PATIENCE_MS)
    seen.until("document.querySelectorAll('#lanes .phase-train').length >= 4", limit_ms=PATIENCE_MS)
    assert seen.page.locator("#chain [data-broken]").count() == 0

    victim = next(name for name in swarm.states if name != swarm.coordinator())
    row = f"tr[data-peer='{swarm.peer_id(victim)}']"
    os.kill(swarm.main_pid(victim), signal.SIGKILL)
    killed = time.monotonic()
    lost = f"document.querySelector(\"{row}\").dataset.standing === 'lost'"
    seen.until(lost, limit_ms=LOST_WITHIN_S * 1000)
    print(f"the page showed the loss after {time.monotonic() - killed:.1f} s")
    assert seen.text(f"{row} .pill") == "lost"
    seen.until("document.getElementById('advice').textContent.startsWith('Lost: ')")

    after = round_shown(seen)
    seen.until(advanced, after, limit_ms=PATIENCE_MS)  # the others go on
    assert seen.text("#link-words") == "live"
    assert seen.complaints == []
    assert seen.elsewhere(address) == []


def test_what_was_seen_of_a_swarm_can_be_saved_as_a_page(
    swarm: LiveSwarm, address: str, visit: Visitor, tmp_path: Path
) -> None:
    seen = visit().open(address)
    seen.until("document.querySelectorAll('#chain > li:not([data-open])').length >= 2", limit_ms=PATIENCE_MS)
    saved = tmp_path / "report.html"
    writer = Child(
        "report", [*COMMAND, "report", str(swarm.folder.path), "-o", str(saved)], tmp_path / "report.txt"
    )
    assert writer.wait(timeout_s=240)
    assert writer.exit_code() == 0, (tmp_path / "report.txt").read_text()
    kept = visit().open(saved.as_uri())
    assert kept.text("#run") == swarm.run.run_id
    assert kept.page.locator("#chain > li").count() >= 2
    assert kept.page.locator("#lanes .phase-train").count() > 0
    assert kept.complaints == []
    assert [url for url in kept.requests if not url.startswith("data:")] == [saved.as_uri()]
