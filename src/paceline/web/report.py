"""A run in one HTML file: the dashboard with everything inline, to be kept, sent, and opened anywhere.

    Path("report.html").write_text(report(Replay.open(Path("runs/node"))))

The page finds the picture in itself instead of asking for it. Its own policy forbids it to load anything.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from paceline.core.errors import ConfigError
from paceline.watch.picture import Picture, RoundView, Span
from paceline.watch.source import Source
from paceline.web.app import PAGE, look

MAX_ROUNDS = 2000
"""So many of the latest rounds are kept."""
MAX_ROUNDS_WITH_SPANS = 400
"""So many of the latest rounds keep what every peer did."""
_EVERY, _ROUNDS = 3, 8  # a picture has the spans of its latest five rounds: none is missed at the seams
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_PLACE = "<!-- picture -->"
_STYLE = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
_SCRIPT = re.compile(r'<script src="([^"]+)"></script>')
_ICON = re.compile(r'(<link rel="icon"[^>]*href=")([^"]+)(">)')
_ELSEWHERE = re.compile(r"<noscript>.*?</noscript>", re.DOTALL)


def report(source: Source) -> str:
    """Put a run into one page.

    Guarantees:
        A report loads nothing from anywhere.
        Nothing that peers said can end the script that it stands in.

    Args:
        source: The run; a live one is kept as it stands.

    Returns:
        HTML.

    Raises:
        ConfigError: Nothing has been committed yet.
    """
    picture = look(source, rounds=MAX_ROUNDS)
    if not picture.rounds_committed:
        raise ConfigError(
            "this run has not committed a round yet", "wait until it has: there is nothing to report"
        )
    picture = picture.model_copy(
        update={"is_live": False, "notice": "", "spans": _all_spans(source, picture)}
    )
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    data = f'<script id="picture" type="application/json">{_inert(picture.model_dump_json())}</script>'
    return _inlined(page).replace(_PLACE, data, 1)


def _all_spans(source: Source, picture: Picture) -> tuple[Span, ...]:
    # A picture has the spans of its latest rounds only: several, each some rounds apart, have all of them.
    spans: dict[tuple[str, float, str], Span] = {}
    for span in _spans(source, picture):
        known = spans.get(key := (span.peer_id, span.begin, span.standing))
        if known is None or span.end > known.end:
            spans[key] = span
    return tuple(sorted(spans.values(), key=lambda span: (span.begin, span.peer_id)))


def _spans(source: Source, picture: Picture) -> Iterator[Span]:
    done = [view for view in picture.rounds[-MAX_ROUNDS_WITH_SPANS:] if view.committed_at is not None]
    for view in _every(done, _EVERY):
        yield from source.picture(view.committed_at, _ROUNDS).spans
    yield from picture.spans


def _every(views: list[RoundView], step: int) -> Iterable[RoundView]:
    return views[step - 1 :: step]


def _inlined(page: str) -> str:
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'
    page = page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}', 1)
    page = _ICON.sub(lambda found: f"{found[1]}{_data_url(_file(found[2]))}{found[3]}", page)
    page = _STYLE.sub(lambda found: f"<style>{_text(found[1])}</style>", page)
    page = _ELSEWHERE.sub("", page)  # without scripts there is no other place to look at
    return _SCRIPT.sub(lambda found: f"<script>{_closed(_text(found[1]))}</script>", page)


def _file(address: str) -> Path:
    return PAGE / address.removeprefix("page/")


def _text(address: str) -> str:
    return _file(address).read_text(encoding="utf-8")


def _closed(script: str) -> str:
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _data_url(file: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _inert(data: str) -> str:
    # JSON reads these escapes; HTML finds no tag and no comment.
    return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
