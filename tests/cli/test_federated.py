"""Claims about the fedtrain API's commands, and about telling their forms from those of a swarm."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from paceline import ledger
from paceline.cli.app import app
from paceline.core.nicknames import named, nickname
from paceline.federation.folder import SessionFolder
from paceline.federation.history import sessions
from paceline.federation.session import Session
from paceline.network.identity import hold
from tests.cli.conftest import Paceline
from tests.federation.sessions import Interrupted, recipe

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "configs" / "demo.yaml")
RECIPE = {
    "model_name": "my-model",
    "learning_rate": 0.0001,
    "batch_size": 32,
    "local_steps": 10,
    "global_rounds": 5,
    "num_nodes": 4,
}
UPDATE = {
    "node_id": "node-001",
    "round_id": 1,
    "gradients": {"weight": [0.01, -0.02, 0.005], "bias": [0.001]},
    "loss": 0.4312,
    "samples_used": 128,
}
HASH = hashlib.sha256(b'{"bias": [0.001], "weight": [0.01, -0.02, 0.005]}').hexdigest()


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """A training config and an update, as the API page has them."""
    (tmp_path / "train.json").write_text(json.dumps(RECIPE, indent=2))
    (tmp_path / "update.json").write_text(json.dumps(UPDATE))


def written(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps(RECIPE | changes))
    return path.name


def only_session() -> Path:
    ((path, _),) = sessions()
    return path


def test_init_shows_addresses_and_config_and_says_what_comes_next(paceline: Paceline) -> None:
    code, out, err = paceline("init", "--config", "train.json")
    assert (code, err) == (0, "")
    path = only_session()
    assert out.startswith(f"session  {path}\n")
    assert "recipe   5 rounds of 10 local steps, batches of 32, learning rate 0.0001\n" in out
    nodes = SessionFolder(path).read().nodes
    for number, peer_id in enumerate(nodes, start=1):
        assert re.search(rf"inproc://node-{number:03d}  {nickname(peer_id)} +{peer_id}$", out, re.MULTILINE)
    assert len(nodes) == 4
    assert out.endswith("next     paceline run --config train.json\n")


def test_init_takes_a_number_of_nodes_and_a_folder(paceline: Paceline) -> None:
    code, out, _ = paceline("init", "--config", "train.json", "--nodes", "2", "-o", "here")
    assert code == 0
    assert len(SessionFolder(Path("here")).read().nodes) == 2
    assert "nodes    2; the config expects 4" in out
    assert out.endswith("next     paceline run --config train.json --nodes 2 -o here\n")


def test_a_training_config_may_be_yaml(paceline: Paceline, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("".join(f"{key}: {value}\n" for key, value in RECIPE.items()))
    assert paceline("init", "--config", "train.yaml")[0] == 0
    code, out, _ = paceline("run", "--config", "train.json")
    assert code == 0
    assert out.startswith(f"session  {only_session()}\n")  # it says the same, so it is the same


def test_run_trains_from_the_first_round_to_the_last_and_tells_what_came_out(paceline: Paceline) -> None:
    code, out, _ = paceline("run", "--config", "train.json", "--nodes", "3")
    assert code == 0
    path = only_session()
    assert "rounds   5 of 5\n" in out
    assert re.search(r"^loss     0\.\d+ after the last round$", out, re.MULTILINE)
    assert f"samples  {5 * 3 * 10 * 32:,}\n" in out
    assert re.search(r"^duration \d+\.\d{4} s$", out, re.MULTILINE)
    credited = re.findall(r"^node-00\d  [a-z]+-[a-z]+ \w{6} +(\S+)  33\.3%  \w{52}$", out, re.MULTILINE)
    assert credited == ["1,600"] * 3
    assert out.endswith(f"check it paceline verify {path}\n")
    found = ledger.verify(path / "log.sqlite")
    assert (found.rounds, list(found.credits.values())) == (5, [1600] * 3)


def test_run_simulates_the_parameters_that_it_is_given(paceline: Paceline) -> None:
    assert paceline("run", "--config", "train.json", "--param-names", "a, b,c", "--param-size", "3")[0] == 0
    with Session.open(only_session()) as session:
        lengths = {name: len(vector) for name, vector in session.state().global_weights.items()}
    assert lengths == {"a": 3, "b": 3, "c": 3}


def test_two_runs_of_one_config_come_to_the_same_loss(paceline: Paceline) -> None:
    losses = []
    for folder in ("a", "b"):
        _, out, _ = paceline("run", "--config", "train.json", "-o", folder)
        losses += re.findall(r"^loss .*$", out, re.MULTILINE)
    assert len(losses) == 2
    assert losses[0] == losses[1]


def test_run_goes_on_with_the_session_that_init_made(paceline: Paceline) -> None:
    paceline("init", "--config", "train.json")
    path = only_session()
    code, out, _ = paceline("run", "--config", "train.json")
    assert code == 0
    assert out.startswith(f"session  {path}\n")
    assert only_session() == path


def test_run_goes_on_after_the_last_round_of_an_interrupted_session(paceline: Paceline) -> None:
    paceline("init", "--config", "train.json")
    path = only_session()
    with pytest.raises(KeyboardInterrupt), Session.open(path) as session:
        session.train(Interrupted(session.config, at_round=3))
    code, out, _ = paceline("run", "--config", "train.json")
    assert code == 0
    assert out.startswith(f"session  {path}, goes on after round 2\n")
    assert f"samples  {5 * 4 * 320:,}\n" in out


def test_run_goes_on_with_as_many_nodes_as_the_session_has(paceline: Paceline) -> None:
    paceline("init", "--config", "train.json", "--nodes", "3")
    path = only_session()
    code, out, _ = paceline("run", "--config", "train.json")
    assert code == 0
    assert out.startswith(f"session  {path}\n")
    assert only_session() == path


@pytest.mark.parametrize(
    "arguments", [("init",), ("status", "--round-id", "9"), ("init", "--config", "no.json")]
)
def test_a_refused_command_says_why_and_exits_with_2_whoever_calls_it(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    assert "error" in result.output and "try" in result.output


def test_run_begins_anew_when_the_last_session_is_finished(paceline: Paceline) -> None:
    for count in (1, 2):
        code, out, err = paceline("run", "--config", "train.json")
        assert (code, err) == (0, "")
        assert "note" not in out
        assert len(sessions()) == count


@pytest.mark.parametrize(
    ("arguments", "obstacle"),
    [
        (("--param-size", "4"), "its parameters are bias[8], weight[8]"),
        (("--param-names", "w"), "its parameters are bias[8], weight[8]"),
        (("--nodes", "2"), ""),  # asked for
        (("--new",), ""),
    ],
)
def test_run_begins_anew_when_the_last_session_is_another_one(
    arguments: tuple[str, ...], obstacle: str, paceline: Paceline
) -> None:
    paceline("init", "--config", "train.json")
    path = only_session()
    with pytest.raises(KeyboardInterrupt), Session.open(path) as session:
        session.train(Interrupted(session.config, at_round=3))
    code, out, _ = paceline("run", "--config", "train.json", *arguments)
    assert code == 0
    assert ledger.verify(path / "log.sqlite").rounds == 2
    assert len(sessions()) == 2
    told = f"note     not going on with {path}: {obstacle}\n" if obstacle else ""
    assert out.startswith(f"{told}session  runs/my-model-")


def test_run_leaves_a_session_alone_that_is_in_use_or_damaged(paceline: Paceline) -> None:
    paceline("init", "--config", "train.json")
    path = only_session()
    with hold(path / "session.json"):
        code, out, _ = paceline("run", "--config", "train.json")
    assert code == 0
    assert out.startswith(f"note     not going on with {path}: another process trains in {path}")
    for other, _ in sessions():
        (other / "log.sqlite").write_bytes(b"nothing of use")
    code, out, _ = paceline("run", "--config", "train.json")
    assert code == 0
    assert "not a readable run log" in out
    assert len(sessions()) == 3


def test_run_goes_on_in_the_folder_that_it_is_given_or_says_why_not(
    paceline: Paceline, tmp_path: Path
) -> None:
    paceline("init", "--config", "train.json", "-o", "here")
    other = written(tmp_path / "other.json", batch_size=1)
    for arguments, obstacle in (
        (("--config", other), "its training config is another one"),
        (("--config", "train.json", "--nodes", "3"), "it has 4 nodes"),
    ):
        code, _, err = paceline("run", *arguments, "-o", "here")
        assert (code, err.splitlines()[0]) == (2, f"error: the session here can't be used: {obstacle}")
    assert paceline("run", "--config", "train.json", "-o", "here")[0] == 0
    for again, cause in (
        ((), "the session here can't be used: it is finished"),
        (("--new",), "here is there already, and not empty"),
    ):
        code, _, err = paceline("run", "--config", "train.json", "-o", "here", *again)
        assert (code, err.splitlines()) == (2, [f"error: {cause}", "try: choose another --output"])


def test_status_shows_a_round_with_the_credits_up_to_it(paceline: Paceline) -> None:
    paceline("run", "--config", "train.json")
    path = only_session()
    code, out, _ = paceline("status", "--round-id", "2", "--config", "train.json")
    assert code == 0
    assert out.startswith(f"session  {path}\nmodel    my-model: 10 local steps per round, batches of 32")
    assert "round    2 of 5; the last one committed is 5\nnodes    4 of 4\n" in out
    assert re.search(
        r"^loss     0\.\d+ on average\ndigest   [0-9a-f]{64} of the averages$", out, re.MULTILINE
    )
    assert "samples  1,280 in this round, 2,560 so far\n" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("node-")]
    nodes = SessionFolder(path).read().nodes
    assert rows == [
        [f"node-00{number}", *named(peer).split(), "320", "640", peer]
        for number, peer in enumerate(nodes, start=1)
    ]


def test_status_of_round_0_names_the_nodes(paceline: Paceline) -> None:
    paceline("init", "--config", "train.json")
    code, out, _ = paceline("status", "--round-id", "0")
    assert code == 0
    assert "round    0 of 5; the last one committed is 0\nnodes    4 of 4\n\n" in out


def test_a_round_that_is_not_there_is_exit_code_1(paceline: Paceline) -> None:
    paceline("run", "--config", "train.json")
    path = only_session()
    code, out, err = paceline("status", "--round-id", "7")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "error: round 7 is not committed; the last one is 5",
        f"try: ask for an earlier round of {path}, or go on with it: paceline run",
    ]


def test_status_takes_the_session_used_last_of_that_config_or_a_named_one(
    paceline: Paceline, tmp_path: Path
) -> None:
    other = written(tmp_path / "other.json", model_name="other")
    paceline("run", "--config", "train.json")
    first = only_session()
    paceline("run", "--config", other)
    paceline("run", "--config", "train.json", "-o", "elsewhere")

    def looked_at(*arguments: str) -> str:
        code, out, _ = paceline("status", "--round-id", "1", *arguments)
        assert code == 0
        return out.splitlines()[0].removeprefix("session  ")

    assert looked_at("--config", "train.json") == str(first)
    assert looked_at().startswith("runs/other-")
    assert looked_at("--config", other).startswith("runs/other-")
    assert looked_at("--session", "elsewhere", "--config", "train.json") == "elsewhere"


def test_credits_and_verify_take_the_folder_of_a_session(paceline: Paceline) -> None:
    paceline("run", "--config", "train.json", "-o", "here")
    code, out, _ = paceline("verify", "here")
    assert code == 0
    assert re.fullmatch(
        r"here/log\.sqlite: verified, 5 rounds of my-model-[0-9a-f]{8}, head [0-9a-f]{16}, "
        r"6,400 credits of 4 peers\n",
        out,
    )
    code, out, _ = paceline("credits", "here")
    assert code == 0
    nodes = sorted(SessionFolder(Path("here")).read().nodes)
    assert [line.split() for line in out.splitlines()[1:]] == [
        [*named(node).split(), "1,600", "25.0%", node] for node in nodes
    ]


def test_a_tampered_session_is_exit_code_1_with_the_round(paceline: Paceline) -> None:
    paceline("run", "--config", "train.json", "-o", "here")
    with closing(sqlite3.connect("here/log.sqlite")) as connection, connection:
        connection.execute("DELETE FROM receipts WHERE round_id = 4 AND position = 0")
    for arguments in (("verify", "here"), ("status", "--round-id", "1", "--session", "here")):
        code, out, err = paceline(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("error: here/log.sqlite, round 4: ")


@pytest.mark.parametrize("spelled", [HASH, HASH.upper(), f" {HASH}\n"])
def test_verify_of_the_right_hash_is_exit_code_0(spelled: str, paceline: Paceline) -> None:
    code, out, err = paceline("verify", "--update", "update.json", "--hash", spelled)
    assert (code, out, err) == (0, f"update.json: verified, SHA-256 {HASH}\n", "")


def test_verify_of_another_hash_is_exit_code_1_and_tells_both(paceline: Paceline) -> None:
    wrong = "deadbeef" * 8
    code, out, err = paceline("verify", "--update", "update.json", "--hash", wrong)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: update.json: the SHA-256 of its gradients is {HASH}, not '{wrong}'\ntry: ")
    code, _, err = paceline("verify", "--update", "update.json", "--hash", HASH[:-1])
    assert code == 1
    assert err.endswith("try: give all 64 hexadecimal digits\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "update.json: no such file"),
        ("{", "update.json: line 1, column 2: "),
        ("[1]", "update.json: found [1], allowed: "),
        (
            json.dumps(UPDATE | {"samples_used": -1}),
            "update.json: samples_used: found -1, allowed: at least 0",
        ),
        (
            json.dumps(UPDATE | {"gradient": {}}),
            "update.json: gradient: unknown key (did you mean gradients?)",
        ),
        (
            json.dumps(UPDATE | {"gradients": {"w": [1.0, "x"]}}),
            "update.json: gradients.w.1: found 'x', allowed: a number",
        ),
        (json.dumps(UPDATE | {"gradients": {"w": [float("nan")]}}), "update.json: found "),
    ],
)
def test_a_file_that_holds_no_update_is_exit_code_2(
    content: str | None, told: str, paceline: Paceline, tmp_path: Path
) -> None:
    (tmp_path / "update.json").unlink()
    if content is not None:
        (tmp_path / "update.json").write_text(content)
    code, out, err = paceline("verify", "--update", "update.json", "--hash", HASH)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {told}")
    assert err.endswith("try: it should be a LocalUpdate as JSON\n") or len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("init", "this command needs more"),
        ("init --nodes 2", "--config is missing"),
        ("init train.json", "train.json is a training config, not a swarm's configuration"),
        ("up train.json", "train.json is a training config, not a swarm's configuration"),
        ("init --config DEMO", "DEMO is a swarm's configuration, not a training config"),
        ("run --config DEMO", "DEMO is a swarm's configuration, not a training config"),
        ("init DEMO --config train.json", "CONFIG and --config belong to different forms of this command"),
        ("init DEMO --nodes 2", "CONFIG and --nodes belong to different forms of this command"),
        ("init --config train.json --set x=1", "--set and --config belong to different forms"),
        ("init --config nowhere.json", "nowhere.json: no such file"),
        ("init --config train.json --nodes 65", "65 nodes: a round has room for 64"),
        ("run --config train.json --nodes 65", "65 nodes: a round has room for 64"),
        ("run --config train.json --param-names a,,b", "--param-names 'a,,b' is no list of different names"),
        ("run --config train.json --param-names a,a", "--param-names 'a,a' is no list of different names"),
        ("status", "this command needs more"),
        ("status --config train.json", "--round-id is missing"),
        ("status run.json --round-id 1", "RUN and --round-id belong to different forms of this command"),
        ("status --round-id 1", "there is no session in runs/"),
        ("status --round-id 1 --config train.json", "there is no session of train.json in runs/"),
        ("status --round-id 1 --session nowhere", "nowhere holds no session"),
        ("verify", "this command needs more"),
        ("verify --update update.json", "--hash is missing"),
        ("verify --hash 00", "--update is missing"),
        ("verify runs --update update.json --hash 00", "LOG and --update belong to different forms"),
    ],
)
def test_a_form_that_is_not_right_is_told_with_the_one_that_is(
    arguments: str, told: str, paceline: Paceline, tmp_path: Path
) -> None:
    code, out, err = paceline(*arguments.replace("DEMO", DEMO).split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {told.replace('DEMO', DEMO)}")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "try"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ("init train.json", "paceline init --config train.json"),
        ("up train.json", "paceline run --config train.json"),
        ("init --config DEMO", "paceline init DEMO"),
        ("run --config DEMO", "paceline up DEMO"),
    ],
)
def test_the_other_kind_of_configuration_is_told_with_the_command_that_takes_it(
    arguments: str, remedy: str, paceline: Paceline
) -> None:
    _, _, err = paceline(*arguments.replace("DEMO", DEMO).split())
    assert err.splitlines()[1] == f"try: {remedy.replace('DEMO', DEMO)}"


def test_status_of_a_sessions_folder_names_the_form_that_takes_it(paceline: Paceline) -> None:
    paceline("init", "--config", "train.json", "-o", "here")
    code, _, err = paceline("status", "here")
    assert code == 2
    assert err.splitlines()[1] == "try: paceline status --session here --round-id N"


def test_a_session_of_another_config_is_not_shown_as_one_of_this(paceline: Paceline, tmp_path: Path) -> None:
    paceline("init", "--config", "train.json", "-o", "here")
    other = written(tmp_path / "other.json", batch_size=1)
    code, _, err = paceline("status", "--round-id", "0", "--session", "here", "--config", other)
    assert code == 2
    assert err.startswith("error: here is a session of another config than other.json\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": "32"}, "x.json: batch_size: found '32', allowed: a number"),
        ({"batch_size": 0}, "x.json: batch_size: found 0, allowed: a number greater than 0"),
        ({"batchsize": 32}, "x.json: batchsize: unknown key (did you mean batch_size?)"),
        ({"local_steps": 10**6}, "x.json: local_steps: found 1000000, allowed: at most 100000"),
        ({"learning_rate": float("inf")}, "x.json: learning_rate: found inf, allowed: a finite number"),
    ],
)
def test_what_is_wrong_in_a_training_config_is_told_with_file_key_found_and_allowed(
    change: dict[str, object], told: str, paceline: Paceline, tmp_path: Path
) -> None:
    name = written(tmp_path / "x.json", **change)
    for command in ("init", "run"):
        code, _, err = paceline(command, "--config", name)
        assert code == 2
        assert err.startswith(f"error: {told}")
    assert not (tmp_path / "runs").exists()


def in_a_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paceline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_status_works_after_the_process_that_ran_init_has_ended(tmp_path: Path) -> None:
    assert in_a_process("init", "--config", "train.json", cwd=tmp_path).returncode == 0
    before = in_a_process("status", "--round-id", "1", "--config", "train.json", cwd=tmp_path)
    assert before.returncode == 1
    assert "round 1 is not committed; the last one is 0" in before.stderr
    assert in_a_process("run", "--config", "train.json", cwd=tmp_path).returncode == 0
    after = in_a_process("status", "--round-id", "1", "--config", "train.json", cwd=tmp_path)
    assert after.returncode == 0
    assert "round    1 of 5; the last one committed is 5" in after.stdout


def test_ctrl_c_leaves_after_the_round_with_all_of_it_on_disk(tmp_path: Path) -> None:
    written(tmp_path / "long.json", global_rounds=1_000_000)
    command = [sys.executable, "-m", "paceline.cli", "run", "--config", "long.json", "-o", "here"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert child.stderr.readline().startswith("round ")  # it trains for two seconds by now
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()
    assert child.returncode == 130
    assert "Traceback" not in err
    done = ledger.verify(tmp_path / "here" / "log.sqlite").rounds
    assert f"rounds   {done:,} of 1,000,000\n" in out
    assert out.endswith(f"stopped after round {done}; the same command goes on\n")


def test_the_workflow_of_the_api_page_as_printed_but_for_the_package_name(tmp_path: Path) -> None:
    page = """# Compute the hash of a known-good update:
aumai-fedtrain verify --update update.json --hash $(python -c "
from aumai_fedtrain import HashVerifier, LocalUpdate
import json, pathlib
data = json.loads(pathlib.Path('update.json').read_text())
u = LocalUpdate.model_validate(data)
print(HashVerifier().compute_hash(u.gradients))
")
"""
    program = page.replace("aumai-fedtrain", "paceline").replace("aumai_fedtrain", "paceline")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, rest in (("python", ""), ("paceline", "-m paceline.cli ")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {rest}"$@"\n')
        (commands / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout == f"update.json: verified, SHA-256 {HASH}\n"


README = (
    (ROOT / "README.md")
    .read_text(encoding="utf-8")
    .partition("## The fedtrain API\n")[2]
    .partition("\n## ")[0]
)


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [content for name, content in found if name == kind]


def test_the_commands_of_the_readme_run(paceline: Paceline, tmp_path: Path) -> None:
    (config,), (commands,) = blocks("json"), blocks("")
    (tmp_path / "train.json").write_text(config)
    lines = [line.partition("#")[0].split() for line in commands.splitlines()]
    assert [words[1] for words in lines] == ["init", "run", "status", "verify"]
    for words in lines:
        code, out, _ = paceline(*[HASH if "…" in word else word for word in words[1:]])
        assert (code, bool(out)) == (0, True)
    assert ledger.verify(only_session() / "log.sqlite").rounds == 20


def test_the_examples_of_the_readme_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "0.2 {'node-001': 160, 'node-002': 160}"
    assert second.startswith(f"{only_session()} config=TrainingConfig(")
    assert "rounds_completed=5 total_samples=320" in second


def test_a_model_name_can_not_command_the_terminal(paceline: Paceline, tmp_path: Path) -> None:
    name = written(tmp_path / "x.json", model_name="\x1b[2Jmine[bold]")
    for arguments in (("run", "--config", name), ("status", "--round-id", "1")):
        code, out, _ = paceline(*arguments)
        assert code == 0
        assert "\x1b" not in out
        assert "mine[bold]" in out


def test_recipe_of_the_tests_is_of_the_same_form() -> None:
    assert set(recipe().model_dump()) == set(RECIPE)
