"""What every module promises, checked instead of repeated: floors, docstrings, formats, sizes."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from importlinter.cli import lint_imports
from pydantic import BaseModel

import paceline.core
import paceline.federation.models
import paceline.ledger
import paceline.telemetry
from paceline.core.records import RECORD_TYPES
from paceline.core.wire import seal, unseal
from tests.core.history import peers

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
GOLDEN = json.loads((ROOT / "tests" / "golden" / "records.json").read_text())


def modules_below(package: ModuleType) -> list[ModuleType]:
    """Import a package's modules; only for floors that import nothing heavy."""
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [package, *map(importlib.import_module, names)]


LIGHT = [
    module
    for package in (paceline.core, paceline.ledger, paceline.telemetry)
    for module in modules_below(package)
]
MODELS = sorted(
    {
        kind
        for module in (*LIGHT, paceline.federation.models)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__.startswith("paceline.")
    },
    key=lambda kind: kind.__qualname__,
)


def test_each_floor_imports_only_floors_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


@pytest.mark.parametrize("floor", ["core", "ledger", "telemetry"])
def test_a_light_floor_loads_neither_torch_nor_hivemind(floor: str) -> None:
    names = [module.__name__ for module in LIGHT if module.__name__.startswith(f"paceline.{floor}")]
    program = (
        f"import sys, {', '.join(names)}\n"
        "print(*{'torch', 'hivemind', 'numpy', 'typer'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_core_knows_no_clock_no_chance_and_no_environment() -> None:
    for source in sorted((ROOT / "src" / "paceline" / "core").glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            banned = {"os", "time", "random", "socket", "threading", "asyncio", "secrets", "datetime"}
            assert not banned & {name.partition(".")[0] for name in names}, source.name


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__qualname__)
def test_every_field_says_what_it_means(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__qualname__}.{name} has no string below it"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__qualname__)
def test_every_format_has_a_json_schema_with_all_descriptions(model: type[BaseModel]) -> None:
    for mode in ("validation", "serialization"):
        schema = model.model_json_schema(mode=mode)
        json.dumps(schema)
        assert set(schema.get("properties", {})) == set(model.model_fields)
        assert all("description" in field for field in schema.get("properties", {}).values())
        assert schema["additionalProperties"] is False


@pytest.mark.parametrize("kind", sorted(RECORD_TYPES))
def test_the_format_of_a_record_is_what_it_was(kind: str) -> None:
    # A change here means that peers of two versions can't talk, and that logs can't be read: raise
    # `paceline.core.wire.VERSION` and say so in the changelog before writing another golden example.
    sealed = bytes.fromhex("".join(GOLDEN[kind]["sealed"]))
    record = RECORD_TYPES[kind].model_validate(GOLDEN[kind]["record"])
    assert unseal(sealed) == record
    assert seal(record, peers(2)[0]).hex() == sealed.hex()


def test_every_kind_of_record_has_a_golden_example() -> None:
    assert set(GOLDEN) == set(RECORD_TYPES)


@pytest.mark.parametrize("module", LIGHT, ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.failed == 0


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of a module and methods of its public classes."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for member in members:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
                yield member


@cache
def options_with_help() -> set[str]:
    """Names of annotations, shared by commands, whose help documents a parameter."""
    return {
        target.id
        for source in sorted((ROOT / "src" / "paceline" / "cli").glob("*.py"))
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and "help=" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of what a caller passes, but for options of a command, which carry their own help."""
    given, helped = function.args, options_with_help()
    spread = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *spread]
    return [
        argument.arg
        for argument in every
        if argument.arg not in {"self", "cls"}
        and not argument.arg.startswith("_")
        and not (argument.annotation and _has_help(ast.unparse(argument.annotation), helped))
    ]


def _has_help(annotation: str, helped: set[str]) -> bool:
    return "help=" in annotation or annotation in helped


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT / "src")))
def test_every_public_function_documents_each_parameter(source: Path) -> None:
    for function in public_functions(ast.parse(source.read_text())):
        docstring = ast.get_docstring(function) or ""
        section = docstring.partition("Args:\n")[2]
        for name in parameters(function):
            assert re.search(rf"^ +\*{{0,2}}{name}( \(.*\))?:", section, re.MULTILINE), (
                f"{source.name}:{function.lineno} {function.name} does not document {name}"
            )


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(ROOT / "src")))
def test_every_module_opens_with_a_summary(source: Path) -> None:
    assert ast.get_docstring(ast.parse(source.read_text()))


def guarantees(tree: ast.Module) -> Iterator[str]:
    """Every sentence below `Guarantees:` in any docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            for section in re.findall(r"^Guarantees[^\n]*:\n((?: +[^\n]*\n?)+)", docstring, re.MULTILINE):
                text = " ".join(section.split())
                yield from (sentence for sentence in re.split(r"(?<=\.) ", text) if sentence)


def test_every_guarantee_has_a_test_of_the_same_name() -> None:
    claims = {
        node.name
        for source in TESTS
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    missing = []
    for source in SOURCES:
        for sentence in guarantees(ast.parse(source.read_text())):
            words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"[`']", "", sentence.lower())).strip("_")
            if f"test_{words}" not in claims:
                missing.append(f"{source.name}: {sentence} (test_{words})")
    assert not missing, "\n".join(missing)


def test_files_stay_short_enough_to_read() -> None:
    long = {source.name: len(source.read_text().splitlines()) for source in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_modules_are_called_by_what_they_are() -> None:
    vague = {"util", "utils", "helper", "helpers", "common", "manager", "handler", "handlers", "misc", "base"}
    assert [source.name for source in SOURCES if source.stem in vague or source.parent.name in vague] == []
