"""`observe` and `report` on a log: what they refuse, in which words, and what they serve and write."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from paceline.core.config import Handout
from paceline.ledger import Ledger
from paceline.network.identity import hold, load_or_create
from paceline.peer.settings import save_handout
from tests.core.history import genesis_of, history, peers, run_of

KEYS = peers(3)
RUN = run_of(KEYS)
LINKS = history(RUN, KEYS, 4)
NOBODY = f"/ip4/127.0.0.1/tcp/1/p2p/{KEYS[0].peer_id}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a node's log in it, and some that are none."""
    with Ledger.open(tmp_path / "node" / "log.sqlite", RUN, genesis_of(RUN)) as ledger:
        for link in LINKS:
            ledger.append(link)
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.sqlite").write_bytes(os.urandom(5000))
    return tmp_path


def paceline(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, standard error."""
    command = [sys.executable, "-m", "paceline.cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@contextmanager
def observing(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `paceline observe` on a log, and wait for its address."""
    command = [sys.executable, "-m", "paceline.cli", "observe", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        told = ""
        for line in process.stdout:
            told += line
            if found := re.match(r"page +(http://.*/)$", line):
                yield process, found[1]
                return
        raise AssertionError(told)
    finally:
        process.kill()
        process.wait(timeout=60)
        process.stdout.close()


@pytest.mark.parametrize("command", ["observe", "report"])
@pytest.mark.parametrize(
    ("target", "code", "told"),
    [
        ("nowhere", 2, "error: nowhere: no such file or folder\ntry: check the path\n"),
        ("empty", 2, "error: empty holds no run log\ntry: point at"),
        ("junk.sqlite", 1, "error: junk.sqlite: not a readable run log"),
    ],
)
def test_what_is_no_log_is_told_in_two_lines(
    folder: Path, command: str, target: str, code: int, told: str
) -> None:
    ended, out, err = paceline(folder, command, target)
    assert (ended, out) == (code, "")
    assert err.startswith(told)
    assert len(err.splitlines()) == 2
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("nowhere.json",), 2, "error: nowhere.json: no such file\n"),
        (("/ip4/127.0.0.1/tcp/1",), 2, "error: /ip4/127.0.0.1/tcp/1 names no peer\n"),
        ((NOBODY, "--port", "0"), 3, "error: no seed answered within "),
        (
            ("node", "--history", "watch.sqlite"),
            2,
            "error: node is over: there is nothing to keep a history of\n",
        ),
        (("node", "--host", "192.0.2.1"), 2, "error: the page can't be served at 192.0.2.1:8088 ("),
    ],
)
def test_what_cannot_be_observed_is_told_with_its_exit_code(
    folder: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended, out, err = paceline(folder, "observe", *arguments)
    assert (ended, out) == (code, "")
    assert err.startswith(told)
    assert len(err.splitlines()) == 2
    assert not (folder / "watch.sqlite").exists()


def test_a_taken_port_is_told_with_the_option_that_helps(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = paceline(folder, "observe", "node", "--port", str(port))
    assert code == 2
    assert err.startswith(
        f"error: port {port} of 127.0.0.1 is taken by another program\ntry: choose another: --port"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_log_is_served_as_a_replay_until_somebody_ends_it(folder: Path, number: signal.Signals) -> None:
    with observing(folder, "node", "--port", "0") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        shown = httpx.get(f"{address}api/picture").json()
        assert (shown["run_id"], shown["is_live"], shown["rounds_committed"]) == (RUN.run_id, False, 4)
        span = httpx.get(f"{address}api/span").json()
        assert span["rounds"] == 4
        assert span["begin"] <= span["end"]
        assert httpx.get(f"{address}sd").json() == []
        assert "<title>" in httpx.get(address).text
        with httpx.stream("GET", f"{address}events") as stream:
            lines = stream.iter_lines()
            assert "event: picture" in [next(lines) for _ in range(4)]
            process.send_signal(number)  # a stream that is open holds nothing up
            assert process.wait(timeout=120) == 0


def test_the_folder_of_a_local_run_is_watched_while_it_goes_on_and_played_back_afterwards(
    folder: Path,
) -> None:
    for name in ("peer-1", "peer-2"):
        load_or_create(folder / name / "identity.key")
    (folder / "node").rename(folder / "peer-1" / "old")
    (folder / "peer-1" / "old" / "log.sqlite").rename(folder / "peer-1" / "log.sqlite")
    handout = Handout(run_id=RUN.run_id, seeds=(NOBODY,), run_digest=RUN.digest(), run_config=RUN)
    save_handout(folder / "run.json", handout)
    with hold(folder / "peer-2" / "identity.key"):
        code, _, err = paceline(folder, "observe", ".", "--port", "0")
        assert (code, err.partition(" within ")[0]) == (3, "error: no seed answered")
    with observing(folder, ".", "--port", "0") as (_, address):
        assert not httpx.get(f"{address}api/picture").json()["is_live"]


def test_a_report_is_one_page_with_all_rounds_and_replaces_an_older_one_whole(folder: Path) -> None:
    (folder / "kept.html").write_text("an older one")
    code, out, _ = paceline(folder, "report", "node", "-o", "kept.html")
    assert code == 0
    assert re.match(r"kept\.html: \d+ kB, opens in any browser\n$", out)
    page = (folder / "kept.html").read_text()
    data = re.search(r'<script id="picture" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    committed = [
        view["round_id"] for view in json.loads(data[1])["rounds"] if view["committed_at"] is not None
    ]
    assert committed == [1, 2, 3, 4]
    assert [path.name for path in folder.iterdir() if "kept" in path.name] == ["kept.html"]


def test_a_report_that_cannot_be_written_leaves_nothing_behind(folder: Path) -> None:
    code, _, err = paceline(folder, "report", "node", "-o", "empty/no/report.html")
    assert code == 1
    assert err.startswith("error: empty/no/.report.html.part: No such file or directory\ntry: check the path")
    assert list((folder / "empty").iterdir()) == []
