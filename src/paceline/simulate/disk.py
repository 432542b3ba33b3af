"""What survives a crash of a virtual peer: run log and checkpoints, with the rules of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from paceline.core import chain
from paceline.core.actions import Promise, contradiction
from paceline.core.chain import Link
from paceline.core.config import RunConfig
from paceline.core.credits import credit, fold
from paceline.core.records import GlobalState, Record, Vote
from paceline.core.rounds import Staged

Unseal = Callable[[bytes], Record]
State = tuple[str, str]
"""Digests of an anchor and a momentum: all that a virtual checkpoint holds."""
_KEEP = 3


class PromiseBroken(Exception):
    """A peer tried to take back what it had promised durably."""


def state_of(source: GlobalState | Vote | Staged) -> State:
    """Name the state that a commit, a vote or a result stands for.

    Args:
        source: Any of them.

    Returns:
        Its two digests.
    """
    return source.weights_digest, source.momentum_digest


@dataclass
class Disk:
    """A run log and a folder of checkpoints.

    Attributes:
        links: Rows of history.
        states: The genesis and every commit since.
        balances: Credits after the last commit.
        promised: The last promise.
        staged: Undecided results by round, one per attempt: as on a real shelf none replaces another.
        committed: Committed states by round.
    """

    states: list[GlobalState]
    links: list[Link] = field(default_factory=list)
    balances: dict[str, int] = field(default_factory=dict)
    promised: Promise = field(default_factory=Promise)
    staged: dict[int, frozenset[State]] = field(default_factory=dict)
    committed: dict[int, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.balances = fold(self.states)

    @property
    def head(self) -> GlobalState:
        """The last commit."""
        return self.states[-1]

    def remember(self, promise: Promise) -> None:
        """Make a promise durable.

        Args:
            promise: The promise.

        Raises:
            PromiseBroken: It contradicts the last one, by the rule of the real run log.
        """
        if broken := contradiction(self.promised, promise, self.head.round_id):
            raise PromiseBroken(broken)
        self.promised = promise

    def append(self, link: Link, run: RunConfig, unseal: Unseal) -> GlobalState:
        """Add a row after checking it against the last.

        Args:
            link: The row.
            run: The run's parameters.
            unseal: Turns sealed bytes into records.

        Returns:
            The new head.
        """
        state = chain.check_link(link, self.head, run, unseal).state
        self.states.append(state)
        self.links.append(link)
        self.balances = credit(self.balances, state)
        return state

    def stage(self, round_id: int, result: State) -> None:
        """Keep the result of an attempt beside those of others.

        Args:
            round_id: Its round.
            result: What it left.
        """
        self.staged[round_id] = self.staged.get(round_id, frozenset()) | {result}

    def holds(self, source: GlobalState | Vote) -> bool:
        """Tell whether a state is here, staged or committed.

        Args:
            source: Names the round and the digests.

        Returns:
            Whether it can be promoted, voted for, or lent.
        """
        wanted, round_id = state_of(source), source.round_id
        return self.committed.get(round_id) == wanted or wanted in self.staged.get(round_id, ())

    def recall(self, vote: Vote | None) -> Staged | None:
        """Find the result that was voted for, after a restart.

        Args:
            vote: The vote.

        Returns:
            The result if it is still here.
        """
        if vote is None or not self.holds(vote):
            return None
        return Staged(vote.plan_digest, *state_of(vote))

    def promote(self, head: GlobalState) -> bool:
        """Turn a staged result into the committed state of its round.

        Args:
            head: The commit.

        Returns:
            Whether it was here.
        """
        if head.round_id and not self.holds(head):
            return False
        self.committed[head.round_id] = state_of(head)
        return True

    def tidy(self) -> None:
        """Remove checkpoints that the last commits have made superfluous."""
        last = self.head.round_id
        self.committed = {r: s for r, s in self.committed.items() if r > last - _KEEP}
        self.staged = {r: s for r, s in self.staged.items() if r > last}
