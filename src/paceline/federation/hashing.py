"""Hashes of gradients that anybody can recompute with the standard library.

>>> import hashlib, json
>>> gradients = {"weight": [0.01, -0.02], "bias": [0.001]}
>>> text = json.dumps(gradients, sort_keys=True)
>>> HashVerifier().compute_hash(gradients) == hashlib.sha256(text.encode()).hexdigest()
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from paceline.core.vectors import Dense, as_list
from paceline.federation.models import LocalUpdate


class HashVerifier:
    """Computes and compares SHA-256 hashes of gradients."""

    def compute_hash(self, gradients: Mapping[str, list[float] | Dense]) -> str:
        """Hash gradients: SHA-256 over `json.dumps(gradients, sort_keys=True)` in UTF-8.

        Args:
            gradients: Vector by parameter name. An array or tensor hashes as what its `tolist` gives.

        Returns:
            64 lowercase hexadecimal digits.
        """
        spelled = {name: as_list(vector) for name, vector in gradients.items()}
        return hashlib.sha256(json.dumps(spelled, sort_keys=True).encode()).hexdigest()

    def verify(self, update: LocalUpdate, expected_hash: str) -> bool:
        """Compare an update's gradients with a hash.

        Args:
            update: The update.
            expected_hash: What `compute_hash` should give, to the letter.

        Returns:
            Whether it does.
        """
        return self.compute_hash(update.gradients) == expected_hash
