"""`import paceline` is light, and what it exports is there at first use."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

import paceline

HEAVY = {"torch", "hivemind", "numpy", "pydantic"}


def loaded_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import paceline; paceline.__version__; dir(paceline)") == set()


@pytest.mark.parametrize(
    "name",
    [
        "GlobalState",
        "GradientAverager",
        "HashVerifier",
        "CreditTracker",
        "DiLoCoCoordinator",
        "UpdateProvider",
    ],
)
def test_the_documented_names_need_no_torch(name: str) -> None:
    assert not loaded_after(f"from paceline import {name}") & {"torch", "hivemind"}


@pytest.mark.parametrize("name", paceline.__all__)
def test_every_export_is_there_and_listed(name: str) -> None:
    assert getattr(paceline, name) is getattr(paceline, name)
    assert name in dir(paceline)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = paceline.Nothing  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from paceline import Nothing  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize("name", ["averaging", "coordinator", "credits", "hashing", "models"])
def test_the_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"paceline.federation.{name}")).failed == 0
