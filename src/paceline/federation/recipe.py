"""What a training config means as a run: the same parameters that a swarm agrees on, as far as there are any.

>>> config = TrainingConfig(
...     model_name="BERT small",
...     learning_rate=1e-4,
...     batch_size=32,
...     local_steps=10,
...     global_rounds=20,
...     num_nodes=4,
... )
>>> run = run_of(config, ())
>>> run.name, run.inner_steps, run.rounds
('bert-small', 10, 20)
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

from pydantic import ValidationError

from paceline.core.config import RunConfig
from paceline.core.errors import ConfigError
from paceline.core.records import MAX_MEMBERS
from paceline.federation.models import TrainingConfig
from paceline.peer.problems import first_problem

_LONGEST_NAME = 40
_MOST_SAMPLES = 2**48
_KEYS = {"inner_steps": "local_steps", "rounds": "global_rounds", "inner": "learning_rate"}


def run_of(config: TrainingConfig, founders: Sequence[str]) -> RunConfig:
    """Spell a training config as a run's parameters.

    The averaged vectors are taken as they are: that is an outer step of size 1 without momentum, and floats
    that travel whole. What a run has no key for (the batch size, the expected number of nodes, the model's
    name to the letter) is pinned through the run's seed, which is the start of the config's SHA-256: so no
    key of it can be changed without another run id. The run's `model` means nothing here.

    Args:
        config: The training config.
        founders: Peer ids of the nodes; none to see only whether the config fits.

    Returns:
        The run. A majority of the nodes has to back each commit.

    Raises:
        ConfigError: A number is larger than a run log can hold.
    """
    check_num_nodes(len(founders) or 1)
    if config.local_steps * config.batch_size > _MOST_SAMPLES:
        raise ConfigError("local_steps * batch_size: more samples in a round than a log can hold")
    document = {
        "name": slug(config.model_name),
        "seed": seed_of(config),
        "expected_peers": max(1, len(founders)),
        "inner_steps": config.local_steps,
        "rounds": config.global_rounds,
        "inner": {
            "optimizer": {"type": "adamw", "lr": config.learning_rate},
            "schedule": {"type": "constant", "warmup_steps": 0},
        },
        "outer": {"lr": 1.0, "momentum": 0.0},
        "codec": "fp32",
        "quorum": {"min_members": len(founders) // 2 + 1, "founders": sorted(founders)},
    }
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        problem = first_problem(error, RunConfig)
        key = _KEYS.get(problem.path[0], problem.path[0])
        raise ConfigError(f"{key}: {problem.text}") from error


def seed_of(config: TrainingConfig) -> int:
    """Pin a training config in 31 bits.

    Args:
        config: The training config.

    Returns:
        The start of the SHA-256 of its canonical JSON.
    """
    document = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return int(hashlib.sha256(document.encode()).hexdigest()[:8], 16) >> 1


def check_num_nodes(num_nodes: int) -> None:
    """Refuse more nodes than fit one round, and none at all.

    Args:
        num_nodes: How many are wanted.

    Raises:
        ConfigError: Too many, or none.
    """
    if num_nodes < 1:
        raise ConfigError(f"{num_nodes} nodes: a round needs one", "take 1 node at least")
    if num_nodes > MAX_MEMBERS:
        raise ConfigError(
            f"{num_nodes} nodes: a round has room for {MAX_MEMBERS}", f"take {MAX_MEMBERS} nodes at most"
        )


def slug(model_name: str) -> str:
    """Turn a model's name into a run's.

    Args:
        model_name: Any text.

    Returns:
        Lower-case letters, digits and dashes, 40 at most; `session` when nothing is left.
    """
    plain = unicodedata.normalize("NFKD", model_name).encode("ascii", "ignore").decode()
    dashed = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return dashed[:_LONGEST_NAME].strip("-") or "session"
