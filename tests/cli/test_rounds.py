"""Claims about the progress of a simulation: silent at first, on standard error, and out of the way."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from paceline.cli.rounds import PATIENCE_S, Rounds, Watched
from paceline.core.records import GlobalState
from paceline.federation.models import FederatedNode
from tests.federation.sessions import InTurns

START = GlobalState(round_id=0)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_elsewhere_than_on_a_terminal_a_line_is_told_now_and_then() -> None:
    clock, told = Clock(), io.StringIO()
    with Rounds(9, Console(file=told, width=80), clock) as rounds:
        for round_id, clock.now in enumerate((0.1, PATIENCE_S, PATIENCE_S + 1, 2 * PATIENCE_S), start=1):
            rounds.done(round_id, 0.25)
    assert told.getvalue() == "round 2 of 9: loss 0.25\nround 4 of 9: loss 0.25\n"


def test_a_short_simulation_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Rounds(2, clock=clock) as rounds:
        rounds.done(1, 0.5)
        rounds.done(2, 0.5)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_is_gone_in_the_end() -> None:
    told = io.StringIO()
    screen = Console(file=told, width=80, force_terminal=True, legacy_windows=False)
    with Rounds(2, screen) as rounds:
        rounds.show()
        rounds.done(1, 0.5)
    assert "1/2" in told.getvalue()
    assert told.getvalue().endswith("\x1b[2K")  # the line is erased


def test_a_bar_that_was_never_due_leaves_no_trace() -> None:
    told = io.StringIO()
    with Rounds(2, Console(file=told, force_terminal=True)) as rounds:
        rounds.done(1, 0.5)
    assert told.getvalue() == ""


def test_progress_goes_to_standard_error() -> None:
    assert Rounds(1)._screen.file is sys.stderr


def test_people_stop_a_training_by_an_empty_round() -> None:
    asked = [False]
    inner = InTurns((0,), (0,))
    watched = Watched(inner, Rounds(2), lambda: asked[0])
    nodes = [FederatedNode(node_id="a", address="b")]
    assert len(watched.get_updates(1, START, nodes)) == 1
    watched.receive_state(GlobalState(round_id=1), nodes)
    assert [state.round_id for state in inner.received] == [1]
    asked[0] = True
    assert watched.get_updates(2, START, nodes) == []
    assert [round_id for round_id, _ in inner.asked] == [1]
