"""What `pip install` brings along: everything that the commands need, the page's files too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_every_module_and_the_whole_page(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -e .[dev]")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("paceline/")}
    there = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "paceline").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == there
    assert {"paceline/web/page/index.html", "paceline/web/page/vendor/LICENSE", "paceline/py.typed"} <= packed
