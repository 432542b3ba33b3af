"""One slow link that several virtual hosts share, in namespaces of this machine, every host's bytes counted.

    with SharedLink(hosts=5, rate="100mbit") as link:
        subprocess.Popen(link.command("peer-1", ["program"]))   # under link.address("peer-1")

What a host sends takes its turn with what all others send, as on one radio channel or one office's line. The
kernel carries it: each host's cable ends in a bridge, behind a device (`ifb`) through which all frames pass.
`tests/nemesis/lab.py`, whose switch is a program, would take from the peers the very processors that are
measured here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.bench import private_net
from tests.nemesis.lab_limits import is_root, remove_leftovers

_PREFIX = "paceline-link"
_NAMESPACES = Path("/run/netns")
_SEED = "seed"


class Traffic(NamedTuple):
    """What a host has sent and received so far.

    Attributes:
        sent: Bytes, headers included.
        received: Likewise.
    """

    sent: int
    received: int


class SharedLink:
    """Hosts on one link: `seed`, and `peer-1` to the last. This process moves to an empty network of its own.

    Leaving the `with` block takes the hosts down.
    """

    def __init__(self, peers: int, rate: str) -> None:
        """Plan; nothing exists before the `with` block.

        Args:
            peers: How many hosts besides the seed's.
            rate: How fast the link is: a key of `private_net.RATES`.
        """
        self._rate = rate
        self._hosts = [_SEED, *(f"peer-{number}" for number in range(1, peers + 1))]
        self._names = {host: f"{_PREFIX}-{os.getpid()}-{host}" for host in self._hosts}

    def __enter__(self) -> SharedLink:
        remove_leftovers(_NAMESPACES, _PREFIX, lambda path: _run("ip", "netns", "delete", path.name))
        try:
            self._build()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_down()

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """Make a command line that runs a program on a host.

        Args:
            name: Which.
            argv: The program and its arguments.

        Returns:
            The command line. It becomes the program without another process between.
        """
        enter = shutil.which("nsenter") or "nsenter"
        return [enter, f"--net={_NAMESPACES / self._names[name]}", "--", *argv]

    def address(self, name: str) -> str:
        """Tell under which address the other hosts reach a host.

        Args:
            name: Which.

        Returns:
            An IPv4 address.
        """
        return f"10.78.0.{self._hosts.index(name) + 1}"

    def traffic(self) -> dict[str, Traffic]:
        """Count, at the ends of the cables.

        Returns:
            By host.
        """
        found = {}
        for line in Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines():
            device, _, counters = line.partition(":")
            fields = counters.split()
            if device.strip() in self._hosts:  # what this end receives, the host has sent
                found[device.strip()] = Traffic(int(fields[0]), int(fields[8]))
        return found

    def _build(self) -> None:
        private_net.enter()
        shape = ["tbf", "rate", self._rate, "burst", "64kb", "latency", "50ms"]
        for command in (
            ["ip", "link", "add", "bridge", "type", "bridge"],
            ["ip", "link", "set", "bridge", "up"],
            ["ip", "link", "add", "line", "type", "ifb"],
            ["ip", "link", "set", "line", "up"],
            ["tc", "qdisc", "add", "dev", "line", "root", *shape],
        ):
            _run(*command)
        for host in self._hosts:
            self._plug_in(host)

    def _plug_in(self, host: str) -> None:
        name = self._names[host]
        inside = ["ip", "-netns", name]
        everything = ["protocol", "all", "u32", "match", "u32", "0", "0"]
        elsewhere = ["action", "mirred", "egress", "redirect", "dev", "line"]
        for command in (
            ["ip", "netns", "add", name],
            ["ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name],
            # Frames as they are on a wire: 64 kB at a time would be counted without most of their headers.
            [*inside, "link", "set", "eth0", "gso_max_segs", "1"],
            [*inside, "address", "add", f"{self.address(host)}/24", "dev", "eth0"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "link", "set", "eth0", "up"],
            ["ip", "link", "set", host, "master", "bridge", "up"],
            ["tc", "qdisc", "add", "dev", host, "handle", "ffff:", "ingress"],
            ["tc", "filter", "add", "dev", host, "parent", "ffff:", *everything, *elsewhere],
        ):
            _run(*command)

    def _take_down(self) -> None:
        for name in self._names.values():
            if (_NAMESPACES / name).exists():
                _run("ip", "netns", "delete", name)
        for device in ("bridge", "line"):
            subprocess.run(["ip", "link", "delete", device], check=False, capture_output=True)


def reason_unavailable() -> str:
    """Say why this machine can't have such a link; empty when it may."""
    if not is_root():
        return "only root may make network namespaces"
    missing = [tool for tool in ("ip", "tc", "nsenter") if shutil.which(tool) is None]
    return f"the program {missing[0]} is missing (package iproute2 or util-linux)" if missing else ""


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
