"""The rounds that a watch knows: those that are settled, and those of which more may be heard."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from paceline.core.config import RunConfig
from paceline.core.overlap import Timetable
from paceline.core.records import CommitRecord, RoundReceipt
from paceline.watch.commits import Agreement, Footing, footing_of
from paceline.watch.picture import RoundView
from paceline.watch.rounds import Led, RoundFacts

_OPEN, _MOST_OPEN = 8, 24
_MOST_KEPT = 10_000


class Chronicle:
    """Rounds, from what was said of them.

    Attributes:
        run: The run's parameters.
        members: Those who are, or were, in a committed roster or founded the run, and those whose own event
            files are read: what anybody else says is heard only as far as there is room, and is in no total.
            Empty while none is known: then nobody can be told from a stranger.
        footing: The last commit that is settled: what is said of earlier rounds changes nothing any more.
        is_stale: Whether something was said since the last `refresh`.
    """

    def __init__(self, run: RunConfig) -> None:
        """Know of no round.

        Args:
            run: The run's parameters.
        """
        self.run = run
        self.footing = self._beginning = Footing(0, "", frozenset(run.quorum.founders))
        self.members = set(run.quorum.founders)
        self._vouched = set(run.quorum.founders)
        self._settled: dict[int, RoundView] = {}
        self._facts: dict[int, RoundFacts] = {}
        self._chain: list[CommitRecord] = []
        self._open: dict[int, RoundView] = {}
        self._proven: set[str] = set()
        self._counted, self._balances = 0, dict[str, int]()
        self._settled_voids = 0
        self.is_stale = True

    @property
    def tip(self) -> Footing:
        """The last commit that is known, as of the last `refresh`."""
        return footing_of(self._chain[-1]) if self._chain else self.footing

    @property
    def height(self) -> int:
        """The last round that is known to be committed, be it only from what peers tell."""
        return max([self.tip.round_id, *self._open])

    @property
    def whole_until(self) -> Footing:
        """The last round up to which all are known, from the first on, as of the last `refresh`."""
        if self.footing.round_id != self._counted:
            view = self._settled.get(self._counted)
            return _footing_of(view) if view else self._beginning
        whole = self.footing
        for commit in self._chain:
            if commit.state.round_id == whole.round_id + 1:
                whole = footing_of(commit)
        return whole

    @property
    def is_whole(self) -> bool:
        """Whether every commit up to the last is known."""
        return self.whole_until.round_id == self.height

    @property
    def voided(self) -> int:
        """Attempts that were given up in the committed rounds that are known."""
        return self._settled_voids + sum(len(view.voids) for view in self._open.values())

    def facts_of(self, round_id: int) -> RoundFacts | None:
        """Find where statements about a round belong.

        Args:
            round_id: The round.

        Returns:
            What was said of it so far, to be added to; None when it is settled, or none of the run's.
        """
        if not self.footing.round_id < round_id <= self.run.rounds:
            return None
        self.is_stale = True
        return self._facts.setdefault(round_id, RoundFacts(round_id, self.members))

    def add(self, commit: CommitRecord, receipts: Sequence[RoundReceipt], at: float) -> None:
        """Take in a row of a history that verifies.

        Args:
            commit: The commit.
            receipts: The receipts that back it.
            at: When it was made, in seconds since 1970.
        """
        round_id, digest = commit.state.round_id, commit.state.digest()
        self.members.update(commit.state.participating_nodes)
        facts = self.facts_of(round_id) or RoundFacts(round_id, self.members)
        facts.take(commit)
        for receipt in receipts:
            facts.take(receipt)
        facts.see(digest, at)
        known = self._settled.get(round_id)
        if round_id > self.footing.round_id:
            self._proven.add(digest)
        elif known is None or known.digest != digest:
            if known is not None:
                self._fall_back(round_id)
            self._settle(facts.view(commit, ()))

    def vouch_for(self, peer_id: str) -> None:
        """Take a peer for a member: its own event file is read.

        Args:
            peer_id: Who.
        """
        self._vouched.add(peer_id)
        self.members.add(peer_id)

    def recall(self, rounds: Iterable[RoundView]) -> None:
        """Begin with what was known before a restart.

        Args:
            rounds: Committed rounds, in order.
        """
        for view in rounds:
            self._settle(view)

    def refresh(self, standing_on: Mapping[str, Collection[str]], led: Led, expected: int) -> None:
        """Work out which commits count.

        Args:
            standing_on: Who said to stand on a commit, by its digest.
            led: Whose plans count.
            expected: The round that most peers work on. With more rounds than there can be, those nearest to
                it are kept.
        """
        if not self.is_stale:
            return
        self.is_stale = False
        if len(self._facts) > _MOST_OPEN:
            nearest = sorted(self._facts, key=lambda round_id: abs(round_id - expected))
            self._facts = {round_id: self._facts[round_id] for round_id in sorted(nearest[:_MOST_OPEN])}
        self._chain = Agreement(self.run, self._facts, standing_on, self._proven).chain_after(self.footing)
        self.members.update(*(commit.state.participating_nodes for commit in self._chain))
        commits = {commit.state.round_id: commit for commit in self._chain}
        self._open = {}
        for round_id, facts in sorted(self._facts.items()):
            commit = commits.get(round_id)
            view = facts.view(commit, led) if commit else facts.view_as_told()
            if view is not None:
                self._open[round_id] = view
        self._settle_old()

    def views(self, rounds: int | None) -> list[RoundView]:
        """List committed rounds.

        Args:
            rounds: How many of the latest; None for all.

        Returns:
            In their order.
        """
        if rounds is not None and len(self._open) >= rounds:
            return list(self._open.values())[len(self._open) - rounds :]
        settled = sorted(self._settled)
        if rounds is not None:
            settled = settled[-(rounds - len(self._open)) :]
        return [*(self._settled[round_id] for round_id in settled), *self._open.values()]

    def others_steps_after(self, round_id: int, timetable: Timetable) -> int:
        """Add up the steps of committed rounds, each times its members less one.

        Args:
            round_id: Rounds after this one count.
            timetable: The run's rounds.

        Returns:
            Their number.
        """
        views = [view for at, view in self._settled.items() if at > round_id]
        views += [view for at, view in self._open.items() if at > round_id]
        return sum(max(len(view.members) - 1, 0) * timetable.steps_of(view.round_id) for view in views)

    def in_progress(self, round_id: int, led: Led, begun: Collection[str]) -> RoundView:
        """Show a round that is not committed.

        Args:
            round_id: The round.
            led: Whose plans count.
            begun: Peers that train in it.

        Returns:
            How far it is.
        """
        facts = self._facts.get(round_id, RoundFacts(round_id, self.members))
        return facts.view(None, led, begun)

    def credits(self) -> dict[str, int]:
        """Fold the commits that are known.

        Returns:
            Sequences by peer id: all of them when `is_whole`, else a part.
        """
        balances = dict(self._balances)
        for view in [*self._uncounted(), *self._open.values()]:
            _credit(balances, view)
        return balances

    def _uncounted(self) -> list[RoundView]:
        return [view for round_id, view in sorted(self._settled.items()) if round_id > self._counted]

    def _settle_old(self) -> None:
        last = self.height - _OPEN
        for round_id in [round_id for round_id in self._open if round_id <= last]:
            self._settle(self._open.pop(round_id))
        if self.footing.round_id >= min([*self._facts, last + 1]):
            gone = self.footing.round_id
            self._chain = [commit for commit in self._chain if commit.state.round_id > gone]
            self._facts = {round_id: f for round_id, f in self._facts.items() if round_id > gone}
            self._proven &= {commit.state.digest() for commit in self._chain}

    def _fall_back(self, round_id: int) -> None:
        # What seemed settled from this round on was made up.
        for later in [known for known in self._settled if known >= round_id]:
            self._settled_voids -= len(self._settled.pop(later).voids)
        last = self._settled.get(max(self._settled, default=0))
        self.footing = self._beginning if last is None else _footing_of(last)
        self._counted, self._balances = 0, {}
        self._chain, self._open = [], {}
        self.members.clear()  # in place: whoever asks who is one holds this very set
        self.members.update(self._vouched, *(known.members for known in self._settled.values()))

    def _settle(self, view: RoundView) -> None:
        before = self._settled.get(view.round_id)
        self._settled[view.round_id] = view
        self.members.update(view.members)
        self._settled_voids += len(view.voids) - (len(before.voids) if before else 0)
        if view.round_id > self.footing.round_id:
            roster = frozenset(view.members) or self.footing.roster
            self.footing = Footing(view.round_id, view.digest, roster)
            self.is_stale = True
        if before is not None and view.round_id <= self._counted:
            self._counted, self._balances = 0, {}
        while (following := self._settled.get(self._counted + 1)) and following.members:
            _credit(self._balances, following)
            self._counted += 1
        if len(self._settled) > _MOST_KEPT:
            del self._settled[min(self._settled)]


def _footing_of(view: RoundView) -> Footing:
    return Footing(view.round_id, view.digest, frozenset(view.members))


def _credit(balances: dict[str, int], view: RoundView) -> None:
    for peer_id, samples in zip(view.members, view.samples, strict=True):
        balances[peer_id] = balances.get(peer_id, 0) + samples
