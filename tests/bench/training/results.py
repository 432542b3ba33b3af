"""What came out, one file per row and seed: an interrupted benchmark goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.training.recipe import Row, Size


@dataclass(frozen=True)
class Result:
    """What training one row from one seed gave.

    Attributes:
        row: The row's name.
        seed: The seed.
        digest: Identifies all that the figures depend on.
        val_loss: On held-out data at the end, nats per byte.
        sent_bytes: What all nodes together sent.
        train_s: Seconds in inner steps: of the one process, or of all nodes together.
        wall_s: Seconds altogether, building and evaluation left out; likewise.
        parameters: The model's.
        measured_at: When, in UTC.
        machine: Where.
        notes: What else is worth knowing.
    """

    row: str
    seed: int
    digest: str
    val_loss: float
    sent_bytes: int
    train_s: float
    wall_s: float
    parameters: int
    measured_at: str = ""
    machine: str = ""
    notes: str = ""

    @property
    def utilisation(self) -> float:
        """Inner-step time over wall time."""
        return self.train_s / self.wall_s


class Results:
    """A folder of results.

    Attributes:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, row: Row, size: Size, seed: int) -> Result | None:
        """Read a result; None if it is not there, or is one of another recipe."""
        path = self._path(row.name, size.name, seed)
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Result(**found) if found["digest"] == row.digest(size, seed) else None

    def save(self, result: Result, size: Size) -> None:
        """Keep a result, whole or not at all."""
        path = self._path(result.row, size.name, result.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)

    def _path(self, row: str, size: str, seed: int) -> Path:
        return self.folder / size / f"{row}-seed{seed}.json"


def stamp() -> dict[str, str]:
    """When and where."""
    return {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "machine": f"{os.cpu_count()} cores, torch {version('torch')}, load {os.getloadavg()[0]:.1f}",
    }
