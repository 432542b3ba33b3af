"""Claims about the files around the code: configurations, scripts, the image, the documents."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

import paceline
from paceline.core.config import Handout, NodeConfig
from paceline.peer.settings import load_handout, load_node, load_swarm
from paceline.telemetry import Health, MetricsServer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SCRIPTS = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
INSTRUCTIONS: list[tuple[str, str]] = [
    (line.partition(" ")[0], line.partition(" ")[2].strip())
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
LAST = dict(INSTRUCTIONS)
"""The last instruction of each kind in the Dockerfile."""
FOLDERS = "src|docs|configs|ops|scripts|tests|core|peer|network|learning|ledger|watch|web"


def keys_of(document: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in document.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{above}{key}.")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_parses(path: Path) -> None:
    if path.name in ("node.yaml", "container.yaml"):
        load_node(path)
    else:
        load_swarm(path)


def test_the_node_configuration_shows_every_key_with_its_default() -> None:
    path = ROOT / "configs" / "node.yaml"
    assert load_node(path) == NodeConfig()
    written = set(keys_of(yaml.safe_load(path.read_text())))
    assert written == set(keys_of(NodeConfig().model_dump(mode="json")))


def test_every_key_of_the_node_configuration_has_a_comment() -> None:
    above = ""
    for line in (ROOT / "configs" / "node.yaml").read_text().splitlines():
        if re.match(r"\s*\w+:", line) and not line.endswith("network:"):
            assert above.strip().startswith("#"), f"nothing is said about {line}"
        above = line


def test_the_150_m_recipe_is_that_of_the_paper() -> None:
    run = load_swarm(ROOT / "configs" / "gpt-150m.yaml").run
    assert (run.inner_steps, run.rounds * run.inner_steps) == (500, 88_000)
    assert (run.inner.optimizer.type, run.inner.optimizer.lr) == ("adamw", 4e-4)
    assert (run.outer.lr, run.outer.momentum) == (0.7, 0.9)
    assert run.inner.schedule.type == "wsd"
    assert run.quorum.min_members > run.expected_peers / 2


def test_the_example_hand_out_is_that_of_the_150_m_recipe() -> None:
    handout = load_handout(ROOT / "run.json")
    run = load_swarm(ROOT / "configs" / "gpt-150m.yaml").run
    assert handout.run_config == run
    assert handout.run_digest == run.digest()
    assert set(json.loads((ROOT / "run.json").read_text())) == set(Handout.model_fields)


def test_the_readme_opens_with_the_two_commands_and_explains_every_key_of_a_hand_out() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [line.split()[0] for line in readme.splitlines()[3:5]] == ["scripts/demo", "scripts/test"]
    assert re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE) == list(Handout.model_fields)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_executable_and_parses(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    subprocess.run(["bash", "-n", path], check=True)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A repository with the install script, and a stand-in for its environment that only notes its calls."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o755)
    return tmp_path


def install(repository: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    command = [str(repository / "scripts" / "install"), *extra]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def installs(repository: Path) -> list[str]:
    calls = (repository / "calls").read_text().splitlines()
    return [call.split()[-1] for call in calls if "pip install" in call]


def test_an_environment_is_made_once_and_again_when_the_project_changes(elsewhere: Path) -> None:
    (elsewhere / "environment").rename(elsewhere / ".venv")
    assert "installing paceline for dev" in install(elsewhere, "dev").stdout
    again = install(elsewhere, "dev")
    assert (again.returncode, again.stdout) == (0, "")
    assert install(elsewhere).stdout == ""  # what the tests have is enough for a peer
    assert installs(elsewhere) == [".[dev]"]
    with (elsewhere / "pyproject.toml").open("a") as project:
        project.write("# another line")
    install(elsewhere)
    install(elsewhere, "dev")
    assert installs(elsewhere) == [".[dev]", ".", ".[dev]"]


def test_an_environment_that_is_a_link_is_used_as_it_is(elsewhere: Path) -> None:
    (elsewhere / ".venv").symlink_to(elsewhere / "environment")
    assert install(elsewhere, "dev").returncode == 0
    assert (elsewhere / "calls").read_text() == "-c import paceline\n"


def test_a_failed_install_is_told_with_what_pip_said_and_is_tried_again(elsewhere: Path) -> None:
    (elsewhere / "environment").rename(elsewhere / ".venv")
    python = elsewhere / ".venv" / "bin" / "python"
    python.write_text(python.read_text() + 'case "$*" in *pip*) echo no such package; exit 1 ;; esac\n')
    for _ in range(2):
        failed = install(elsewhere)
        assert failed.returncode == 1
        assert "no such package" in failed.stderr
        assert "error: pip could not install paceline" in failed.stderr
    assert installs(elsewhere) == [".", "."]


class ToolsMachine:
    """A machine without the tools; stand-ins for what installs them only note what they are called with."""

    def __init__(self, folder: Path, user: int) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.policy = folder / "usr" / "sbin" / "policy-rc.d"
        self.unit = folder / "etc" / "systemd" / "system" / "prometheus.service"
        for place in (self.bin, self.policy.parent, self.unit.parent):
            place.mkdir(parents=True)
        for name in ("bash", "env", "rm", "ln", "chmod", "mktemp", "tail"):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.program("id", f"echo {user}")
        self.program("apt-get", f'echo "$@" >> {folder}/calls; [ -x {self.policy} ] && exit $APT')

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (self.bin / name).chmod(0o755)

    def install(self, apt: int = 0) -> subprocess.CompletedProcess[str]:
        surroundings = {"PATH": str(self.bin), "TOOLS_ROOT": str(self.folder), "APT": str(apt)}
        command = [str(ROOT / "scripts" / "install-tools")]
        return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)


def test_tools_are_installed_without_a_service_that_starts(tmp_path: Path) -> None:
    machine = ToolsMachine(tmp_path, user=0)
    assert machine.install().returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["update", "install -y --no-install-recommends prometheus chromium"]
    assert machine.unit.readlink() == Path("/dev/null")
    assert not machine.policy.exists()  # and it was there while apt-get ran, else that had failed


def test_a_policy_that_was_there_before_is_left_alone(tmp_path: Path) -> None:
    machine = ToolsMachine(tmp_path, user=0)
    machine.policy.write_text("#!/bin/sh\nexit 101\n")
    machine.policy.chmod(0o755)
    assert machine.install().returncode == 0
    assert machine.policy.exists()


def test_tools_that_are_there_are_not_installed_again(tmp_path: Path) -> None:
    machine = ToolsMachine(tmp_path, user=0)
    machine.program("prometheus", "")
    assert machine.install().returncode == 0
    assert (tmp_path / "calls").read_text().splitlines()[1].endswith("recommends chromium")
    machine.program("chromium", "")
    done = machine.install()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


@pytest.mark.parametrize(("user", "apt", "why"), [(1000, 0, "try: sudo"), (0, 1, "apt-get failed")])
def test_tools_that_cannot_be_installed_are_told_and_hold_nothing_up(
    tmp_path: Path, user: int, apt: int, why: str
) -> None:
    machine = ToolsMachine(tmp_path, user)
    done = machine.install(apt)
    assert done.returncode == 0
    assert f"note: prometheus chromium not installed ({why}" in done.stderr
    assert (tmp_path / "calls").exists() == (user == 0)
    assert not machine.policy.exists()


def test_torch_stays_below_the_version_that_pulls_gigabytes() -> None:
    (torch,) = [need for need in PROJECT["dependencies"] if need.startswith("torch")]
    assert torch == "torch>=2.9,<=2.13.0"


def test_the_version_is_the_same_everywhere() -> None:
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == PROJECT["version"] == paceline.__version__


def sources_of_copies() -> list[str]:
    return [source for kind, rest in INSTRUCTIONS if kind == "COPY" for source in rest.split()[:-1]]


def test_the_image_copies_what_exists_and_is_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(sources_of_copies()) == sorted(kept)
    assert all((ROOT / source).exists() for source in kept)


def test_the_image_holds_all_that_its_build_reads() -> None:
    copied = sources_of_copies()
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"} <= set(copied)


def test_the_image_runs_paceline_as_somebody_without_rights() -> None:
    assert json.loads(LAST["ENTRYPOINT"]) == ["paceline"]
    assert "paceline" in PROJECT["scripts"]
    assert any("useradd" in rest for kind, rest in INSTRUCTIONS if kind == "RUN")
    assert LAST["USER"] not in ("root", "0")


def test_the_image_serves_where_its_configuration_says() -> None:
    node = load_node(ROOT / "configs" / "container.yaml")
    ports = LAST["EXPOSE"].split()
    assert ports == [node.network.listen[0].rsplit("/", 1)[1], str(node.metrics.port)]
    assert f":{node.metrics.port}/healthz" in LAST["HEALTHCHECK"]
    assert node.state_dir.is_relative_to(LAST["VOLUME"])


def test_the_health_check_of_the_image_tells_well_from_ill_and_gone() -> None:
    command = json.loads(LAST["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "python"
    well = [True]

    def check(address: str) -> int:
        program = command[2].replace("127.0.0.1:9100", address)
        return subprocess.run(
            [sys.executable, *command[1:-1], program], capture_output=True, check=False
        ).returncode

    with MetricsServer("127.0.0.1", 0, CollectorRegistry(), lambda: Health(healthy=well[0])) as server:
        address = server.address
        assert check(address) == 0
        well[0] = False
        assert check(address) != 0
    assert check(address) != 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_documents_point_at_exists(path: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", path.read_text())
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if "://" not in link]
    for name in [*named, *links]:
        places = [path.parent / name, ROOT / name, ROOT / "src" / "paceline" / name]
        assert any(place.exists() or list(place.parent.glob(f"{place.name}*")) for place in places), name


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda path: path.name)
def test_a_decision_has_context_decision_and_consequences(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {int(path.name[:4])}. ")
    parts = [text.find(f"**{part}.**") for part in ("Context", "Decision", "Consequences")]
    assert -1 not in parts
    assert parts == sorted(parts)


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_commands_in_documents_are_ones_that_exist() -> None:
    app = ast.parse((ROOT / "src" / "paceline" / "cli" / "app.py").read_text())
    known = set(re.findall(r"\)\((?:\w+\.)?(\w+)\)", ast.unparse(app)))
    for path in [*DOCUMENTS, *CONFIGS, ROOT / "Dockerfile"]:
        pattern = r"paceline ([a-z]+) (?:[\w./-]+\.(?:json|yaml)|/ip4|runs/)"
        for command in re.findall(pattern, path.read_text()):
            assert command in known, f"{path.name}: paceline {command}"
