"""Every correction to hivemind 1.1.12 itself, each with its reason.

`harden()` puts the patches in place, once, before anything forks; `PeerDht` and `Averager` call it. The rest
is used by those two. For each correction `tests/network/test_hardening*.py` shows that it works, and that
stock hivemind still needs it; a test of the second kind that fails names the correction to take out.

| fault in hivemind | correction |
|---|---|
| msgpack extensions nested about 195 deep overflow the C stack: a 1.9 KB store kills the DHT | depth limit |
| a length header is believed (1 TiB claimed), and its body awaited for ever | size limit, deadline |
| one bad record in an answer hides the good ones; its size and expiry end or break the search | `_sift` |
| a record that comes late takes the newer one along when it expires | nothing changes unless it wins |
| `kill -9` of a peer leaves its children and p2pd alive, and its identity taken | they die with it |
| a DHT whose p2pd was killed lives on, deaf and dumb, and nobody notices | it ends with its daemon |
| a killed peer leaves its sockets behind in /tmp | named by pid, swept at the next start |
| a large message on the control pipe, or two threads that send at once, kill the process | `SafePipe` |
| processes share a lock for their answers; one killed in mid-answer silences the rest | `mailbox` |
| futures that we don't use are kept in torch's shared memory, whose manager takes 60 MB | no manager |
| starting an averager makes the host deaf to Ctrl-C | `sigint_kept` |
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch.multiprocessing
from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import P2P
from hivemind.utils.serializer import MSGPackSerializer
from hivemind.utils.timed_storage import ValueWithExpiration

MAX_NESTING = 8
"""Extensions within extensions; honest records nest two or three deep."""
MAX_MESSAGE_BYTES = 4 << 20
"""The largest message on a hivemind stream; hivemind's own limit for unary calls."""
BODY_TIMEOUT_S = 60.0
"""How long the body of a message may take after its header."""
SOCKET_FOLDER = Path("/tmp")  # hivemind's own choice; a socket's path has room for 100 bytes only

_PR_SET_PDEATHSIG = 1
_SOCKET_NAME = re.compile(r"paceline-(\d+)-p2p\w+-.*\.sock")
# Started instead of p2pd and turning into it: only a process itself can ask to die with its parent, and p2pd
# doesn't. `-I -S` keeps the user's environment and site-packages out, and takes about 20 ms.
_LAUNCHER = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_hardened = False


def harden() -> None:
    """Correct hivemind in this process and all that it forks from now on. The second call does nothing."""
    global _hardened
    if _hardened:
        return
    _limit_nesting()
    _sift_dictionaries()
    _keep_the_latest()
    P2P.receive_raw_data = staticmethod(_receive_raw_data)
    if sys.platform == "linux":
        _bind_daemon_to_parent()
        torch.multiprocessing.set_sharing_strategy("file_descriptor")  # type: ignore[no-untyped-call]
    P2P._UNIX_SOCKET_PREFIX = f"/unix{SOCKET_FOLDER}/paceline-{os.getpid()}-"
    sweep_sockets(SOCKET_FOLDER)
    _hardened = True


def _limit_nesting() -> None:
    original = MSGPackSerializer._decode_ext_types.__func__
    depth = threading.local()

    def decode(cls: type[MSGPackSerializer], type_code: int, data: bytes) -> Any:
        level = getattr(depth, "level", 0)
        if level >= MAX_NESTING:
            raise ValueError(f"extensions nested more than {MAX_NESTING} deep")
        depth.level = level + 1
        try:
            return original(cls, type_code, data)
        finally:
            depth.level = level

    MSGPackSerializer._decode_ext_types = classmethod(decode)


def _sift_dictionaries() -> None:
    # Hivemind drops a whole dictionary for one record that it finds invalid, for instance because the clocks
    # of the two peers differ; and it believes what the sender says of the dictionary as a whole: an expiry of
    # infinity ends everybody's search at once, and a `maxsize` of text makes it hang.
    ask = DHTProtocol.call_find

    async def call_find(self: DHTProtocol, peer: Any, keys: Any) -> Any:
        answer = await ask(self, peer, keys)
        return answer and {key: (_dated(found), nearest) for key, (found, nearest) in answer.items()}

    DHTProtocol.call_find = call_find
    DHTProtocol._validate_dictionary = _sift


def _sift(self: DHTProtocol, key: bytes, records: DictionaryDHTValue) -> bool:
    with records.freeze():
        for subkey, (value, expires_at) in list(records.items()):
            if not self._validate_record(key, self.serializer.dumps(subkey), value, expires_at):
                del records[subkey]
        records.maxsize = float("inf")
        expiries = [kept.expiration_time for kept in records.data.values()]
        records.latest_expiration_time = max(expiries, default=float("-inf"))
    return bool(expiries)


def _dated(found: ValueWithExpiration[Any] | None) -> ValueWithExpiration[Any] | None:
    if found is None or not isinstance(found.value, DictionaryDHTValue):
        return found
    return ValueWithExpiration(found.value, found.value.latest_expiration_time)


def _keep_the_latest() -> None:
    store = DictionaryDHTValue.store

    def store_if_it_wins(self: DictionaryDHTValue, key: Any, value: Any, expiration_time: float) -> bool:
        known = self.data.get(key)
        if known is not None and not known.expiration_time < expiration_time:
            return False  # hivemind would now let the record that stays expire with the one that lost
        return bool(store(self, key, value, expiration_time))

    DictionaryDHTValue.store = store_if_it_wins


async def _receive_raw_data(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(P2P.HEADER_LEN), P2P.BYTEORDER)
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message that claims {length} bytes; {MAX_MESSAGE_BYTES} is the limit")
    async with asyncio.timeout(BODY_TIMEOUT_S):
        return await reader.readexactly(length)


def _bind_daemon_to_parent() -> None:
    original = P2P._make_process_args

    def with_launcher(*args: Any, **kwargs: Any) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *original(*args, **kwargs)]

    P2P._make_process_args = staticmethod(with_launcher)


def die_with_parent(parent_pid: int) -> None:
    """Make the kernel kill this process once its parent is gone, however that ends; Linux only.

    Args:
        parent_pid: The process that forked this one. The thread that forked must be one that lives as long
            as its process, since the kernel goes by threads.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it was gone before we could ask
        os._exit(1)


def let_go_of_sockets() -> None:
    """Close the internet sockets that this process, just forked, has from its parent: else they stay open.

    Their numbers stay taken, so that what still holds one of them can't close another in its place.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for entry in list(Path("/dev/fd").iterdir()):
        _let_go(int(entry.name), nothing)
    os.close(nothing)


def _let_go(number: int, nothing: int) -> None:
    with suppress(OSError):
        if number != nothing and stat.S_ISSOCK(os.fstat(number).st_mode):
            with socket.socket(fileno=os.dup(number)) as held:
                if held.family in (socket.AF_INET, socket.AF_INET6):
                    os.dup2(nothing, number)


DAEMON_ENDED = 70
"""Exit code of the DHT's process when the daemon ended before it."""


def end_with_daemon() -> None:
    """Let this process, the DHT's, end with `DAEMON_ENDED` when the daemon that it started ends."""
    original = P2P._read_outputs

    async def read_outputs(self: P2P, ready: asyncio.Future[None]) -> None:
        await original(self, ready)  # until the daemon closes its output; an orderly shutdown cancels this
        if not ready.cancelled() and ready.exception() is None:
            print("the network daemon (p2pd) has ended", file=sys.stderr, flush=True)
            os._exit(DAEMON_ENDED)

    P2P._read_outputs = read_outputs


def sweep_sockets(folder: Path) -> None:
    """Remove the sockets of peers that were killed.

    Args:
        folder: Where sockets lie.
    """
    for path in folder.glob("paceline-*.sock"):
        named = _SOCKET_NAME.fullmatch(path.name)
        if named and not _alive(int(named[1])) and not _listens(path):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _listens(path: Path) -> bool:
    # A container that shares our /tmp has pids of its own: ask the socket as well.
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(str(path))
        return True
    return False


@contextmanager
def sigint_kept() -> Iterator[None]:
    """Give Ctrl-C back to whoever had it, after hivemind has taken it away."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class SafePipe:
    """One end of a control pipe that many threads may write to and an event loop may watch.

    Hivemind's loop makes the descriptor that it watches non-blocking, so that a `recv` of a message which is
    still being written ends in the middle of it, and with it the process; and two threads that send at once
    mix their messages. Either correction alone was not enough.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        """Write one message, whole.

        Args:
            message: Anything that pickles.
        """
        with self._sending:
            self._connection.send(message)

    def recv(self) -> Any:
        """Read one message, whole.

        Returns:
            What the other end sent.
        """
        os.set_blocking(self._connection.fileno(), True)
        return self._connection.recv()

    def poll(self, timeout: float = 0.0) -> bool:
        """Tell whether something is there to be read.

        Args:
            timeout: Seconds to wait for it.

        Returns:
            Whether `recv` would find the beginning of a message.
        """
        return self._connection.poll(timeout)

    def fileno(self) -> int:
        """Name the descriptor, for an event loop to watch.

        Returns:
            The descriptor.
        """
        return self._connection.fileno()

    def close(self) -> None:
        """Close this end."""
        self._connection.close()
