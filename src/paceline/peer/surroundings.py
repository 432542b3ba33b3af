"""What a worker, and those that it hands work to, have around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paceline.core.events import Emit
from paceline.ledger import Ledger
from paceline.network.averager import Averager
from paceline.peer.catch_up import CatchUp
from paceline.peer.learner import Learner
from paceline.peer.pacer import Pacer
from paceline.peer.shelf import Shelf


@dataclass(frozen=True)
class Surroundings:
    """What a worker works with.

    Attributes:
        learner: Model, data, inner and outer state.
        averager: The all-reduce.
        pacer: The round protocol.
        ledger: The run log.
        shelf: Checkpoints.
        catch_up: Fetches what is missing.
        emit: Tells facts.
        check_children: Raises when one of the peer's processes is dead.
        note_neighbours: Writes down who is connected, for a start without a seed.
    """

    learner: Learner
    averager: Averager
    pacer: Pacer
    ledger: Ledger
    shelf: Shelf
    catch_up: CatchUp
    emit: Emit
    check_children: Callable[[], None]
    note_neighbours: Callable[[], None]
