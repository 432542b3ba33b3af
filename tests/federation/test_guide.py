"""The examples in docs/fedtrain.md run as they are printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

GUIDE = Path(__file__).parents[2] / "docs" / "fedtrain.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_examples_that_train_in_process_run_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GUIDE.parents[1])
    names: dict[str, Any] = {}
    blocks = [block for block in BLOCKS if "SwarmUpdateProvider" not in block]
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    printed = capsys.readouterr().out
    assert "after 3 rounds" in printed
    assert "'node-001': 120, 'node-002': 120" in printed


@pytest.mark.live
def test_the_example_that_drives_live_peers_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if "SwarmUpdateProvider" in block]
    exec(compile(block, str(GUIDE), "exec"), {})
    printed = capsys.readouterr().out
    assert printed.count("RoundCommitted") == 9
    assert "runs/tiny-" in printed
