"""Claims about checkpoints."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from paceline.core.config import GptConfig
from paceline.core.digest import chunk_hashes, digest_of
from paceline.core.errors import CheckpointError
from paceline.learning.checkpoint import (
    Checkpoint,
    assemble,
    data_section,
    file_name,
    load,
    load_into,
    newest,
    prune,
    read_info,
    save,
)
from paceline.learning.checkpoint_header import CheckpointInfo, parse_header
from paceline.learning.flat import named_slices
from paceline.learning.model import num_parameters, parameter_shapes

TINY = GptConfig(dim=8, layers=1, heads=1, hidden=8, seq_len=8)


def digest(flat: np.ndarray) -> str:
    return digest_of(chunk_hashes(flat.tobytes()))


def make_state(model: GptConfig = TINY, round_id: int = 12) -> Checkpoint:
    rng = np.random.default_rng(round_id)
    anchor, momentum = (rng.standard_normal(num_parameters(model), np.float32) for _ in range(2))
    info = CheckpointInfo(
        run_id="tiny-01234567",
        round_id=round_id,
        weights_digest=digest(anchor),
        momentum_digest=digest(momentum),
        model=model,
    )
    return Checkpoint(info, anchor, momentum)


def saved(folder: Path, round_id: int = 12) -> Path:
    path = folder / file_name(round_id)
    save(path, *make_state(round_id=round_id))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path)


@contextmanager
def full_disk() -> Iterator[None]:
    """While this is open, no file may grow beyond a kilobyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_saved_loads_again(path: Path) -> None:
    state, loaded = make_state(), load(path)
    assert loaded.info == read_info(path) == state.info
    assert loaded.anchor.tobytes() == state.anchor.tobytes()
    assert loaded.momentum.tobytes() == state.momentum.tobytes()
    assert loaded.anchor.flags.writeable


def test_a_checkpoint_loads_into_vectors_that_exist_already(path: Path) -> None:
    state = make_state()
    anchor, momentum = np.zeros_like(state.anchor), np.zeros_like(state.momentum)
    assert load_into(path, anchor, momentum) == state.info
    assert (anchor.tobytes(), momentum.tobytes()) == (state.anchor.tobytes(), state.momentum.tobytes())
    with pytest.raises(ValueError, match="contiguous float32"):
        load_into(path, anchor, momentum[1:])
    path.write_bytes(path.read_bytes()[:-4] + b"edit")
    with pytest.raises(CheckpointError, match="its momentum does not have the digest"):
        load_into(path, anchor, momentum)


def test_any_reader_of_safetensors_can_open_it(path: Path) -> None:
    state, shapes = make_state(), parameter_shapes(TINY)
    expected = {f"anchor.{name}": part for name, part in named_slices(shapes, state.anchor).items()}
    expected |= {f"momentum.{name}": part for name, part in named_slices(shapes, state.momentum).items()}
    tensors = load_file(path)
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name], part) for name, part in expected.items())
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["run_id"] == "tiny-01234567"
    assert metadata["round_id"] == "12"
    assert metadata["weights_digest"] == state.info.weights_digest
    assert GptConfig.model_validate_json(metadata["model"]) == TINY


def test_the_data_section_is_the_flat_anchor_followed_by_the_flat_momentum(path: Path) -> None:
    state = make_state()
    offset, length = data_section(path)
    assert path.read_bytes()[offset:] == state.anchor.tobytes() + state.momentum.tobytes()
    assert (offset + length, offset % 8) == (path.stat().st_size, 0)


def test_the_safetensors_library_would_lay_the_data_out_alike(path: Path, tmp_path: Path) -> None:
    offset, length = data_section(path)
    save_file(load_file(path), tmp_path / "theirs.safetensors")
    assert (tmp_path / "theirs.safetensors").read_bytes()[-length:] == path.read_bytes()[offset:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_checkpoint_that_was_truncated_or_edited_at_any_byte_is_refused(
    path: Path, data: st.DataObject
) -> None:
    whole = path.read_bytes()
    header = data_section(path)[0]
    # As many tries in the header as in the data.
    place = data.draw(st.integers(0, header - 1) | st.integers(0, len(whole) - 1))
    edited = bytearray(whole)
    edited[place] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.safetensors")
    for content in (bytes(edited), whole[:place], whole + whole[:place] + b"\0"):
        damaged.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
            load(damaged)
        assert damaged.read_bytes() == content


def test_every_byte_of_the_header_is_covered(path: Path) -> None:
    text = path.read_bytes()[8 : data_section(path)[0]]
    assert parse_header(text) == make_state().info
    for place in range(len(text)):
        with pytest.raises(ValueError, match=r"its header|its metadata"):
            parse_header(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b'{"__metadata__": []}',
        b'{"__metadata__": {"format": 3}}',
        b'{"__metadata__": {"format": "paceline-checkpoint-1"}}',
        b'{"__metadata__": {"format": "paceline-checkpoint-1", "model": 1}}',
        b'{"a":' * 5000,
        b"\xff\xfe",
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"hostile\.safetensors: its header is no checkpoint's"):
        load(path)


def test_a_header_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "giant.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little"))
    with pytest.raises(CheckpointError, match="a header of 1152921504606846976 bytes"):
        load(path)


def test_another_model_s_header_over_this_data_is_refused(path: Path) -> None:
    offset, _ = data_section(path)
    whole = path.read_bytes()
    header = json.loads(whole[8:offset])
    header["anchor.embedding"]["shape"].reverse()
    text = json.dumps(header, separators=(",", ":")).encode().ljust(offset - 8)
    path.write_bytes(whole[:8] + text + whole[offset:])
    with pytest.raises(CheckpointError, match="does not describe its model"):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (load, read_info, data_section):
        with pytest.raises(CheckpointError, match=r"gone\.safetensors: can't read it \(No such file"):
            read(tmp_path / "gone.safetensors")


def test_a_checkpoint_is_written_whole_or_not_at_all_and_a_temporary_file_is_cleaned_up(
    path: Path,
) -> None:
    before, state = path.read_bytes(), make_state()
    complaint = r"round-000012\.safetensors: can't write it \(File too large"
    with pytest.raises(CheckpointError, match=complaint), full_disk():
        save(path, *state)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_state_that_is_not_what_was_agreed_on_is_never_saved(path: Path) -> None:
    info, anchor, momentum = make_state()
    before = path.read_bytes()
    for wrong in ((momentum, momentum), (anchor, anchor)):
        with pytest.raises(CheckpointError, match="does not have digest"):
            save(path, info, *wrong)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    info, anchor, momentum = make_state()
    with pytest.raises(ValueError, match="contiguous float32"):
        save(tmp_path / "x", info, anchor[:-1], momentum)


def test_a_newer_save_replaces_the_older_file(path: Path) -> None:
    newer = make_state(round_id=99)
    save(path, *newer)
    assert load(path).info == newer.info


def test_saving_copies_no_whole_vector(tmp_path: Path) -> None:
    state = make_state(GptConfig(dim=256, layers=4, heads=4, seq_len=8))
    tracemalloc.start()
    try:
        save(tmp_path / "large.safetensors", *state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000 < state.anchor.nbytes / 4


def test_a_checkpoint_is_assembled_from_what_peers_sent(path: Path, tmp_path: Path) -> None:
    info, anchor, momentum = make_state()
    raw = tmp_path / "fetched.part"
    raw.write_bytes(anchor.tobytes() + momentum.tobytes())
    assemble(tmp_path / "made.safetensors", info, raw)
    assert (tmp_path / "made.safetensors").read_bytes() == path.read_bytes()
    assert raw.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(place=st.integers(0, 8 * num_parameters(TINY) - 1), flip=st.integers(1, 255))
def test_raw_bytes_that_dont_have_the_digests_never_become_a_checkpoint(
    tmp_path: Path, place: int, flip: int
) -> None:
    info, anchor, momentum = make_state()
    whole = bytearray(anchor.tobytes() + momentum.tobytes())
    whole[place] ^= flip
    raw = tmp_path / "fetched.part"
    for content in (bytes(whole), bytes(whole[:place]), bytes(whole) + b"\0"):
        raw.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"fetched\.part"):
            assemble(tmp_path / file_name(12), info, raw)
    assert list(tmp_path.iterdir()) == [raw]


def test_the_newest_checkpoint_is_that_of_the_latest_round(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None
    assert newest(tmp_path) is None
    for round_id in (9, 1_000_000, 10, 999_999):
        (tmp_path / file_name(round_id)).touch()
    for stray in ("round-1.safetensors", "round-9999999.safetensors.part", "notes.txt"):
        (tmp_path / stray).touch()
    assert newest(tmp_path) == tmp_path / "round-1000000.safetensors"


def test_pruning_keeps_the_latest_and_sweeps_what_a_killed_process_left(tmp_path: Path) -> None:
    prune(tmp_path / "nowhere", 2)
    for round_id in (1, 2, 3, 10):
        (tmp_path / file_name(round_id)).touch()
    ours = tmp_path / f".round-000004.safetensors.{os.getpid()}.tmp"
    left = tmp_path / ".round-000004.safetensors.999999999.tmp"
    old = tmp_path / f".staged-round-000003.safetensors.{os.getpid()}.tmp"
    other = tmp_path / "round-000001.safetensors.mine"
    for path in (ours, left, old, other):
        path.touch()
    os.utime(old, (0, 0))
    prune(tmp_path, 2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {file_name(3), file_name(10), ours.name, other.name}


def test_pruning_everything_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        prune(path.parent, 0)
    assert path.exists()
