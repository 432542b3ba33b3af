"""The page in a real browser, over a made-up run: what it shows, and that it can be used by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.core.nicknames import nickname
from paceline.watch.picture import Picture
from paceline.web.app import Observatory
from paceline.web.report import report
from paceline.web.server import WebServer
from tests.web.browsing import PHONE, WIDE, Visit, Visitor, needs_chromium
from tests.web.made_up import BEGIN, MadeUpRun, MadeUpSource

pytestmark = needs_chromium
MIDDLE = BEGIN + 1154.0
"""Round 23 is reduced; a peer is lost, and round 22 took two attempts."""
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    """A live run that stands still in the middle."""
    with WebServer("127.0.0.1", 0, Observatory(MadeUpSource(MadeUpRun(), MIDDLE))) as server:
        yield f"http://{server.address}"


@pytest.fixture(scope="module")
def over() -> Iterator[str]:
    """A replay of the whole run."""
    with WebServer("127.0.0.1", 0, Observatory(MadeUpSource(MadeUpRun()))) as server:
        yield f"http://{server.address}"


def test_every_part_of_the_page_shows_what_the_picture_says(live: str, visit: Visitor) -> None:
    seen, run = visit().open(live), MadeUpRun()
    picture = run.picture(MIDDLE)
    assert seen.text("#run") == picture.run_id
    assert seen.text("#verdict-word") == "Learning"
    assert seen.text("#verdict-detail").startswith("validation loss 1.787, down ")
    assert seen.text("[data-stat=round] .number") == "23"
    assert seen.text("[data-stat=peers] .value") == "7 1 lost"
    assert sorted(seen.texts("#peers-body .name b")) == sorted(peer.nickname for peer in picture.peers)
    assert seen.text("#peers-body [data-front] b") == nickname(run.heir)
    assert seen.page.locator("#losses-plot canvas").count() == 1
    assert seen.text("#losses-title") == "Loss per round in nats per token"
    assert seen.text("[data-stat=loss] .unit") == "nats/token"
    assert seen.text("#losses-readout").startswith("round 22 · mean 1.805 · validation 1.787 · peers ")
    assert seen.page.locator(".lane").count() == len(picture.peers)
    for phase in ("train", "wait", "reduce", "attest", "apply", "lost"):
        assert seen.page.locator(f"#lanes .phase-{phase}").count() > 0, phase
    assert seen.page.locator("#ring .node").count() == len(picture.peers)
    assert seen.text("#ring .centre") == nickname(run.heir)
    assert seen.text("#traffic-ratio") == "480 times less than data-parallel training"
    assert seen.texts("#chain summary code")[1] == f"digest {picture.rounds[-2].digest[:10]}"
    assert run.cause in seen.text("#chain .voids li")
    assert seen.complaints == []
    assert seen.elsewhere(live) == []


def test_a_lost_peer_is_seen_to_be_lost_wherever_it_is_shown(live: str, visit: Visitor) -> None:
    seen, lost = visit().open(live), MadeUpRun().front
    assert seen.text(f"tr[data-peer='{lost}'] .pill") == "lost"
    for place in (f"tr[data-peer='{lost}'][data-standing=lost]", f".lane[data-peer='{lost}'][data-lost]"):
        assert seen.page.locator(place).count() == 1
    assert seen.page.locator(f".node[data-peer='{lost}'][data-standing=lost]").count() == 1
    assert seen.text("#advice").startswith(f"Lost: {nickname(lost)}, silent for ")
    seen.until("document.getElementById('said').textContent.includes('Lost: ')")


class Nobody(MadeUpSource):
    """A watch that has just begun, and found nobody."""

    def picture(self, at: float | None = None, rounds: int | None = None) -> Picture:
        last = super().picture(at, rounds)
        kept = last.model_dump(
            include={"run_id", "at", "is_live", "rounds_planned", "inner_steps", "lease_s"}
        )
        return Picture(**kept, tokens_per_sample=8, parameters=8)


def test_a_watch_that_has_seen_nothing_says_so_everywhere(visit: Visitor) -> None:
    with WebServer("127.0.0.1", 0, Observatory(Nobody(MadeUpRun(), BEGIN + 1.0))) as server:
        seen = visit().open(f"http://{server.address}")
        assert seen.text("#verdict-word") == "Looking for peers"
        for part in ("losses", "peers", "chain"):
            assert seen.page.locator(f"#{part}-none").is_visible()
        assert seen.text("#ring .centre") == "nobody is here"
        assert seen.text("#traffic-ratio") == "Nothing to compare yet"
        assert seen.complaints == []


def test_forty_peers_fit_as_well_as_four(visit: Visitor) -> None:
    with WebServer("127.0.0.1", 0, Observatory(MadeUpSource(MadeUpRun(num_peers=40), MIDDLE))) as server:
        for size in (PHONE, WIDE):
            seen = visit(size).open(f"http://{server.address}")
            assert seen.page.locator(".lane").count() == seen.page.locator("#ring .node").count() == 40
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= size[0]
            assert seen.complaints == []


def test_the_page_moves_when_the_swarm_does(visit: Visitor) -> None:
    source = MadeUpSource(MadeUpRun(), MIDDLE)
    with WebServer("127.0.0.1", 0, Observatory(source)) as server:
        seen = visit().open(f"http://{server.address}")
        assert seen.text("[data-stat=round] .number") == "23"
        source.tell(MIDDLE + 20)
        seen.until("document.querySelector('[data-stat=round] .number').textContent === '24'")
        assert seen.complaints == []


def test_text_that_came_from_peers_stays_text(visit: Visitor, tmp_path: Path) -> None:
    source = MadeUpSource(MadeUpRun(cause=HOSTILE), MIDDLE)
    saved = tmp_path / "report.html"
    saved.write_text(report(source))
    with WebServer("127.0.0.1", 0, Observatory(source)) as server:
        for address in (f"http://{server.address}", saved.as_uri()):
            seen = visit().open(address)
            assert HOSTILE in seen.text("#chain .voids li")
            assert seen.page.locator("img").count() == 0
            assert seen.page.evaluate("window.hacked") is None
            assert seen.complaints == []


def order(seen: Visit, column: str) -> list[str]:
    return seen.texts(f"#peers-body [data-column={column}]")


def test_the_table_is_sorted_with_the_keyboard_alone(live: str, visit: Visitor) -> None:
    seen = visit().open(live)
    heading = "#peers-head [data-column=credits]"
    at = f"document.activeElement.closest('{heading}') !== null"
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate(at):
            break
    assert seen.page.evaluate(at), "no number of tabs leads to the heading"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert seen.page.evaluate(outline) == "solid"
    seen.page.keyboard.press("Enter")
    assert seen.page.get_attribute(heading, "aria-sort") == "descending"
    falling = [int(text.replace(",", "")) for text in order(seen, "credits")]
    assert falling == sorted(falling, reverse=True)
    seen.page.keyboard.press("Space")
    assert seen.page.get_attribute(heading, "aria-sort") == "ascending"
    assert [int(text.replace(",", "")) for text in order(seen, "credits")] == sorted(falling)


def test_what_is_unknown_is_sorted_last_both_ways(live: str, visit: Visitor) -> None:
    seen = visit().open(live)
    for _ in range(2):
        seen.page.click("#peers-head [data-column=speed] button")
        assert order(seen, "speed")[-1] == "–"  # of a lost peer nobody knows a speed


def test_the_losses_are_read_with_the_arrow_keys(live: str, visit: Visitor) -> None:
    seen = visit().open(live)
    seen.page.focus("#losses-plot")
    for key, said in (("ArrowLeft", "round 21 "), ("ArrowLeft", "round 20 "), ("Home", "round 1 ")):
        seen.page.keyboard.press(key)
        assert seen.text("#losses-readout").startswith(said)
        assert (seen.page.get_attribute("#losses-plot", "aria-valuetext") or "").startswith(said)
    seen.page.click("#losses-numbers summary")
    assert seen.page.locator("#losses-numbers tbody tr").count() == 22


def test_a_node_is_marked_as_ones_own_and_stays_so(live: str, visit: Visitor) -> None:
    seen, mine = visit().open(live), MadeUpRun().peers[3]
    seen.page.click(f"tr[data-peer='{mine}'] .star")
    for _ in range(2):
        note = f"{nickname(mine)} · reduce · in 10 of the last 10 rounds"
        assert seen.text("[data-stat=mine] .note") == note
        assert seen.page.get_attribute(f"tr[data-peer='{mine}'] .star", "aria-pressed") == "true"
        seen.open(live)


def test_the_theme_follows_the_system_until_it_is_chosen(live: str, visit: Visitor) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = visit(color_scheme="dark").open(live)
    dark = seen.page.evaluate(ground)
    seen.page.emulate_media(color_scheme="light")
    seen.until(f"(dark) => {ground} !== dark", dark)
    seen.page.get_by_role("button", name="Switch to the dark theme").press("Enter")
    assert seen.page.evaluate(ground) == dark
    seen.open(live)
    assert seen.page.evaluate(ground) == dark
    assert seen.page.get_by_role("button", name="Switch to the light theme").is_visible()


@pytest.mark.parametrize("width", [320, 360, 600, 820, 1100, 1440, 1720, 2560])
def test_nothing_is_wider_than_the_screen(live: str, visit: Visitor, width: int) -> None:
    seen = visit((width, 900)).open(live)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = "[...document.querySelectorAll('.fit, .chain, .traffic')]"
    assert max(seen.page.evaluate(f"{boxes}.map((box) => box.scrollWidth - box.clientWidth)")) <= 1


def test_everything_has_a_name_for_those_who_listen(live: str, visit: Visitor) -> None:
    page = visit().open(live).page
    assert page.get_by_role("banner").count() == page.get_by_role("main").count() == 1
    for name in (
        "Loss per round in nats per token",
        "Where the time goes",
        "Peers",
        "The ring",
        "Bytes sent",
        "The chain",
    ):
        assert page.get_by_role("region", name=name, exact=True).count() == 1, name
    table = page.get_by_role("table", name="Peers")
    assert table.get_by_role("row").count() == 9
    cells = table.get_by_role("row").nth(1).locator("th, td")
    assert table.get_by_role("columnheader").count() == cells.count()
    assert page.get_by_role("img", name="Ring of 8 peers; copper-hoopoe is at the front").count() == 1
    assert page.get_by_role("img", name="astral-elk: train ").count() == 1
    nameless = """[...document.querySelectorAll('button, input, select, [role=img], [tabindex="0"]')].filter(
        (one) => !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length)"""
    assert page.evaluate(f"{nameless}.map((one) => one.outerHTML)") == []


def test_a_table_on_a_phone_is_still_a_table_for_those_who_listen(live: str, visit: Visitor) -> None:
    page = visit(PHONE).open(live).page
    table = page.get_by_role("table", name="Peers")
    assert table.get_by_role("row").count() == 9
    assert table.get_by_role("columnheader").count() == 11


def test_whoever_asks_for_less_motion_gets_none(live: str, visit: Visitor) -> None:
    moving = """[...document.querySelectorAll('*')].some(
        (one) => parseFloat(getComputedStyle(one).transitionDuration) > 0)"""
    assert visit(WIDE).open(live).page.evaluate(moving)
    assert not visit(WIDE, reduced_motion="reduce").open(live).page.evaluate(moving)


RATIO = """([one, other]) => {
  const light = (colour) => {
    const probe = document.createElement("i");
    probe.style.color = colour;
    document.body.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    const even = (x) => (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = parts.map((x) => even(x / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [light(`var(${one})`), light(`var(${other})`)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
TEXTS = ("ink", "muted", "accent", "good", "watch", "bad")
SHAPES = ("mean", "val", "train", "wait", "reduce", "attest", "apply", "repair", "lost", "leave", "finished")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_colour_stands_out_from_its_ground(live: str, visit: Visitor, theme: str) -> None:
    page = visit(color_scheme=theme).open(live).page
    pairs = [(text, ground, 4.5) for text in TEXTS for ground in ("panel", "page")]
    pairs += [("ink", ground, 4.5) for ground in ("sunk", "bad-wash", "mine-wash")]
    pairs += [("muted", ground, 4.5) for ground in ("sunk", "bad-wash", "mine-wash")]
    pairs += [("bad", "bad-wash", 4.5), ("on-jersey", "jersey", 4.5)]
    pairs += [(shape, "panel", 3.0) for shape in SHAPES]
    weak = {
        f"{front} on {ground}": round(found, 2)
        for front, ground, least in pairs
        if (found := page.evaluate(RATIO, [f"--{front}", f"--{ground}"])) < least
    }
    assert weak == {}


def test_a_replay_goes_to_where_its_slider_is_put(over: str, visit: Visitor) -> None:
    seen = visit().open(over)
    assert seen.text("#verdict-word") == "Finished"
    slider = seen.page.get_by_role("slider", name="Moment of the run")
    slider.focus()
    slider.press("Home")
    seen.until("document.querySelector('[data-stat=round] .number').textContent === '1'")
    assert seen.text("#verdict-word") == "On the first round"
    for _ in range(5):
        slider.press("PageUp")
    seen.until("Number(document.querySelector('[data-stat=round] .number').textContent) > 15")
    assert (slider.get_attribute("aria-valuetext") or "").endswith("committed")
    seen.page.get_by_role("button", name="Play").press("Enter")
    before = float(seen.page.input_value("#slider"))
    seen.until("(before) => Number(document.getElementById('slider').value) > before", before)
    seen.page.get_by_role("button", name="Pause").press("Enter")
    assert seen.complaints == []
    assert seen.elsewhere(over) == []


def test_a_saved_report_needs_nothing_but_itself(visit: Visitor, tmp_path: Path) -> None:
    saved, source = tmp_path / "report.html", MadeUpSource(MadeUpRun())
    saved.write_text(report(source))
    seen = visit().open(saved.as_uri())
    assert seen.text("#verdict-word") == "Finished"
    slider = seen.page.get_by_role("slider", name="Round of the run")
    slider.press("Home")
    seen.until("document.querySelector('[data-stat=round] .number').textContent === '2'")
    slider.press("End")
    for _ in range(17):
        slider.press("ArrowLeft")
    seen.until("document.querySelector('[data-stat=round] .number').textContent === '24'")
    assert seen.text(f"tr[data-peer='{source.made_up.front}'] .pill") == "lost"
    assert seen.page.locator("#lanes .phase-train").count() > 0
    assert [url for url in seen.requests if not url.startswith("data:")] == [saved.as_uri()]
    assert seen.complaints == []


def test_a_page_that_is_cut_off_says_so_and_finds_back(visit: Visitor) -> None:
    source = MadeUpSource(MadeUpRun(), MIDDLE)
    with WebServer("127.0.0.1", 0, Observatory(source)) as server:
        seen = visit().open(f"http://{server.address}")
        port = int(server.address.rpartition(":")[2])
    seen.until("'stale' in document.body.dataset")
    seen.until("document.getElementById('verdict-word').textContent === 'No word from the monitor'")
    assert seen.text("#link-words").startswith(("cut off: next try in ", "connecting again"))
    with WebServer("127.0.0.1", port, Observatory(source)):
        seen.until("!('stale' in document.body.dataset)")
        seen.until("document.getElementById('verdict-word').textContent === 'Learning'")
        assert seen.text("#link-words") == "live"
