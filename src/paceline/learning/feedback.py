"""Error feedback: what a codec loses of a pseudo-gradient is sent along with the next one (SparseLoCo).

    e ← βe + Δ;   d = decode(encode(e)) travels;   e ← e − d

The residual e changes only when the round that d travelled in is committed; until then a failed attempt can
be made again from the same e. It lives in memory only: a peer that starts again, joins or repairs itself has
none.
"""

from __future__ import annotations

import numpy as np

from paceline.learning.codecs.codec import Codec, tiles
from paceline.learning.flat import Flat, check_flat

_PIECE = 1 << 19


class Feedback:
    """What a peer still owes the swarm.

    Guarantees:
        What was sent and what remains add up to what was meant.
        A round that fails leaves the residual as it was.
        A codec that loses little costs no memory here.

    Attributes:
        residual: e, float32 `[num_elements]`; empty where the codec needs none.
    """

    def __init__(self, codec: Codec, num_elements: int) -> None:
        """Begin without a residual.

        Args:
            codec: How pseudo-gradients travel.
            num_elements: Length of the flat vector.
        """
        self._codec = codec
        self._decay = np.float32(codec.feedback or 0.0)
        self._size = num_elements
        self._pending: str | None = None
        self.residual: Flat = np.zeros(num_elements if codec.feedback is not None else 0, np.float32)

    @property
    def is_needed(self) -> bool:
        """Whether the codec loses so much that it must be made up for."""
        return self._codec.feedback is not None

    def add(self, values: Flat) -> None:
        """Add what is owed to a pseudo-gradient: Δ becomes βe + Δ.

        Args:
            values: Δ, float32 `[num_elements]`, changed in place.
        """
        check_flat(values, self._size)
        self._pending = None
        if self.is_needed and self._decay:
            for tile in tiles(self.residual.size):
                values[tile] += self.residual[tile] * self._decay

    def subtract(self, values: Flat, key: str) -> None:
        """Subtract what travelled: βe + Δ becomes the residual that a commit will leave.

        Args:
            values: What `add` made, float32 `[num_elements]`, changed in place. It must stay as it is until
                `settle`; `add` gives it up.
            key: Names the attempt in which it travelled.
        """
        check_flat(values, self._size)
        if not self.is_needed:
            return
        for tile in tiles(values.size, _PIECE):  # the grain divides it: so it was cut for sending, too
            piece = values[tile]
            self._codec.accumulate(self._codec.encode(piece), piece.size, -1.0, piece)
        self._pending = key

    def settle(self, values: Flat, key: str, *, took_part: bool) -> None:
        """Take the residual of the attempt that was committed.

        When that is another attempt than `subtract` was last told of, nobody knows any more what is left of
        it: then the residual stays if this peer's values are not in the commit, and is forgotten if they are,
        since nothing may be sent twice.

        Args:
            values: What `subtract` left.
            key: Names the committed attempt.
            took_part: Whether this peer's values are in it.
        """
        if not self.is_needed:
            return
        check_flat(values, self._size)
        if took_part and self._pending == key:
            np.copyto(self.residual, values)
        elif took_part:
            self.residual[:] = 0
        self._pending = None

    def forget(self) -> None:
        """Owe nothing: the residual belongs to a state that this peer no longer stands on."""
        self.residual[:] = 0
        self._pending = None
