"""Scarce goods: a share of the processor for some processes, and a disk that is full soon.

with CpuShare(0.25, name="slow") as share:
    share.add(pid)                  # a running process and all below it
    Popen(share.command(argv))      # or one from its start
    share.set(0.06)
with SmallDisk(folder, size_bytes=50_000_000) as disk:
    disk.fill()
    disk.free()
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType

_PREFIX = "paceline-share"
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")
_PERIOD_US = 50_000
_LEAST_QUOTA_US = 1000  # the kernel takes no less
_LEAVE_S = 5.0
_FILLER = "filler"


def is_root() -> bool:
    """Tell whether this process may do what only root may."""
    return os.geteuid() == 0


def remove_leftovers(folder: Path, prefix: str, remove: Callable[[Path], None]) -> None:
    """Remove what processes that are dead by now have left: whatever is called `<prefix>-<pid>-…`."""
    for path in folder.glob(f"{prefix}-*") if folder.is_dir() else ():
        match = re.match(r"(\d+)-", path.name.removeprefix(f"{prefix}-"))
        if match and not Path(f"/proc/{match[1]}").exists():
            with suppress(OSError):  # another lab was faster
                remove(path)


class CpuShare:
    """A group of processes that together get only so much processor time.

    Attributes:
        path: The control group.
    """

    def __init__(self, share: float, name: str) -> None:
        """Plan; nothing exists before the `with` block.

        Args:
            share: Processors' worth: 0.25 for a quarter of one.
            name: Distinguishes the groups of one process.
        """
        self._share = share
        root = _V1 if _is_v1() else _V2
        self.path = root / f"{_PREFIX}-{os.getpid()}-{name}"

    @staticmethod
    @cache
    def reason_unavailable() -> str | None:
        """Say why this machine can't limit the processor.

        Returns:
            One clause, or None when it can.
        """
        if not is_root():
            return "only root may make control groups"
        if not _is_v1() and "cpu" not in _words(_V2 / "cgroup.controllers"):
            return "there is no cgroup with a cpu controller"
        try:
            with CpuShare(0.5, "trial"):
                return None
        except OSError as error:
            return f"this machine refuses a cpu quota: {error}"

    def __enter__(self) -> CpuShare:
        remove_leftovers(self.path.parent, _PREFIX, _dissolve)
        if not _is_v1() and "cpu" not in _words(_V2 / "cgroup.subtree_control"):
            (_V2 / "cgroup.subtree_control").write_text("+cpu")
        self.path.mkdir()
        try:
            self.set(self._share)
        except BaseException:
            self.path.rmdir()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _dissolve(self.path)

    def set(self, share: float) -> None:
        """Change the share, from now on.

        Args:
            share: Processors' worth.
        """
        self._share = share
        period_us = max(_PERIOD_US, round(_LEAST_QUOTA_US / share))
        quota_us = round(share * period_us)
        if _is_v1():
            (self.path / "cpu.cfs_quota_us").write_text("-1")  # else a new period may make it too much
            (self.path / "cpu.cfs_period_us").write_text(str(period_us))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (self.path / "cpu.max").write_text(f"{quota_us} {period_us}")

    def add(self, pid: int) -> None:
        """Put a process and all its descendants into the group; what they start later is in it, too.

        Args:
            pid: The process.
        """
        added: set[int] = set()
        while new := {pid, *_descendants(pid)} - added:  # they may start others meanwhile
            for process in new:
                with suppress(ProcessLookupError):
                    (self.path / "cgroup.procs").write_text(str(process))
            added |= new

    def command(self, command: Sequence[str]) -> list[str]:
        """Make a command line that runs a program in the group from its start.

        Args:
            command: The program and its arguments.

        Returns:
            The command line. It becomes the program without another process between.
        """
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["/bin/sh", "-c", enter, str(self.path / "cgroup.procs"), *command]


class SmallDisk:
    """A small file system of its own at a folder. What is in it vanishes at the end."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Plan; nothing exists before the `with` block.

        Args:
            path: The folder; made when missing, and better empty.
            size_bytes: All that fits.
        """
        self.path, self._size_bytes = path, size_bytes

    @staticmethod
    @cache
    def reason_unavailable() -> str | None:
        """Say why this machine can't have a small disk.

        Returns:
            One clause, or None when it can.
        """
        if not is_root():
            return "only root may mount a file system"
        if shutil.which("mount") is None:
            return "the program mount is missing"
        try:
            with tempfile.TemporaryDirectory() as folder, SmallDisk(Path(folder), 1 << 20):
                return None
        except OSError as error:
            return f"this machine refuses a tmpfs: {error}"

    def __enter__(self) -> SmallDisk:
        self.path.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "tmpfs", str(self.path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("umount", "--lazy", str(self.path))  # lazily: a process that dies may still hold a file open

    def fill(self) -> None:
        """Fill what is free, to the last byte."""
        with (self.path / _FILLER).open("ab", buffering=0) as filler:
            size = 1 << 20
            while size:
                try:
                    filler.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.path / _FILLER).unlink(missing_ok=True)


def _is_v1() -> bool:
    return (_V1 / "cpu.cfs_quota_us").exists() or (_V1 / "tasks").exists()


def _words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _dissolve(group: Path) -> None:
    deadline = time.monotonic() + _LEAVE_S
    while group.exists():
        for pid in _words(group / "cgroup.procs"):
            with suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, frontier = set(), {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found |= frontier
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
