"""Stock hivemind, uncorrected, showing its faults one after the other on stdout; ends by crashing.

Run as a program of its own, `python -m tests.network.stock_program faults|orphans`, far from any correction.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import torch
from hivemind import DHT, DecentralizedAverager
from hivemind.p2p import P2P
from hivemind.utils import MPFuture, get_dht_time
from hivemind.utils.serializer import MSGPackSerializer


def say(**content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


async def _waits_for_a_terabyte() -> bool:
    reader = asyncio.StreamReader()
    reader.feed_data((1 << 40).to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER) + bytes(100))
    try:
        await asyncio.wait_for(P2P.receive_raw_data(reader), 1.0)
    except TimeoutError:
        return True
    except Exception:
        return False
    return False


def _is_silenced_by_a_dead_process(dht: DHT) -> bool:
    dying = multiprocessing.get_context("fork").Process(target=MPFuture._update_lock.acquire)
    dying.start()  # as a process does that is killed while it answers
    dying.join()
    try:
        dht.get("key", return_future=True).result(3.0)
    except TimeoutError:
        return True
    finally:
        MPFuture._update_lock.release()
    return False


def _status(folder: Path) -> str:
    try:
        return (folder / "status").read_text()
    except OSError:
        return ""


def _outlives_its_daemon() -> bool:
    dht = DHT(start=True, startup_timeout=60)
    folders = [folder for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    (daemon,) = [int(f.name) for f in folders if f"\nPPid:\t{dht.pid}\n" in _status(f)]
    os.kill(daemon, signal.SIGKILL)
    time.sleep(2.0)
    lives = dht.is_alive()
    dht.kill()
    return bool(lives)


def _dies_of_large_values(dht: DHT) -> bool:
    def store() -> None:
        for number in range(4):
            dht.store(
                f"{threading.get_ident()}{number}",
                os.urandom(300_000),
                get_dht_time() + 60,
                return_future=True,
            )

    for _ in range(8):
        threading.Thread(target=store, daemon=True).start()
    deadline = time.monotonic() + 20.0
    while dht.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not dht.is_alive()


def _crashes_on_nesting() -> None:
    data = msgpack.packb([])
    for _ in range(5000):
        data = msgpack.packb([msgpack.ExtType(0x40, data)])
    MSGPackSerializer.loads(data)


def faults() -> None:
    say(terabyte=asyncio.run(_waits_for_a_terabyte()))
    asyncio.set_event_loop(asyncio.new_event_loop())  # hivemind's futures ask for one
    say(outlives_daemon=sys.platform != "linux" or _outlives_its_daemon())
    dht = DHT(start=True, startup_timeout=60)
    averager = DecentralizedAverager([torch.zeros(1)], dht, prefix="stock", start=True)
    say(sigint=signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    averager.shutdown()
    say(shared_lock=_is_silenced_by_a_dead_process(dht))
    say(large_values=_dies_of_large_values(dht))
    _crashes_on_nesting()
    say(nesting=False)


def orphans() -> None:
    dht = DHT(start=True, startup_timeout=60)
    averager = DecentralizedAverager([torch.zeros(1)], dht, prefix="stock", start=True)
    say(pids=[dht.pid, averager.pid])
    time.sleep(600)


if __name__ == "__main__":
    {"faults": faults, "orphans": orphans}[sys.argv[1]]()
