"""A peer's key on disk: made on first start, checked on every start, and held by one peer at a time.

One Ed25519 key is both the libp2p identity and the signer of records. The file is libp2p's own encoding of a
private key, so the network daemon reads it as it is. Start a peer like this:

    with hold(path):
        key = load_or_create(path)
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paceline.core.errors import IdentityError, IdentityInUse
from paceline.core.signing import SigningKey

# Protobuf PrivateKey{type: Ed25519, data: 64 bytes}, the data being seed and public key (libp2p
# specification, "Peer Ids and Keys").
_PREFIX = bytes.fromhex("08011240")
_SIZE = len(_PREFIX) + 64
_RSA_PREFIX = bytes.fromhex("080012")
_POLL_S = 0.05


def load_or_create(path: Path) -> SigningKey:
    """Read a peer's key, or make one where there is none.

    Guarantees:
        A new key file is never readable by anyone but its owner.
        A new key file is written whole or not at all.
        Two processes that create at once get the same key.
        An existing key file is never written to.

    Args:
        path: The key file. Missing folders above it are made.

    Returns:
        The key.

    Raises:
        IdentityError: The file can't be read or made, others may read it, or it holds no Ed25519 key.
    """
    try:
        if not path.exists():
            _create(path)
        return _parse(path, _read(path))
    except OSError as error:
        raise IdentityError(
            f"the key file {path} can't be read or made: {error.strerror}",
            "make it readable and its folder writable for the user that runs the peer, or choose another"
            " state_dir",
        ) from error


@contextmanager
def hold(path: Path, patience_s: float = 10.0) -> Iterator[None]:
    """Keep every other process on this machine from using the same identity.

    The lock is on a file beside the key, `<name>.lock`, which also names the holder's pid. Forked children
    inherit the lock on purpose: it is free when the last of them is gone, however each of them died. The
    network daemon is executed, not forked, and has to die with its parent.

    Guarantees:
        A second process with this identity is refused while the first lives.
        The lock is held until the last forked child is gone.
        A peer restarts at once after its predecessor was killed.

    Args:
        path: The key file; it need not exist yet.
        patience_s: Seconds to wait for the children of a holder that is itself already dead.

    Yields:
        Nothing; the identity is held until the block ends and every child forked within it is gone.

    Raises:
        IdentityInUse: A live peer uses this identity.
        IdentityError: The lock file can't be made.
    """
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise IdentityError(
            f"the lock file {lock_path} can't be made: {error.strerror}",
            "make its folder writable for the user that runs the peer, or choose another state_dir",
        ) from error
    try:
        _acquire(lock, path, time.monotonic() + patience_s)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Closing gives up this process's share only; an explicit unlock would free it for the children too.
        os.close(lock)


def _acquire(lock: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise IdentityError(
                    f"the identity {path} can't be locked: {error.strerror}",
                    "put state_dir on a file system with file locks",
                ) from error
        pid = _holder(lock)
        # Killed a moment ago: what it forked is on its way out and takes the lock along.
        if time.monotonic() >= deadline or (pid is not None and _is_alive(pid)):
            name = f"pid {pid}" if pid is not None else "pid unknown"
            raise IdentityInUse(
                f"the identity {path} is in use by a live peer ({name})",
                "stop that peer, or give this one a state_dir of its own",
                name,
            )
        time.sleep(_POLL_S)


def _holder(lock: int) -> int | None:
    text = os.pread(lock, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = SigningKey.from_seed(secrets.token_bytes(32))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_PREFIX + key.seed + key.public)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces a key that another process made meanwhile.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _read(path: Path) -> bytes:
    # Not blocking, lest a pipe in place of the file hangs the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise IdentityError(f"{path} is no regular file", "remove it, or choose another state_dir")
        if mode & 0o077:
            raise IdentityError(
                f"others on this machine may read the key file {path} (mode {mode & 0o777:04o})",
                f"run: chmod 600 {path}; if somebody may have copied it, delete it and take a new identity",
            )
        return os.read(descriptor, _SIZE + 1)
    finally:
        os.close(descriptor)


def _parse(path: Path, content: bytes) -> SigningKey:
    remedy = "put the key back from a copy, or move the file away and start with a new identity"
    if content.startswith(_RSA_PREFIX):
        raise IdentityError(f"the key file {path} holds an RSA key, not an Ed25519 one", remedy)
    if len(content) != _SIZE or not content.startswith(_PREFIX):
        raise IdentityError(f"the key file {path} is malformed: no Ed25519 key in libp2p's encoding", remedy)
    seed, public = content[len(_PREFIX) : -32], content[-32:]
    key = SigningKey.from_seed(seed)
    if key.public != public:
        raise IdentityError(f"the key file {path} is damaged: its two halves do not match", remedy)
    return key
