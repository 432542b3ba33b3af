"""A laboratory for hurting real swarms: several virtual hosts on this machine, joined by a bad network.

    with Lab(hosts=5) as lab:
        subprocess.Popen(lab.command(0, ["program", "argument"]))   # runs on host 0, under lab.address(0)
        lab.delay_s, lab.loss, lab.rate_mbit = 0.1, 0.01, 10        # from now on
        lab.partition([0, 1, 2], [3, 4])
        lab.heal()

A host is a network namespace: it shares files and processes with this machine, and nothing of the network.
`lab_switch.py` carries the frames. `CpuShare` and `SmallDisk`, in `lab_limits.py`, make other goods scarce.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from tests.nemesis import lab_switch
from tests.nemesis.lab_limits import CpuShare, SmallDisk, is_root, remove_leftovers
from tests.nemesis.lab_switch import DEVICE, NAMESPACES, mac

__all__ = ["CpuShare", "Lab", "SmallDisk"]

_PREFIX = "paceline-lab"
_START_S = 20.0
_NUMBERS = itertools.count()
_TOOLS = ("ip", "nsenter")


class Lab:
    """Virtual hosts `0 … hosts-1`. Leaving the `with` block takes them down; so does this process's death.

    Attributes:
        num_hosts: How many.
    """

    def __init__(self, hosts: int, *, seed: int = 0, mtu: int = 1500) -> None:
        """Plan; nothing exists before the `with` block.

        Args:
            hosts: How many, up to 200.
            seed: Decides which frames are lost.
            mtu: Largest packet in bytes. Loss is per packet: with large ones, fewer and larger holes.
        """
        assert 0 < hosts <= 200
        self.num_hosts = hosts
        self._seed, self._mtu = seed, mtu
        self._names = [f"{_PREFIX}-{os.getpid()}-{next(_NUMBERS)}" for _ in range(hosts)]
        self._conditions: dict[str, object] = {
            "delay_s": 0.0,
            "loss": 0.0,
            "rate_mbit": 0.0,
            "sides": [0] * hosts,
        }
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._switch: subprocess.Popen[bytes] | None = None

    @staticmethod
    @cache
    def reason_unavailable() -> str | None:
        """Say why this machine can't have a lab.

        Returns:
            One clause, or None when it can.
        """
        if sys.platform != "linux":
            return "network namespaces are Linux's"
        if not is_root():
            return "only root may make network namespaces"
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            return f"the program {missing[0]} is missing (package iproute2 or util-linux)"
        if not Path("/dev/net/tun").exists():
            return "there is no /dev/net/tun"
        try:
            with Lab(hosts=1):
                return None
        except (OSError, subprocess.SubprocessError) as error:
            return f"this machine refuses a network namespace with a tap: {error}"

    def __enter__(self) -> Lab:
        remove_leftovers(NAMESPACES, _PREFIX, lambda path: _ip("netns", "delete", path.name))
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def command(self, host: int, command: Sequence[str]) -> list[str]:
        """Make a command line that runs a program on a host.

        Args:
            host: Which.
            command: The program and its arguments.

        Returns:
            The command line. It becomes the program without another process between.
        """
        # Not `ip netns exec`, which gives the program mounts of its own: no later `SmallDisk` would be there.
        return ["nsenter", f"--net={NAMESPACES / self._names[host]}", "--", *command]

    def address(self, host: int) -> str:
        """Tell under which address the other hosts reach a host.

        Args:
            host: Which.

        Returns:
            An IPv4 address.
        """
        assert 0 <= host < self.num_hosts
        return f"10.77.0.{host + 1}"

    @property
    def delay_s(self) -> float:
        """How long a frame is on its way, in seconds; a round trip takes twice that."""
        return float(str(self._conditions["delay_s"]))

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self._change(delay_s=seconds)

    @property
    def loss(self) -> float:
        """Share of the frames that get lost."""
        return float(str(self._conditions["loss"]))

    @loss.setter
    def loss(self, share: float) -> None:
        self._change(loss=share)

    @property
    def rate_mbit(self) -> float:
        """Megabits per second that each host can send; 0 for no limit."""
        return float(str(self._conditions["rate_mbit"]))

    @rate_mbit.setter
    def rate_mbit(self, megabits: float) -> None:
        self._change(rate_mbit=megabits)

    def partition(self, *sides: Iterable[int]) -> None:
        """Cut the network: hosts reach only those of their own side. Also drops what is on its way across.

        Args:
            sides: Groups of hosts. Whoever is in none is cut off from everybody.
        """
        found = {host: number for number, side in enumerate(sides) for host in side}
        alone = len(sides)
        self._change(sides=[found.get(host, alone + host) for host in range(self.num_hosts)])

    def heal(self) -> None:
        """Let everybody reach everybody."""
        self._change(sides=[0] * self.num_hosts)

    def calm(self) -> None:
        """Be a perfect network again: no delay, no loss, no limit, no partition."""
        self._change(delay_s=0.0, loss=0.0, rate_mbit=0.0, sides=[0] * self.num_hosts)

    def bytes_sent(self, host: int) -> int:
        """Count what a host has put on the wire, headers included, whether it arrived or not.

        Args:
            host: Which.

        Returns:
            Bytes since the start.
        """
        return self._ask({})["sent"][host]

    def frames_lost(self, host: int) -> int:
        """Count the frames of a host that never arrived: lost by chance, at a partition, or in a full queue.

        Args:
            host: Which.

        Returns:
            Frames since the start.
        """
        return self._ask({})["lost"][host]

    def _change(self, **conditions: object) -> None:
        self._conditions |= conditions
        if self._control is not None:
            self._ask(self._conditions)

    def _ask(self, conditions: dict[str, object]) -> dict[str, list[int]]:
        assert self._control is not None, "the lab is not open"
        with self._lock:  # one answer per question
            self._control.send(json.dumps(conditions).encode())
            counts: dict[str, list[int]] = json.loads(self._control.recv(65536))
        return counts

    def _start(self) -> None:
        for name in self._names:
            _ip("netns", "add", name)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [sys.executable, "-I", "-S", lab_switch.__file__]
        arguments = [str(theirs.fileno()), str(self._seed), str(self._mtu), *self._names]
        with theirs:
            self._switch = subprocess.Popen([*program, *arguments], pass_fds=[theirs.fileno()])
        self._control = ours
        ours.settimeout(_START_S)
        if not ours.recv(64):
            raise OSError("the switch did not start")
        for host, name in enumerate(self._names):
            _ip("-netns", name, "-batch", "-", script=self._settings_of(host))
        self._ask(self._conditions)

    def _settings_of(self, host: int) -> str:
        # Everybody knows everybody's hardware address, so that no partition outlives itself in a table.
        neighbours = [
            f"neigh add {self.address(other)} lladdr {mac(other)} dev {DEVICE} nud permanent"
            for other in range(self.num_hosts)
            if other != host
        ]
        own = [
            "link set lo up",
            f"link set {DEVICE} address {mac(host)} mtu {self._mtu} addrgenmode none arp off",
            f"address add {self.address(host)}/24 dev {DEVICE}",
            f"link set {DEVICE} up",
        ]
        return "\n".join([*own, *neighbours]) + "\n"

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()  # the switch removes the namespaces when it sees that
            self._control = None
        if self._switch is not None:
            with suppress(subprocess.TimeoutExpired):
                self._switch.wait(_START_S)
            self._switch.kill()
            self._switch.wait()
            self._switch = None
        for name in self._names:
            if (NAMESPACES / name).exists():
                _ip("netns", "delete", name)


def _ip(*arguments: str, script: str | None = None) -> None:
    done = subprocess.run(["ip", *arguments], input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
