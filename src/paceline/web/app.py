"""The observer's HTTP port: the dashboard, its data as JSON and as a stream, and what Prometheus asks for.

| path | answer |
|---|---|
| `/` and `/page/…` | the dashboard: one page, all of it from here |
| `/api/picture` | the swarm as it stands (`paceline.watch.picture`); `?at=SECONDS` as it stood then |
| `/api/rounds`, `/api/peers` | the rounds or the peers of that picture alone |
| `?rounds=N` | with any of these, how many rounds: up to 200, and on loopback up to 1000 |
| `/api/span` | which moments and how many rounds there are to see |
| `/events` | the picture again whenever there is news, as server-sent events |
| `/metrics`, `/sd` | the swarm's metrics; the peers' own addresses for Prometheus' HTTP service discovery |
| `/healthz` | whether the observer itself is well |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import Field, TypeAdapter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from paceline.core.errors import PacelineError
from paceline.core.records import Frozen
from paceline.telemetry import Health
from paceline.telemetry.server import is_loopback
from paceline.watch.notice import notice
from paceline.watch.picture import PeerView, Picture, RoundView
from paceline.watch.source import ROUNDS_SHOWN, Source
from paceline.web.discovery import TargetGroup, target_groups
from paceline.web.exporter import ROUNDS_NEEDED, SwarmMetrics
from paceline.web.feed import Feed
from paceline.web.guard import FAILED, Guard, refusal
from paceline.web.turns import Turns

PAGE = Path(__file__).parent / "page"
"""The dashboard's files."""
MAX_ROUNDS = 1000
"""So many rounds may be asked for at once on loopback; over a network `ROUNDS_SHOWN`."""

_ROUNDS = TypeAdapter(tuple[RoundView, ...])
_PEERS = TypeAdapter(tuple[PeerView, ...])
_GROUPS = TypeAdapter(list[TargetGroup])


class Extent(Frozen):
    """What there is to see, as `/api/span` tells it."""

    begin: float
    """The first moment, in seconds since 1970."""
    end: float
    """The last moment, in seconds since 1970."""
    rounds: int
    """Committed rounds up to then."""


class Seen(Frozen):
    """Which picture a request is about."""

    at: float | None = Field(default=None, allow_inf_nan=False)
    """The moment, in seconds since 1970; None for the last one."""
    rounds: int = ROUNDS_SHOWN
    """How many rounds."""


def look(source: Source, at: float | None = None, rounds: int | None = ROUNDS_SHOWN) -> Picture:
    """Take a picture as it is shown to people, with the sentence that says what is wrong.

    Args:
        source: Where from.
        at: The moment, in seconds since 1970; the last one when left out.
        rounds: How many of the latest rounds; None for all.

    Returns:
        The picture.

    Raises:
        PacelineError: The watch has ended.
    """
    picture = source.picture(at, rounds)
    picture = picture.model_copy(update={"begin": source.begin})
    return picture.model_copy(update={"notice": notice(picture)})


class Observatory(Guard):
    """The application: everything that there is to see, for whoever may reach its port.

    Guarantees:
        Unknown paths are not there.
        A moment that is none is refused with a sentence.
        Costly answers are worked out one at a time and hold up nothing else.
    """

    def __init__(self, source: Source) -> None:
        """Build it over a source of pictures.

        Args:
            source: A live swarm, or what is left of one.
        """
        api = _Api(source)
        self.feed = Feed(source, lambda: look(source).model_dump_json().encode())
        routes = [
            Route("/", _page),
            Mount("/page", _Files(directory=PAGE)),
            Route("/sd", api.sd),
            Route("/metrics", api.metrics),
            Route("/api/picture", api.picture),
            Route("/api/rounds", api.rounds),
            Route("/api/peers", api.peers),
            Route("/api/span", api.span),
            Route("/events", self.feed),
            Route("/healthz", api.healthz),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={HTTPException: _refused, PacelineError: _ended, Exception: _failed},
        )
        app.router.redirect_slashes = False
        super().__init__(app)

    async def close(self) -> None:
        """End all streams."""
        await self.feed.close()


class _Api:
    # Plain functions: starlette calls them in threads, since a picture may take a while.
    def __init__(self, source: Source) -> None:
        self._source = source
        self._turns = Turns()
        self._registry = CollectorRegistry()
        self._registry.register(SwarmMetrics(lambda: look(source, rounds=ROUNDS_NEEDED)))

    def picture(self, request: Request) -> Response:
        return self._seen(request, lambda picture: picture.model_dump_json().encode())

    def rounds(self, request: Request) -> Response:
        return self._seen(request, lambda picture: _ROUNDS.dump_json(picture.rounds))

    def peers(self, request: Request) -> Response:
        return self._seen(request, lambda picture: _PEERS.dump_json(picture.peers))

    def span(self, _: Request) -> Response:
        begin, end = self._source.begin, self._source.end
        height = self._source.picture(rounds=1).rounds_committed
        return _json(Extent(begin=begin, end=end, rounds=height).model_dump_json())

    def sd(self, _: Request) -> Response:
        return _json(_GROUPS.dump_json(target_groups(self._source.picture(rounds=1))))

    def metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})

    def healthz(self, _: Request) -> Response:
        try:
            picture = look(self._source, rounds=1)
        except PacelineError as error:
            return _json(Health(healthy=False, cause=str(error)).model_dump_json(), 503)
        height = picture.rounds_committed
        is_well = picture.blind_since is None
        health = Health(healthy=is_well, round_id=height, cause=picture.notice)
        return _json(health.model_dump_json(), 200 if is_well else 503)

    def _seen(self, request: Request, spell: Callable[[Picture], bytes]) -> Response:
        asker = request.client.host if request.client else ""
        asked = _asked(request, MAX_ROUNDS if is_loopback(asker) else ROUNDS_SHOWN)
        with self._turns.turn(asker):
            return _json(spell(look(self._source, asked.at, asked.rounds)))


def _asked(request: Request, max_rounds: int) -> Seen:
    at, rounds = request.query_params.get("at"), request.query_params.get("rounds")
    return Seen(
        at=None if at is None else _number(at, "at", "a moment in seconds since 1970"),
        rounds=ROUNDS_SHOWN if rounds is None else _count(rounds, max_rounds),
    )


def _number(text: str, name: str, meaning: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise HTTPException(
            400, f"{name} must be {meaning}, such as ?{name}=1760000000.5, not {text[:40]!r}."
        )
    return number


def _count(text: str, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most:
        return int(text)
    raise HTTPException(400, f"rounds must be a number from 1 to {most}, not {text[:40]!r}.")


def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


def _json(body: str | bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    cause = error.detail
    if error.status_code == 404:
        cause = "There is nothing here; the page is at /, its data below /api/."
    answer = refusal(request.scope, error.status_code, cause)
    answer.headers.update(error.headers or {})
    return answer


def _ended(request: Request, error: Exception) -> Response:
    text = str(error)
    return refusal(request.scope, 503, f"{text[:1].upper()}{text[1:]}.")


def _failed(request: Request, _: Exception) -> Response:
    return refusal(request.scope, 500, FAILED)


class _Files(StaticFiles):
    def file_response(self, *args: object, **options: object) -> Response:
        answer = super().file_response(*args, **options)  # type: ignore[arg-type]
        answer.headers["cache-control"] = "no-cache"  # asked again each time, and mostly not sent again
        return answer
