"""Checks of the network: the daemon, the swarm, the way back from it, and the clocks."""

from __future__ import annotations

import errno
import socket
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from statistics import median
from typing import TYPE_CHECKING

from paceline.core.nicknames import named
from paceline.core.records import PeerRecord, Phase
from paceline.core.voice import HEARTBEAT_S
from paceline.peer.checks_ports import Place, bound
from paceline.peer.checkup import Finding, Subject, fail, ok, warn

if TYPE_CHECKING:
    from paceline.network.board import Board
    from paceline.network.reachability import Reply

OFF_S, TOO_FAR_OFF_S = 1.0, 3.0
"""A clock that is off by more than the first is worth mending; beyond the second, hivemind's DHT lets nobody
in (`MAX_DHT_TIME_DISCREPANCY_SECONDS`)."""
_LISTEN_S = 4 * HEARTBEAT_S
_LOOK_AGAIN_S = 0.3
_SET_CLOCK = "sudo timedatectl set-ntp true, and look with: timedatectl status"
_FIRST_FREE_PORT = 1024


def daemon(_subject: Subject) -> Iterator[Finding]:
    """Start a network daemon on loopback, and stop it.

    Yields:
        A finding.
    """
    from paceline.network.reachability import start_daemon

    began = time.monotonic()
    start_daemon()
    yield ok("daemon", f"the network daemon (p2pd) starts, in {time.monotonic() - began:.1f} s")


def swarm(subject: Subject) -> Iterator[Finding]:
    """Connect to the run's swarm, and listen for a few heartbeats.

    Args:
        subject: The node; learns the run, its peers, and how far their clocks are off.

    Yields:
        Findings; none when no run was named.
    """
    if subject.target is None:
        return
    from paceline.peer.observer import looking_at

    with looking_at(subject.target) as (board, run):
        subject.run, subject.has_joined = run, True
        _listen(subject, board)
    live = [record for record in subject.peers if record.phase is not Phase.LEAVE]
    if not live:
        cause = f"{run.run_id} is there, and no peer of it was heard in {_LISTEN_S:.0f} s"
        yield warn("swarm", cause, "join, and ask who started the run whether others come")
    else:
        round_id = max(record.round_id for record in live)
        yield ok("swarm", f"{_count(len(live), 'peer')} of {run.run_id} at round {round_id} of {run.rounds}")
    if not subject.is_running and any(record.peer_id == subject.peer_id for record in live):
        cause = f"another live process speaks under this node's identity ({named(subject.peer_id)})"
        yield fail("identity", cause, "stop it, or delete the copy of the key and take another state_dir")


def reachable(subject: Subject) -> Iterator[Finding]:
    """Ask the seeds and some peers to dial the node's port, over a connection of their own.

    Args:
        subject: The node; learns how far the clocks of those who answer are off.

    Yields:
        A finding; none when no run was named.
    """
    if subject.target is None:
        return
    from paceline.network.reachability import ask_to_dial_back
    from paceline.peer.directory import seeds_of

    port, listener = _own_port(subject)
    if port is None:
        cause = "the node listens on no TCP port of this machine that is free and may be dialled"
        yield warn("reachable", cause, "--set network.listen=[/ip4/0.0.0.0/tcp/4001]")
        return
    others = sorted(record.peer_id for record in subject.peers if record.peer_id != subject.peer_id)
    replies = ask_to_dial_back(seeds_of(subject.target), others, port, listener)
    for reply in replies:
        if reply.answer is not None:
            subject.ahead_s.setdefault(reply.peer_id, reply.ahead_s)
    yield _reached(subject, replies, port)


def clock(subject: Subject) -> Iterator[Finding]:
    """Compare this machine's clock with those of the swarm.

    Args:
        subject: The node, with what was heard of other clocks.

    Yields:
        A finding; none when no other clock is known.
    """
    others = {peer: ahead for peer, ahead in subject.ahead_s.items() if peer != subject.peer_id}
    if not others:
        return
    off_s = median(others.values())
    side = "behind" if off_s > 0 else "ahead of"
    said = f"this clock is {abs(off_s):.1f} s {side} the swarm's (median of {_count(len(others), 'peer')})"
    if abs(off_s) > TOO_FAR_OFF_S:
        yield fail("clock", f"{said}; beyond {TOO_FAR_OFF_S:.0f} s its DHT lets nobody in", _SET_CLOCK)
    elif abs(off_s) > OFF_S:
        yield warn("clock", f"{said}; it takes part up to {TOO_FAR_OFF_S:.0f} s", _SET_CLOCK)
    else:
        yield ok("clock", said)


def _listen(subject: Subject, board: Board) -> None:
    # A heartbeat that comes while we listen was made just now; the freshest of a peer tells its clock best,
    # since all of them come a little late. What is on the board from before may be as old as it likes.
    latest: dict[str, PeerRecord] = {}
    began, is_first = time.monotonic(), True
    while time.monotonic() < began + _LISTEN_S:
        records = [posted.record for posted in board.read(("peer",))]
        now = time.time()
        for record in records:
            if isinstance(record, PeerRecord):
                latest[record.peer_id] = record
                if not is_first:
                    ahead_s = record.seq / 1000 - now
                    known_s = subject.ahead_s.get(record.peer_id, float("-inf"))
                    subject.ahead_s[record.peer_id] = max(ahead_s, known_s)
        is_first = False
        if len(subject.ahead_s) == len(latest) and time.monotonic() > began + 2 * HEARTBEAT_S:
            break
        time.sleep(_LOOK_AGAIN_S)
    # What is left on the board of those who are gone is no news.
    subject.peers = [record for peer, record in sorted(latest.items()) if peer in subject.ahead_s]


def _own_port(subject: Subject) -> tuple[int | None, socket.socket | None]:
    # The port that others dial, and what answers there: a socket of ours, or the node that runs.
    announced = [place.port for place in map(Place.of, subject.node.network.announce) if place.is_tcp]
    for place in map(Place.of, subject.node.network.listen):
        if not (place.host and place.is_tcp):
            continue
        try:
            listener = bound(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and subject.is_running:
                return (announced or [place.port])[0], None
            continue
        port = (announced or [listener.getsockname()[1]])[0]
        if port >= _FIRST_FREE_PORT:
            return port, listener
        listener.close()
    return None, None


def _reached(subject: Subject, replies: list[Reply], port: int) -> Finding:
    told = {reply.peer_id: reply.answer for reply in replies if reply.answer is not None}
    outcomes = Counter(answer.outcome for answer in told.values())
    tried = {peer: answer for peer, answer in told.items() if answer.outcome != "declined"}
    if not tried:
        causes = [reply.answer.cause if reply.answer else reply.cause for reply in replies]
        cause = f"nobody of {len(replies)} dialled back: {', '.join(sorted(set(causes)))}"
        return warn("reachable", cause, "run it again in ten seconds, or when more peers are there")
    peer, answer = next(
        ((peer, answer) for peer, answer in tried.items() if answer.outcome == "reached"),
        next(iter(tried.items())),
    )
    where = f"{answer.host} port {port}"
    if answer.outcome == "reached":
        return _scope(subject, f"{named(peer)} reached this machine at {where}", answer.host)
    what = {"refused": "nobody listens", "other": "something else answers"}.get(answer.outcome, "no answer")
    cause = f"{named(peer)} could not reach this machine: at {where}, {what} ({_count(len(tried), 'try')})"
    return fail("reachable", cause, _open_port(subject, answer.host, port, outcomes["other"] > 0))


def _scope(subject: Subject, said: str, host: str) -> Finding:
    announced = {place.host for place in map(Place.of, subject.node.network.announce) if place.host}
    if announced and host not in announced:
        cause = f"{said}, while the node announces {', '.join(sorted(announced))}"
        return warn("reachable", cause, f"--set network.announce=[/ip4/{host}/tcp/PORT], or leave it out")
    place = ip_address(host)
    if place.is_loopback:
        return ok("reachable", f"{said}; only from this very machine, nobody else was asked")
    if place.is_private:
        return ok("reachable", f"{said}; from this network, nobody outside was asked")
    return ok("reachable", said)


def _open_port(subject: Subject, host: str, port: int, is_other: bool) -> str:
    listens = {Place.of(address).host for address in subject.node.network.listen}
    if listens <= {"127.0.0.1", "::1"}:
        return "the node listens on loopback only: --set network.listen=[/ip4/0.0.0.0/tcp/4001]"
    if is_other:
        return f"forward TCP port {port} to this machine in the router, or choose another: network.listen"
    if any(Place.of(address).port for address in subject.node.network.listen):
        return (
            f"open TCP port {port} in the firewall (sudo ufw allow {port}/tcp) and forward it in the router"
        )
    fixed = f"--set network.listen=[/ip4/0.0.0.0/tcp/4001] --set network.announce=[/ip4/{host}/tcp/4001]"
    return f"choose a fixed port, {fixed}, open it in the firewall and forward it in the router"


def _count(number: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"
