"""Which part of the model a round exchanges, after how many inner steps, and how far training may run ahead.

With P fragments, round r exchanges fragment p = (r - 1) mod P, and ends when H + ⌊(r - 1) / P⌋ H + ⌊p H / P⌋
inner steps are done in all (Streaming DiLoCo, arXiv 2501.18512): so every fragment is exchanged each H steps,
and one exchange follows the other. The run has as many steps as it would have with one fragment: near its
end all fragments are exchanged once more, one step after the other.

    >>> plain = Timetable(inner_steps=20, rounds=10)
    >>> [plain.steps_of(round_id) for round_id in (1, 2, 10)], plain.total_steps
    ([20, 20, 20], 200)
    >>> streaming = Timetable(inner_steps=20, rounds=9, fragments=3)
    >>> [streaming.steps_of(round_id) for round_id in range(1, 10)], streaming.total_steps
    ([20, 6, 7, 7, 6, 7, 5, 1, 1], 60)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from paceline.core.records import Frozen

_PATIENCE = 4  # a commit that is later than a quarter of the inner steps is waited for


class OverlapConfig(Frozen):
    """How training goes on while a round is exchanged; by default it waits, and everything is exchanged."""

    fragments: Annotated[int, Field(ge=1, le=1024)] = 1
    """P: parts of the model, one of which each round exchanges: block b is in part b mod P. `rounds` counts
    exchanges and has to be a multiple; each part is exchanged once in `inner_steps`."""
    delay_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many inner steps after it was sent a part's new anchor goes into the local weights. Training goes
    on meanwhile; it waits for a commit that is later than that and than a quarter of `inner_steps`. 0: it
    waits at once."""
    apply: Literal["drift", "mix"] = "drift"
    """What then becomes of the local weights: `drift` keeps what was learned since, on top of the new anchor;
    `mix` takes the mean of the new anchor and the local weights."""


@dataclass(frozen=True)
class Timetable:
    """The rounds of a run.

    Guarantees:
        Every fragment is exchanged each `inner_steps`.
        A run has as many steps whatever its number of fragments.
        Every round has a step at least.

    Attributes:
        inner_steps: H.
        rounds: Rounds until the run is finished, a multiple of `fragments`.
        fragments: P, at most H.
        delay_steps: After how many steps a new anchor is taken over; 0 for at once.
    """

    inner_steps: int
    rounds: int
    fragments: int = 1
    delay_steps: int = 0

    @property
    def total_steps(self) -> int:
        """Inner steps of the whole run."""
        return self.inner_steps * self.rounds // self.fragments

    @property
    def is_plain(self) -> bool:
        """Whether this is plain DiLoCo: a round exchanges everything, and training waits for it."""
        return self.fragments == 1 and self.delay_steps == 0

    def fragment_of(self, round_id: int) -> int:
        """Choose what a round exchanges.

        Args:
            round_id: The round, from 1.

        Returns:
            The fragment, from 0.
        """
        return (round_id - 1) % self.fragments

    def ends_at(self, round_id: int) -> int:
        """Tell when a round's exchange begins.

        Args:
            round_id: The round; 0 for the beginning of the run.

        Returns:
            Inner steps of the whole run up to then.
        """
        if round_id <= 0:
            return 0
        turn, fragment = divmod(round_id - 1, self.fragments)
        due = (turn + 1) * self.inner_steps + fragment * self.inner_steps // self.fragments
        return min(due, self.total_steps - (self.rounds - round_id)) if round_id <= self.rounds else due

    def steps_of(self, round_id: int) -> int:
        """Count a round's inner steps.

        Args:
            round_id: The round, from 1.

        Returns:
            Its steps, at least 1.
        """
        if round_id > self.rounds:
            return self.inner_steps  # nobody trains there
        return self.ends_at(round_id) - self.ends_at(round_id - 1)

    def most_ahead(self, round_id: int) -> int:
        """Tell how many steps of the next round a peer may do before this one is committed.

        Args:
            round_id: The round that is being exchanged.

        Returns:
            Steps; 0 where training waits.
        """
        if not self.delay_steps or round_id >= self.rounds:
            return 0
        return min(max(self.delay_steps, self.inner_steps // _PATIENCE), self.steps_of(round_id + 1))


def check_overlap(overlap: OverlapConfig, inner_steps: int, rounds: int, layers: int) -> None:
    """Refuse an overlap that does not fit its run.

    Args:
        overlap: The overlap.
        inner_steps: The run's.
        rounds: The run's.
        layers: Blocks of its model.

    Raises:
        ValueError: Says which number has to change, and to what.
    """
    fragments, delay = overlap.fragments, overlap.delay_steps
    if fragments > layers:
        raise ValueError(
            f"overlap.fragments is {fragments}, but the model has {layers} blocks, and every fragment needs "
            f"one: take {layers} fragments at most"
        )
    if fragments > inner_steps:
        raise ValueError(
            f"overlap.fragments is {fragments}, but inner_steps is {inner_steps}: a round has a step at least"
        )
    if rounds % fragments:
        below = rounds - rounds % fragments
        fitting = f"{below} or {below + fragments}" if below else f"{fragments}"
        raise ValueError(
            f"rounds is {rounds}, but has to be a multiple of overlap.fragments = {fragments}, so that all "
            f"fragments are exchanged equally often: take {fitting}"
        )
    if delay >= max(1, inner_steps // fragments) and delay:
        raise ValueError(
            f"overlap.delay_steps is {delay}, but has to be less than the {inner_steps // fragments} steps "
            f"between two exchanges (inner_steps / fragments); a quarter of them or less learns best"
        )
