"""What processes have used of this machine, by Linux's own account."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def used_s(pids: Iterable[int], name: str = "") -> float:
    """Add up processor seconds; nothing of a process that is gone.

    Args:
        pids: Of which processes.
        name: Count only those of this name.
    """
    ticks = 0
    for pid in pids:
        try:
            head, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name in head:
            fields = rest.split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def pss_bytes(pids: Iterable[int]) -> int:
    """Add up memory, what several processes share divided among them; nothing of a process that is gone."""
    return sum(map(_pss, pids))


def available_bytes() -> int:
    """Tell how much memory new processes could take."""
    return _field(Path("/proc/meminfo"), "MemAvailable:")


def _pss(pid: int) -> int:
    with suppress(OSError):
        return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
    return 0


def _field(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    return 0
