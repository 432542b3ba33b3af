"""Settings from files and the command line: YAML or JSON in, frozen models out, one line for what is wrong.

Precedence: defaults < file < `--set a.b=c`. Nothing is bent into shape (`"4"` is no number), no key may be
given twice, and the first problem is told with its file, key, what was found and what is allowed.

    >>> load_node(None, ["network.relay=false"]).network.relay
    False
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from paceline.core.config import Handout, NodeConfig, SwarmConfig
from paceline.core.errors import ConfigError
from paceline.peer.documents import parse_value, read_document
from paceline.peer.problems import Problem, coerced, first_problem, spell

Model = TypeVar("Model", bound=BaseModel)


def load_as(model: type[Model], path: Path) -> Model:
    """Read any configuration.

    Args:
        model: What it has to be.
        path: A YAML (or JSON) file.

    Returns:
        The configuration.

    Raises:
        ConfigError: One line that names file, key, what was found and what is allowed.
    """
    return _build(model, path, ())


def load_swarm(path: Path, sets: Sequence[str] = ()) -> SwarmConfig:
    """Read what `paceline up` and `paceline init` start from.

    Args:
        path: A YAML (or JSON) file with the sections `run` and `node`, and `peers`.
        sets: `a.b=c` texts that override the file, each value in YAML.

    Returns:
        The swarm's configuration.

    Raises:
        ConfigError: One line that names file, key, what was found and what is allowed.
    """
    return _build(SwarmConfig, path, sets)


def load_node(path: Path | None, sets: Sequence[str] = ()) -> NodeConfig:
    """Read what is local to one node.

    Args:
        path: A YAML (or JSON) file of node keys; None for the defaults.
        sets: `a.b=c` texts that override the file, each value in YAML.

    Returns:
        The node's configuration.

    Raises:
        ConfigError: One line that names file, key, what was found and what is allowed.
    """
    return _build(NodeConfig, path, sets)


def load_handout(path: Path) -> Handout:
    """Read a run's hand-out.

    Args:
        path: A `run.json`.

    Returns:
        The hand-out, its digest checked against the document when it carries both.

    Raises:
        ConfigError: One line that names file, key, what was found and what is allowed.
    """
    return _build(Handout, path, ())


def save_handout(path: Path, handout: Handout) -> None:
    """Write a run's hand-out.

    Guarantees:
        A hand-out is written whole or not at all.

    Args:
        path: Where; an existing file is replaced.
        handout: What.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    content = json.dumps(handout.model_dump(mode="json", exclude_none=True), indent=2)
    try:
        unfinished.write_text(f"{content}\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def with_seeds(handout: Handout, peer_id: str, addresses: Sequence[str]) -> Handout:
    """Put a seed's addresses into a hand-out, in place of its former ones and of unfilled ones (port 0).

    Args:
        handout: The hand-out.
        peer_id: The seed.
        addresses: Its multiaddrs, each with its peer id.

    Returns:
        The hand-out with this seed first.
    """
    others = [seed for seed in handout.seeds if peer_id not in seed and "/tcp/0/" not in seed]
    return handout.model_copy(update={"seeds": (*addresses, *others)})


def _build(model: type[Model], path: Path | None, sets: Sequence[str]) -> Model:
    document = {} if path is None else read_document(path)
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: found {spell(document)}, allowed: a section of keys")
    origins: dict[tuple[str, ...], str] = {}
    for text in sets:
        keys, value = _split(text)
        document = _overridden(document, keys, value, text)
        origins[keys] = f"--set {text}"
    try:
        built = model.model_validate(document)
    except ValidationError as error:
        raise _refusal(first_problem(error, model), path, origins) from error
    if (problem := coerced(document, built.model_dump(mode="json"))) is not None:
        raise _refusal(problem, path, origins)
    return built


def _split(text: str) -> tuple[tuple[str, ...], Any]:
    name, equals, value = text.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise ConfigError(f"--set {text}: found no key and value, allowed: section.key=value")
    return keys, parse_value(value, f"--set {text}")


def _overridden(document: Any, keys: tuple[str, ...], value: Any, text: str) -> dict[str, Any]:
    if not isinstance(document, Mapping | None):
        raise ConfigError(
            f"--set {text}: found {spell(document)} above {keys[0]}, allowed: a section of keys"
        )
    inside = dict(document or {})
    inside[keys[0]] = value if len(keys) == 1 else _overridden(inside.get(keys[0]), keys[1:], value, text)
    return inside


def _refusal(problem: Problem, path: Path | None, origins: Mapping[tuple[str, ...], str]) -> ConfigError:
    # To blame is the last `--set` at, above or below the key; otherwise the file.
    place = "the defaults" if path is None else str(path)
    for keys, origin in origins.items():
        shared = min(len(keys), len(problem.path))
        if shared and keys[:shared] == problem.path[:shared]:
            place = origin
    key = ".".join(problem.path)
    return ConfigError(f"{place}: {key}: {problem.text}" if key else f"{place}: {problem.text}")
