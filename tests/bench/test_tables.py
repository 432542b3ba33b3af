"""Tables, markers, and how figures are spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.documents import command, document, load, save
from tests.bench.tables import markdown_table, quantile, seconds, size, write_between_markers


def test_a_table_can_be_read_as_it_is_and_a_bar_in_a_cell_does_not_break_it() -> None:
    lines = markdown_table(("peers", "s"), [("2", "1.25"), ("a|b", "10")]).splitlines()
    assert lines == [
        "| peers |    s |",
        "| ----- | ---: |",
        "| 2     | 1.25 |",
        "| a\\|b  |   10 |",
    ]


def test_only_what_stands_between_the_markers_of_that_name_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    one, other = (f"<!-- {name}: begin -->\n\nold\n\n<!-- {name}: end -->\n" for name in ("one", "other"))
    page.write_text(f"before\n{one}between\n{other}after\n")
    write_between_markers(page, "other", "new")
    assert page.read_text() == f"before\n{one}between\n{other.replace('old', 'new')}after\n"
    before = page.read_text()
    write_between_markers(page, "other", "new")
    assert page.read_text() == before


def test_a_document_without_the_markers_is_left_alone_and_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- one: begin -->")
    with pytest.raises(
        ValueError, match=r"page\.md needs the lines <!-- one: begin --> and <!-- one: end -->"
    ):
        write_between_markers(page, "one", "new")
    assert page.read_text() == "<!-- one: begin -->"


def test_a_quantile_is_a_figure_that_was_measured() -> None:
    figures = [float(number) for number in range(100, 0, -1)]
    assert [quantile(figures, share) for share in (0.5, 0.95, 1.0)] == [50.0, 95.0, 100.0]
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.5, 0.95)] == [2.0, 3.0]
    assert quantile([7.0], 0.5) == 7.0
    with pytest.raises(ValueError, match="nothing was measured"):
        quantile([], 0.5)


def test_figures_are_spelled_with_the_digits_that_mean_something() -> None:
    assert [seconds(figure) for figure in (12.345, 0.0123456, 0.9)] == ["12.35 s", "12.3 ms", "900 ms"]
    assert [size(figure) for figure in (964.5e6, 1.73e9, 999, 22_200)] == [
        "964 MB",
        "1.73 GB",
        "999 B",
        "22.2 kB",
    ]


def test_a_command_is_told_without_where_its_figures_went() -> None:
    given = ["scale", "--json", "runs/scale.json", "--peers", "2,4", "--markdown=docs/performance.md"]
    assert command(given) == "scripts/bench scale --peers 2,4"


def test_a_document_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = document("scale", ["scale"], real=[{"peers": 2}])
    save(tmp_path / "runs" / "scale.json", made)
    assert load(tmp_path / "runs" / "scale.json") == made
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["scale.json"]
