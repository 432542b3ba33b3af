"""The lab's switch: one process that carries every frame between the virtual hosts, late, seldom or never.

Why not the kernel's own means: `netem`, which delays and loses, is missing in many kernels, and what remains
(a bridge, `tc tbf`, nftables, a proxy) needs four tools, two of them packages, and delays TCP only. Here one
loop does all of it, to every frame alike, and a seed decides which frames are lost.

Run by `lab.Lab` as `python -I -S lab_switch.py <control fd> <seed> <mtu> <namespace> …`; it ends, and removes
the namespaces, when the control socket closes, however that happens. Standard library only: it starts fast.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

DEVICE = "eth0"
NAMESPACES = Path("/run/netns")
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_HEADER_BYTES = 14
_MAC = b"\x02pace"
_BURST = 64  # frames taken from one host before the next has its turn
_CONGESTION_CONTROL = "cubic"  # what most people's machines use; a default of bbr would make light of loss
_QUEUE_S = 0.3  # what a router at home keeps for a slow line; what comes beyond it is lost


def mac(host: int) -> str:
    """A host's address on the wire; its last byte is the switch's whole forwarding table."""
    return (_MAC + bytes([host])).hex(":")


class Switch:
    """Carries frames between taps. The conditions may change any time: `delay_s`, `loss` and `rate_mbit` (0
    for no limit) of each host's uplink, and `sides`: hosts reach only those of their own side.
    """

    def __init__(self, taps: list[int], seed: int, mtu: int) -> None:
        self._taps = taps
        self._random = random.Random(seed)
        self._frame_bytes = mtu + _HEADER_BYTES
        self._sent = [0] * len(taps)
        self._lost = [0] * len(taps)
        self._free_at = [0.0] * len(taps)  # when each uplink has sent what was given to it
        self._on_the_way: list[tuple[float, int, int, int, bytes]] = []
        self._taken = 0
        self.set({"delay_s": 0.0, "loss": 0.0, "rate_mbit": 0.0, "sides": [0] * len(taps)})

    def set(self, conditions: dict[str, object]) -> None:
        self._delay_s, self._loss = float(str(conditions["delay_s"])), float(str(conditions["loss"]))
        rate_mbit = float(str(conditions["rate_mbit"]))
        self._s_per_byte = 8 / (rate_mbit * 1e6) if rate_mbit else 0.0
        sides = conditions["sides"]
        assert isinstance(sides, list)
        self._sides = sides

    def counts(self) -> dict[str, list[int]]:
        return {"sent": self._sent, "lost": self._lost}

    def run(self, control: socket.socket) -> None:
        """Carry frames until the control socket closes."""
        poll = select.epoll()
        hosts = {tap: host for host, tap in enumerate(self._taps)}
        for watched in (control.fileno(), *self._taps):
            poll.register(watched, select.EPOLLIN)
        while True:
            for ready, _ in poll.poll(self._pause_s()):
                if ready in hosts:
                    self._take(hosts[ready])
                elif not self._obey(control):
                    return
            self._deliver_due()

    def _obey(self, control: socket.socket) -> bool:
        order = control.recv(65536)
        if order:
            if order != b"{}":
                self.set(json.loads(order))
            control.send(json.dumps(self.counts()).encode())
        return bool(order)

    def _pause_s(self) -> float | None:
        if not self._on_the_way:
            return None
        return max(0.0, self._on_the_way[0][0] - time.monotonic())

    def _take(self, host: int) -> None:
        tap = self._taps[host]
        for _ in range(_BURST):
            try:
                frame = os.read(tap, self._frame_bytes)
            except BlockingIOError:
                return
            to = frame[5]
            if frame[:5] == _MAC and to < len(self._taps):  # hosts know each other: nothing is broadcast
                self._send(host, to, frame)

    def _send(self, host: int, to: int, frame: bytes) -> None:
        self._sent[host] += len(frame)
        if self._loss and self._random.random() < self._loss:
            self._lost[host] += 1
        elif not self._delay_s and not self._s_per_byte:
            self._deliver(host, to, frame)
        else:
            now = time.monotonic()
            starts_at = max(now, self._free_at[host])
            if starts_at > now + _QUEUE_S:
                self._lost[host] += 1
                return
            self._free_at[host] = starts_at + len(frame) * self._s_per_byte
            self._taken += 1
            due = self._free_at[host] + self._delay_s
            heapq.heappush(self._on_the_way, (due, self._taken, host, to, frame))

    def _deliver_due(self) -> None:
        now, waiting = time.monotonic(), self._on_the_way
        while waiting and waiting[0][0] <= now:
            _, _, host, to, frame = heapq.heappop(waiting)
            self._deliver(host, to, frame)

    def _deliver(self, host: int, to: int, frame: bytes) -> None:
        if self._sides[host] != self._sides[to]:
            self._lost[host] += 1
            return
        with suppress(OSError):  # a full queue, or a device that is down: lost, as on any wire
            os.write(self._taps[to], frame)


def open_tap(namespace: str) -> int:
    """Make a network device inside a namespace; it lives as long as this process holds it."""
    with (NAMESPACES / namespace).open("rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"can't enter network namespace {namespace}")
    with suppress(OSError):
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(_CONGESTION_CONTROL)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    return tap


def main() -> None:
    """Open the taps, say so, carry frames, and clean up behind the lab."""
    control_fd, seed, mtu, *namespaces = sys.argv[1:]
    with socket.socket(fileno=int(control_fd)) as control:
        os.setsid()  # a Ctrl-C is the lab's to deal with
        switch = Switch([open_tap(name) for name in namespaces], int(seed), int(mtu))
        with suppress(OSError):
            control.send(b"{}")
            switch.run(control)
    for name in namespaces:
        subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
