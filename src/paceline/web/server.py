"""The observer's web server: uvicorn in a thread of its own, and patient with nobody for long.

Usage:
    with WebServer("127.0.0.1", 8088, Observatory(source)) as server:
        print(f"http://{server.address}/")
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from types import TracebackType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from paceline.core.errors import ConfigError
from paceline.web.app import Observatory

MAX_CONNECTIONS = 192
"""So many connections are held at once; those beyond are hung up on."""
HEAD_S = 10.0
"""How long a request's head may take to arrive."""
STALLED_S = 60.0
"""A reader that takes nothing of an answer for so long is hung up on."""
_LEAVE_S = 2
_START_S = 30.0


class WebServer:
    """Serves an application while it is entered.

    Attributes:
        address: `host:port` that it listens on; empty before.

    Guarantees:
        A connection that asks nothing is closed.
        A reader that takes nothing is hung up on.
        Open streams do not hold up the end.
    """

    def __init__(self, host: str, port: int, app: Observatory) -> None:
        """Note what to serve and where; nothing is opened yet.

        Args:
            host: Name or address to bind; IPv6 without brackets.
            port: Port; 0 picks a free one.
            app: The application.
        """
        self.address = ""
        self._host, self._port, self._app = host, port, app
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> WebServer:
        """Start to listen.

        Returns:
            This server.

        Raises:
            ConfigError: The port is taken, or the host is not one of this machine.
        """
        bound = _bind(self._host, self._port)
        config = uvicorn.Config(
            self._app,
            http=_Patience,
            ws="none",
            loop="asyncio",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(HEAD_S),
            timeout_graceful_shutdown=_LEAVE_S,
        )
        self._server = _Server(config, self._app)
        self._thread = threading.Thread(target=self._server.run, args=([bound],), name="web", daemon=True)
        self._thread.start()
        self._server.is_up.wait(_START_S)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"{host}:{bound.getsockname()[1]}"
        return self

    @property
    def num_connections(self) -> int:
        """How many connections are held now."""
        return len(self._server.server_state.connections) if self._server is not None else 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None
            self.address = ""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Observatory) -> None:
        super().__init__(config)
        self._app = app
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.close()  # first: the rest waits until every stream has ended
        await super().shutdown(sockets)


class _Patience(H11Protocol):
    # uvicorn waits for ever for the rest of a head; a few hundred strangers would take all the places.
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._timer = self.loop.call_later(HEAD_S, self._lose_patience)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_served() and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif not self._is_served() and self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._lose_patience)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _is_served(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _lose_patience(self) -> None:
        self._timer = None
        if not self._is_served():
            self.transport.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections take it over from here
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED_S * 1000))
        bound.bind((host, port))
        bound.listen(MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(*_why_unusable(host, port, error)) from error
    return bound


def _why_unusable(host: str, port: int, error: Exception) -> tuple[str, str]:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken by another program",
            "choose another: --port, 0 for any free one",
        )
    cause = f"the page can't be served at {host}:{port} ({error})"
    return cause, "set --host to an address of this machine and --port to 0 or a free port"
