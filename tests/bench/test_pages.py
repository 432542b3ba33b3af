"""What stands in docs/performance.md, and its pictures, follow from the JSON files alone."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import pages, plots
from tests.bench.documents import Document
from tests.bench.timing import Comparison

HEAD: Document = {
    "command": "scripts/bench x",
    "measured_at": "2026-01-02T03:04:05+00:00",
    "machine": "Linux, 2 cores",
    "python": "3.11.1",
    "torch": "2.13.0",
    "load": 1.5,
}


def compared(benchmark: str, *comparisons: Comparison) -> Document:
    return HEAD | {"benchmark": benchmark, "comparisons": [each.as_json() for each in comparisons]}


SYNC = compared(
    "sync",
    Comparison("ours int8, wall", [1.0], [4.0], "hivemind fp32", 0.2),
    Comparison("ours int8, bytes on the wire", [2.4e8], [9.6e8], "hivemind fp32", unit="MB"),
    Comparison("gloo fp32, wall", [0.5], [4.0], "hivemind fp32"),
)
SCALE = HEAD | {
    "benchmark": "scale",
    "real": [
        {
            "peers": 2,
            "start_s": 9.0,
            "rounds_s": [1.0, 9.0, 2.0],
            "calls": {
                "records written": 9.0,
                "looks": 5.0,
                "news": 5.0,
                "DHT stores": 18.0,
                "DHT finds": 40.0,
            },
            "cpu_s": 0.25,
            "wire_bytes": 170_000.0,
            "pss_bytes": 3e8,
            "latency_s": {"store": [0.01, 0.03], "get": [0.02], "look": [0.04], "lost": [0.02]},
        }
    ],
    "simulated": [
        {
            "peers": 1000,
            "members": 64,
            "turns": 512,
            "round_s": 4.25,
            "posts": 8.0,
            "reads": 12.0,
            "news": 4321.0,
            "read_kb": 9876.0,
            "fetches": 936.0,
            "took_s": 20.0,
        }
    ],
    "problems": [{"peers": 32, "cause": "left out: needs some 16 GB of memory", "failed": False}],
}
TRAIN = HEAD | {
    "benchmark": "train",
    "markdown": "| a table |",
    "rows": [
        {
            "name": "one-process-adamw",
            "method": "one process",
            "inner": "adamw",
            "inner_steps": 1,
            "codec": None,
            "own_outer_step": True,
            "loss": 1.8,
            "sent_bytes": 577e6,
            "seeds": 3,
        },
        {
            "name": "ours-adamw-h30-int8",
            "method": "ours",
            "inner": "adamw",
            "inner_steps": 30,
            "codec": "int8",
            "own_outer_step": True,
            "loss": 1.9,
            "sent_bytes": 4.8e6,
            "seeds": 3,
        },
    ],
}
DRAWN = {"sync": SYNC, "scale": SCALE, "train": TRAIN}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_table_stands_under_the_command_that_makes_it_and_says_where_and_when() -> None:
    text = pages.page(compared("start", Comparison("import paceline", [0.03], [0.02], "python -c pass")))
    lines = text.splitlines()
    assert lines[:3] == ["```", "scripts/bench x", "```"]
    assert lines[4] == "2026-01-02, Linux, 2 cores, Python 3.11.1, torch 2.13.0; load 1.5 at the end:"
    assert cells(lines[8]) == ["import paceline", "30 ms", "python -c pass", "20 ms", "1.50", ""]


def test_what_was_moved_is_told_as_a_rate_for_both() -> None:
    moved = Comparison("fetch", [0.5], [0.25], "plain TCP", size_bytes=100_000_000)
    assert cells(pages.markdown(compared("start", moved)).splitlines()[2])[1:4] == [
        "500 ms (200 MB/s)",
        "plain TCP",
        "250 ms (400 MB/s)",
    ]


def test_an_all_reduce_has_a_line_per_contender_and_the_reference_in_the_last() -> None:
    table = [cells(line) for line in pages.markdown(SYNC).splitlines()]
    assert table[0][1:] == ["wall", "bytes on the wire"]
    assert table[2] == ["ours int8", "1.00 s (0.25, **missed**)", "240 MB (0.25)"]
    assert table[3] == ["gloo fp32", "500 ms (0.12)", "–"]
    assert table[4] == ["hivemind fp32", "4.00 s", "960 MB"]


def test_a_swarm_s_line_has_medians_and_what_is_missing_is_named() -> None:
    lines = pages.markdown(SCALE).splitlines()
    assert cells(lines[2]) == [
        *("2", "2.00", "0.25", "170", "9.0", "5.0", "5.0", "18.0", "40.0", "300"),
        *("10 / 30", "20 / 20", "40 / 40"),
    ]
    assert lines[4] == "- 32 peers: left out: needs some 16 GB of memory"
    assert lines[5] == "- 2 peers: 1 of 1 records were not there right after they were stored"
    assert cells(lines[-1]) == ["1,000", "64", "4.25", "8.0", "12.0", "4,321", "9,876", "936"]


def test_without_a_network_of_our_own_bytes_are_not_made_up() -> None:
    (cost,) = SCALE["real"]
    line = pages.markdown(SCALE | {"real": [cost | {"wire_bytes": None, "latency_s": {}}]}).splitlines()[2]
    assert cells(line)[3] == "–"
    assert cells(line)[-3:] == ["–"] * 3


@pytest.mark.parametrize("name", plots.PLOTS)
def test_the_same_figures_give_the_same_picture_and_others_another(name: str, tmp_path: Path) -> None:
    one, again, other = (tmp_path / f"{number}.svg" for number in range(3))
    plots.draw(DRAWN[name], one)
    plots.draw(DRAWN[name], again)
    assert one.read_bytes() == again.read_bytes()
    changed = {
        "sync": compared("sync", Comparison("ours int8, wall", [2.0], [4.0], "hivemind fp32")),
        "scale": SCALE | {"real": []},
        "train": TRAIN | {"rows": TRAIN["rows"][:1]},
    }
    plots.draw(changed[name], other)
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_picture_is_svg_whose_text_is_text(name: str, tmp_path: Path) -> None:
    plots.draw(DRAWN[name], tmp_path / "plot.svg")
    tree = ElementTree.parse(tmp_path / "plot.svg")
    words = {element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    expected = {"sync": "CPU", "scale": "seconds per round", "train": "int8, H 30"}
    assert expected[name] in words
