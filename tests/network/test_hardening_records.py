"""One node's answer can't hide other peers' records, nor hold up a search."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hivemind.dht.storage import DHTLocalStorage

from paceline.network.dht import _DEFAULTS
from paceline.network.hardening import harden
from tests.network.record_faults import faults

CORRECTIONS = {
    "forgets with what came late": "_keep_the_latest",
    "drops the good with the bad": "_sift",
    "believes an expiry": "_dated",
    "believes an expiry of nothing": "_dated",
    "believes a size": "_sift",
}


@pytest.fixture(scope="module")
def stock() -> dict[str, bool]:
    program = [sys.executable, "-m", "tests.network.record_faults"]
    said = subprocess.run(
        program, cwd=Path(__file__).parents[2], capture_output=True, check=True, timeout=120
    )
    found: dict[str, bool] = json.loads(said.stdout)
    return found


def test_a_hardened_node_believes_answers_record_by_record() -> None:
    harden()
    assert not any(faults().values())


@pytest.mark.parametrize("fault", CORRECTIONS)
def test_stock_hivemind_still_has_the_fault(stock: dict[str, bool], fault: str) -> None:
    assert stock[fault], f"remove `{CORRECTIONS[fault]}` from network/hardening.py"


def test_what_others_write_to_a_nodes_cache_is_not_kept() -> None:
    cache = DHTLocalStorage(maxsize=_DEFAULTS["cache_size"])
    cache.store(1, b"value", 4e9)
    cache.store(2, b"value", 4e9, subkey="author")
    assert cache.get(1) is None
    assert cache.get(2) is None
    assert not cache
