"""Trains one row, by whichever way it asks for."""

from __future__ import annotations

from pathlib import Path

from tests.bench.training import others, together
from tests.bench.training.recipe import Row, Size
from tests.bench.training.results import Result


def train(row: Row, size: Size, seed: int, folder: Path) -> Result:
    """Train a row; runs in a process of the pool."""
    if row.method in others.HERE:
        return together.train(row, size, seed)
    return others.train(row, size, seed, folder)
