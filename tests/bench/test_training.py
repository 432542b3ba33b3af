"""The benchmark of training: that its rows train the same thing, and its own arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.training import others, together
from tests.bench.training.recipe import ONE, OURS, SIZES, Row, row_called, rows
from tests.bench.training.report import figures, markdown
from tests.bench.training.results import Result, Results

QUICK = SIZES["quick"]


def result(row: Row, val_loss: float, sent_bytes: int = 1000, seed: int = 0) -> Result:
    return Result(row.name, seed, row.digest(QUICK, seed), val_loss, sent_bytes, 3.0, 4.0, 21600)


def test_every_row_has_a_name_of_its_own_and_is_found_by_it() -> None:
    names = [row.name for row in rows()]
    assert len(set(names)) == len(names)
    assert [row_called(name) for name in names] == list(rows())


def test_data_parallel_training_over_gloo_ends_where_one_large_batch_does(tmp_path: Path) -> None:
    gloo = others.train(Row("gloo"), QUICK, 0, tmp_path, steps=12)
    one = together.large_batch(Row(ONE), QUICK, 0, 12)
    before = together.large_batch(Row(ONE), QUICK, 0, 0)
    assert one.val_loss < before.val_loss - 0.3
    assert gloo.val_loss == pytest.approx(one.val_loss, abs=1e-4)
    assert gloo.sent_bytes == one.sent_bytes
    assert 0 < gloo.utilisation < 1


def test_bytes_are_counted_by_each_rounds_own_codec() -> None:
    short = replace(QUICK, steps=4)
    int4 = together.train(Row(OURS, "adamw", 1, "int4"), short, 0).sent_bytes
    sent = [
        together.train(Row(OURS, "adamw", 1, "topk", warmup_rounds=rounds), short, 0).sent_bytes
        for rounds in (0, 2, 4)
    ]
    assert sent[0] < int4 / 5
    assert sent[2] == int4
    assert sent[1] == pytest.approx((sent[0] + sent[2]) / 2, rel=0.05)


def test_a_row_whose_anchor_comes_late_takes_as_many_steps_and_learns_otherwise() -> None:
    short = replace(QUICK, steps=12)
    plain = together.train(Row(OURS, "adamw", 6, "int8"), short, 0)
    late = together.train(Row(OURS, "adamw", 6, "int8", delay_steps=2), short, 0)
    assert late.sent_bytes == plain.sent_bytes
    assert late.val_loss != plain.val_loss


def test_a_finished_row_is_kept_and_one_of_another_recipe_is_not_taken_for_it(tmp_path: Path) -> None:
    results, row = Results(tmp_path), Row(OURS, "adamw", 30, "int8")
    results.save(result(row, 2.0), QUICK)
    assert results.load(row, QUICK, 0) == result(row, 2.0)
    assert results.load(row, QUICK, 1) is None
    assert results.load(row, replace(QUICK, lr=1e-3), 0) is None


def test_figures_say_what_was_reached_and_what_was_missed() -> None:
    found = {
        Row(ONE): [result(Row(ONE), 2.0, 400_000)],
        (fp32 := Row(OURS, "adamw", 30, "fp32")): [result(fp32, 2.05, 4000)],
        (int8 := Row(OURS, "adamw", 30, "int8")): [result(int8, 2.07, 1000)],
        (other := Row("torchft", "adamw", 30)): [result(other, 2.06, 4000)],
    }
    by_text = {figure.text: figure for figure in figures(found)}
    assert len(by_text) == 4
    assert by_text["H 30 against one large batch, adamw"].reached
    int8_loss = by_text["int8 against fp32, H 30, adamw"]
    assert int8_loss.value == pytest.approx(0.02 / 2.05)
    assert not int8_loss.reached
    assert int8_loss.spelled().endswith("+0.98 % (at most 0.5 %), **missed**")
    assert by_text["bytes of data-parallel over ours, int8, H 30, adamw"].value == 400
    assert by_text[f"{fp32.name} against {other.name}, no more bytes"].reached


def test_only_seeds_that_both_have_are_compared() -> None:
    fp32, int8 = Row(OURS, "adamw", 30, "fp32"), Row(OURS, "adamw", 30, "int8")
    found = {fp32: [result(fp32, 2.0), result(fp32, 9.0, seed=1)], int8: [result(int8, 2.0)]}
    assert [figure.value for figure in figures(found)] == [0]


def test_the_table_has_a_line_per_row() -> None:
    found = {Row(ONE): [result(Row(ONE), 2.0), result(Row(ONE), 2.2, seed=1)]}
    text = markdown(found)
    assert "| one process | adamw | 1 | – | 2.1000 | 0.1414 | +0.0 % | 0.00 | 1.0 | 75.0 % | 2 |" in text


def test_what_is_there_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(OURS, "adamw", 100, "int2")
    Results(tmp_path).save(result(row, 1.2345), QUICK)
    page, figures_file = tmp_path / "page.md", tmp_path / "train.json"
    page.write_text("<!-- train: begin -->\n<!-- train: end -->\n")
    told = ["--markdown", str(page), "--json", str(figures_file)]
    assert main(["train", "--quick", "--folder", str(tmp_path), *told, row.name]) == 0
    said = capsys.readouterr()
    assert "1.2345" in said.out
    assert said.err == ""
    assert "1.2345" in page.read_text()
    assert json.loads(figures_file.read_text())["rows"][0]["loss"] == 1.2345


def test_an_unknown_row_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--folder", str(tmp_path), "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err


def test_a_row_is_trained_and_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--quick", "--folder", str(tmp_path), "ours-adamw-h100-int8", "--jobs", "1"]) == 0
    said = capsys.readouterr()
    assert "1 of 1  ours-adamw-h100-int8 seed 0" in said.err
    assert "| ours | adamw | 100 | int8 |" in said.out
