"""Commands with two forms, for a swarm and for the fedtrain API: which was asked for, and which was meant.

A swarm's form takes one argument, the fedtrain API's takes options only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paceline.core.config import SwarmConfig
from paceline.core.errors import ConfigError
from paceline.federation.folder import SessionFolder
from paceline.federation.models import TrainingConfig
from paceline.federation.recipe import run_of
from paceline.peer.documents import read_document
from paceline.peer.settings import load_as

_SWARM, _TRAINING = set(SwarmConfig.model_fields), set(TrainingConfig.model_fields)


@dataclass(frozen=True)
class Form:
    """What belongs to one form of a command.

    Attributes:
        usage: The form, spelled out.
        needed: What it can't do without, by name; None for what is not there.
        optional: What else belongs to it.
    """

    usage: str
    needed: Mapping[str, object]
    optional: Mapping[str, object] = field(default_factory=dict)

    def given(self) -> list[str]:
        """Look what is there.

        Returns:
            The names.
        """
        return [name for name, value in {**self.needed, **self.optional}.items() if value]

    def missing(self) -> list[str]:
        """Look what is not there.

        Returns:
            The names of what is needed.
        """
        return [name for name, value in self.needed.items() if not value]


def check_forms(swarm: Form, federated: Form) -> None:
    """Refuse a command that is given both forms, neither, or one that is not complete.

    Args:
        swarm: The form for a swarm.
        federated: The form for the fedtrain API.

    Raises:
        ConfigError: Names what is too much or missing, and the forms.
    """
    both = f"{swarm.usage}, or {federated.usage}"
    mine, theirs = swarm.given(), federated.given()
    if mine and theirs:
        raise ConfigError(f"{mine[0]} and {theirs[0]} belong to different forms of this command", both)
    if not mine and not theirs:
        raise ConfigError("this command needs more", both)
    form = swarm if mine else federated
    if missing := form.missing():
        raise ConfigError(f"{missing[0]} is missing", form.usage)


def load_training(path: Path, instead: str = "") -> TrainingConfig:
    """Read a training config.

    Args:
        path: A JSON (or YAML) file.
        instead: The command that takes a swarm's configuration, for whoever gives one.

    Returns:
        The config.

    Raises:
        ConfigError: One line that names file, key, what was found and what is allowed.
    """
    keys = _keys(path)
    if keys & _SWARM and not keys & _TRAINING:
        remedy = f"{instead} {path}" if instead else "take one with model_name, learning_rate and so on"
        raise ConfigError(f"{path} is a swarm's configuration, not a training config", remedy)
    config = load_as(TrainingConfig, path)
    try:
        run_of(config, ())  # no command needs one that fits no run log
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.cause}", error.remedy) from error
    return config


def check_swarm(path: Path, instead: str) -> None:
    """Recognise a training config where a swarm's configuration belongs.

    Args:
        path: A YAML (or JSON) file.
        instead: The command that takes a training config.

    Raises:
        ConfigError: It is one, or it can't be read.
    """
    keys = _keys(path)
    if keys & _TRAINING and not keys & _SWARM:
        raise ConfigError(f"{path} is a training config, not a swarm's configuration", f"{instead} {path}")


def check_no_session(path: Path) -> None:
    """Recognise a session's folder where a swarm belongs.

    Args:
        path: What should lead to a swarm.

    Raises:
        ConfigError: It is the folder of a session.
    """
    if SessionFolder(path).file.is_file():
        raise ConfigError(
            f"{path} is a session of the fedtrain API, not a swarm's run",
            f"paceline status --session {path} --round-id N",
        )


def _keys(path: Path) -> set[str]:
    document = read_document(path)
    return set(map(str, document)) if isinstance(document, Mapping) else set()
