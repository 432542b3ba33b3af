"""The saved report: one file that needs nothing else, whatever the peers said."""

from __future__ import annotations

import html.parser
import json
import re

import pytest

from paceline.core.errors import ConfigError
from paceline.watch.picture import Picture, RoundView, Span, VoidView
from paceline.web.report import report
from tests.web.made_up import BEGIN, MadeUpRun
from tests.web.staged import HOSTILE, Staged, peer, picture


class Tags(html.parser.HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.texts:
            self.texts[self._inside].append(data)


def embedded(page: str) -> Picture:
    data = re.search(r'<script id="picture" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    return Picture.model_validate(json.loads(data[1]))


def test_a_report_loads_nothing_from_anywhere() -> None:
    page = Tags(report(Staged()))
    for tag, attributes in page.found:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:image/", "#")) or not value, (tag, value)
    assert not any("@import" in style or "url(" in style for style in page.texts["style"])
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in page.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src" not in policy
    assert sum(tag == "script" for tag, _ in page.found) > 3
    assert len(page.texts["style"]) > 1


def test_nothing_that_peers_said_can_end_the_script_that_it_stands_in() -> None:
    said = f"{HOSTILE}</script><!-- <script>--></SCRIPT >"
    void = VoidView(term=1, attempt=0, cause=said)
    view = RoundView(round_id=3, voids=(void,), losses={said: 1.0})
    shown = picture(peers=(peer(nickname=said),), rounds=(*picture().rounds[:2], view))
    plain, page = Tags(report(Staged())), Tags(report(Staged(shown)))
    assert [tag for tag, _ in page.found] == [tag for tag, _ in plain.found]
    kept = embedded(report(Staged(shown)))
    assert kept.rounds[-1].voids[0].cause == kept.peers[0].nickname == said


class Recorded(Staged):
    """A made-up run as a source: its pictures hold the spans of five rounds only."""

    def __init__(self, run: MadeUpRun) -> None:
        super().__init__(run.picture(run.end + 2, is_live=False))
        self._run, self.begin = run, BEGIN

    def picture(self, at: float | None = None, rounds: int | None = 200) -> Picture:
        return self._run.picture(self.end if at is None else at, is_live=False)


def test_a_report_has_what_every_peer_did_in_every_round() -> None:
    run = MadeUpRun(rounds=23, lost_in=7, voided_in=9, late_in=3)
    source = Recorded(run)
    assert len({span.round_id for span in source.picture().spans}) < 10
    kept = embedded(report(source))
    assert not kept.is_live
    assert len(kept.rounds) == 23

    def named(spans: tuple[Span, ...]) -> set[tuple[str, float, str]]:
        return {(span.peer_id, span.begin, span.standing) for span in spans if span.standing != "lost"}

    assert named(kept.spans) == named(tuple(run.spans))
    assert list(kept.spans) == sorted(kept.spans, key=lambda span: (span.begin, span.peer_id))
    ends = {(span.peer_id, span.begin, span.standing): span.end for span in run.spans}
    assert all(
        span.end == ends[span.peer_id, span.begin, span.standing]
        for span in kept.spans
        if span.standing != "lost"
    )


def test_there_is_nothing_to_report_of_a_run_without_a_commit() -> None:
    with pytest.raises(ConfigError, match="has not committed a round yet"):
        report(Staged(picture(rounds_committed=0, rounds=())))
