"""Checks of what a node keeps: its identity and its log."""

from __future__ import annotations

import os
from collections.abc import Iterator

from paceline.core.config import Handout
from paceline.core.errors import IdentityInUse
from paceline.core.nicknames import named
from paceline.peer.checkup import Finding, Subject, fail, ok, warn
from paceline.peer.folders import StateFolder
from paceline.peer.machine import existing


def identity(subject: Subject) -> Iterator[Finding]:
    """Look whether the node has a key, whose it is, and whether a live peer uses it.

    Args:
        subject: The node; learns who it is, and whether it runs.

    Yields:
        A finding.

    Raises:
        IdentityError: The key can't be used as it is.
    """
    key = StateFolder(subject.node.state_dir).key
    if isinstance(subject.target, Handout):
        subject.run = subject.target.run_config
    if not key.exists():
        above = existing(key.parent)
        if not (above.is_dir() and os.access(above, os.W_OK)):
            cause = f"{above} can't be written to, and the node would keep its key in {key.parent}"
            yield fail("identity", cause, "join with --set state_dir=FOLDER, a folder of your own")
        else:
            yield ok("identity", f"no key in {key.parent} yet; the first start makes one")
        return
    from paceline.network.identity import hold, load_or_create

    subject.peer_id = load_or_create(key).peer_id
    who = f"this node is {named(subject.peer_id)} ({subject.peer_id})"
    try:
        with hold(key, patience_s=0.0):
            yield ok("identity", f"{who}, and its key is free")
    except IdentityInUse as error:
        subject.is_running = True
        cause = f"{who}, and it runs now ({error.holder})"
        yield warn("identity", cause, "nothing, if that is meant; else stop it before you start another")


def log(subject: Subject) -> Iterator[Finding]:
    """Replay the node's log, and take the run's parameters from it when nobody else gave them.

    Args:
        subject: The node; learns its run.

    Yields:
        A finding; none when there is no log yet.
    """
    path = StateFolder(subject.node.state_dir).log
    if not path.exists():
        return
    from paceline.ledger.replay import replay

    found = replay(path)
    wanted = _wanted(subject)
    if wanted not in ("", found.run.run_id):
        cause = f"{path} is the log of run {found.run.run_id}, not of {wanted}"
        yield fail("log", cause, "join with --set state_dir=FOLDER, another folder for this run")
        return
    subject.run = subject.run or found.run
    said = f"{found.head.round_id} rounds of {found.run.run_id} verify"
    if subject.peer_id:
        said += f", with {found.balances.get(subject.peer_id, 0):,} credits of this node"
    yield ok("log", said)


def _wanted(subject: Subject) -> str:
    return subject.target.run_id if isinstance(subject.target, Handout) else ""
