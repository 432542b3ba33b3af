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
FOLDERS = "src|docs|configs|scripts|tests|core|peer|network|learning|ledger"


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
