"""The DHT's process: hivemind's, made safe for many threads and bound to the life of its parent.

    with PeerDht(seeds, identity_path=str(key_file)) as dht:
        dht.store(key, value, expiration_time, subkey=subkey)

The process is forked: start it in the main thread, before any other thread and before CUDA. Only a monitor
whose node has died starts another later, from a thread that lives as long: should a lock be held at that
instant that the new process needs, it does not come up in time and is tried again.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hivemind.dht import DHT, DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import RecordValidatorBase
from hivemind.p2p import P2P
from hivemind.utils.multiaddr import Multiaddr

from paceline.core.errors import JoinError, ProcessDied, SeedsUnreachable
from paceline.network.dial_back import offer_dial_backs
from paceline.network.hardening import (
    DAEMON_ENDED,
    SafePipe,
    die_with_parent,
    end_with_daemon,
    harden,
    let_go_of_sockets,
)
from paceline.network.identity import load_or_create
from paceline.network.mailbox import Mailbox, answer_through
from paceline.network.reunion import look_for_the_lost

STARTUP_TIMEOUT_S = 60.0
"""How long the daemon may take to come up; hivemind's 15 s are too short on a loaded machine."""
_running: set[asyncio.Task[Any]] = set()
_EXIT_S = 1.0
_NEIGHBOURS_S = 2.0
_DEFAULTS: dict[str, Any] = {
    "startup_timeout": STARTUP_TIMEOUT_S,
    # Hivemind's check reads the key file as RSA and fails on Ed25519; a key's holder is guarded by a lock.
    "check_if_identity_free": False,
    # A cached record may be older than one that this peer has already acted on.
    "cache_locally": False,
    "cache_nearest": 0,
    # Others may write to the cache, and what is there would be told in place of what is stored: keep nothing.
    "cache_size": -1,
    "wait_timeout": 2,
}


class PeerDht(DHT):  # type: ignore[misc]
    """A DHT node in a process of its own.

    Guarantees:
        Eight threads may store 300 KB each at once.
        The node and its daemon die with the peer.
        The node ends when its daemon does.
        A call to a dead node raises and does not hang.
        Nodes that lost each other meet again.
        A coroutine is not collected as garbage while it waits.
        A node comes back to its place in the DHT.

    Example:
        `dht = PeerDht(["/ip4/…/p2p/…"]); dht.start_or_raise(30.0); dht.get("key", latest=True)`
    """

    _inner_pipe: Any
    _outer_pipe: Any
    _ready: Any

    def __init__(
        self,
        initial_peers: Sequence[str] = (),
        *,
        record_validators: Iterable[RecordValidatorBase] = (),
        **kwargs: Any,
    ) -> None:
        """Prepare the node; nothing runs before `start_or_raise`.

        Args:
            initial_peers: Multiaddrs of seeds; none to begin a swarm.
            record_validators: What may be stored and read.
            kwargs: Anything that `hivemind.DHT`, its node or its daemon takes.
        """
        harden()
        settings = _DEFAULTS | kwargs
        if "identity_path" in kwargs:
            # One and the same place after each start: else former ones would stay in the others' tables.
            peer_id = load_or_create(Path(kwargs["identity_path"])).peer_id
            settings = {"node_id": DHTID.generate(source=peer_id)} | settings
        super().__init__(list(initial_peers), start=False, record_validators=record_validators, **settings)
        self._inner_pipe = SafePipe(self._inner_pipe)
        self._outer_pipe = SafePipe(self._outer_pipe)
        self._mailbox = Mailbox("DHT", self._obituary)
        self._ready, self._up = self._mailbox.expect()
        self._replies: Connection
        self._daemon_maddr: Multiaddr | None = None

    def start(self) -> None:
        """Fork the process. Callers want `start_or_raise`."""
        self._is_late = threading.current_thread() is not threading.main_thread()
        self._replies = self._mailbox.open()
        super().start()
        self._mailbox.watch()
        # Else a write to a dead node would wait for this copy of its reading end.
        self._inner_pipe.close()

    def start_or_raise(self, timeout_s: float = STARTUP_TIMEOUT_S) -> None:
        """Start the node and wait until it has joined.

        Args:
            timeout_s: How long to wait.

        Raises:
            SeedsUnreachable: There are seeds, and none answered.
            JoinError: The node or its daemon failed to start.
        """
        began = time.monotonic()
        self.start()
        try:
            self._up.result(timeout_s)
            self._ready = self._up  # for hivemind, which asks whether it is done
            # Asked for now, so that a process forked later finds them here and needn't use our pipe.
            self._daemon_maddr = self.run_coroutine(DHT._get_p2p_daemon_listen_maddr)
            self.peer_id, self.client_mode  # noqa: B018
            self.run_coroutine(partial(look_for_the_lost, [str(seed) for seed in self.initial_peers]))
            if not self.client_mode:
                self.run_coroutine(offer_dial_backs)
        except Exception as error:
            self.shutdown()
            raise self._what_went_wrong(error, time.monotonic() - began) from error

    def check(self) -> None:
        """Make sure that the node and its daemon are there.

        Raises:
            ProcessDied: Names which of them ended.
        """
        if not self.is_alive():
            raise self._obituary()

    def neighbours(self) -> tuple[str, ...]:
        """Name those with whom the daemon is connected directly.

        Returns:
            Multiaddrs with peer ids, as `initial_peers` takes them; none when the node does not answer soon.
            Unless a router has changed them, they are where the others listen: libp2p calls from there.
        """
        try:
            return tuple(self.run_coroutine(_connected, return_future=True).result(_NEIGHBOURS_S))
        except Exception:
            return ()  # a convenience; whoever needs the node itself will notice

    def run(self) -> None:
        """Serve, in the forked process, until shut down or orphaned."""
        die_with_parent(self._parent_pid)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._is_late:
            let_go_of_sockets()
        end_with_daemon()
        answer_through(self._replies)
        super().run()

    def shutdown(self) -> None:
        """Stop the node and its daemon; does nothing when they are stopped."""
        if self.pid is not None and self.is_alive():
            try:
                self._outer_pipe.send(("_shutdown", [], {}))
                self.join(self.shutdown_timeout)
            except OSError:
                pass  # it died just now
            if self.is_alive():
                self.kill()
            self.join()

    def get(self, key: Any, latest: bool = False, return_future: bool = False, **kwargs: Any) -> Any:
        """Look a key up, as `hivemind.DHT.get` does.

        Args:
            key: The key.
            latest: Whether to ask all who may have it for the latest value.
            return_future: Whether to return a `concurrent.futures.Future` at once.
            kwargs: Passed on.

        Returns:
            The value with its expiration, or None; or the future of it.
        """
        return self._ask(return_future, "_get", key=key, latest=latest, **kwargs)

    def store(
        self,
        key: Any,
        value: Any,
        expiration_time: float,
        subkey: Any = None,
        return_future: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Store a value, as `hivemind.DHT.store` does.

        Args:
            key: The key.
            value: Anything that hivemind's msgpack takes.
            expiration_time: When it may be forgotten, in seconds since 1970; it replaces only what ends
                sooner.
            subkey: Makes the value one entry of a dictionary.
            return_future: Whether to return a `concurrent.futures.Future` at once.
            kwargs: Passed on.

        Returns:
            Whether somebody took it, which is no proof that all did; or the future of it.
        """
        content = {"key": key, "value": value, "expiration_time": expiration_time, "subkey": subkey}
        return self._ask(return_future, "_store", **content, **kwargs)

    def run_coroutine(
        self, coro: Callable[[DHT, DHTNode], Awaitable[Any]], return_future: bool = False
    ) -> Any:
        """Run a coroutine function in the node's process, as `hivemind.DHT.run_coroutine` does.

        Args:
            coro: A function that could be imported before the fork.
            return_future: Whether to return a `concurrent.futures.Future` at once.

        Returns:
            What it returned, or the future of it.
        """
        return self._ask(return_future, "_run_coroutine", coro=coro)

    async def replicate_p2p(self) -> P2P:
        """Connect another process of this peer to the node's daemon.

        Returns:
            The connection.
        """
        return await P2P.replicate(self._daemon_maddr)

    def __enter__(self) -> Self:
        self.start_or_raise()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _ask(self, return_future: bool, method: str, **kwargs: Any) -> Any:
        answer = self._mailbox.post(
            lambda promise: self._outer_pipe.send((method, [], kwargs | {"future": promise}))
        )
        return answer if return_future else answer.result()

    async def _run_coroutine(self, coro: Callable[[DHT, DHTNode], Awaitable[Any]], future: Any) -> None:
        # Hivemind keeps no reference to this task, and asyncio's streams hold their readers weakly: a task
        # that waits for the daemon's answer could be collected as garbage, and end with GeneratorExit.
        task = asyncio.current_task()
        assert task is not None
        _running.add(task)
        try:
            await super()._run_coroutine(coro, future)
        finally:
            _running.discard(task)

    def _obituary(self) -> ProcessDied:
        # Its pipes close a moment before it has an exit code.
        self.join(_EXIT_S)
        return ProcessDied("network daemon" if self.exitcode == DAEMON_ENDED else "DHT")

    def _what_went_wrong(self, error: Exception, seconds: float) -> JoinError:
        if self.initial_peers and ("bootstrap" in str(error) or isinstance(error, TimeoutError)):
            return SeedsUnreachable([str(peer) for peer in self.initial_peers], seconds)
        return JoinError(
            f"the network daemon did not start ({seconds:.0f} s): {error or type(error).__name__}",
            "check host_maddrs, that the port is free, and the key file",
        )


async def _connected(_dht: DHT, node: DHTNode) -> list[str]:
    return [
        f"{address}/p2p/{peer.peer_id}"
        for peer in await node.p2p.list_peers()
        for address in map(str, peer.addrs)
        if "/p2p-circuit" not in address
    ]
