"""The key file: private, whole, checked, and held by one peer at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from paceline.core.errors import IdentityError
from paceline.core.signing import SigningKey
from paceline.network.identity import hold, load_or_create

# Holds the identity, forks a child that outlives it, and says who is who.
HOLDER = """
import os, sys, time
from pathlib import Path
from paceline.network.identity import hold
with hold(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "identity.key"


@pytest.fixture
def holder(path: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_key_is_made_once_and_then_read(path: Path) -> None:
    first = load_or_create(path)
    assert load_or_create(path).peer_id == first.peer_id
    assert path.read_bytes() == bytes.fromhex("08011240") + first.seed + first.public
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_new_key_file_is_never_readable_by_anyone_but_its_owner(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    real_open = os.open

    def watched_open(*args: object, **kwargs: object) -> int:
        descriptor = real_open(*args, **kwargs)  # type: ignore[arg-type]
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched_open)
    before = os.umask(0)
    try:
        load_or_create(path)
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_key_file_is_written_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(IdentityError, match="No space left on device"):
        load_or_create(path)
    assert list(path.parent.iterdir()) == []


def test_two_processes_that_create_at_once_get_the_same_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_or_create(path).peer_id, range(8)))
    assert len(set(keys)) == 1


def test_an_existing_key_file_is_never_written_to(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a key")
    path.chmod(0o600)
    with pytest.raises(IdentityError):
        load_or_create(path)
    assert path.read_bytes() == b"not a key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(path: Path, mode: int) -> None:
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(IdentityError, match=f"chmod 600 {path}"):
        load_or_create(path)
    path.chmod(0o400)
    load_or_create(path)


def test_a_malformed_key_is_refused_and_named(path: Path) -> None:
    good = load_or_create(path)
    whole = path.read_bytes()
    other = SigningKey.from_seed(bytes(32))
    for content, complaint in [
        (b"", "malformed"),
        (whole[:-1], "malformed"),
        (whole + b"\x00", "malformed"),
        (b"\x08\x02" + whole[2:], "malformed"),
        (bytes.fromhex("080012") + bytes(1200), "RSA"),
        (whole[:-32] + other.public, "halves do not match"),
    ]:
        path.write_bytes(content)
        with pytest.raises(IdentityError, match=complaint) as caught:
            load_or_create(path)
        assert str(path) in caught.value.cause
        assert caught.value.remedy
    path.write_bytes(whole)
    assert load_or_create(path).peer_id == good.peer_id


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path, pipe):
        with pytest.raises(IdentityError, match="no regular file"):
            load_or_create(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "identity.key"
    with pytest.raises(IdentityError, match="can't be read or made"):
        load_or_create(path)
    with pytest.raises(IdentityError, match="lock file"), hold(path):
        pass


def test_a_second_process_with_this_identity_is_refused_while_the_first_lives(
    path: Path, holder: tuple[subprocess.Popen[str], int]
) -> None:
    process, child = holder
    with pytest.raises(IdentityError, match=rf"in use by a live peer \(pid {process.pid}\)"), hold(path):
        pass
    for pid in (child, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def test_the_lock_is_held_until_the_last_forked_child_is_gone(
    path: Path, holder: tuple[subprocess.Popen[str], int]
) -> None:
    process, child = holder
    process.kill()
    process.wait()
    with pytest.raises(IdentityError, match="in use"), hold(path, patience_s=0.2):
        pass
    os.kill(child, signal.SIGKILL)
    with hold(path):
        assert path.with_name("identity.key.lock").read_text() == f"{os.getpid()}\n"


def test_a_peer_restarts_at_once_after_its_predecessor_was_killed(
    path: Path, holder: tuple[subprocess.Popen[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, child = holder
    process.kill()
    process.wait()
    waited: list[float] = []

    def child_dies(seconds: float) -> None:
        if not waited:
            os.kill(child, signal.SIGKILL)
        waited.append(seconds)

    monkeypatch.setattr("paceline.network.identity.time.sleep", child_dies)
    with hold(path):
        assert waited


def test_an_identity_is_free_again_after_the_block(path: Path) -> None:
    for _ in range(2):
        with hold(path):
            load_or_create(path)
            with pytest.raises(IdentityError, match=f"pid {os.getpid()}"), hold(path):
                pass


@pytest.mark.live
def test_the_network_daemon_takes_the_file_and_reports_the_same_peer_id(path: Path) -> None:
    from hivemind.p2p import P2P

    async def peer_id() -> str:
        p2p = await P2P.create(identity_path=str(path), check_if_identity_free=False, startup_timeout=60)
        try:
            return str(p2p.peer_id.to_base58())
        finally:
            await p2p.shutdown()

    key = load_or_create(path)
    assert asyncio.run(peer_id()) == key.peer_id
