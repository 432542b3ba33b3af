"""A small program in place of a peer under supervision.

Its lives are told by the lines of a file `lives` in its state folder, one per start, the last one for all
that follow: `exit CODE`, `die` (by SIGKILL), `commit` (and die), `stay`, `cling` (ignores SIGTERM), `hang`
(serves a `/healthz` that says so). Every life adds its pid and the time to a file `starts`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b'{"healthy":false,"cause":"the worker hangs"}\n')

    def log_message(self, *args: object) -> None:
        pass


def tell(state: Path, name: str, **fields: object) -> None:
    with (state / "events.jsonl").open("a") as events:
        print(json.dumps({"time": time.time(), "name": name, **fields}), file=events)


def commit(state: Path) -> None:
    tell(state, "RoundCommitted", round_id=1, loss=1.0, members=2, digest="ab", sync_s=0.1)


def serve(state: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tell(
        state,
        "PeerStarted",
        **{"peer_id": "p", "run_id": "r", "multiaddrs": [], "round_id": 1, "parameters": 1, "device": "cpu"},
        metrics_address=f"127.0.0.1:{server.server_port}",
    )


def live(state: Path, what: str, code: int) -> None:
    print(f"{what} on standard output", flush=True)
    print(f"{what} on standard error", file=sys.stderr, flush=True)
    match what:
        case "exit":
            print("error: the reason\ntry: a remedy", file=sys.stderr)
            sys.exit(code)
        case "die" | "commit":
            if what == "commit":
                commit(state)
            os.kill(os.getpid(), signal.SIGKILL)
        case "cling":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "hang":
            serve(state)
        case _:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    (state / "settled").touch()
    time.sleep(600)


if __name__ == "__main__":
    place = Path(sys.argv[sys.argv.index("--set") + 1].removeprefix("state_dir="))
    with (place / "starts").open("a") as starts:
        print(os.getpid(), time.monotonic(), " ".join(sys.argv[1:]), file=starts)
    lives = (place / "lives").read_text().splitlines()
    told = lives[min(len((place / "starts").read_text().splitlines()), len(lives)) - 1].split()
    live(place, told[0], int(told[-1]) if len(told) > 1 else 0)
