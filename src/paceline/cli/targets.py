"""What people point commands at: a hand-out, a seed's address, a log, a checkpoint, or a folder of them."""

from __future__ import annotations

from pathlib import Path

from paceline.core.config import Handout
from paceline.core.errors import ConfigError
from paceline.peer.folders import RunFolder, StateFolder
from paceline.peer.settings import load_handout

_ADDRESSES = ("/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/", "/dnsaddr/")


def run_target(text: str) -> Handout | str:
    """Read what names a run.

    Args:
        text: The path of a `run.json`, of a folder that holds one, or a seed's multiaddr.

    Returns:
        The hand-out, or the multiaddr.

    Raises:
        ConfigError: It is neither.
    """
    if text.startswith(_ADDRESSES):
        if "/p2p/" not in text:
            raise ConfigError(
                f"{text} names no peer", "use the seed's whole address: it ends with /p2p/12D3Koo…"
            )
        return text
    path = Path(text)
    return load_handout(RunFolder(path).handout if path.is_dir() else path)


def names_a_run(text: str) -> bool:
    """Tell a running swarm from a log on disk.

    Args:
        text: What the operator wrote.

    Returns:
        Whether it is a multiaddr or a `run.json`.
    """
    return text.startswith(_ADDRESSES) or text.endswith(".json")


def log_targets(path: Path) -> list[Path]:
    """Find the run logs that a path stands for.

    Args:
        path: A log, a node's state folder, or the folder of a local run.

    Returns:
        One log or more.

    Raises:
        ConfigError: There is none.
    """
    if path.is_file():
        return [path]
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder", "check the path")
    own = StateFolder(path).log
    logs = [own] if own.is_file() else RunFolder(path).logs()
    if not logs:
        raise ConfigError(f"{path} holds no run log", f"point at a state folder, with {own.name} in it")
    return logs


def checkpoint_target(path: Path) -> Path:
    """Find the checkpoint that a path stands for.

    Args:
        path: A checkpoint, a folder of checkpoints, a node's state folder, or the folder of a local run.

    Returns:
        The checkpoint, the newest one of a folder.

    Raises:
        ConfigError: There is none.
    """
    if path.is_file():
        return path
    places = [path, StateFolder(path).checkpoints, *sorted(path.glob("*/checkpoints"))]
    found = [file for place in places for file in place.glob("round-*.safetensors")]
    if not found:
        raise ConfigError(f"{path}: found no checkpoint (round-….safetensors)", "check the path")
    return max(found, key=lambda file: file.name)
