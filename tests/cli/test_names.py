"""Claims about how people read a peer: a short id never stands without its nickname."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

import paceline as package
from paceline.cli.drawing import draw, round_line
from paceline.cli.live import Telling
from paceline.cli.summary import show, summarise
from paceline.cli.tables import credit_table, headline, peer_table
from paceline.core.chain import check_link
from paceline.core.errors import HistoryBroken
from paceline.core.nicknames import named, nickname
from paceline.core.records import PeerRecord, Phase
from paceline.core.signing import short
from paceline.federation.folder import SessionFolder
from paceline.ledger import Ledger
from paceline.network.butterfly import Fault
from paceline.network.messages import complained, complaint
from paceline.peer.folders import RunFolder
from paceline.peer.observer import SwarmView
from paceline.telemetry import describe
from tests.cli.conftest import Paceline
from tests.cli.test_summary import KEYS, LINKS, RUN, over
from tests.cli.test_view import RUNNING, progress_after
from tests.core.history import genesis_of, history
from tests.federation.sessions import recipe
from tests.test_telemetry import EXAMPLES

IDS = [key.peer_id for key in KEYS]
ROOT = Path(package.__file__).parent


def bare(text: str, ids: list[str]) -> Iterator[str]:
    """Lines in which a short id stands without its nickname, or a whole one in a line without it."""
    for line in text.splitlines():
        for peer in ids:
            for found in re.finditer(re.escape(short(peer)), line):
                before = line[: found.start()]
                is_whole = before.endswith(peer[: -len(short(peer))])
                if not (before.endswith(f"{nickname(peer)} ") or (is_whole and nickname(peer) in line)):
                    yield line


def rendered(*shown: RenderableType, width: int | None = None) -> str:
    """What is printed: at a terminal that wide, or into a file when nobody looks."""
    file = io.StringIO()
    if width is None:
        screen = Console(file=file, soft_wrap=True)
    else:
        screen = Console(file=file, width=width, force_terminal=True, color_system=None)
    for one in shown:
        screen.print(one)
    return file.getvalue()


def swarm_view() -> SwarmView:
    heartbeats = [
        PeerRecord(
            run_id=RUN.run_id,
            peer_id=peer,
            seq=1,
            expires_at=1e9,
            round_id=4,
            head_digest="0a" * 32,
            phase=Phase.TRAIN,
            inner_step=2,
            samples=16,
            samples_per_s=1234.5,
            loss=2.5,
            term=3,
            coordinator=IDS[0],
            metrics_address="127.0.0.1:34567",
        )
        for peer in IDS
    ]
    return SwarmView(RUN, heartbeats, None, IDS[0], 3, {IDS[0]: 24}, [])


def status(width: int | None = None) -> str:
    view = swarm_view()
    return rendered(*headline(view), peer_table(view), width=width)


def names_all(text: str, ids: list[str]) -> bool:
    return bool(ids) and all(nickname(peer) in text for peer in ids)


def test_a_person_never_sees_a_short_id_without_its_nickname_in_status() -> None:
    text = status()
    assert f"front    {named(IDS[0])} (term 3)" in text
    assert all(named(peer) in text for peer in IDS)
    assert list(bare(text, IDS)) == []


def test_a_person_never_sees_a_short_id_without_its_nickname_in_credits(
    paceline: Paceline, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path / "log.sqlite", RUN, genesis_of(RUN)) as ledger:
        for link in LINKS:
            ledger.append(link)
    _, text, _ = paceline("credits", ".")
    assert names_all(text, IDS)
    assert all(peer in text for peer in IDS)  # whole, for whoever has to name it to a program
    assert list(bare(text, IDS)) == []


def test_a_person_never_sees_a_short_id_without_its_nickname_in_a_sessions_rounds(
    paceline: Paceline, tmp_path: Path
) -> None:
    (tmp_path / "train.json").write_text(recipe(global_rounds=2).model_dump_json())
    begun = paceline("init", "--config", "train.json", "-o", "here")[1]
    trained = paceline("run", "--config", "train.json", "-o", "here")[1]
    looked_at = paceline("status", "--round-id", "1", "--session", "here")[1]
    ids = list(SessionFolder(tmp_path / "here").read().nodes)
    for text in (begun, trained, looked_at):
        assert names_all(text, ids)
        assert list(bare(text, ids)) == []


def test_a_person_never_sees_a_short_id_without_its_nickname_in_a_local_run(tmp_path: Path) -> None:
    folder, progress = RunFolder(tmp_path), over("", "killed by SIGKILL")
    with Ledger.open(folder.peer(1).log, RUN, genesis_of(RUN)) as ledger:
        for link in LINKS:
            ledger.append(link)
    file = io.StringIO()
    show(summarise(progress, folder, 1.0), progress, folder, Console(file=file, width=200))
    live, telling = progress_after(*RUNNING), Telling()
    told = [line for name, event in RUNNING if (line := telling.line(name, event))]
    picture = rendered(draw(live, 75.0, []), width=140)
    for text in (file.getvalue(), picture, "\n".join(told)):
        assert names_all(text, IDS)
        assert list(bare(text, IDS)) == []
    assert f"peer-1 {nickname(IDS[0])} at the front" in round_line(live, 1)


def test_a_person_never_sees_a_short_id_without_its_nickname_in_log_lines() -> None:
    lines = "\n".join(describe(event) for event in EXAMPLES.values())
    assert names_all(lines, IDS)
    assert list(bare(lines, IDS)) == []


def test_a_person_never_sees_a_short_id_without_its_nickname_in_causes() -> None:
    speaker, accused = IDS
    causes = [
        complained(complaint(Fault("x", blamed)), speaker, me, tuple(IDS)).cause
        for blamed, me in ((accused, ""), (accused, accused), (speaker, ""))
    ]
    first, second = history(RUN, KEYS, 2)
    stolen = replace(first, receipts=second.receipts)
    with pytest.raises(HistoryBroken) as caught:
        check_link(stolen, genesis_of(RUN), RUN)
    for cause in (*causes, caught.value.cause):
        assert any(named(peer) in cause for peer in IDS)
        assert list(bare(cause, IDS)) == []


def test_short_ids_are_made_in_one_place_only() -> None:
    makers = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        if any(alias.name == "short" for node in imports for alias in node.names):
            makers.append(str(path.relative_to(ROOT)))
    assert makers == ["core/nicknames.py"]


@pytest.mark.parametrize("width", [44, 60, 80, 100, 140])
def test_tables_of_peers_fit_the_terminal_with_whole_nicknames_in_straight_columns(width: int) -> None:
    progress, view = progress_after(*RUNNING), swarm_view()
    balances, names = {IDS[0]: 1234, IDS[1]: 5}, {IDS[0]: "peer-1", IDS[1]: "peer-2"}
    for table in (
        draw(progress, 75.0, []),
        peer_table(view),
        credit_table(balances),
        credit_table(balances, names),
    ):
        text = rendered(table, width=width)
        rows = [line for line in text.splitlines() if any(nickname(peer) in line for peer in IDS)]
        assert len(rows) == len(IDS)
        assert all(len(line.rstrip()) <= width for line in rows)
        assert "…" not in "".join(rows)
        assert len({row.index(nickname(peer)) for row, peer in zip(rows, IDS, strict=True)}) == 1
        assert list(bare(text, IDS)) == []


def test_what_programs_read_is_whole_however_narrow_the_window_was() -> None:
    text = rendered(peer_table(swarm_view()), credit_table({IDS[0]: 1}))
    assert "127.0.0.1:34567" in text
    assert IDS[0] in text
