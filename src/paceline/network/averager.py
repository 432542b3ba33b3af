"""The averager: hivemind's `DecentralizedAverager`, which averages exactly the roster that it is given.

Of hivemind's averager it keeps the process, the control pipe and the connection to the daemon. Its
matchmaking and its download of state are not offered; the all-reduce is `paceline.network.butterfly`.

    with Averager(dht, num_elements=n, arithmetic=arithmetic, prefix="run") as averager:
        averager.buffer[:] = pseudo_gradient
        outcome = averager.reduce(order)
        if outcome.complete: ...  # averager.buffer holds the mean, the same bits on all members

The process is forked: start it in the main thread, before CUDA.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import pickle
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from hivemind.averaging import DecentralizedAverager
from hivemind.p2p import P2P, PeerID, ServicerBase
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from numpy.typing import NDArray

from paceline.core.errors import JoinError, ProcessDied, TransferFailed
from paceline.network.attempt import Attempt
from paceline.network.butterfly import Arithmetic, ReduceOrder, ReduceOutcome
from paceline.network.cancelling import Cancels
from paceline.network.dht import STARTUP_TIMEOUT_S, PeerDht
from paceline.network.group import Group, Terms
from paceline.network.hardening import SafePipe, die_with_parent, sigint_kept
from paceline.network.line import OVERHEAD_BYTES, Line
from paceline.network.mailbox import Mailbox, Promise, answer_through
from paceline.network.reception import Reception

_GRACE_S = 10.0
_DAEMON_ANSWERS_S = 2.0
_PARTING_S = 0.5  # for the members of a cancelled attempt to be told
_REMEDY = "it can be tried again; what has arrived is kept"


class Averager(DecentralizedAverager):  # type: ignore[misc]
    """Averages a flat vector over a roster.

    Attributes:
        buffer: `[num_elements]` float32, shared with the process: values before `reduce`, the mean after.

    Guarantees:
        All members of a complete reduce hold the same bits.
        A reduce ends within its time limit whatever happens.
        A cancelled call ends soon and says so.
        A cancel that comes before its attempt is not lost.
        A dead averager process raises and does not hang.
        Starting leaves SIGINT as it was.
        The process dies with the peer.
    """

    _inner_pipe: Any
    _outer_pipe: Any
    # Hivemind's processes can only be forked, whatever the platform's default is.
    _start_method = "fork"
    _Popen = staticmethod(ForkProcess._Popen)

    def __init__(
        self,
        dht: PeerDht,
        *,
        num_elements: int,
        arithmetic: Arithmetic,
        others: Sequence[Arithmetic] = (),
        prefix: str,
        services: Sequence[ServicerBase] = (),
    ) -> None:
        """Prepare the averager; nothing runs before `start_or_raise`.

        Args:
            dht: This peer's DHT node, started.
            num_elements: Length of the vector.
            arithmetic: What is computed; the same for all members.
            others: What is computed instead where an order names another codec; one for each codec.
            prefix: The run's namespace; letters, digits and dashes.
            services: What else is to be served from this process, under the same namespace.
        """
        # Hivemind moves what it is given into /dev/shm, where Docker has 64 MB and a killed process leaves
        # its files. An anonymous shared mapping has no limit of its own and no name that could be left.
        super().__init__((torch.zeros(1),), dht, start=False, prefix=prefix, allow_state_sharing=False)
        self.buffer: NDArray[np.float32] = np.frombuffer(mmap.mmap(-1, 4 * num_elements), dtype=np.float32)
        self._averaged_tensors = (torch.from_numpy(self.buffer),)
        self._inner_pipe = SafePipe(self._inner_pipe)
        self._outer_pipe = SafePipe(self._outer_pipe)
        self._first = arithmetic
        self._by_codec = {each.codec.name: each for each in (arithmetic, *others)}
        self._part_bytes = max(each.part_bytes for each in self._by_codec.values())
        self._services = tuple(services)
        self._me: str = dht.peer_id.to_base58()
        self._mailbox = Mailbox("averager")
        self._ready, self._up = self._mailbox.expect()
        self._replies: Connection
        self._cancels = Cancels()
        self._reducing = threading.Lock()
        self._attempt: Attempt | None = None

    # --- the peer's process

    def start_or_raise(self, timeout_s: float = STARTUP_TIMEOUT_S) -> None:
        """Start the process and wait until it can be called.

        Args:
            timeout_s: How long to wait.

        Raises:
            JoinError: It failed to start.
        """
        with sigint_kept():
            self.run_in_background(await_ready=False)
        try:
            self._up.result(timeout_s)
        except Exception as error:
            self.shutdown()
            raise JoinError(f"the averager did not start: {error!r}", "see the log of the DHT") from error

    def start(self) -> None:
        """Fork the process. Callers want `start_or_raise`."""
        self._replies = self._mailbox.open()
        super().start()
        self._mailbox.watch()
        self._inner_pipe.close()  # our copy would keep the pipe open after the process's death

    def reduce(self, order: ReduceOrder) -> ReduceOutcome:
        """Average `buffer` over the roster, in place.

        Args:
            order: Who, with which weights, within which time.

        Returns:
            How it ended. When not complete, the buffer's content is undefined: form the values again.

        Raises:
            ValueError: The order is about more values than the buffer has, or names a codec that is not here.
            ProcessDied: The averager's process is dead, or had to be killed because it did not answer.
        """
        if (order.num_elements or 0) > len(self.buffer):
            raise ValueError(f"{order.num_elements} values to average in a buffer of {len(self.buffer)}")
        if order.codec is not None and order.codec not in self._by_codec:
            raise ValueError(f"{order.codec} is none of {', '.join(self._by_codec)}")
        number = self._cancels.number()
        with self._reducing:
            reply = self._ask("_reduce", number, order)
            try:
                outcome: ReduceOutcome = reply.result(order.total_s + _GRACE_S)
            except TimeoutError:
                self.kill()  # it may write to the buffer no more
                raise ProcessDied("averager") from None
            return outcome

    def cancel(self, key: str | None = None) -> None:
        """Make a `reduce`, and a `call`, end soon. From any thread, and safe in a signal handler.

        Args:
            key: Of the one order to be given up, whether it runs or is yet to come; nothing else is touched.
                None for whatever runs: a reduce then ends incomplete, with this peer blamed, and all calls
                raise `TransferFailed`.
        """
        if key is None:
            self._cancels.cancel_all()
        else:
            self._cancels.cancel_key(bytes.fromhex(key))

    def call(self, function: Callable[..., Awaitable[Any]], timeout_s: float, **kwargs: Any) -> Any:
        """Run a coroutine function in the averager's process, which has a connection to the daemon.

        Args:
            function: Importable there; called with that process's `P2P` and the keyword arguments.
            timeout_s: How long it may take.
            kwargs: Passed on; anything that pickles.

        Returns:
            What it returns, which must pickle.

        Raises:
            TransferFailed: It took longer, or was cancelled.
            ProcessDied: The averager's process is dead.
        """
        number = self._cancels.number()
        reply = self._ask("_call", number, pickle.dumps((function, kwargs)), timeout_s)
        try:
            return reply.result(timeout_s + _GRACE_S)
        except TimeoutError:
            cause = f"the averager gave no answer within {timeout_s + _GRACE_S:.3g} s"
            raise TransferFailed(cause, _REMEDY) from None

    def shutdown(self) -> None:
        """Stop the process; does nothing when it is stopped."""
        if self.pid is not None and self.is_alive():
            with suppress(OSError):
                self._outer_pipe.send(("_shutdown", [self.shutdown_timeout], {}))
                self.join(self.shutdown_timeout)
            if self.is_alive():
                self.kill()
            self.join()

    def __enter__(self) -> Self:
        self.start_or_raise()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _ask(self, method: str, *args: Any) -> Any:
        return self._mailbox.post(lambda promise: self._outer_pipe.send((method, [promise, *args], {})))

    # --- the averager's own process

    def run(self) -> None:
        """Serve, in the forked process, until shut down or orphaned."""
        die_with_parent(self._parent_pid)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        answer_through(self._replies)
        super().run()
        os._exit(0)  # pools and streams may still wait for strangers

    async def add_p2p_handlers(
        self, p2p: P2P, wrapper: Any = None, *, namespace: str | None = None, balanced: bool = False
    ) -> None:
        """Begin to take calls: parts of all-reduces, and whatever the services offer. Nothing of hivemind's.

        Args:
            p2p: The connection to the daemon.
            wrapper: Unused; part of hivemind's signature.
            namespace: The run's prefix.
            balanced: Unused.
        """
        del wrapper, balanced
        self._p2p = p2p
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "parts")
        self._outgoing = ThreadPoolExecutor(1, "replies")
        self._reception = Reception(self._part_bytes)
        self._cancels.listen()
        self._line_name = self._get_handle_name(namespace, "rpc_aggregate_part")
        await p2p.add_binary_stream_handler(self._line_name, self._reception.take)
        for service in self._services:
            await service.add_p2p_handlers(p2p, namespace=namespace)

    async def _declare_for_download_periodically(self) -> None:
        pass  # state travels by `paceline.network.transfer`

    async def _shutdown(self, timeout: float | None) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.sleep(_PARTING_S)
        await self._p2p.remove_binary_stream_handler(self._line_name)
        await self._p2p.shutdown()

    async def _reduce(self, promise: Promise, number: int, order: ReduceOrder) -> None:
        await self._keep(promise, self._reduced(number, order))

    async def _reduced(self, number: int, order: ReduceOrder) -> ReduceOutcome:
        if self._me not in order.roster or not any(order.weights):
            cause = "no member has weight" if self._me in order.roster else "this peer is not in the roster"
            return ReduceOutcome(False, 0.0, 0, 0, cause)
        if self._reception.knows(order.group_id):
            return ReduceOutcome(False, 0.0, 0, 0, "this attempt was made before")
        arithmetic = self._first if order.codec is None else self._by_codec[order.codec]
        terms = Terms(self._me, arithmetic, self.buffer, self._pool)
        self._attempt = Attempt(Group(order, terms), self._dial, self._daemon_answers)
        self._reception.expect(order.group_id, self._attempt)
        try:
            # One that was cancelled before is begun all the same: whoever calls must hear that it is over.
            with self._cancels.heeding(number, self._attempt.cancel, order.group_id):
                return await self._attempt.run()
        except Exception as error:
            return ReduceOutcome(False, 0.0, 0, 0, f"an error in this peer: {error!r}", self._me)
        finally:
            self._attempt = None
            self._reception.forget_later(order.group_id)

    async def _call(self, promise: Promise, number: int, pickled: bytes, timeout_s: float) -> None:
        await self._keep(promise, self._called(number, pickled, timeout_s))

    async def _called(self, number: int, pickled: bytes, timeout_s: float) -> Any:
        function, kwargs = pickle.loads(pickled)
        began, work = time.monotonic(), asyncio.ensure_future(function(self._p2p, **kwargs))
        try:
            with self._cancels.heeding(number, work.cancel):
                async with asyncio.timeout(timeout_s):
                    return await work
        except asyncio.CancelledError:
            raise TransferFailed("cancelled by this peer", _REMEDY) from None
        except TimeoutError:
            cause = f"it was not done within {time.monotonic() - began:.3g} s"
            raise TransferFailed(cause, _REMEDY) from None

    async def _keep(self, promise: Promise, work: Awaitable[Any]) -> None:
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._outgoing)
        try:
            result = await work
        except Exception as error:
            await in_thread(promise.set_exception, error)
        else:
            await in_thread(promise.set_result, result)

    async def _dial(self, peer: str) -> Line:
        _, reader, writer = await self._p2p.call_binary_stream_handler(
            PeerID.from_base58(peer), self._line_name
        )
        return Line(reader, writer, self._part_bytes + OVERHEAD_BYTES)

    async def _daemon_answers(self) -> bool:
        try:
            async with asyncio.timeout(_DAEMON_ANSWERS_S):
                await self._p2p.list_peers()
        except (OSError, EOFError, P2PDaemonError):
            return False
        return True
