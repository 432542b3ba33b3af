"""Checks of the machine: its Python, its packages, and what the system lets a process have."""

from __future__ import annotations

import multiprocessing
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from paceline.peer.checkup import Finding, Subject, fail, ok, warn

_PACKAGE = "paceline"
_SHM = Path("/dev/shm")
_MIN_SHM_BYTES = 8 << 20
_MIN_FILES, _ENOUGH_FILES = 256, 1024


def python(_subject: Subject, package: str = _PACKAGE) -> Iterator[Finding]:
    """Compare the interpreter with what the package asks for.

    Args:
        package: The installed package.

    Yields:
        A finding.
    """
    version = platform.python_version()
    here = f"Python {version} on {platform.system()} {platform.machine()}"
    try:
        asked = str(metadata.metadata(package).json.get("requires_python", ""))
    except metadata.PackageNotFoundError:
        asked = ""
    if asked and not Requirement(f"python{asked}").specifier.contains(version, prereleases=True):
        again = "python3.12 -m venv .venv && .venv/bin/pip install paceline"
        yield fail("python", f"{here}, where {asked} is needed", again)
    else:
        yield ok("python", here)


def packages(_subject: Subject, package: str = _PACKAGE) -> Iterator[Finding]:
    """Compare the versions of all packages with what this one asks for.

    Args:
        package: The installed package.

    Yields:
        A finding.
    """
    try:
        asked = [Requirement(text) for text in metadata.requires(package) or []]
    except metadata.PackageNotFoundError:
        cause = f"{package} runs from its sources and is not installed, so nobody knows what it needs"
        yield warn("packages", cause, "pip install -e . in its folder")
        return
    needed = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = {str(one): _found(one) for one in needed if not _fits(one)}
    if not wrong:
        own = metadata.version(package)
        yield ok("packages", f"{package} {own}, and all {len(needed)} packages that it needs fit")
        return
    told = ", ".join(f"{found} (needed: {one})" for one, found in wrong.items())
    again = shlex.join([Path(sys.executable).name, "-m", "pip", "install", *wrong])
    yield fail("packages", told, again)


def versions(package: str = _PACKAGE) -> dict[str, str]:
    """List the versions of all packages that matter, for a report.

    Args:
        package: The installed package.

    Returns:
        Version by name; empty for one that is not there.
    """
    try:
        names = [package, *(Requirement(text).name for text in metadata.requires(package) or [])]
    except metadata.PackageNotFoundError:
        names = [package]
    return {name: _version(name) for name in dict.fromkeys(names)}


def descriptors(_subject: Subject) -> Iterator[Finding]:
    """Look how many files and connections a process may have open.

    Yields:
        A finding; none on systems without such a limit.
    """
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = soft if soft != resource.RLIM_INFINITY else sys.maxsize
    said = f"a process may have {'any number of' if most == sys.maxsize else most} files and connections open"
    raised = f"ulimit -n {_ENOUGH_FILES} in the shell that starts the node"
    if hard not in (resource.RLIM_INFINITY, -1) and hard < _ENOUGH_FILES:
        raised = f"raise the hard limit of {hard}: LimitNOFILE= in its systemd unit, or limits.conf"
    if most < _MIN_FILES:
        yield fail("open files", f"{said}, too few for a swarm", raised)
    elif most < _ENOUGH_FILES:
        yield warn("open files", f"{said}, which a large swarm needs more of", raised)
    else:
        yield ok("open files", said)


def shared_memory(_subject: Subject, folder: Path = _SHM) -> Iterator[Finding]:
    """Look whether processes can share locks and memory.

    Args:
        folder: Where the system keeps shared memory.

    Yields:
        A finding.
    """
    larger = "docker run --shm-size=64m …, or: mount -o remount,size=64M /dev/shm"
    try:
        multiprocessing.Lock()
    except OSError as error:
        yield fail("shared memory", f"processes can't share a lock: {error}", larger)
        return
    if not folder.is_dir():  # not Linux
        yield ok("shared memory", "processes can share locks")
        return
    left = shutil.disk_usage(folder).free
    said = f"{left / 1e6:,.0f} MB of shared memory are free in {folder}"
    if left < _MIN_SHM_BYTES:
        yield fail("shared memory", f"{said}, where {_MIN_SHM_BYTES / 1e6:.0f} MB are needed", larger)
    else:
        yield ok("shared memory", said)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _fits(one: Requirement) -> bool:
    return one.specifier.contains(_version(one.name) or "0", prereleases=True) and bool(_version(one.name))


def _found(one: Requirement) -> str:
    return f"{one.name} {_version(one.name)}" if _version(one.name) else f"{one.name} is missing"
