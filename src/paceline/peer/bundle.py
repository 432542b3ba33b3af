"""What goes into a bug report: findings, versions, settings, the last events and lines, redacted.

    save_bundle(Path("report.zip"), checkup, node, run)

The zip is written for strangers to read: see `paceline.peer.redaction` for what is taken out. Nothing enters
it but what is listed here; keys, checkpoints and logs never do.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paceline.core.config import NodeConfig, RunConfig
from paceline.peer.checks_machine import versions
from paceline.peer.checkup import Checkup
from paceline.peer.folders import StateFolder
from paceline.peer.redaction import Redaction

MOST_LINES = 300
"""So many of the last events, and of the last lines printed, are in it."""
_TAIL_BYTES = 1 << 18
_SECRET_KEYS = ("token", "secret", "password", "passwd", "credential", "private", "api_key", "apikey")
_ABOUT = """\
Written by paceline doctor {version}, for a bug report. Taken out: this node's keys, IP addresses but
loopback, multiaddrs' hosts, folders, and what looks like the name of a machine or a user, a token or a
password. What was at one address has one name throughout, such as IP-1. Peer ids are public and stay.

No rule knows every secret. Look through it before you send it.

  findings.json  what the checkup found
  system.json    versions and system
  node.json      the node's settings
  run.json       the run's parameters, when they are known
  events.jsonl   the node's last events, of at most {most} lines
  output.txt     the last lines that it printed, when a file has them
"""


def save_bundle(path: Path, checkup: Checkup, node: NodeConfig, run: RunConfig | None) -> list[str]:
    """Write a zip for a bug report.

    Guarantees:
        A bundle holds none of the node's keys, and no address but loopback.
        A bundle is written whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        checkup: What was found.
        node: The node's settings.
        run: The run's parameters, if they are known.

    Returns:
        The names of the files in it.
    """
    folder = StateFolder(node.state_dir)
    redact = _redaction(folder)
    parts: dict[str, str] = {
        "README.txt": _ABOUT.format(version=checkup.version, most=MOST_LINES),
        "findings.json": _json(redact, checkup.model_dump(mode="json")),
        "system.json": _json(redact, _system()),
        "node.json": _json(redact, _settings(node)),
    }
    if run is not None:
        parts["run.json"] = _json(redact, run.model_dump(mode="json"))
    events = [line for text in _tail(folder.events) if (line := _event(redact, text))]
    if events:
        parts["events.jsonl"] = "\n".join(events) + "\n"
    printed = redact("\n".join(_tail(folder.output)))  # as a whole: a key may take several lines
    if printed:
        parts["output.txt"] = printed + "\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, text in parts.items():
                bundle.writestr(name, text)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return list(parts)


def _redaction(folder: StateFolder) -> Redaction:
    secrets = []
    for key in (folder.key, folder.path / "authority.key", folder.path.parent / "authority.key"):
        if key.is_file() and os.access(key, os.R_OK):
            content = key.read_bytes()[:4096]
            secrets += [content, *([content[4:36]] if len(content) >= 36 else [])]
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may run a number that has no name
        user = ""
    return Redaction(user=user, host=socket.gethostname(), home=str(Path.home()), secrets=secrets)


def _system() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": versions(),
    }


def _settings(node: NodeConfig) -> dict[str, Any]:
    # Of one's own files only their number is anybody's business.
    settings = node.model_dump(mode="json")
    for place in (settings, settings["data"]):
        for name in ("state_dir", "cache_dir", "paths"):
            if place.get(name):
                value = place[name]
                place[name] = f"{len(value)} paths" if isinstance(value, list) else "a path"
    return settings


def _event(redact: Redaction, line: str) -> str:
    try:
        fields = json.loads(line)
    except ValueError:
        return ""
    return json.dumps(_redacted(redact, fields)) if isinstance(fields, dict) else ""


def _json(redact: Redaction, document: Any) -> str:
    return json.dumps(_redacted(redact, document), indent=1) + "\n"


def _redacted(redact: Redaction, value: Any) -> Any:
    # The strings within, not their spelling in JSON: what is escaped there would not be recognised.
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(key): _redacted(redact, _hidden(key, inside)) for key, inside in value.items()}
        case list():
            return [_redacted(redact, inside) for inside in value]
        case _:
            return value


def _hidden(key: str, value: Any) -> Any:
    is_secret = isinstance(value, str) and any(word in key.lower() for word in _SECRET_KEYS)
    return "SECRET" if is_secret else value


def _tail(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return
    yield from lines[-MOST_LINES:]
