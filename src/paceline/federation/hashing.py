"""Hashes of gradients that anybody can recompute with the standard library.

>>> import hashlib, json
>>> gradients = {"weight": [0.01, -0.02], "bias": [0.001]}
>>> text = json.dumps(gradients, sort_keys=True)
>>> HashVerifier().compute_hash(gradients) == hashlib.sha256(text.encode("utf-8")).hexdigest()
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from paceline.core.vectors import Dense, as_list
from paceline.federation.models import LocalUpdate

_SLICE = 1 << 16
"""Values spelled at once: a vector's text is several times its size and need not be in memory as a whole."""


class HashVerifier:
    """Computes and compares SHA-256 hashes of gradients.

    Guarantees:
        Anybody can recompute a hash with the standard library.
    """

    def compute_hash(self, gradients: Mapping[str, list[float] | Dense]) -> str:
        """Hash gradients: SHA-256 over `json.dumps(gradients, sort_keys=True)` in UTF-8.

        Args:
            gradients: Vector by parameter name. An array or tensor hashes as what its `tolist` gives.

        Returns:
            64 lowercase hexadecimal digits.
        """
        digest = hashlib.sha256()
        for text in _spelled(gradients):
            digest.update(text.encode())
        return digest.hexdigest()

    def verify(self, update: LocalUpdate, expected_hash: str) -> bool:
        """Compare an update's gradients with a hash.

        Args:
            update: The update.
            expected_hash: What `compute_hash` should give, to the letter.

        Returns:
            Whether it does.
        """
        return self.compute_hash(update.gradients) == expected_hash


def _spelled(gradients: Mapping[str, list[float] | Dense]) -> Iterator[str]:
    # What `json.dumps` gives for the whole, in pieces.
    yield "{"
    for place, name in enumerate(sorted(gradients)):
        yield f"{', ' if place else ''}{json.dumps(name)}: ["
        vector = gradients[name]
        for begin in range(0, len(vector), _SLICE):
            values = as_list(vector[begin : begin + _SLICE])
            yield f"{', ' if begin else ''}{json.dumps(values)[1:-1]}"
        yield "]"
    yield "}"
