"""The observer's port: what is there and what is not, in which words, and what strangers can't do to it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from paceline.core.errors import ConfigError, PacelineError, ProcessDied
from paceline.watch.picture import PeerView, Picture, RoundView, VoidView
from paceline.web import app as app_module
from paceline.web import server as server_module
from paceline.web.app import PAGE, Observatory
from paceline.web.server import WebServer
from tests.web.staged import BEGIN, HOSTILE, IDS, Port, Staged, opened, peer, picture, until

ROUTES = [
    *("/", "/page/index.html", "/sd", "/metrics", "/api/picture", "/api/rounds", "/api/peers"),
    *("/api/span", "/events", "/healthz"),
]


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    """For those who only ask."""
    with opened() as served:
        yield served


@pytest.fixture
def own() -> Iterator[Port]:
    """For those who change what there is to see."""
    with opened() as served:
        yield served


@pytest.mark.parametrize("path", [*ROUTES, "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_every_route_answers_get_and_head_only(port: Port, path: str, method: str) -> None:
    answer = port.client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert "ask with GET" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/api/picture", "/sd", "/metrics", "/events"])
def test_a_loopback_port_answers_to_no_foreign_name(port: Port, path: str) -> None:
    # As after a page elsewhere let its own name lead here.
    answer = port.get(path, host="evil.example:8088")
    assert answer.status_code == 403
    assert "localhost" in answer.json()["error"]


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_has_a_head(port: Port, path: str) -> None:
    answer = port.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/nowhere",
            "/api",
            "/api/",
            "/api/picture/",
            "/metrics/",
            "/sd/x",
            "/page",
            "/page/",
            "/page/none.js",
        ),
        *(
            "/page/../app.py",
            "/page/..%2fapp.py",
            "/page/%2e%2e/app.py",
            "/%2e%2e/etc/passwd",
            "//etc/passwd",
        ),
        *("/page/vendor", "/index.html", "/%00", "/<script>alert(1)</script>"),
    ],
)
def test_unknown_paths_are_not_there(port: Port, path: str) -> None:
    host, number = port.address.split(":")
    with socket.create_connection((host, int(number)), timeout=20) as line:  # httpx would tidy the path up
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        told = b"".join(iter(lambda: line.recv(4096), b"")).decode()
    head, _, body = told.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 404 ")
    assert "the page is at /" in json.loads(body)["error"]


def test_a_browser_gets_a_page_for_what_is_not_there_and_for_what_it_may_not_do(port: Port) -> None:
    gone = port.get("/<script>", accept="text/html,*/*")
    assert gone.status_code == 404
    assert gone.headers["content-type"].startswith("text/html")
    assert "<h1>Not Found</h1>" in gone.text
    assert "<script>" not in gone.text
    refused = port.client.post("/", headers={"accept": "text/html"})
    assert "<h1>Method Not Allowed</h1>" in refused.text


@pytest.mark.parametrize("path", [*ROUTES[:-2], "/healthz", "/nowhere", "/api/picture?at=x"])
def test_every_answer_keeps_to_itself(port: Port, path: str) -> None:
    headers = port.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert "server" not in headers


def test_the_page_asks_for_nothing_that_is_not_there_or_elsewhere(port: Port) -> None:
    page = port.get("/").text
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert named
    for name in named:
        assert port.get(f"/{name}").status_code == 200, name
    for file in [file for file in PAGE.rglob("*") if file.suffix in (".html", ".css", ".js")]:
        assert file.is_file()
        loads = re.findall(
            r"""(?:src|href|url|import|from|fetch)\s*[=(]?\s*["'](https?:)?//""", file.read_text()
        )
        assert loads == [], file.name


def test_the_page_and_its_parts_are_asked_for_again_and_sent_only_once(port: Port) -> None:
    first = port.get("/page/index.html")
    again = port.get("/page/index.html", **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_picture_is_the_one_format_with_the_sentence_for_people(port: Port) -> None:
    told = Picture.model_validate_json(port.get("/api/picture").content)
    assert told == port.source.shown.model_copy(update={"begin": BEGIN})
    assert [RoundView.model_validate(view) for view in port.get("/api/rounds").json()] == list(told.rounds)
    assert [PeerView.model_validate(view) for view in port.get("/api/peers").json()] == list(told.peers)
    assert port.get("/api/span").json() == {"begin": BEGIN, "end": BEGIN + 25, "rounds": 2}


def test_another_moment_and_more_rounds_may_be_asked_for(port: Port) -> None:
    assert port.get(f"/api/picture?at={BEGIN + 3.5}").json()["at"] == BEGIN + 3.5
    assert port.get("/api/picture?at=1e308").json()["at"] == BEGIN + 25
    assert port.get("/api/picture?at=-7").json()["at"] == BEGIN
    assert len(port.get("/api/rounds?rounds=1").json()) == 1
    assert len(port.get("/api/rounds?rounds=1000").json()) == 3
    assert port.get("/api/picture?colour=red").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        *("at=", "at=noon", "at=nan", "at=inf", "at=-inf", "at=1e999", "at=0x10", "at=1,5", "at=<script>"),
        *("rounds=", "rounds=0", "rounds=-1", "rounds=5001", "rounds=1.5", "rounds=many", "rounds=٣"),
        f"rounds={'9' * 5000}",
        f"at={'a' * 5000}",
    ],
)
@pytest.mark.parametrize("path", ["/api/picture", "/api/rounds", "/api/peers"])
def test_a_moment_that_is_none_is_refused_with_a_sentence(port: Port, path: str, query: str) -> None:
    answer = port.get(f"{path}?{query}", accept="text/html")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert re.match(r"(at must be a moment|rounds must be a number) .{0,160}\.$", answer.json()["error"])


def hostile() -> Picture:
    """A swarm whose peers say what they should not."""
    void = VoidView(term=1, attempt=0, cause=HOSTILE, blamed=(HOSTILE,))
    liar = peer(
        0, nickname=HOSTILE, metrics_address=HOSTILE, tokens_per_s=1e308, loss=-1e308, bytes_out=2**48
    )
    stranger = peer(1, peer_id=HOSTILE, standing="lost", tokens_per_s=1e308, samples_per_s=5e-324)
    view = RoundView(round_id=3, voids=(void,), losses={HOSTILE: 1e308}, members=(HOSTILE,), samples=(0,))
    return picture(peers=(liar, stranger, peer(2, tokens_per_s=1e308)), rounds=(view,), coordinator=HOSTILE)


def test_what_peers_say_arrives_as_text_and_as_nothing_else() -> None:
    with opened(Staged(hostile())) as port:
        told = Picture.model_validate_json(port.get("/api/picture").content)
        assert told.rounds[0].voids[0].cause == HOSTILE
        assert (told.peers[0].nickname, told.peers[0].tokens_per_s) == (HOSTILE, 1e308)
        for path in ("/api/picture", "/api/rounds", "/api/peers", "/sd", "/healthz"):
            assert port.get(path).headers["content-type"] == "application/json"
        scraped = port.get("/metrics").text
        (up,) = [
            family for family in text_string_to_metric_families(scraped) if family.name.endswith("peer_up")
        ]
        named = {sample.labels["nickname"]: sample.labels["peer_id"] for sample in up.samples}
        assert named[HOSTILE] == IDS[0]
        assert len(up.samples) == 3
        assert port.get("/sd").json()[0]["labels"]["peer_id"] == IDS[2]


def test_metrics_are_served_as_prometheus_asks_for_them(port: Port) -> None:
    assert port.get("/metrics").headers["content-type"].startswith("text/plain; version=")
    answer = port.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = openmetrics.text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    assert "paceline_swarm_chain_height" in {family.name for family in families}


def test_a_swarm_that_is_not_heard_is_said_to_be_so_and_since_when() -> None:
    silent = tuple(peer(number, standing="lost", seen_s=185.0) for number in range(4))
    with opened(Staged(picture(peers=silent, at=BEGIN + 205))) as port:
        for sentence in (port.get("/api/picture").json()["notice"], port.get("/healthz").json()["cause"]):
            assert sentence.startswith("Nobody has been heard since 2025-10-09 08:53:40 UTC, 3 min ago: ")
        assert port.get("/healthz").status_code == 200  # the observer itself is well
        assert port.get("/sd").json() == []


def test_an_observer_whose_watch_has_ended_says_so_everywhere(own: Port) -> None:
    own.source.fail(ProcessDied("DHT"))
    for path in ("/api/picture", "/api/rounds", "/api/peers", "/api/span", "/sd", "/metrics"):
        answer = own.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["error"].startswith("This peer's DHT process died; start the peer again"), path
    answer = own.get("/healthz")
    assert (answer.status_code, answer.json()["healthy"]) == (503, False)
    assert own.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/api/picture", "/sd", "/metrics", "/healthz"])
def test_an_error_inside_is_one_sentence_outside(
    own: Port, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own.source.fail(RuntimeError("secret <b>\n\x1b[31m"))
    for accept in ("text/html", "*/*"):
        answer = own.get(path, accept=accept)
        assert answer.status_code == 500
        assert "The observer failed to work this out" in answer.text
        assert "secret" not in answer.text
    told = capsys.readouterr().err.splitlines()
    assert set(told) == {f"error: '{path}': RuntimeError('secret <b>\\n\\x1b[31m')"}


def test_port_zero_picks_a_port_and_frees_it_afterwards() -> None:
    server = WebServer("127.0.0.1", 0, Observatory(Staged()))
    assert server.address == ""
    with server:
        number = int(server.address.split(":")[1])
    assert server.address == ""
    with WebServer("127.0.0.1", number, Observatory(Staged())) as again:
        assert again.address == f"127.0.0.1:{number}"


def test_a_taken_port_is_named_with_a_way_out(port: Port) -> None:
    number = int(port.address.split(":")[1])
    rival = WebServer("127.0.0.1", number, Observatory(Staged()))
    with pytest.raises(ConfigError, match=rf"port {number} of 127\.0\.0\.1 is taken") as caught, rival:
        pass
    assert "--port" in caught.value.remedy


@pytest.mark.parametrize(("host", "number"), [("192.0.2.1", 0), ("no such host", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_is_not_ours_is_named(host: str, number: int) -> None:
    server = WebServer(host, number, Observatory(Staged()))
    with pytest.raises(ConfigError, match="can't be served at"), server:
        pass


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n\r\n",
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G" * 200_000,
        b"\x16\x03\x01\x02",
    ],
    ids=["nothing", "empty line", "zeros", "no path", "odd version", "endless line", "a TLS greeting"],
)
def test_nonsense_leaves_the_server_up(port: Port, said: bytes) -> None:
    host, number = port.address.split(":")
    stranger = socket.create_connection((host, int(number)), timeout=10)
    with stranger, suppress(ConnectionError):  # it need not listen to the end
        stranger.sendall(said)
    assert port.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\nHost:", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"]
)
def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(server_module, "HEAD_S", 0.3)
    with opened() as port:
        host, number = port.address.split(":")
        with socket.create_connection((host, int(number)), timeout=20) as stranger:
            stranger.sendall(said)
            told = b"".join(iter(lambda: stranger.recv(4096), b""))  # until it is hung up on
        assert told.count(b"HTTP/1.1 200") == said.count(b"\r\n\r\n")


def test_connections_beyond_the_limit_hold_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 5)
    with opened() as port:
        host, number = port.address.split(":")
        idle = [socket.create_connection((host, int(number)), timeout=20) for _ in range(5)]
        late = socket.create_connection((host, int(number)), timeout=20)
        with late, suppress(ConnectionResetError):  # the same as an end, said louder
            assert late.recv(1) == b""
        for stranger in idle:
            stranger.close()
        until(lambda: answers(port))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no TCP_USER_TIMEOUT")
def test_a_reader_that_takes_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STALLED_S", 0.5)
    large = Staged(picture(notice="x", coordinator="x" * 8_000_000))
    with opened(large) as port, socket.socket() as stalled:
        host, number = port.address.split(":")
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((host, int(number)))
        stalled.sendall(b"GET /api/picture HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: large.asked)
        until(lambda: port.server.num_connections == 0)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with WebServer("::1", 0, Observatory(Staged())) as server:
        assert re.fullmatch(r"\[::1\]:\d+", server.address)


def answers(port: Port) -> bool:
    try:
        return port.get("/healthz").status_code == 200
    except OSError:
        return False
    except Exception as error:
        assert type(error).__module__.startswith("http"), error
        return False


def test_the_page_lies_in_the_package() -> None:
    assert Path(app_module.__file__).parent in PAGE.parents
    assert issubclass(ProcessDied, PacelineError)
