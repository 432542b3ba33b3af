"""A small process in place of `paceline seed` and `paceline join`, for claims about who starts and ends it.

What a peer does is told by a file `behaviour` beside its settings: `finish`, `stay`, `cling` (ignores
SIGTERM) or `fail`.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

from paceline.network.identity import load_or_create


def seed(handout: Path, key: Path) -> None:
    with (key.parent / "starts").open("a") as starts:
        print(*sys.argv[5:], file=starts)
    document = json.loads(handout.read_text())
    document["seeds"] = [f"/ip4/127.0.0.1/tcp/1/p2p/{load_or_create(key).peer_id}"]
    unfinished = handout.with_suffix(".new")
    unfinished.write_text(json.dumps(document))
    unfinished.replace(handout)
    time.sleep(600)


def join(state: Path) -> None:
    behaviour = (state / "behaviour").read_text()
    if behaviour == "cling":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif behaviour != "stay":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (state / "events.jsonl").open("a") as events:
        for event in (
            {"time": 1.5, "name": "PhaseChanged", "round_id": 1, "phase": "train"},
            {"time": 2.5, "name": "SomethingNewer", "round_id": 1},
        ):
            print(json.dumps(event), file=events)
    if behaviour == "fail":
        sys.exit("Traceback: noise\nerror: the disk is full\ntry: another disk\n")
    if behaviour in ("stay", "cling"):
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "seed":
        seed(Path(sys.argv[2]), Path(sys.argv[sys.argv.index("--key") + 1]))
    else:
        join(Path(sys.argv[sys.argv.index("--config") + 1]).parent)
