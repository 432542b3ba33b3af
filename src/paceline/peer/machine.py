"""What this machine has left, as far as a process can tell; within a container, what that has left."""

from __future__ import annotations

from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available_memory_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Tell how much memory could be taken without swapping or being killed for it.

    Args:
        proc: Where the kernel tells of processes.
        cgroups: Where it tells of control groups.

    Returns:
        Bytes: the least of what the machine and each control group around this process have left. None where
        the system does not tell, as elsewhere than on Linux.
    """
    found = [_of_machine(proc), *map(_of_group, _groups(proc, cgroups))]
    known = [left for left in found if left is not None]
    return min(known) if known else None


def existing(path: Path) -> Path:
    """Find the folder that a path lies in, or would lie in.

    Args:
        path: Any path.

    Returns:
        Itself, or the nearest folder above it that exists.
    """
    path = path.absolute()
    return next((above for above in (path, *path.parents) if above.exists()), Path("/"))


def _of_machine(proc: Path) -> int | None:
    for line in _read(proc / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(proc: Path, cgroups: Path) -> list[Path]:
    # Version 2 has one line, `0::/path`; version 1 one per controller. Within a container, the path may be
    # that of the host, and what is seen at the top is the container's own group.
    found = [cgroups, cgroups / "memory"]
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers in ("", "memory"):
            top = cgroups / controllers
            group = top / path.lstrip("/")
            found += [part for part in (group, *group.parents) if part.is_relative_to(top)]
    return found


def _of_group(group: Path) -> int | None:
    pairs = (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    )
    for limit_name, usage_name in pairs:
        limit, usage = _read(group / limit_name).strip(), _read(group / usage_name).strip()
        if limit.isdigit() and usage.isdigit():
            return max(0, int(limit) - int(usage) + _reclaimable(group))
    return None


def _reclaimable(group: Path) -> int:
    # Files that the kernel keeps in memory as long as nobody needs it count as used.
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
