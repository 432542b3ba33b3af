"""Claims about commands: what they refuse, with which words and which exit code, and what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paceline.cli.app import exit_code
from paceline.core.errors import (
    CheckpointError,
    ConfigError,
    HistoryBroken,
    IdentityError,
    PacelineError,
    SeedsUnreachable,
)
from paceline.core.nicknames import named
from paceline.ledger import Ledger
from paceline.peer.settings import load_handout, load_swarm
from tests.cli.conftest import Paceline
from tests.core.history import genesis_of, history, peers, run_of

ROOT = Path(__file__).parents[2]
KEYS = peers(3)
RUN = run_of(KEYS)
LINKS = history(RUN, KEYS, 4)


def log_in(folder: Path, rounds: int = 4) -> Path:
    path = folder / "log.sqlite"
    with Ledger.open(path, RUN, genesis_of(RUN)) as ledger:
        for link in LINKS[:rounds]:
            ledger.append(link)
    return path


COMMANDS = [
    *("up", "init", "run", "seed", "join", "status", "observe", "report", "credits", "verify", "sample"),
    "doctor",
]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_takes_well_under_a_second_and_imports_neither_torch_nor_hivemind(command: str) -> None:
    program = f"""
import sys, time
sys.argv = ["paceline", *{command.split()!r}, "--help"]
from paceline.cli import main
try:
    main()
finally:
    heavy = {{"torch", "hivemind", "numpy", "matplotlib", "starlette", "uvicorn"}}
    print(time.process_time(), *heavy & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, *imported = done.stdout.splitlines()[-1].split()
    assert imported == []
    assert float(seconds) < 0.9
    assert f"paceline {command}".strip() in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command: str, paceline: Paceline) -> None:
    code, out, _ = paceline(command, "--help")
    assert code == 0
    usage, *rest = [line for line in out.splitlines() if f"paceline {command}" in line]
    assert "Usage" in usage
    assert rest


def test_the_version_is_told(paceline: Paceline) -> None:
    assert paceline("--version")[:2] == (0, "paceline 0.1.0\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("up nowhere.yaml", "error: nowhere.yaml: no such file\ntry: check the path\n"),
        ("up . ", "error: .: found a folder, allowed: a file\ntry: name the file in it\n"),
        ("init nowhere.yaml", "error: nowhere.yaml: no such file\n"),
        ("seed nowhere.json", "error: nowhere.json: no such file\n"),
        ("join nowhere.json", "error: nowhere.json: no such file\n"),
        (
            "join /ip4/127.0.0.1/tcp/1",
            "error: /ip4/127.0.0.1/tcp/1 names no peer\ntry: use the seed's whole address",
        ),
        (
            "join run.json --set thread=1",
            "error: --set thread=1: thread: unknown key (did you mean threads?)",
        ),
        ("status nowhere.json", "error: nowhere.json: no such file\n"),
        ("credits nowhere", "error: nowhere: no such file or folder\n"),
        ("verify nowhere", "error: nowhere: no such file or folder\n"),
        ("verify .", "error: . holds no run log\ntry: point at a state folder, with log.sqlite in it\n"),
        ("sample nowhere def", "error: nowhere: found no checkpoint (round-….safetensors)\n"),
    ],
)
def test_what_the_operator_wrote_wrong_is_told_in_two_lines_with_exit_code_2(
    arguments: str, told: str, paceline: Paceline
) -> None:
    code, out, err = paceline(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(told)
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize("arguments", ["", "fly", "up", "up x.yaml --peers 0", "up x.yaml --colour red"])
def test_bad_usage_is_exit_code_2(arguments: str, paceline: Paceline) -> None:
    assert paceline(*arguments.split())[0] == 2


def test_a_refused_setting_leaves_nothing_behind(paceline: Paceline, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("run: {inner_step: 20}")
    code, _, err = paceline("up", "x.yaml")
    assert code == 2
    assert err.startswith("error: x.yaml: run.inner_step: unknown key (did you mean inner_steps?), allowed:")
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_too_few_peers_for_a_round_are_refused_with_the_flag_that_helps(paceline: Paceline) -> None:
    code, _, err = paceline("up", str(ROOT / "configs" / "demo.yaml"), "--peers", "1")
    assert code == 2
    assert "--set run.quorum.min_members=1" in err


def test_a_key_that_is_no_key_is_exit_code_2(paceline: Paceline, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"not a key")
    (tmp_path / "key").chmod(0o600)
    code, _, err = paceline("seed", "--key", "key", "--listen", "/ip4/127.0.0.1/tcp/0")
    assert (code, err[:7]) == (2, "error: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("it"), 2),
        (IdentityError("it"), 2),
        (SeedsUnreachable(["there"], 1.0), 3),
        (HistoryBroken("round 1", "it"), 1),
        (CheckpointError("it"), 1),
        (PacelineError("it"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: PacelineError, code: int) -> None:
    assert exit_code(error) == code


def test_init_writes_a_hand_out_that_pins_the_run(paceline: Paceline, tmp_path: Path) -> None:
    config = ROOT / "configs" / "gpt-150m.yaml"
    code, out, _ = paceline("init", str(config), "--output", "gpt")
    handout, wanted = load_handout(tmp_path / "gpt" / "run.json"), load_swarm(config).run
    assert code == 0
    assert (handout.run_config, handout.run_digest) == (wanted, wanted.digest())
    assert wanted.run_id in out
    assert wanted.digest() in out
    assert "note" not in out


def test_init_warns_of_choices_that_learn_badly_together(paceline: Paceline, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("run: {codec: topk, rounds: 30, outer: {momentum: 0.9}}\n")
    code, out, _ = paceline("init", "x.yaml", "-o", "x")
    assert code == 0
    assert "note     topk sends 1 value of 64" in out
    assert "--set run.outer.momentum=0" in out


def test_init_warns_of_a_run_that_two_groups_could_begin(paceline: Paceline, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("run: {expected_peers: 6}")
    _, out, _ = paceline("init", "x.yaml", "-o", "x")
    assert "--set run.quorum.min_members=4" in out


def test_nobody_joins_a_hand_out_without_a_seed(paceline: Paceline) -> None:
    paceline("init", str(ROOT / "configs" / "demo.yaml"), "-o", "demo")
    code, _, err = paceline("join", "demo", "--set", "state_dir=node")
    assert code == 3
    assert "paceline seed" in err


def test_verify_tells_what_a_sound_log_holds(paceline: Paceline, tmp_path: Path) -> None:
    log = log_in(tmp_path / "node")
    code, out, _ = paceline("verify", "node")
    assert code == 0
    assert out.startswith(f"node/log.sqlite: verified, 4 rounds of {RUN.run_id}, head ")
    assert "96 credits of 3 peers" in out
    assert paceline("verify", str(log))[0] == 0


def test_verify_names_the_broken_log_among_several_and_exits_with_1(
    paceline: Paceline, tmp_path: Path
) -> None:
    log_in(tmp_path / "peer-1")
    broken = log_in(tmp_path / "peer-2")
    content = bytearray(broken.read_bytes())
    place = content.rindex(bytes.fromhex(LINKS[2].commit.hex())[-64:])
    content[place] ^= 1
    broken.write_bytes(content)
    code, out, err = paceline("verify", ".")
    assert code == 1
    assert out.startswith("peer-1/log.sqlite: verified, 4 rounds")
    assert err.startswith("error: peer-2/log.sqlite, round 3: ")


def test_verify_of_a_folder_checks_that_all_logs_hold_one_chain(paceline: Paceline, tmp_path: Path) -> None:
    log_in(tmp_path / "peer-1", rounds=4)
    log_in(tmp_path / "peer-2", rounds=2)
    log_in(tmp_path / "peer-3", rounds=0)
    code, out, _ = paceline("verify", ".")
    assert code == 0
    assert out.endswith("all 3 logs hold the same chain\n")


def test_verify_finds_a_log_with_another_chain(paceline: Paceline, tmp_path: Path) -> None:
    log_in(tmp_path / "peer-1", rounds=4)
    with Ledger.open(tmp_path / "peer-2" / "log.sqlite", RUN, genesis_of(RUN)) as ledger:
        for link in history(RUN, KEYS[:2], 3):
            ledger.append(link)
    code, _, err = paceline("verify", ".")
    assert code == 1
    assert err.startswith("error: peer-2/log.sqlite, round 3: its chain is not that of peer-1/log.sqlite\n")


def test_credits_are_counted_from_the_longest_log(paceline: Paceline, tmp_path: Path) -> None:
    log_in(tmp_path / "peer-1", rounds=1)
    log_in(tmp_path / "peer-2", rounds=4)
    code, out, _ = paceline("credits", ".")
    assert code == 0
    expected = [[*named(key.peer_id).split(), "32", "33.3%", key.peer_id] for key in KEYS]
    assert [line.split() for line in out.splitlines()[1:]] == expected


def test_a_checkpoint_that_is_none_is_exit_code_1(paceline: Paceline, tmp_path: Path) -> None:
    (tmp_path / "round-000001.safetensors").write_bytes(bytes(100))
    code, out, err = paceline("sample", ".", "def ")
    assert (code, out) == (1, "")
    assert "round-000001.safetensors" in err


def test_a_full_path_that_cannot_be_written_is_told_without_a_trace(
    paceline: Paceline, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    code, _, err = paceline("init", str(ROOT / "configs" / "demo.yaml"), "-o", "taken/run")
    assert code == 1
    assert err.startswith("error: taken/run: Not a directory\ntry: ")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    log_in(tmp_path / "node")
    command = f"{sys.executable} -m paceline.cli verify {tmp_path}/node | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_hand_out_names_what_a_reader_needs(paceline: Paceline, tmp_path: Path) -> None:
    paceline("init", str(ROOT / "configs" / "demo.yaml"), "-o", "demo")
    document = json.loads((tmp_path / "demo" / "run.json").read_text())
    assert set(document) == {"run_id", "seeds", "run_digest", "run_config", "authority"}
