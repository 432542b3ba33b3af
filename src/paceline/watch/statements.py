"""What is kept of what is said, when anybody may say anything and identities cost nothing.

    receipts = Statements[Ballot, RoundReceipt](members)
    receipts.keep(record.ballot, record)

Members are those who are, or were, in a committed roster. There is always room for what they say; all others
together have a fixed share.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from typing import Generic, TypeVar

from paceline.core.records import CommitRecord, RoundPlan, RoundReceipt

MOST_STRANGERS = 128
"""So many authors that are no members are heard on one matter: two rosters of newcomers at once."""
_MOST_OF_A_MEMBER, _MOST_OF_A_STRANGER = 16, 4

Place = TypeVar("Place", bound=Hashable)
Statement = TypeVar("Statement", RoundPlan, RoundReceipt, CommitRecord)


def has_room(author: str, kept: Collection[str], members: Collection[str]) -> bool:
    """Decide whether somebody is heard on a matter.

    Args:
        author: Who speaks.
        kept: Those who were heard on it.
        members: For whom there is always room.

    Returns:
        Whether it is a member, was heard before, or is among the first strangers.
    """
    if author in kept or author in members:
        return True
    return len(kept) < MOST_STRANGERS or sum(each not in members for each in kept) < MOST_STRANGERS


class Statements(Generic[Place, Statement]):
    """Statements of one kind about one round, by author and place.

    Guarantees:
        Of each author only the latest few are kept.
        Strangers crowd out no member and are in no total.
    """

    def __init__(self, members: Collection[str]) -> None:
        """Begin with none.

        Args:
            members: Members, now and whenever something is said later.
        """
        self._members = members
        self._kept: dict[str, dict[Place, Statement]] = {}

    def __iter__(self) -> Iterator[Statement]:
        """List what is kept, in no order that means anything.

        Yields:
            The statements.
        """
        for mine in self._kept.values():
            yield from mine.values()

    def keep(self, place: Place, statement: Statement) -> bool:
        """Keep a statement; of two of one author in one place the later counts.

        Args:
            place: What it is about.
            statement: The statement.

        Returns:
            Whether it is kept now.
        """
        author = statement.peer_id
        if not has_room(author, self._kept, self._members):
            return False
        mine = self._kept.setdefault(author, {})
        if place not in mine or _order(mine[place]) < _order(statement):
            mine[place] = statement
        if len(mine) > (_MOST_OF_A_MEMBER if author in self._members else _MOST_OF_A_STRANGER):
            del mine[min(mine, key=lambda each: _order(mine[each]))]
        return mine.get(place) == statement


def _order(statement: RoundPlan | RoundReceipt | CommitRecord) -> tuple[int, str]:
    return statement.seq, statement.model_dump_json()
