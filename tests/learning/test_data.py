"""Claims about corpora and streams."""

from __future__ import annotations

import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paceline.core.config import StdlibData, TextData
from paceline.core.errors import ConfigError
from paceline.learning.data import Corpus, default_cache_dir, open_corpus


@pytest.fixture(scope="module")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return open_corpus(StdlibData(), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(256)) * 40)
    return path


def prepare(tmp_path: Path, *paths: Path | str, **more: float) -> Corpus:
    data = TextData.model_validate({"paths": [str(path) for path in paths], **more})
    return open_corpus(data, tmp_path / "cache", seq_len=16)


def test_stdlib_is_several_million_bytes_of_real_text(stdlib: Corpus) -> None:
    assert len(stdlib.train) > 3_000_000
    assert 0.04 < len(stdlib.held_out) / len(stdlib.train) < 0.1
    assert b"def " in stdlib.held_out[:200_000].tobytes()


def test_held_out_text_is_never_trained_on(stdlib: Corpus, tmp_path: Path) -> None:
    train, held_out = stdlib.train.tobytes(), stdlib.held_out.tobytes()
    root = Path(sysconfig.get_path("stdlib"))
    whole_files = [path.read_bytes() for path in sorted(root.glob("*.py"))[::4]]
    places = {(text in train, text in held_out) for text in whole_files if len(text) > 2000}
    assert places == {(True, False), (False, True)}

    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {number}\n" for number in range(1000)))
    corpus = prepare(tmp_path, lines, held_out=0.1)
    assert corpus.train.tobytes() + corpus.held_out.tobytes() == lines.read_bytes()
    assert len(corpus.held_out) == -(-lines.stat().st_size // 10)


def test_text_is_taken_in_the_order_given_and_globs_sorted(tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / f"{name}.txt").write_text(name * 100)
    (tmp_path / "z.md").write_text("z" * 100)
    corpus = prepare(tmp_path, tmp_path / "z.md", tmp_path / "*.txt", tmp_path / "a.txt", held_out=0.25)
    assert corpus.train.tobytes() == b"z" * 100 + b"a" * 100 + b"b" * 100
    assert corpus.held_out.tobytes() == b"c" * 100


def test_paths_are_relative_to_the_working_folder(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(prepare(tmp_path, "te*.txt").train) == len(prepare(tmp_path, "text.txt").train)


def test_data_is_prepared_once_and_again_only_when_a_source_changes(tmp_path: Path, text_file: Path) -> None:
    prepare(tmp_path, text_file)
    (folder,) = (tmp_path / "cache").iterdir()
    made = (folder / "train.bin").stat().st_ino
    assert prepare(tmp_path, text_file).train[0] == 0
    assert (folder / "train.bin").stat().st_ino == made
    text_file.write_bytes(b"other text " * 100)
    assert prepare(tmp_path, text_file).train[:5].tobytes() == b"other"


def test_peers_that_prepare_at_the_same_time_get_the_same_data(tmp_path: Path, text_file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        corpora = list(pool.map(lambda _: prepare(tmp_path, text_file), range(8)))
    assert {corpus.train.tobytes() for corpus in corpora} == {corpora[0].train.tobytes()}
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="needs a file that can be opened but not read"
)
def test_prepared_data_is_written_whole_or_not_at_all(tmp_path: Path, text_file: Path) -> None:
    with pytest.raises(ConfigError, match="could not be prepared"):
        prepare(tmp_path, text_file, "/proc/self/mem")
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing-here-\*.txt' matches no file"):
        prepare(tmp_path, tmp_path / "nothing-here-*.txt")


@pytest.mark.parametrize("size", [0, 1, 100])
def test_text_that_is_empty_or_too_short_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "short.txt").write_bytes(b"x" * size)
    with pytest.raises(ConfigError, match="too short for sequences of 16"):
        prepare(tmp_path, tmp_path / "short.txt")


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(ConfigError, match=r"could not be prepared in .*cache"):
        prepare(tmp_path, text_file)


def test_the_cache_lies_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "paceline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "paceline"


def test_batches_are_windows_of_the_training_text(stdlib: Corpus) -> None:
    batch = stdlib.stream(0, "peer", 1).batch(3, 64)
    assert batch.dtype == np.int64
    assert batch.shape == (3, 65)
    text = stdlib.train.tobytes()
    assert all(bytes(row.tolist()) in text for row in batch)


def test_every_position_can_be_drawn_the_last_one_included(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(bytes(range(40)))
    corpus = prepare(tmp_path, tmp_path / "t.txt", held_out=0.45)
    stream = corpus.stream(0, "peer", 1)
    starts = {int(row[0]) for _ in range(20) for row in stream.batch(8, 16)}
    assert starts == set(range(len(corpus.train) - 16))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    peer=st.text(min_size=1),
    round_id=st.integers(0, 10**7),
    skip=st.integers(0, 50),
)
def test_a_batch_depends_only_on_run_seed_peer_round_and_its_number(
    stdlib: Corpus, seed: int, peer: str, round_id: int, skip: int
) -> None:
    restarted, going = stdlib.stream(seed, peer, round_id), stdlib.stream(seed, peer, round_id)
    restarted.skip(skip)
    for _ in range(skip):
        going.batch(1, 4)
    assert restarted.position == going.position == skip
    assert np.array_equal(restarted.batch(4, 8), going.batch(4, 8))


def test_no_two_peers_and_no_two_rounds_draw_the_same_batches(stdlib: Corpus) -> None:
    drawn = set()
    for seed in range(2):
        for peer in ("a", "b", "a|1", "1"):
            for round_id in (1, 2, 11):
                stream = stdlib.stream(seed, peer, round_id)
                drawn |= {stream.batch(8, 64).tobytes() for _ in range(5)}
    assert len(drawn) == 2 * 4 * 3 * 5


def test_the_validation_set_is_fixed_and_spread_over_the_held_out_text(stdlib: Corpus) -> None:
    batches = stdlib.held_out_batches(4, 8, 128)
    again = stdlib.held_out_batches(4, 8, 128)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))
    assert [batch.shape for batch in batches] == [(8, 129)] * 4
    assert batches[0][0].tolist() == stdlib.held_out[:129].tolist()
    assert batches[-1][-1].tolist() == stdlib.held_out[-129:].tolist()
    assert len({row.tobytes() for batch in batches for row in batch}) == 32


def test_no_validation_batches_are_an_empty_list(stdlib: Corpus) -> None:
    assert stdlib.held_out_batches(0, 8, 128) == []
