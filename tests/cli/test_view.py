"""Claims about what people see while a local run goes, and how it stands behind that."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from paceline.cli.chart import draw_losses
from paceline.cli.drawing import draw, round_line, sparkline
from paceline.cli.live import Lines, Picture, Telling, view_on
from paceline.cli.progress import Progress, Rider
from paceline.cli.screen import clock, count, harmless, size
from paceline.core.config import RunConfig
from paceline.core.events import (
    AttemptVoided,
    CoordinatorChanged,
    CreditsCounted,
    Evaluated,
    Event,
    PeerRestarting,
    PeerStarted,
    PeerStopped,
    PhaseChanged,
    QuorumMissing,
    ReduceEnded,
    RoundCommitted,
    StepDone,
)
from paceline.core.nicknames import named
from tests.core.history import peers

FIRST, SECOND = (key.peer_id for key in peers(2))
RUN = RunConfig(name="seen", inner_steps=10, rounds=3)


def started(peer_id: str) -> PeerStarted:
    return PeerStarted(
        peer_id=peer_id,
        run_id=RUN.run_id,
        multiaddrs=(),
        metrics_address="127.0.0.1:1",
        round_id=1,
        parameters=1000,
        device="cpu",
    )


def step(round_id: int, inner_step: int, loss: float = 3.0) -> StepDone:
    return StepDone(round_id=round_id, inner_step=inner_step, of_steps=10, loss=loss, tokens=500, seconds=0.5)


def reduced(complete: bool = True, cause: str = "", attempt: int = 0) -> ReduceEnded:
    return ReduceEnded(
        round_id=1, attempt=attempt, complete=complete, seconds=1.0, bytes_in=5, bytes_out=7, cause=cause
    )


def committed(round_id: int, loss: float = 2.5) -> RoundCommitted:
    return RoundCommitted(round_id=round_id, loss=loss, members=2, digest="0a" * 32, sync_s=1.5)


def progress_after(*told: tuple[str, Event]) -> Progress:
    progress = Progress(RUN, {name: Rider(name) for name in ("peer-1", "peer-2")})
    for name, event in told:
        progress.take(name, event)
    return progress


RUNNING = (
    ("peer-1", started(FIRST)),
    ("peer-2", started(SECOND)),
    ("peer-1", Evaluated(round_id=0, val_loss=5.5)),
    ("peer-1", CoordinatorChanged(term=1, coordinator=FIRST, is_me=True)),
    ("peer-2", CoordinatorChanged(term=1, coordinator=SECOND, is_me=True)),
    ("peer-2", CoordinatorChanged(term=1, coordinator=FIRST, is_me=False)),
    ("peer-1", PhaseChanged(round_id=1, phase="train")),
    ("peer-1", step(1, 9, 4.0)),
    ("peer-1", step(1, 10, 3.0)),
    ("peer-1", reduced(complete=False, cause="a stall")),
    ("peer-1", AttemptVoided(round_id=1, attempt=0, cause="a stall")),
    ("peer-2", AttemptVoided(round_id=1, attempt=0, cause="a stall")),
    ("peer-1", reduced(attempt=1)),
    ("peer-1", committed(1)),
    ("peer-2", committed(1)),
    ("peer-1", CreditsCounted(round_id=1, balance=80)),
    ("peer-1", Evaluated(round_id=1, val_loss=2.75)),
    ("peer-1", PhaseChanged(round_id=2, phase="train")),
)


def test_progress_is_a_fold_over_the_peers_events() -> None:
    progress = progress_after(*RUNNING)
    rider = progress.riders["peer-1"]
    assert (rider.peer_id, rider.phase, rider.round_id, rider.inner_step) == (FIRST, "train", 2, 0)
    assert (rider.loss, rider.tokens_per_s, rider.balance) == (3.0, 1000.0, 80)
    assert (rider.bytes_in, rider.bytes_out) == (10, 14)
    assert progress.steps == {"peer-1": [(9, 4.0), (10, 3.0)]}
    assert (progress.losses, progress.val_losses) == ({1: 2.5}, {0: 5.5, 1: 2.75})
    assert progress.rounds_committed == 1


def test_an_attempt_that_all_members_void_counts_once() -> None:
    assert progress_after(*RUNNING).voided == {(1, 0)}


def test_the_front_is_whom_peers_came_to_follow_last() -> None:
    assert progress_after(*RUNNING).front_name == "peer-1 proud-mustang"


def test_a_peer_that_is_gone_no_longer_counts_towards_the_speed() -> None:
    progress = progress_after(*RUNNING)
    assert progress.tokens_per_s == 1000.0
    progress.end("peer-1", "killed by SIGKILL")
    assert progress.tokens_per_s == 0.0
    assert progress.riders["peer-1"].phase == "gone"


def test_a_peer_that_finished_says_so() -> None:
    progress = progress_after(("peer-1", PeerStopped(round_id=3, cause="finished")))
    progress.end("peer-1", "")
    assert progress.riders["peer-1"].finished
    assert progress.riders["peer-1"].phase == "finished"


def test_a_peer_that_left_before_the_end_says_what_kept_it() -> None:
    progress = progress_after(("peer-1", started(FIRST)), ("peer-2", RESTARTING))
    for name in ("peer-1", "peer-2"):
        progress.end(name, "")
    assert progress.riders["peer-1"].ended == "the run ended without it"
    assert progress.riders["peer-2"].ended == "the run ended without it (killed by SIGKILL)"


RESTARTING = PeerRestarting(cause="killed by SIGKILL", wait_s=1.04, restarts=1)


def test_a_peer_between_two_lives_restarts_and_has_no_speed() -> None:
    progress = progress_after(("peer-1", started(FIRST)), ("peer-1", step(1, 1)), ("peer-1", RESTARTING))
    assert progress.riders["peer-1"].phase == "restarting"
    assert progress.riders["peer-1"].ended is None
    assert progress.tokens_per_s == 0
    assert "restarting" in rendered(progress)
    progress.take("peer-1", started(FIRST))
    assert progress.riders["peer-1"].phase == "up"


def test_every_restart_is_told_with_its_reason() -> None:
    telling = Telling()
    told = "peer-2 ended: killed by SIGKILL; starts again in 1 s (restart 1)"
    assert [telling.line("peer-2", RESTARTING) for _ in range(2)] == [told, told]


def rendered(progress: Progress, lines: list[str] | None = None) -> str:
    screen = Console(file=io.StringIO(), width=110)
    screen.print(draw(progress, 75.0, lines or []))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_picture_shows_round_speed_every_peer_and_who_is_at_the_front() -> None:
    title, _, _, *rows = rendered(progress_after(*RUNNING), ["something happened"]).splitlines()
    assert f"{RUN.run_id}   round 2 of 3   1,000 tokens/s   1:15" in title
    assert rows[0].split()[:6] == ["▸", "peer-1", *named(FIRST).split(), "train", "2"]
    assert rows[0].split()[-4:] == ["0/10", "3.000", "1,000", "80"]
    assert rows[1].split()[:4] == ["peer-2", *named(SECOND).split(), "up"]
    assert rows[-2].endswith("2.750 nats per token")
    assert rows[-1] == "something happened"


def test_the_picture_can_be_drawn_before_anything_has_happened() -> None:
    assert "round 1 of 3" in rendered(progress_after())


def test_a_sparkline_goes_from_the_least_to_the_largest() -> None:
    assert sparkline([1.0, 2.0, 8.0]) == "▁▂█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(n) for n in range(100)])) == 40


def test_a_round_is_summed_up_in_one_line() -> None:
    assert round_line(progress_after(*RUNNING), 1) == (
        "round 1 of 3 committed by 2 peers, loss 2.500, validation 2.750, 1,000 tokens/s, "
        "peer-1 proud-mustang at the front"
    )


def test_without_a_terminal_the_view_is_plain_lines() -> None:
    assert isinstance(view_on(Console(file=io.StringIO()), 0.0), Lines)
    assert isinstance(view_on(Console(file=io.StringIO(), force_terminal=True), 0.0), Picture)


def test_lines_tell_each_round_once_and_after_its_evaluation() -> None:
    out = io.StringIO()
    progress = progress_after(("peer-1", Evaluated(round_id=0, val_loss=5.5)), ("peer-1", committed(1)))
    with view_on(Console(file=out, soft_wrap=True), time.monotonic()) as view:
        view.refresh(progress)
        assert out.getvalue() == ""
        progress.take("peer-1", Evaluated(round_id=1, val_loss=2.75))
        view.refresh(progress)
        view.refresh(progress)
        view.say("peer-2 ended: [a] reason")
    told = out.getvalue().splitlines()
    assert len(told) == 2
    assert "round 1 of 3 committed by 2 peers, loss 2.500, validation 2.750" in told[0]
    assert told[1].endswith("peer-2 ended: [a] reason")


def test_lines_do_not_wait_for_an_evaluation_where_none_is_made() -> None:
    out = io.StringIO()
    with view_on(Console(file=out), time.monotonic()) as view:
        view.refresh(progress_after(("peer-1", committed(1))))
    assert "round 1" in out.getvalue()


def test_a_picture_draws_on_a_terminal_and_leaves_its_last_state_there() -> None:
    out = io.StringIO()
    with view_on(Console(file=out, force_terminal=True, width=110), time.monotonic()) as view:
        view.say("peer-2 ended")
        view.refresh(progress_after(*RUNNING))
    assert "peer-2 ended" in out.getvalue()
    assert "▸" in out.getvalue()


def test_what_several_peers_report_is_told_once() -> None:
    telling = Telling()
    void = AttemptVoided(round_id=1, attempt=0, cause="a stall")
    assert telling.line("peer-1", void) == "peer-1: round 1: attempt 0 given up: a stall"
    assert telling.line("peer-2", void) == ""


def test_who_is_at_the_front_is_told_by_the_name_that_people_know_here() -> None:
    telling, led = Telling(), CoordinatorChanged(term=2, coordinator=FIRST, is_me=False)
    assert telling.line("peer-2", led) == f"{named(FIRST)} is at the front in term 2"
    telling.line("peer-1", started(FIRST))
    assert telling.line("peer-2", led) == "peer-1 proud-mustang is at the front in term 2"
    assert telling.line("peer-1", led) == ""


@pytest.mark.parametrize(
    "event", [step(1, 1), committed(1), reduced(), CreditsCounted(round_id=1, balance=1)]
)
def test_routine_is_not_told(event: Event) -> None:
    assert Telling().line("peer-1", event) == ""


@pytest.mark.parametrize("event", [reduced(complete=False, cause="a stall"), QuorumMissing(got=1, needed=2)])
def test_trouble_is_told(event: Event) -> None:
    assert Telling().line("peer-1", event).startswith("peer-1: ")


def test_the_loss_curve_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    draw_losses(progress_after(*RUNNING), path)
    with Image.open(path) as picture:
        assert picture.size == (960, 540)
        assert len(set(picture.convert("L").tobytes())) > 50
    draw_losses(progress_after(), path)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (1234, "1,234"), (1_300_000, "1.3 M"), (2.5e9, "2.5 G")]
)
def test_counts_are_short(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (512, "512 B"), (1500, "1.5 kB"), (2_600_000, "2.6 MB"), (5e12, "5.0 TB")],
)
def test_sizes_are_in_decimal_units(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(2.9, "0:02"), (62, "1:02"), (3723, "1:02:03")])
def test_durations_are_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_what_a_terminal_would_obey_is_replaced() -> None:
    assert harmless("a\x1b[2Jb\n\tc\x07\x9b") == "a\ufffd[2Jb\n\tc\ufffd\ufffd"
