"""From a training configuration to what a swarm is started from, and who is told how it goes.

Both providers start from the same `SwarmConfig`, so that what was tried in one process is the very thing that
a swarm runs.

    >>> from paceline.federation.models import TrainingConfig
    >>> config = TrainingConfig(
    ...     model_name="BERT small", learning_rate=1e-3, batch_size=4,
    ...     local_steps=5, global_rounds=3, num_nodes=2,
    ... )
    >>> swarm = swarm_of(config)
    >>> swarm.run.name, swarm.run.inner_steps, swarm.run.rounds, swarm.node.batch_size, swarm.peers
    ('bert-small', 5, 3, 4, 2)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paceline.core.config import NetworkConfig, NodeConfig, RunConfig, SwarmConfig
from paceline.core.events import Event
from paceline.core.records import Frozen
from paceline.core.tuning import outer_defaults, warmup_defaults
from paceline.federation.models import TrainingConfig
from paceline.federation.recipe import check_num_nodes, slug

LOOPBACK = NodeConfig(threads=1, network=NetworkConfig(listen=("/ip4/127.0.0.1/tcp/0",), relay=False))
"""How nodes look that are all on this machine: reached by nobody else, and sharing its processor."""

Tell = Callable[[str, Event], None]
"""Takes what happens: the node's id, and the event."""


def untold(node_id: str, event: Event) -> None:
    """Drop an event: for whoever wants to hear nothing.

    Args:
        node_id: Whose.
        event: What happened.
    """


def swarm_of(config: TrainingConfig, base: SwarmConfig | None = None) -> SwarmConfig:
    """Turn a training configuration into a swarm's.

    The model's name becomes the run's name, the learning rate that of the inner optimizer. The outer step
    and the codec's warm-up follow the number of nodes and rounds, as in any run, but for what `base` sets
    otherwise.

    Args:
        config: The training configuration.
        base: All that a training configuration does not say: architecture, data, device, seed, and so on. The
            defaults of a swarm, and `LOOPBACK` nodes, when left out.

    Returns:
        What both providers start from.

    Raises:
        ConfigError: More nodes than a swarm's round has room for.
        ValueError: A swarm can't have so many steps or rounds.
    """
    check_num_nodes(config.num_nodes)
    base = base or SwarmConfig(node=LOOPBACK)
    run, nodes = base.run, config.num_nodes
    optimizer = run.inner.optimizer.model_copy(update={"lr": config.learning_rate})
    quorum = run.quorum.model_copy(update={"min_members": min(run.quorum.min_members, nodes)})
    turns = run.rounds // run.overlap.fragments
    outer = _set_in(run.outer, outer_defaults(run.expected_peers, turns, run.codec))
    warmup = _set_in(run.codec_warmup, warmup_defaults(run.rounds, run.codec, run.overlap.fragments))
    fields = run.model_dump() | {
        "name": slug(config.model_name),
        "expected_peers": nodes,
        "inner_steps": config.local_steps,
        "rounds": config.global_rounds,
        "inner": run.inner.model_copy(update={"optimizer": optimizer}),
        "outer": outer,
        "codec_warmup": warmup,
        "quorum": quorum,
    }
    node = base.node.model_copy(update={"batch_size": config.batch_size})
    return SwarmConfig(run=RunConfig.model_validate(fields), node=node, peers=nodes)


def _set_in(section: Frozen, tuned: Mapping[str, Any]) -> dict[str, Any]:
    # What the base says otherwise than a run would by itself.
    return {key: value for key, value in section.model_dump().items() if value != tuned[key]}
