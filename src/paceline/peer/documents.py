"""Settings files as plain values: YAML and JSON, with line and column where they can't be read.

Two of YAML's habits would hide mistakes and are switched off: a key given twice is an error instead of
silently winning, and `4e-4` is a number instead of a text.

    >>> parse_value("[1, 4e-4]", "an example")
    [1, 0.0004]
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from paceline.core.errors import ConfigError


def read_document(path: Path) -> Any:
    """Read a settings file.

    Args:
        path: JSON when its name ends in `.json`, YAML otherwise.

    Returns:
        Maps, lists, text, numbers, booleans and None; an empty map for an empty file.

    Raises:
        ConfigError: The file is missing, unreadable or malformed; names it, with line and column.
    """
    text = read_text(path)
    if path.suffix == ".json":
        return _parse_json(text, str(path))
    value = parse_value(text, str(path))
    return {} if value is None else value


def read_text(path: Path) -> str:
    """Read a file that the operator named.

    Args:
        path: Any path.

    Returns:
        Its text.

    Raises:
        ConfigError: It is missing, a folder, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file", "check the path") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise ConfigError(f"{path}: found a folder, allowed: a file", "name the file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: byte {error.start} is no UTF-8 text", "is this the right file?"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "check who may read it") from error


def parse_value(text: str, source: str) -> Any:
    """Parse one YAML document.

    Args:
        text: YAML.
        source: Where it comes from, for messages.

    Returns:
        Plain values; None for an empty text.

    Raises:
        ConfigError: Names source, line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{source}: {place}{_first_line(error.problem or 'not YAML')}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: {_first_line(str(error) or 'nested too deep')}") from error


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.deep_construct = True  # so that an alias inside its own anchor is refused instead of a loop

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML speaks, wants a dot in every float; YAML 1.2 and people do not.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse_json(text: str, source: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, source))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigError(f"{source}: {place}: {error.msg[:1].lower()}{error.msg[1:]}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deep") from error


def _unique(pairs: list[tuple[str, Any]], source: str) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"{source}: the key {twice} is given twice")
    return content


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "not YAML"
