"""Checks of the ports that a node would listen on."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from paceline.peer.checkup import Finding, Subject, fail, ok

_ANY = {
    "metrics.port": "--set metrics.host=127.0.0.1",
    "network.listen": "--set network.listen=[/ip4/0.0.0.0/tcp/{port}], and if {host} is your router's address"
    " --set network.announce=[/ip4/{host}/tcp/{port}]",
}


@dataclass(frozen=True)
class Place:
    """Where the node would listen, taken from its multiaddr.

    Attributes:
        host: IP address; empty for a multiaddr of another kind.
        port: 0 for any free one.
        is_tcp: Whether it is TCP; otherwise UDP.
    """

    host: str
    port: int
    is_tcp: bool

    @classmethod
    def of(cls, address: str) -> Place:
        """Take a multiaddr apart.

        Args:
            address: Such as `/ip4/0.0.0.0/tcp/4001`.

        Returns:
            Its place.
        """
        parts = address.split("/") + [""] * 5
        number = parts[4] if parts[4].isdigit() else "0"
        return cls(parts[2] if parts[1] in ("ip4", "ip6") else "", int(number), parts[3] != "udp")


def ports(subject: Subject) -> Iterator[Finding]:
    """Bind every port that the node would listen on, for a moment.

    Args:
        subject: The node.

    Yields:
        A finding for each fixed port, or one for all that are left to the system.
    """
    node, fixed = subject.node, []
    for address in node.network.listen:
        place = Place.of(address)
        if place.host and place.port:
            fixed.append(f"port {place.port}")
            yield _port(subject, place, "network.listen", f"[{address.replace(str(place.port), 'PORT')}]")
    if node.metrics.port:
        fixed.append(f"port {node.metrics.port}")
        yield _port(subject, Place(node.metrics.host, node.metrics.port, True), "metrics.port", "PORT")
    if not fixed:
        yield ok("ports", "the node takes whatever ports are free: none is fixed")


def bound(place: Place) -> socket.socket:
    """Bind a place.

    Args:
        place: Where.

    Returns:
        The socket, to be closed by the caller.

    Raises:
        OSError: It can't be had.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM if place.is_tcp else socket.SOCK_DGRAM)
    try:
        if place.is_tcp:  # else what a node left behind a minute ago looks like another program
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((place.host, place.port))
    except BaseException:
        taken.close()
        raise
    return taken


def _port(subject: Subject, place: Place, key: str, template: str) -> Finding:
    try:
        bound(place).close()
    except OSError as error:
        return _refused(subject, place, key, template, error)
    return ok("ports", f"port {place.port} of {place.host} is free ({key})")


def _refused(subject: Subject, place: Place, key: str, template: str, error: OSError) -> Finding:
    where, other = f"port {place.port} of {place.host}", f"--set {key}={template}"
    match error.errno:
        case errno.EADDRINUSE if subject.is_running:
            return ok("ports", f"{where} is in use, as it should be while the node runs ({key})")
        case errno.EADDRINUSE:
            cause = f"{where} is taken by another program ({key})"
            return fail("ports", cause, f"see whose it is: ss -tulnp 'sport = :{place.port}'; or {other}")
        case errno.EACCES:
            return fail("ports", f"{where} may only be used by root ({key})", f"{other}, 1024 or above")
        case errno.EADDRNOTAVAIL:
            cause = f"{place.host} is no address of this machine ({key})"
            return fail("ports", cause, _ANY[key].format(port=place.port, host=place.host))
        case _:
            return fail("ports", f"{where} can't be used: {error.strerror} ({key})", other)
