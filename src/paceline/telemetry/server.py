"""A peer's own web server: `/metrics` for Prometheus, `/healthz` for whoever restarts what is ill.

`/proof?nonce=HEX` proves to a monitor that it is this peer that serves here (`paceline.core.proof`).

It answers GET and nothing else, and reads no more of a request than its head.
"""

from __future__ import annotations

import errno
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from paceline.core.errors import ConfigError
from paceline.core.proof import is_nonce
from paceline.core.records import Frozen

_MAX_CONNECTIONS = 32
MOST_S = 10.0
"""So long a connection may take in all: byte by byte, a few could otherwise keep everybody else out."""


class Health(Frozen):
    """Whether a peer does its work, as `/healthz` tells it."""

    healthy: bool
    """Decides between the answers 200 and 503."""
    round_id: int = 0
    """The round that it works on."""
    phase: str = ""
    """Where it stands in that round."""
    cause: str = ""
    """What is wrong, when something is."""


Prove = Callable[[str], str]
"""Signs what an asker has drawn; the answer is JSON."""


class MetricsServer:
    """Serves a peer's metrics and health from a thread of its own while it is entered.

    Attributes:
        address: `host:port` that it listens on; empty before.

    Guarantees:
        A failing health check is answered with 503.
        A stranger's connections hold up nothing but each other.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        prove: Prove | None = None,
    ) -> None:
        """Note what to serve and where; nothing is opened yet.

        Args:
            host: Name or address to bind; IPv6 without brackets.
            port: Port; 0 picks a free one.
            registry: The metrics.
            health: Asked for every `/healthz`, in another thread than the caller's.
            prove: Asked for every `/proof`, likewise; without it there is no such page.
        """
        self.address = ""
        self._host, self._port = host, port
        self._content = _Content(registry, health, prove)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> MetricsServer:
        """Start to listen.

        Returns:
            This server.

        Raises:
            ConfigError: The port is taken, or the host is not one of this machine.
        """
        try:
            self._server = _Server(self._host, self._port, self._content)
        except (OSError, OverflowError) as error:
            raise ConfigError(*_why_unusable(self._host, self._port, error)) from error
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"{host}:{self._server.server_address[1]}"
        serve = partial(self._server.serve_forever, poll_interval=0.1)
        self._thread = threading.Thread(target=serve, name="metrics", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None
            self.address = ""


@dataclass(frozen=True)
class _Content:
    registry: CollectorRegistry
    health: Callable[[], Health]
    prove: Prove | None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2 * _MAX_CONNECTIONS

    def __init__(self, host: str, port: int, content: _Content) -> None:
        self.content = content
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the machine's name, which takes seconds where no name server answers.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        patience = threading.Timer(MOST_S, _hang_up, (request,))
        patience.daemon = True
        patience.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            patience.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if is_loopback(str(self.server.server_address[0])) and not is_named_locally(
            self.headers.get("Host", "")
        ):
            self._answer(403, b"ask by address, or as localhost\n", "text/plain")
            return
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(self.server.content.registry), content_type)
            case "/healthz":
                state = _asked(self.server.content.health)
                body = f"{state.model_dump_json()}\n".encode()
                self._answer(200 if state.healthy else 503, body, "application/json")
            case "/proof" if self.server.content.prove is not None:
                self._prove(self.server.content.prove, query)
            case _:
                self._answer(404, b"there are /metrics, /healthz and /proof\n", "text/plain")

    def _prove(self, prove: Prove, query: str) -> None:
        nonce = query.removeprefix("nonce=")
        if is_nonce(nonce):
            self._answer(200, f"{prove(nonce)}\n".encode(), "application/json")
        else:
            self._answer(400, b"nonce: 32 to 64 lower-case hexadecimal digits\n", "text/plain")

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # every other method
            return self._refuse
        raise AttributeError(name)

    def _refuse(self) -> None:
        self._answer(405, b"GET only\n", "text/plain")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == 405:
            self.send_header("Allow", "GET")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "paceline"

    def log_message(self, *args: object) -> None:
        """Scrapes are no news."""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address.

    Args:
        host: What a server is bound to.

    Returns:
        Whether it is a loopback address, or `localhost`.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_named_locally(header: str) -> bool:
    """Tell whether a request for a loopback port was meant for it.

    A web page elsewhere can let its own name lead to 127.0.0.1, and then read what is served there as its
    own; its requests carry that name.

    Args:
        header: The request's `Host`; empty for a client that sends none, which no browser is.

    Returns:
        Whether it is an address or `localhost`.
    """
    if not header:
        return True
    name = header.rpartition(":")[0] if re.search(r":\d*$", header) else header
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() == "localhost"
    return True


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):  # it is over already
        request.shutdown(socket.SHUT_RDWR)


def _asked(health: Callable[[], Health]) -> Health:
    try:
        return health()
    except Exception as error:
        return Health(healthy=False, cause=f"the health check failed: {type(error).__name__}: {error}")


def _why_unusable(host: str, port: int, error: Exception) -> tuple[str, str]:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        cause = f"metrics.port {port} of {host} is taken by another program"
        return cause, "choose another, or 0 for any free one"
    cause = f"metrics can't be served at {host}:{port} ({error})"
    return cause, "set metrics.host to an address of this machine and metrics.port to 0 or a free port"
