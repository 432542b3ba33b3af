"""Two live processes with one key: the one that started later gives way.

They would break each other's promises, and with them what a quorum rests on. So a starting peer listens
before it first speaks, and from then on every heartbeat tells when its author started.
"""

from __future__ import annotations

import secrets
import time

from paceline.core.errors import IdentityError
from paceline.core.nicknames import named
from paceline.core.records import PeerRecord, Phase
from paceline.core.voice import HEARTBEAT_S
from paceline.network.board import Board

_LISTEN_S = 3 * HEARTBEAT_S
_LOOK_AGAIN_S = 0.3
_CLOCK_SKEW_S = 3.0  # a swarm's clocks agree that well, or hivemind does not let the peer in


def new_boot_id(now: float) -> str:
    """Name a start of a peer.

    Args:
        now: Seconds since 1970.

    Returns:
        16 letters; of two starts, the later one's compare greater.
    """
    return f"{int(now * 1000):012x}{secrets.token_hex(2)}"


class TwinFound(IdentityError):
    """Another live process speaks under this peer's identity."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(
            f"another live peer uses this identity ({named(peer_id)})",
            "give each peer a state_dir, and so a key, of its own",
        )


class Listening:
    """Listens, while a peer gets ready, for heartbeats that carry its own name.

    Guarantees:
        A start is refused while another process keeps this identity's heartbeat up.
        A start after a crash or a farewell is not refused.
        A peer whose identity has been silent waits for nothing.
    """

    def __init__(self, board: Board, me: str) -> None:
        """Take a first look at the board.

        Args:
            board: A view of its own: what is read here is not read again.
            me: This peer's id.
        """
        self._board, self._me = board, me
        self._began_at = time.time()
        self._is_known = bool(self._heard())
        self._until = time.monotonic() + _LISTEN_S

    def refuse_twin(self) -> None:
        """Return once it is clear that nobody else speaks under this identity.

        Raises:
            TwinFound: Somebody does.
        """
        while self._is_known:
            is_last = time.monotonic() >= self._until  # getting ready may have taken longer than listening
            # A replica may have kept back what a dead predecessor said last: that is no sign of life.
            if any(record.seq / 1000 > self._began_at - _CLOCK_SKEW_S for record in self._heard()):
                raise TwinFound(self._me)
            if is_last:
                return
            time.sleep(_LOOK_AGAIN_S)

    def _heard(self) -> list[PeerRecord]:
        # Nobody hands a twin what its namesake posts: it has to be looked for.
        records = [posted.record for posted in self._board.read(("peer",), searches=True)]
        mine = [r for r in records if isinstance(r, PeerRecord) and r.peer_id == self._me]
        return [record for record in mine if record.phase is not Phase.LEAVE]
