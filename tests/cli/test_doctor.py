"""Claims about what `paceline doctor` prints and with which code it exits."""

from __future__ import annotations

import json
import re
import socket
import zipfile
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from paceline.cli.app import app
from paceline.cli.doctor import _line
from paceline.core.config import RunConfig
from paceline.network.identity import hold, load_or_create
from paceline.peer.bundle import MOST_LINES, save_bundle
from paceline.peer.checkup import Checkup, Finding, Subject, checks
from paceline.peer.folders import StateFolder
from paceline.peer.settings import load_node
from tests.cli.conftest import Paceline

GUIDE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
QUICK = ("python", "packages", "identity", "ports")


def only(*names: str) -> list[str]:
    return [part for name in names for part in ("--only", name)]


def test_a_healthy_node_passes_every_check_for_real(paceline: Paceline, tmp_path: Path) -> None:
    small = ["--set", "device=cpu", "--set", "threads=1", "--set", "batch_size=1", "--set", "state_dir=node"]
    code, out, err = paceline("doctor", *small, "--json", "--bundle", "report.zip")
    found = Checkup.model_validate_json(out)
    wanted = [check.name for check in checks(Subject(load_node(None, ["state_dir=node"])))]
    failed = [finding for finding in found.findings if finding.status == "fail"]
    assert failed == []
    assert (code, found.healthy) == (0, True)
    assert [finding.check for finding in found.findings] == wanted
    assert all(bool(finding.remedy) is (finding.status != "ok") for finding in found.findings)
    for doing in ("starts the network daemon", "lets two peers on loopback average", "trains a few steps"):
        assert doing in err
    assert not (tmp_path / "node").exists()  # a look leaves nothing behind
    with zipfile.ZipFile(tmp_path / "report.zip") as bundle:
        assert json.loads(bundle.read("findings.json"))["healthy"]


def test_findings_are_lines_with_a_remedy_below_and_a_failure_is_exit_code_1(paceline: Paceline) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listen = f"network.listen=[/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}]"
        code, out, err = paceline("doctor", "--set", "state_dir=node", "--set", listen, *only(*QUICK))
    lines = out.splitlines()
    assert (code, err) == (1, "")
    assert [line.split()[:2] for line in lines[:3]] == [
        ["ok", "python"],
        ["ok", "packages"],
        ["ok", "identity"],
    ]
    assert re.match(r"fail +ports +port \d+ of 127.0.0.1 is taken by another program", lines[3])
    assert re.match(r" +try: see whose it is: ss -tulnp ", lines[4])
    assert lines[-1] == "1 failed, 3 well"


def test_a_warning_is_no_failure(paceline: Paceline, tmp_path: Path) -> None:
    key = tmp_path / "node" / "identity.key"
    load_or_create(key)
    with hold(key):
        code, out, _ = paceline("doctor", "--set", "state_dir=node", *only("identity"))
    assert code == 0
    assert out.startswith("warn  identity")
    assert out.endswith("1 to mind\n")


def test_a_check_that_does_not_exist_is_refused_with_those_that_do(paceline: Paceline) -> None:
    code, _, err = paceline("doctor", *only("luck"))
    assert code == 2
    assert "error: --only luck: there is no such check here" in err
    assert "python, packages, open files" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("doctor nowhere.json", "error: nowhere.json: no such file"),
        ("doctor /ip4/127.0.0.1/tcp/1", "error: /ip4/127.0.0.1/tcp/1 names no peer"),
        ("doctor --config nowhere.yaml", "error: nowhere.yaml: no such file"),
        ("doctor --set thread=1", "error: --set thread=1: thread: unknown key (did you mean threads?)"),
    ],
)
def test_what_the_operator_wrote_wrong_is_told_before_anything_is_tried(
    arguments: str, told: str, paceline: Paceline
) -> None:
    code, out, err = paceline(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(told)


def every_check(folder: Path) -> list[str]:
    """The names of all checks, those included that only a run or a log gives reason for."""
    subject = Subject(load_node(None, [f"state_dir={folder}"]), "/ip4/127.0.0.1/tcp/1")
    StateFolder(folder).log.touch()
    return [check.name for check in checks(subject)]


def test_the_guide_names_every_check_in_its_order_and_no_other(tmp_path: Path) -> None:
    told = GUIDE.partition("## The checks")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^\| `([a-z ]+)` \|", told) == every_check(tmp_path)


def test_the_guide_knows_every_option_and_no_other() -> None:
    commands = get_command(app)
    assert isinstance(commands, TyperGroup)
    options = {part for parameter in commands.commands["doctor"].params for part in parameter.opts}
    used = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", GUIDE))
    foreign = {"--shm-size"}
    assert used - foreign == {option for option in options if option.startswith("--")}


def test_the_guide_lists_the_files_of_a_bundle(tmp_path: Path) -> None:
    told = GUIDE.partition("## A bug report")[2].partition("\n## ")[0]
    listed = re.findall(r"(?m)^\| `([a-zA-Z.]+)` \|", told)
    node, checkup = (
        load_node(None, [f"state_dir={tmp_path}"]),
        Checkup(version="0", at=0, healthy=True, findings=()),
    )
    StateFolder(tmp_path).events.write_text("{}\n")
    StateFolder(tmp_path).output.write_text("a line\n")
    assert listed == save_bundle(tmp_path / "report.zip", checkup, node, RunConfig())
    assert f"{MOST_LINES} lines at most" in told


def test_the_guide_shows_findings_as_they_are_printed(tmp_path: Path) -> None:
    shown = re.findall(r"(?m)^(ok|warn|fail) +(\S.{12}\S?) *(\S.*)$", GUIDE)
    assert len(shown) == 17
    for status, check, said in shown:
        assert check.strip() in every_check(tmp_path)
        finding = Finding(check=check.strip(), status=status, said=said)
        assert str(_line(finding)) in GUIDE


def test_the_guide_shows_a_document_of_the_format_that_is_printed() -> None:
    (document,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    assert Checkup.model_validate_json(document).model_dump_json(indent=2) == document.strip()


def test_a_swarm_that_can_not_be_reached_fails_and_the_rest_is_still_looked_at(paceline: Paceline) -> None:
    seed = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWAGfPLRQoUTLPmkWPXjjPvNZRtAGLVDSTHu5jpFo6xqRa"
    chosen = only("python", "swarm", "reachable", "clock")
    code, out, _ = paceline("doctor", seed, "--set", "state_dir=node", *chosen)
    assert code == 1
    assert out.startswith("ok    python")
    assert len(re.findall(r"(?m)^fail +(swarm|reachable) +no seed answered", out)) == 2
    assert "try: check that a seed runs" in out
