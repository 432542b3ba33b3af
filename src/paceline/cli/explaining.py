"""`paceline credits RUN --peer P --round R`: why a peer got what it got in a round."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from paceline.cli.screen import console, harmless
from paceline.core.errors import ConfigError
from paceline.core.nicknames import matching, named

if TYPE_CHECKING:
    from paceline.watch.inquiry import Inquiry
    from paceline.watch.why import Reason

_FINE = ("credited", "not_committed", "voided", "not_begun", "waits_for_turn")
_MOST_NAMES = 8


def tell_why(run: str, peer: str | None, round_id: int | None) -> None:
    """Print why a peer got what it got in a round.

    Args:
        run: A hand-out, a multiaddr, a folder, a log, or a monitor's history.
        peer: What the operator calls the peer; None when that was forgotten.
        round_id: The round; the last committed one when left out.

    Raises:
        ConfigError: Nobody, or several peers, are called like that, or there is no such round.
    """
    if peer is None:
        raise ConfigError("--round names a round of one peer", "name the peer with --peer")
    from paceline.watch.why import explain  # heavy: after what may be refused

    with _inquiry(run) as inquiry:
        found = matching(peer, inquiry.known)
        if len(found) > 1:
            names = ", ".join(map(named, found[:_MOST_NAMES])) + (" …" if len(found) > _MOST_NAMES else "")
            raise ConfigError(f"--peer {peer}: {len(found)} peers are called like that: {names}", "name one")
        round_id = max(inquiry.height, 1) if round_id is None else round_id
        who = found[0] if found else peer
        reason = explain(who, round_id, inquiry.evidence(who, round_id))
    if reason.kind in ("unknown_peer", "no_round"):
        raise ConfigError(reason.said, reason.advice)
    _show(reason)


def _show(reason: Reason) -> None:
    # Causes come from other peers.
    style = "green" if reason.kind in _FINE else "yellow"
    screen = console()
    screen.print(Text(harmless(reason.said), style))
    if reason.missed:
        screen.print(f"it missed: {reason.missed}", markup=False)
    if reason.advice:
        screen.print(Text.assemble(("try: ", "bold"), harmless(reason.advice)))


def _inquiry(run: str) -> AbstractContextManager[Inquiry]:
    from paceline.cli.targets import log_targets, names_a_run, run_target
    from paceline.peer.folders import StateFolder

    if names_a_run(run):
        target = run_target(run)
        from paceline.watch.present import ask_swarm

        return ask_swarm(target)
    from paceline.watch.inquiry import open_inquiry
    from paceline.watch.store import is_history

    path = Path(run)
    if path.is_file() and is_history(path):
        return open_inquiry(path, [], [])
    logs = log_targets(path)
    folders = [] if path.is_file() else sorted({log.parent for log in logs})
    events = [StateFolder(folder).events for folder in folders]
    return open_inquiry(path, logs, [file for file in events if file.is_file()])
