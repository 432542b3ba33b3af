"""Claims about federated sessions: their log is a swarm's log, and goes on where it was left."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from paceline import ledger
from paceline.core.errors import (
    CheckpointError,
    ConfigError,
    HistoryBroken,
    IdentityError,
    IdentityInUse,
    LedgerError,
    PacelineError,
)
from paceline.core.records import CommitRecord, GlobalState, RoundReceipt
from paceline.core.wire import unseal
from paceline.federation.coordinator import DiLoCoCoordinator
from paceline.federation.folder import SessionFile, SessionFolder
from paceline.federation.history import RoundStatus, newest, read_round, sessions
from paceline.federation.models import FederatedNode, LocalUpdate
from paceline.federation.provider import UpdateProvider
from paceline.federation.session import Session, create
from paceline.federation.synthetic import SyntheticProvider
from paceline.ledger import LogReader
from tests.federation.sessions import Interrupted, InTurns, recipe

CONFIG = recipe()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A session of three nodes without a round."""
    return create(CONFIG, 3, tmp_path / "session")


def train(path: Path) -> None:
    with Session.open(path) as session:
        session.train(SyntheticProvider(session.config))


def test_a_new_session_stands_on_round_0_with_an_id_and_an_address_for_each_node(path: Path) -> None:
    with Session.open(path) as session:
        assert [node.address for node in session.nodes] == [f"inproc://node-00{n}" for n in (1, 2, 3)]
        assert session.head().round_id == 0
        assert session.head().participating_nodes == sorted(node.node_id for node in session.nodes)
        assert session.state().global_weights == {}
        assert session.credits() == {}
        assert not session.finished
    assert ledger.verify(path / "log.sqlite").rounds == 0


def test_a_session_lies_under_its_run_id_unless_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = create(CONFIG, 2)
    assert path.parent == Path("runs")
    assert path.name == ledger.verify(path / "log.sqlite").run_id
    assert path.name.startswith("my-model-")
    assert [entry.name for entry in Path("runs").iterdir()] == [path.name]


def test_the_log_of_a_session_verifies_like_that_of_a_peer(path: Path) -> None:
    train(path)
    found = ledger.verify(path / "log.sqlite")
    assert found.rounds == CONFIG.global_rounds
    assert list(found.credits.values()) == [5 * 10 * 4] * 3


def test_every_node_signs_each_round_and_the_coordinator_changes(path: Path) -> None:
    train(path)
    nodes = set(SessionFolder(path).read().nodes)
    with closing(LogReader(path / "log.sqlite")) as reader:
        links = reader.links(0, 100)
    fronts = set()
    for link in links:
        receipts = [unseal(receipt) for receipt in link.receipts]
        assert {receipt.peer_id for receipt in receipts} == nodes
        assert all(isinstance(receipt, RoundReceipt) and receipt.complete for receipt in receipts)
        fronts.add(unseal(link.commit).peer_id)
    assert len(fronts) > 1


def test_a_commit_has_the_digest_loss_and_samples_of_what_the_coordinator_made(path: Path) -> None:
    provider = InTurns((0, 1, 2))
    with Session.open(path) as session:
        coordinator = DiLoCoCoordinator()
        seen: list[GlobalState] = []
        coordinator.connect(session.nodes[0].node_id, seen.append)
        coordinator.run_training(CONFIG, session.nodes, session.recording(provider))
        state = session.state()
        assert state.avg_loss == seen[0].avg_loss == 1.0
        assert state.samples == [1, 1, 1]
        assert {name: list(vector) for name, vector in state.global_weights.items()} == {"w": [1.0, 1.0]}
        assert provider.received[0].weights_digest == state.weights_digest == session.head().weights_digest


def test_credits_of_a_session_are_those_of_the_credit_tracker(path: Path) -> None:
    coordinator = DiLoCoCoordinator()
    with Session.open(path) as session:
        provider = session.recording(InTurns((0, 1), (1, 2), (0,), (0, 1, 2)))
        coordinator.run_training(CONFIG, session.nodes, provider)
        tracked = coordinator.credit_tracker.all_credits()
        assert session.credits() == tracked
        assert [tracked[node.node_id] for node in session.nodes] == [1 + 3 + 4, 1 + 2 + 4, 2 + 4]
    assert ledger.verify(path / "log.sqlite").credits == tracked


def test_any_part_of_the_nodes_may_make_a_round(path: Path) -> None:
    turns = ((0,), (1, 2), (0,), (2,), (1,))
    with Session.open(path) as session:
        session.train(InTurns(*turns))
        nodes = [node.node_id for node in session.nodes]
    assert ledger.verify(path / "log.sqlite").rounds == len(turns)
    for round_id, turn in enumerate(turns, start=1):
        took_part = read_round(path, round_id).state.participating_nodes
        assert took_part == sorted(nodes[place] for place in turn)


def test_a_full_roster_of_64_nodes_fits_the_log(tmp_path: Path) -> None:
    path = create(recipe(global_rounds=2, num_nodes=64), 64, tmp_path / "crowd")
    train(path)
    assert len(ledger.verify(path / "log.sqlite").credits) == 64


def test_a_session_goes_on_after_its_last_committed_round(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Session.open(path) as session:
        session.train(Interrupted(CONFIG, at_round=4))
    assert ledger.verify(path / "log.sqlite").rounds == 3
    with Session.open(path) as session:
        provider = InTurns()
        session.train(provider)
        ((round_id, state),) = provider.asked
        assert (round_id, state.round_id, set(state.global_weights)) == (4, 3, {"weight", "bias"})
        result = session.train(SyntheticProvider(CONFIG))
        assert session.finished
        again = session.state()
    whole = create(CONFIG, 3, tmp_path / "whole")
    with Session.open(whole) as session:
        expected = session.train(SyntheticProvider(CONFIG))
        for name, vector in session.state().global_weights.items():
            np.testing.assert_array_equal(vector, again.global_weights[name])
    same = ("final_loss", "rounds_completed", "total_samples")
    assert [getattr(result, name) for name in same] == [getattr(expected, name) for name in same]


def test_a_finished_session_takes_no_further_round(path: Path) -> None:
    train(path)
    with Session.open(path) as session:
        result = session.train(InTurns((0,)))
        assert (result.rounds_completed, session.head().round_id) == (5, 5)


TRAIN_FOR_LONG = """
import sys
from pathlib import Path
from paceline.federation.session import Session
from paceline.federation.synthetic import SyntheticProvider

class Telling(SyntheticProvider):
    def receive_state(self, state, nodes):
        print(state.round_id, flush=True)

with Session.open(Path(sys.argv[1])) as session:
    print(0, flush=True)
    session.train(Telling(session.config))
"""


def begin_elsewhere(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN_FOR_LONG, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_what_a_killed_process_committed_is_there_and_goes_on(tmp_path: Path) -> None:
    path = create(recipe(global_rounds=100_000), 3, tmp_path / "session")
    with begin_elsewhere(path) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(5)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split()]
    with Session.open(path) as session:
        done = session.head().round_id
        assert told[-1] <= done <= told[-1] + 1
        assert set(session.state().global_weights) == {"weight", "bias"}
        with pytest.raises(KeyboardInterrupt):
            session.train(Interrupted(session.config, at_round=done + 2))
    assert ledger.verify(path / "log.sqlite").rounds == done + 1


def test_two_processes_never_write_to_one_session(tmp_path: Path) -> None:
    path = create(recipe(global_rounds=100_000), 3, tmp_path / "session")
    with begin_elsewhere(path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "0\n"
        with pytest.raises(IdentityInUse, match=f"another process trains in .*pid {child.pid}"):
            Session.open(path).__enter__()
        assert read_round(path, 0).state.round_id == 0  # looking is allowed
        child.kill()
    with Session.open(path) as session:
        assert not session.finished


def test_a_round_that_the_coordinator_refuses_is_not_committed(path: Path) -> None:
    class Uneven(UpdateProvider):
        def get_updates(
            self, round_id: int, state: GlobalState, nodes: list[FederatedNode]
        ) -> list[LocalUpdate]:
            return [
                LocalUpdate(
                    node_id=node.node_id,
                    round_id=round_id,
                    gradients={"w": [1.0] * length},
                    loss=0.0,
                    samples_used=1,
                )
                for length, node in enumerate(nodes, start=1)
            ]

    with Session.open(path) as session, pytest.raises(ValueError, match="has 1 values"):
        session.train(Uneven())
    assert ledger.verify(path / "log.sqlite").rounds == 0
    assert not (path / "averages").exists()


def test_a_stranger_is_named_and_nothing_is_committed(path: Path) -> None:
    update = LocalUpdate(node_id="me", round_id=1, gradients={"w": [1.0]}, loss=0.0, samples_used=1)
    with Session.open(path) as session:
        with pytest.raises(ValueError, match="node 'me' is none of the 3 nodes of this session"):
            session.commit(GlobalState(round_id=1, global_weights={"w": [1.0]}), [update])
        assert session.head().round_id == 0
    assert not (path / "averages").exists()


def test_a_tampered_row_is_found(path: Path) -> None:
    train(path)
    log = path / "log.sqlite"
    with closing(sqlite3.connect(log)) as connection, connection:
        ((sealed,),) = connection.execute("SELECT sealed FROM commits WHERE round_id = 3").fetchall()
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        connection.execute("UPDATE commits SET sealed = ? WHERE round_id = 3", (changed,))
    with pytest.raises(HistoryBroken, match="round 3"):
        ledger.verify(log)
    with pytest.raises(LedgerError, match=r"round 3: .* begin another session"):
        Session.open(path).__enter__()
    with pytest.raises(LedgerError, match=r"round 3: .* begin another session"):
        read_round(path, 1)


def test_a_commit_that_credits_more_than_was_voted_for_is_found(path: Path) -> None:
    # By whoever holds the keys: all of them lie in the folder, and still a receipt can't be reused.
    train(path)
    log = path / "log.sqlite"
    with closing(LogReader(log)) as reader:
        commit = unseal(reader.links(0, 1)[0].commit)
    assert isinstance(commit, CommitRecord)
    state = commit.state.model_copy(update={"samples": [40, 40, 41]})
    from paceline.core.wire import seal
    from paceline.network.identity import load_or_create

    keys = [load_or_create(SessionFolder(path).key(f"node-00{number}")) for number in (1, 2, 3)]
    (key,) = [key for key in keys if key.peer_id == commit.peer_id]
    forged = seal(commit.model_copy(update={"state": state}), key)
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute(
            "UPDATE commits SET sealed = ?, digest = ? WHERE round_id = 1", (forged, state.digest())
        )
    with pytest.raises(HistoryBroken, match="round 1: its members, samples or loss"):
        ledger.verify(log)


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"num_nodes": 9}, {"model_name": "my Model"}])
def test_a_session_file_that_is_not_that_of_its_log_is_refused(path: Path, change: dict[str, object]) -> None:
    file = path / "session.json"
    document = json.loads(file.read_text())
    document["config"] |= change
    file.write_text(json.dumps(document))
    for look in (lambda: Session.open(path).__enter__(), lambda: read_round(path, 0)):
        with pytest.raises(ConfigError, match="is not that of its log"):
            look()


def test_a_key_that_is_gone_or_anothers_is_named(path: Path) -> None:
    key = SessionFolder(path).key("node-002")
    content = key.read_bytes()
    key.write_bytes(SessionFolder(path).key("node-001").read_bytes())
    with pytest.raises(IdentityError, match=r"node-002/identity\.key is that of another node"):
        Session.open(path).__enter__()
    key.unlink()
    with pytest.raises(IdentityError, match=r"node-002/identity\.key is gone"):
        Session.open(path).__enter__()
    assert not key.exists()
    key.write_bytes(content)
    key.chmod(0o600)
    train(path)


def test_a_session_whose_averages_are_gone_can_still_be_looked_at(path: Path) -> None:
    with Session.open(path) as session:
        session.train(InTurns((0,)))
    shutil.rmtree(path / "averages")
    with Session.open(path) as session, pytest.raises(CheckpointError, match="No such file"):
        session.train(InTurns())
    assert read_round(path, 1).last_round == 1


@pytest.mark.parametrize(
    ("changes", "nodes", "told"),
    [
        ({}, 65, "65 nodes: a round has room for 64"),
        ({}, 0, "0 nodes: a round needs one"),
        ({"local_steps": 100_001}, 1, "local_steps: found 100001, allowed: at most 100000"),
        ({"global_rounds": 10**8}, 1, "global_rounds: found 100000000, allowed: at most 10000000"),
        ({"batch_size": 2**48}, 1, "local_steps * batch_size: more samples"),
    ],
)
def test_a_recipe_that_fits_no_log_is_refused_and_leaves_nothing_behind(
    changes: dict[str, object], nodes: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        create(recipe(**changes), nodes)
    assert refused.value.cause.startswith(told)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ConfigError, match="is there already, and not empty"):
            create(CONFIG, 2, taken)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert create(CONFIG, 2, tmp_path) == tmp_path
    assert SessionFolder(tmp_path).read().config == CONFIG


def test_a_round_is_looked_up_with_the_credits_up_to_it(path: Path) -> None:
    train(path)
    status = read_round(path, 2)
    assert (status.state.round_id, status.last_round) == (2, 5)
    assert list(status.credits.values()) == [80, 80, 80]
    assert read_round(path, 0).credits == {}
    with pytest.raises(PacelineError) as refused:
        read_round(path, 7)
    assert refused.value.cause == "round 7 is not committed; the last one is 5"


def test_looking_at_a_session_leaves_its_folder_as_it_was(path: Path) -> None:
    train(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    read_round(path, 3)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_the_newest_session_is_the_one_written_to_last(tmp_path: Path) -> None:
    other = recipe(learning_rate=0.5)
    first, second, third = (
        create(config, nodes, tmp_path / f"{number}")
        for number, (config, nodes) in enumerate(((CONFIG, 2), (other, 2), (CONFIG, 3)))
    )
    assert newest(None, base=tmp_path) == third
    assert newest(other, base=tmp_path) == second
    assert newest(CONFIG, 2, base=tmp_path) == first
    assert newest(other, 3, base=tmp_path) is None
    train(first)
    assert newest(CONFIG, base=tmp_path) == first


def test_what_is_no_session_is_passed_over(path: Path) -> None:
    base = path.parent
    for name, content in (
        ("broken", "{"),
        ("other", '{"format": 2}'),
        (".new-1", (path / "session.json").read_text()),
    ):
        (base / name).mkdir()
        (base / name / "session.json").write_text(content)
        (base / name / "log.sqlite").touch()
    assert [found for found, _ in sessions(base)] == [path]


GOLDEN = """{
  "format": 1,
  "config": {
    "model_name": "my-model",
    "learning_rate": 0.0001,
    "batch_size": 32,
    "local_steps": 10,
    "global_rounds": 20,
    "num_nodes": 4
  },
  "nodes": [
    "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
  ]
}"""


def test_the_format_of_a_session_file_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text(GOLDEN)
    found = SessionFolder(tmp_path).read()
    assert found.model_dump_json(indent=2) == GOLDEN


@pytest.mark.parametrize("model", [SessionFile, RoundStatus], ids=lambda model: model.__name__)
def test_every_field_says_what_it_means(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    assert all("description" in field for field in schema["properties"].values())
    assert schema["additionalProperties"] is False


def test_a_session_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text(GOLDEN.replace('"format": 1', '"format": 2'))
    with pytest.raises(ConfigError, match=r"session\.json: format: found 2, allowed: 1"):
        SessionFolder(tmp_path).read()


def test_a_provider_that_only_gives_updates_can_be_recorded(path: Path) -> None:
    class Alike:
        get_updates = staticmethod(SyntheticProvider(CONFIG).get_updates)

    alike: Any = Alike()
    with Session.open(path) as session:
        assert session.train(alike).rounds_completed == CONFIG.global_rounds
        assert session.state().global_weights
