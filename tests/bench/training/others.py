"""Others' ways to train the same: real processes on loopback, some in environments of their own."""

from __future__ import annotations

from pathlib import Path

from tests.bench.training.recipe import ONE, OURS, Row


def unavailable(row: Row, folder: Path) -> str:
    """Tell why a row can't be trained here; empty when it can."""
    del folder
    return "" if row.method in (OURS, ONE) else "not there yet"
