"""What stands before every answer: reading only, headers that keep a page to itself, and no stack trace.

Usage:
    app = Guard(Starlette(routes=...))
"""

from __future__ import annotations

import html
import json
import sys
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paceline.telemetry.server import is_loopback, is_named_locally

METHODS = ("GET", "HEAD")
"""What is answered."""
FAILED = "The observer failed to work this out; its own output says more."
"""What a stranger is told of an error inside."""

_HEADERS = {
    # The page loads nothing from anywhere else, and nobody else's page can show it in a frame.
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {phrase}</title></head>
<body><h1>{phrase}</h1><p>{cause}</p><p><a href="/">The swarm's page</a></p></body></html>
"""


class Guard:
    """Answers what the application inside must not be bothered with.

    Guarantees:
        Every route answers GET and HEAD only.
        A loopback port answers to no foreign name.
        An error inside is one sentence outside.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application.

        Args:
            app: The application.
        """
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do so.

        Args:
            scope: What is asked.
            receive: Gives the rest of the request.
            send: Takes the answer.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _Answer(send)
        asked_for, (host, _) = Headers(scope=scope).get("host", ""), scope.get("server") or ("", 0)
        if is_loopback(host) and not is_named_locally(asked_for):
            answer = refusal(
                scope, 403, "Ask by address, or as localhost: another name leads here by mistake."
            )
            await answer(scope, receive, guarded)
            return
        if scope["method"] not in METHODS:
            answer = refusal(scope, 405, "This port is for looking only: ask with GET.")
            answer.headers["allow"] = ", ".join(METHODS)
            await answer(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            # The application has answered, if it could; what is left is to tell whoever runs it.
            print(f"error: {scope['path']!r}: {error!r}", file=sys.stderr, flush=True)
            if not guarded.has_begun:
                await refusal(scope, 500, FAILED)(scope, receive, guarded)


class _Answer:
    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await self._send(message)


def refusal(scope: Scope, status: int, cause: str) -> Response:
    """Make the answer to a request that can't be served.

    Args:
        scope: What was asked.
        status: The HTTP status.
        cause: One sentence for people. It may hold what was asked: it is escaped.

    Returns:
        A small page for a browser, and JSON with the key `error` for everybody else.
    """
    wants_page = "text/html" in Headers(scope=scope).get("accept", "") and not scope["path"].startswith(
        "/api/"
    )
    if wants_page:
        phrase = HTTPStatus(status).phrase
        return HTMLResponse(_PAGE.format(status=status, phrase=phrase, cause=html.escape(cause)), status)
    return Response(f"{json.dumps({'error': cause})}\n", status, media_type="application/json")
