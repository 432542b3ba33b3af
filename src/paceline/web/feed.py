"""News as server-sent events: one stream of pictures, worked out once for however many look.

`event: picture` carries the latest picture as JSON, at most twice a second and only when there is news;
`event: ended` carries `{"error": …}` when the watch itself has ended. A comment goes out every few seconds,
so that whoever has left is noticed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial

import anyio
from anyio import to_thread
from starlette.types import Receive, Scope, Send

from paceline.core.errors import PacelineError
from paceline.watch.source import Source
from paceline.web.guard import FAILED, refusal

MAX_READERS = 64
"""So many streams are served at once."""
INTERVAL_S = 0.5
"""The shortest time between two pictures, in seconds."""
HEARTBEAT_S = 10.0
"""A reader hears something at least so often."""
STALLED_S = 30.0
"""A reader that takes nothing for so long is hung up on."""
_WAIT_S = 1.0


class Feed:
    """Gives every reader the latest picture, and then each new one.

    Attributes:
        num_readers: How many look now.

    Guarantees:
        A reader that leaves takes its stream along.
        Nobody's stream costs the others a second look.
    """

    def __init__(self, source: Source, render: Callable[[], bytes]) -> None:
        """Note whose news to tell; nothing is asked before somebody looks.

        Args:
            source: Tells when there is news.
            render: Spells the latest picture as JSON; called in another thread.
        """
        self.num_readers = 0
        self._source, self._render = source, render
        self._changed = asyncio.Condition()
        self._number, self._message, self._is_over = 0, b"", False
        self._pump: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one reader until it leaves.

        Args:
            scope: The request.
            receive: Tells when the reader hangs up.
            send: Takes the stream.
        """
        if self.num_readers >= MAX_READERS:
            answer = refusal(scope, 503, f"{MAX_READERS} others look already; try again in a moment.")
            answer.headers["retry-after"] = "5"
            await answer(scope, receive, send)
            return
        self.num_readers += 1  # before the first await: nobody else may take the place
        try:
            async with anyio.create_task_group() as both:
                both.start_soon(_until_gone, receive, both.cancel_scope)
                await self._stream(scope, send)
                both.cancel_scope.cancel()
        finally:
            self.num_readers -= 1
            if not self.num_readers and self._pump is not None:
                self._pump.cancel()
                self._pump = None

    async def close(self) -> None:
        """End all streams."""
        async with self._changed:
            self._is_over = True
            self._changed.notify_all()

    async def _stream(self, scope: Scope, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] != "HEAD":
            async for message in self._messages():
                with anyio.move_on_after(STALLED_S) as patience:
                    await send({"type": "http.response.body", "body": message, "more_body": True})
                if patience.cancelled_caught:
                    return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _messages(self) -> AsyncIterator[bytes]:
        seen = 0
        if self._pump is None and not self._is_over:
            seen = self._number  # what was told to those before is old
            self._pump = asyncio.create_task(self._ask())
        yield b"retry: 2000\n\n"
        while True:
            if await self._has_news(seen):
                seen = self._number
                yield self._message
            elif self._is_over:
                return
            else:
                yield b": still here\n\n"

    async def _has_news(self, seen: int) -> bool:
        with anyio.move_on_after(HEARTBEAT_S):
            async with self._changed:
                await self._changed.wait_for(lambda: self._number > seen or self._is_over)
        return self._number > seen

    async def _ask(self) -> None:
        version, wait_s = -1, 0.0
        try:
            while True:
                ask = partial(self._source.changed, max(0, version), wait_s)
                newest = await to_thread.run_sync(ask, abandon_on_cancel=True)
                wait_s = _WAIT_S
                if newest > version:
                    version = newest
                    await self._tell("picture", await to_thread.run_sync(self._render))
                    await asyncio.sleep(INTERVAL_S)
        except PacelineError as error:
            await self._end(str(error))
        except Exception as error:
            print(f"error: '/events': {error!r}", file=sys.stderr, flush=True)
            await self._end(FAILED)

    async def _end(self, cause: str) -> None:
        await self._tell("ended", json.dumps({"error": cause}).encode(), is_last=True)

    async def _tell(self, event: str, data: bytes, *, is_last: bool = False) -> None:
        async with self._changed:
            self._number += 1
            self._message = b"event: %s\ndata: %s\n\n" % (event.encode(), data)
            self._is_over = self._is_over or is_last
            self._changed.notify_all()


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
