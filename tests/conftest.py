"""What all tests share: which of them run beside each other. A file's tests share what they set up."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that does other things, too.
settings.register_profile("paceline", deadline=None)
settings.load_profile("paceline")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all live tests in one process of pytest-xdist: they mostly wait, and would starve each other."""
    live = {item.path for item in items if item.get_closest_marker("live")}
    for item in items:
        group = "live" if item.path in live else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
