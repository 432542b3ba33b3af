"""A real browser that looks at the page, and notes whatever goes wrong in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: apt-get install chromium, or scripts/install-tools"
)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever it wanted elsewhere, it could not find the way.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
LIMIT_MS = 60_000.0
WIDE, PHONE = (1440, 900), (360, 780)


def launch(playwright: Playwright) -> Browser:
    """Start the system's chromium."""
    assert CHROMIUM is not None
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))


class Visit:
    """One look at the page.

    Attributes:
        page: The page itself.
        complaints: Errors and warnings on its console, and errors that nobody caught.
        requests: Every address that was asked for.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(LIMIT_MS)
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)

    def open(self, address: str) -> Visit:
        """Go there, and wait until the first picture is drawn."""
        self.page.goto(address)
        self.page.wait_for_selector("#peers-body tr, #peers-none:not([hidden])", state="attached")
        self.until("document.getElementById('run').textContent.trim() !== ''")
        return self

    def text(self, selector: str) -> str:
        """Read the text of an element, with its white space made plain."""
        return " ".join((self.page.text_content(selector) or "").split())

    def texts(self, selector: str) -> list[str]:
        """Read the text of every such element."""
        return [" ".join(text.split()) for text in self.page.locator(selector).all_text_contents()]

    def until(self, condition: str, argument: Any = None, limit_ms: float = LIMIT_MS) -> None:
        """Wait until something in JavaScript is true."""
        # Playwright's own waiting evaluates text inside of the page, which the page's policy forbids.
        deadline = time.monotonic() + limit_ms / 1000
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < deadline, f"it never came true: {condition}; {self.complaints}"
            self.page.wait_for_timeout(100)

    def elsewhere(self, origin: str) -> list[str]:
        """List the requests that did not go to a place."""
        return [url for url in self.requests if _origin(url) != origin]

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _note(self, request: Request) -> None:
        self.requests.append(request.url)


Visitor = Callable[..., Visit]


@contextmanager
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Give a function that opens fresh pages, each with a memory of its own; close them all at the end."""
    contexts = []

    def begin(size: tuple[int, int] = WIDE, **options: Any) -> Visit:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        return Visit(context.new_page())

    try:
        yield begin
    finally:
        for context in contexts:
            context.close()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
