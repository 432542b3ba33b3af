"""`scripts/bench quick` and `all`: what runs, what is told of what does not, what reaches the documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHMARKS, PROGRAMS, main
from tests.bench.documents import save
from tests.bench.suite import PARTS, ROOT, Outcome, run_all, run_one, tell, unjudged
from tests.bench.test_pages import SCALE


def test_every_benchmark_is_part_of_all() -> None:
    assert {part.name for part in PARTS} == {*BENCHMARKS, *PROGRAMS} - {"quick", "all"}


def test_every_part_has_its_place_in_the_document() -> None:
    text = (ROOT / "docs/performance.md").read_text()
    for part in PARTS:
        assert text.count(f"<!-- {part.name}: begin -->") == text.count(f"<!-- {part.name}: end -->") == 1


@pytest.mark.parametrize("name", ["quick", "all"])
def test_an_unknown_benchmark_is_bad_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([name, "--only", "scale,nothing"])
    assert "no such benchmark: nothing" in capsys.readouterr().err


def test_one_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--elements", "100", "--repetitions", "1", "--threads", "1"]
    outcomes = run_all([("codecs", ["--threads", "0"]), ("codecs", small)], tmp_path, 100.0)
    assert [outcome.code for outcome in outcomes] == [3, 0]
    assert "max_workers must be greater than 0" in outcomes[0].spelled
    assert (tmp_path / "codecs.json").exists()
    said = capsys.readouterr()
    assert "== 1 of 2: codecs" in said.err
    assert "== scripts/bench codecs --elements 100" in said.out


def test_one_that_takes_too_long_is_ended() -> None:
    outcome, printed = run_one(["average", "--elements", "1000000"], 0.2)
    assert (outcome.code, printed) == (-9, "")
    assert outcome.spelled.startswith("average: ")
    assert "**failed** with code -9" in outcome.spelled


def test_how_each_ended_is_told_in_a_line() -> None:
    told = [Outcome("sync", code, "no network of our own", 12.3).spelled for code in (0, 1, 3)]
    assert told == [
        "sync: 12 s",
        "sync: 12 s, a target was missed",
        "sync: 12 s, **not measured, or not all of it**: no network of our own",
    ]


def test_a_look_judges_no_target_but_hides_no_failure() -> None:
    ended = [unjudged(Outcome("sync", code, "", 1.0)).code for code in (0, 1, 3, -9)]
    assert ended == [0, 0, 3, -9]


def test_what_was_measured_reaches_page_and_picture_and_what_was_not_is_named(tmp_path: Path) -> None:
    page, pictures = tmp_path / "page.md", tmp_path / "plots"
    page.write_text("<!-- scale: begin -->\n<!-- scale: end -->\n")
    save(tmp_path / "scale.json", SCALE)
    (untold,) = tell(["start", "scale"], tmp_path, page, pictures)
    assert untold.startswith("start: nothing written into ")
    assert "4,321" in page.read_text()
    assert (pictures / "scale.svg").exists()
    before = page.read_bytes(), (pictures / "scale.svg").read_bytes()
    assert tell(["scale"], tmp_path, page, pictures) == []
    assert (page.read_bytes(), (pictures / "scale.svg").read_bytes()) == before
