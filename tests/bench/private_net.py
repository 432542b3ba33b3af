"""A network of this process's own: nothing but a loopback device, its bytes counted, as slow as is wished."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

_NEW_NETWORK = 0x40000000
RATES = {"1gbit": 1e9, "100mbit": 1e8}
"""Links that can be had, in bits per second."""


def enter() -> None:
    """Leave the machine's network for an empty one; children forked later come along. Root only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network namespace of our own: run this as root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"


def slow_down(link: str) -> None:
    """Let everything that is sent share one link.

    Args:
        link: A key of `RATES`.
    """
    # The queue holds 50 ms, as a router's would; what does not fit waits in the senders' sockets.
    shape = ["tbf", "rate", link, "burst", "256kb", "latency", "50ms"]
    subprocess.run(["tc", "qdisc", "replace", "dev", "lo", "root", *shape], check=True)


def speed_up() -> None:
    """Take the link away again."""
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=False, stderr=subprocess.DEVNULL)


def bytes_sent() -> int:
    """Count what has gone over the loopback device, headers included."""
    for line in Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    raise OSError("there is no loopback device")
