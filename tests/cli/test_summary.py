"""Claims about what `paceline up` says at the end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from paceline.cli.progress import Progress, Rider
from paceline.cli.summary import RunSummary, show, summarise, synchronous_bytes
from paceline.core.events import Evaluated, ReduceEnded, RoundCommitted
from paceline.core.nicknames import named, nickname
from paceline.ledger import Ledger
from paceline.peer.folders import RunFolder
from tests.core.history import genesis_of, history, peers, run_of

KEYS = peers(2)
RUN = run_of(KEYS, rounds=3, inner_steps=10)
LINKS = history(RUN, KEYS, 3)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def log(folder: RunFolder, number: int, rounds: int = 3) -> None:
    with Ledger.open(folder.peer(number).log, RUN, genesis_of(RUN)) as ledger:
        for link in LINKS[:rounds]:
            ledger.append(link)


def over(*ended: str | None) -> Progress:
    riders = {
        f"peer-{number}": Rider(f"peer-{number}", key.peer_id, parameters=1000, ended=reason)
        for number, (key, reason) in enumerate(zip(KEYS, ended, strict=True), start=1)
    }
    progress = Progress(RUN, riders)
    for round_id in range(4):
        progress.take("peer-1", Evaluated(round_id=round_id, val_loss=5.0 - round_id))
    progress.take("peer-1", RoundCommitted(round_id=3, loss=2.5, members=2, digest="0a" * 32, sync_s=1.0))
    for name in riders:
        event = ReduceEnded(round_id=1, attempt=0, complete=True, seconds=1.0, bytes_in=900, bytes_out=1000)
        progress.take(name, event)
    return progress


def shown(summary: RunSummary, progress: Progress, folder: RunFolder) -> str:
    screen = Console(file=io.StringIO(), width=200)
    show(summary, progress, folder, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_a_finished_run_is_summed_up(folder: RunFolder) -> None:
    log(folder, 1)
    log(folder, 2)
    summary = summarise(over("", ""), folder, 61.0)
    assert summary.success
    assert (summary.val_loss_before, summary.val_loss_after, summary.train_loss) == (5.0, 2.0, 2.5)
    assert (summary.rounds_committed, summary.attempts_voided) == (3, 0)
    assert summary.credits == {key.peer_id: 24 for key in KEYS}
    assert summary.bytes_sent == {"peer-1": 1000, "peer-2": 1000}
    assert summary.bytes_synchronous == 4 * 1000 * 30
    text = shown(summary, over("", ""), folder)
    for words in (
        "5.000 → 2.000 nats per token (-60%)",
        "3 committed, none voided",
        "1 kB per peer",
        "120 kB, 120 times as much",
        "all logs verify and hold the same chain",
        f"peer-1  {named(KEYS[0].peer_id)} ",
        KEYS[0].peer_id,
        str(folder.chart),
    ):
        assert words in text


def test_synchronous_training_sends_nearly_twice_the_gradient_per_step_and_peer() -> None:
    assert synchronous_bytes(4, 1_000_000, 10) == 60_000_000
    assert synchronous_bytes(1, 1_000_000, 10) == 0


def test_a_peer_that_died_is_named_with_its_reason_and_its_shorter_log_is_no_failure(
    folder: RunFolder,
) -> None:
    log(folder, 1)
    log(folder, 2, rounds=1)
    progress = over("", "killed by SIGKILL")
    summary = summarise(progress, folder, 1.0)
    assert summary.success
    assert summary.ended_early == {"peer-2": "killed by SIGKILL"}
    assert f"peer-2 {nickname(KEYS[1].peer_id)} did not finish: killed by SIGKILL" in shown(
        summary, progress, folder
    )


def test_a_log_that_does_not_verify_is_a_failure(folder: RunFolder) -> None:
    log(folder, 1)
    log(folder, 2)
    content = folder.peer(2).log.read_bytes()
    folder.peer(2).log.write_bytes(content.replace(LINKS[1].commit[-40:], bytes(40)))
    summary = summarise(over("", ""), folder, 1.0)
    assert not summary.success
    assert f"{folder.peer(2).log}, round 2" in summary.error


def test_a_run_that_did_not_reach_its_end_is_a_failure(folder: RunFolder) -> None:
    log(folder, 1, rounds=2)
    summary = summarise(over("", ""), folder, 1.0)
    assert (summary.success, summary.error) == (False, "2 of 3 rounds are committed")


def test_a_run_without_evaluations_can_be_summed_up(folder: RunFolder) -> None:
    log(folder, 1)
    progress = Progress(RUN, {"peer-1": Rider("peer-1", ended="")})
    summary = summarise(progress, folder, 1.0)
    assert "not measured" in shown(summary, progress, folder)


def test_a_summary_is_a_documented_format(folder: RunFolder) -> None:
    log(folder, 1)
    summary = summarise(over("", ""), folder, 1.0)
    assert RunSummary.model_validate(json.loads(summary.model_dump_json())) == summary
    assert all(field.description for field in RunSummary.model_fields.values())
