"""What a peer trains on: a corpus of bytes, prepared once, memory-mapped, cut into seeded streams.

A batch is a function of (run seed, peer id, round, batch number) and of nothing else. So no two peers train
on the same batches, and a peer that starts again in the middle of a round goes on where it was.

    >>> from paceline.core.config import TextData
    >>> corpus = open_corpus(TextData(paths=("*.md",)), Path("cache"))  # doctest: +SKIP
    >>> corpus.stream(0, "12D3Koo...", round_id=1).batch(8, 128).shape  # doctest: +SKIP
    (8, 129)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paceline.core.config import StdlibData, TextData
from paceline.core.errors import ConfigError

_FORMAT = "1"
_STDLIB_HELD_OUT = 0.05
# `encodings` is a megabyte of generated tables, far easier to predict than text; the help topics enter as
# the text they are, not as the Python literals that hold them.
_NOT_TEXT = frozenset({"encodings", "pydoc_data"})
_NOT_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
_COPY_BYTES = 1 << 20


class Stream:
    """One peer's batches of one round, in order.

    Guarantees:
        A batch depends only on run seed, peer, round and its number.

    Attributes:
        position: The number of the next batch, from 0.
    """

    def __init__(self, text: NDArray[np.uint8], label: str) -> None:
        self._text = text
        self._label = label
        self.position = 0

    def skip(self, num: int) -> None:
        """Leave out the next batches, as a restarted peer does with those it has trained on.

        Args:
            num: How many.
        """
        self.position += num

    def batch(self, batch_size: int, seq_len: int) -> NDArray[np.int64]:
        """Draw the next batch: windows of the training text, each start equally likely.

        Args:
            batch_size: Sequences.
            seq_len: Tokens to predict per sequence.

        Returns:
            int64 `[batch_size, seq_len + 1]`: inputs are all but the last column, targets all but the first.
        """
        key = hashlib.sha256(f"{self._label}|{self.position}".encode()).digest()[:16]
        self.position += 1
        num_starts = _num_starts(self._text, seq_len)
        words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(batch_size)
        return _windows(self._text, words % np.uint64(num_starts), seq_len)


class Corpus(NamedTuple):
    """Text as bytes, in two parts that share nothing."""

    train: NDArray[np.uint8]
    """uint8, one byte per token, memory-mapped."""
    held_out: NDArray[np.uint8]
    """uint8, only for validation."""

    def stream(self, run_seed: int, peer_id: str, round_id: int) -> Stream:
        """Open a peer's batches for one round.

        Guarantees:
            No two peers and no two rounds draw the same batches.

        Args:
            run_seed: The run's seed.
            peer_id: Whose batches.
            round_id: Which round.

        Returns:
            The stream, at its first batch.
        """
        return Stream(self.train, f"paceline stream|{run_seed}|{peer_id}|{round_id}")

    def held_out_batches(self, num: int, batch_size: int, seq_len: int) -> list[NDArray[np.int64]]:
        """Give the validation set: the same every time, spread evenly over the held-out text.

        Args:
            num: Batches.
            batch_size: Sequences per batch.
            seq_len: Tokens to predict per sequence.

        Returns:
            `num` batches, int64 `[batch_size, seq_len + 1]` each.
        """
        last = _num_starts(self.held_out, seq_len) - 1
        total = num * batch_size
        starts = np.array([last * i // max(1, total - 1) for i in range(total)], dtype=np.uint64)
        return [
            _windows(self.held_out, starts[i : i + batch_size], seq_len) for i in range(0, total, batch_size)
        ]


def open_corpus(data: StdlibData | TextData, cache_dir: Path | None = None, *, seq_len: int = 128) -> Corpus:
    """Open the data to train on; prepare it first if no process on this machine has done so yet.

    Prepared data lies in a folder of its own, named after its sources' paths, sizes and times of change.

    Guarantees:
        Held-out text is never trained on.
        Prepared data is written whole or not at all.

    Args:
        data: What to train on.
        cache_dir: Where prepared data lies; `default_cache_dir()` when left out.
        seq_len: Tokens per sequence that both parts must be long enough for.

    Returns:
        The corpus.

    Raises:
        ConfigError: The text is missing, unreadable or too short, or the cache can't be written.
    """
    cache_dir = cache_dir or default_cache_dir()
    sources = _stdlib_files() if isinstance(data, StdlibData) else _text_files(data)
    folder = cache_dir / f"{data.type}-{_fingerprint(data, sources)}"
    try:
        if not folder.exists():
            _prepare(data, sources, folder)
        parts = [_map(folder / name, seq_len) for name in ("train.bin", "held_out.bin")]
    except OSError as error:
        raise ConfigError(
            f"data could not be prepared in {cache_dir}: {error}", "see that it is readable and writable"
        ) from error
    return Corpus(*parts)


def default_cache_dir() -> Path:
    """Tell where prepared data lies unless the node says otherwise.

    Returns:
        `$XDG_CACHE_HOME/paceline`, or `~/.cache/paceline` where that variable is not set.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "paceline"


def _num_starts(text: NDArray[np.uint8], seq_len: int) -> int:
    if len(text) <= seq_len:
        raise _too_short(len(text), seq_len)
    return len(text) - seq_len


def _too_short(num_bytes: int, seq_len: int) -> ConfigError:
    return ConfigError(
        f"data: a part of {num_bytes} bytes is too short for sequences of {seq_len} + 1",
        "give more text, or lower model.seq_len",
    )


def _windows(text: NDArray[np.uint8], starts: NDArray[np.uint64], seq_len: int) -> NDArray[np.int64]:
    columns = np.arange(seq_len + 1, dtype=np.int64)
    windows: NDArray[np.uint8] = text[starts.astype(np.int64)[:, None] + columns]
    return windows.astype(np.int64)


def _map(path: Path, seq_len: int) -> NDArray[np.uint8]:
    if (size := path.stat().st_size) <= seq_len:
        raise _too_short(size, seq_len)
    return np.memmap(path, dtype=np.uint8, mode="r")


def _fingerprint(data: StdlibData | TextData, sources: list[Path]) -> str:
    facts = [_FORMAT, sys.version, data.model_dump_json()]
    for path in sources:
        stat = path.stat()
        facts.append(f"{path}|{stat.st_size}|{stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()[:16]


def _prepare(data: StdlibData | TextData, sources: list[Path], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".preparing-"))
    try:
        with (draft / "train.bin").open("wb") as train, (draft / "held_out.bin").open("wb") as held_out:
            parts = _stdlib_parts(sources) if isinstance(data, StdlibData) else _text_parts(data, sources)
            for held, piece in parts:
                (held_out if held else train).write(piece)
            for file in (train, held_out):
                file.flush()
                os.fsync(file.fileno())
        try:
            draft.rename(folder)
        except OSError:
            # Another peer on this machine was faster, with the same bytes.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _stdlib_files() -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(set(inner) - _NOT_LIBRARY - _NOT_TEXT)
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    if not found:
        raise ConfigError(
            f"data: this interpreter has no library sources in {root}", "use data of type text instead"
        )
    return sorted(found)


def _stdlib_parts(sources: list[Path]) -> Iterator[tuple[bool, bytes]]:
    """Whole files go to either part, chosen by a hash of their name; text that occurs twice counts once."""
    root = Path(sysconfig.get_path("stdlib"))
    pieces = {path.relative_to(root).as_posix(): path.read_bytes() for path in sources}
    pieces |= _help_topics()
    distinct = {piece: name for name, piece in sorted(pieces.items(), reverse=True) if piece}
    by_chance = sorted(distinct, key=lambda piece: hashlib.sha256(distinct[piece].encode()).digest())
    room = _STDLIB_HELD_OUT * sum(map(len, distinct))
    for piece in by_chance:
        held = room > 0
        room -= len(piece)
        yield held, piece


def _help_topics() -> dict[str, bytes]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        return {}
    return {f"pydoc_data/{name}": text.encode() for name, text in topics.items()}


def _text_files(data: TextData) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in data.paths:
        path = Path(pattern).expanduser()
        start = Path(path.anchor)
        matches = [path] if path.is_file() else sorted(start.glob(str(path.relative_to(start))))
        files = [match.resolve() for match in matches if match.is_file()]
        if not files:
            raise ConfigError(
                f"data.paths: {pattern!r} matches no file below {Path.cwd()}",
                "name files or globs, relative to where the node is started",
            )
        found |= dict.fromkeys(files)
    return list(found)


def _text_parts(data: TextData, sources: Iterable[Path]) -> Iterator[tuple[bool, bytes]]:
    room = sum(path.stat().st_size for path in sources)
    room -= int(np.ceil(room * data.held_out))
    for path in sources:
        with path.open("rb") as file:
            while piece := file.read(min(room, _COPY_BYTES) or _COPY_BYTES):
                yield room <= 0, piece
                room = max(0, room - len(piece))
