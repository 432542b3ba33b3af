"""What a benchmark leaves behind: a JSON file with its figures, the command that made them, and where."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

Document = dict[str, Any]
MISSED, FAILED, INTERRUPTED = 1, 3, 130
"""Exit codes: a target was missed; something could not be measured; somebody pressed Ctrl-C."""
_NOT_TOLD = ("--json", "--markdown")


def document(name: str, given: Sequence[str], **figures: Any) -> Document:
    """Put figures together with what they depend on.

    Args:
        name: The benchmark's.
        given: Its arguments, as they were typed.
        figures: Anything that JSON can spell.

    Returns:
        What goes to a file.
    """
    return {
        "benchmark": name,
        "command": command(given),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": version("torch"),
        "load": round(os.getloadavg()[0], 1),
        **figures,
    }


def command(given: Sequence[str]) -> str:
    """Spell the command that measures the same, without where its figures went."""
    kept: list[str] = []
    rest = iter(given)
    for word in rest:
        if word in _NOT_TOLD:
            next(rest, None)
        elif not word.startswith(tuple(f"{option}=" for option in _NOT_TOLD)):
            kept.append(word)
    return shlex.join(["scripts/bench", *kept])


def save(path: Path, content: Document) -> None:
    """Write a document, whole or not at all; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def load(path: Path) -> Document:
    """Read a document."""
    found: Document = json.loads(path.read_text(encoding="utf-8"))
    return found
