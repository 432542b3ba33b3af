"""The swarm as a whole as Prometheus metrics, worked out of a picture at the moment of a scrape.

Every metric carries the run's id, so that one Prometheus may watch several runs. What peers say of themselves
is passed on as they say it: their speeds, bytes and losses are claims. Only those of members, who
are or were in a committed roster, are added up.

Usage:
    registry.register(SwarmMetrics(lambda: source.picture(rounds=ROUNDS_NEEDED)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from paceline.watch.notice import heard_at
from paceline.watch.picture import Picture
from paceline.watch.stall import is_here, stalled_after_s, typical_round_s, waited_s
from paceline.web.figures import (
    Sample,
    age_s,
    each,
    latest,
    one,
    phases,
    tokens_per_s,
)

ROUNDS_NEEDED = 12
"""The latest rounds that a picture needs for its metrics."""


class SwarmMetric(NamedTuple):
    """One metric: what it is called, and how it follows from a picture."""

    name: str
    """Without `paceline_swarm_` and `_total`."""
    kind: Literal["gauge", "counter"]
    """Its type."""
    text: str
    """Its help text."""
    read: Callable[[Picture], Iterable[Sample]]
    """Gives its samples."""
    labels: tuple[str, ...] = ()
    """Its labels after `run_id`."""


class SwarmMetrics(Collector):
    """Works out every metric anew for each scrape.

    Guarantees:
        A picture without peers still shows every metric.
    """

    def __init__(self, picture: Callable[[], Picture]) -> None:
        """Note where pictures come from.

        Args:
            picture: Gives the swarm as it stands, with its last `ROUNDS_NEEDED` rounds.
        """
        self._picture = picture

    def describe(self) -> Iterable[Metric]:
        """Say which metrics there are.

        Returns:
            All of them without samples.
        """
        return [_family(metric) for metric in METRICS]

    def collect(self) -> Iterator[Metric]:
        """Work out all samples.

        Yields:
            Every metric.
        """
        picture = self._picture()
        for metric in METRICS:
            family = _family(metric)
            for labels, value in metric.read(picture):
                if value is not None:
                    family.add_metric((picture.run_id, *labels), value)
            yield family


def _family(metric: SwarmMetric) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(f"paceline_swarm_{metric.name}", metric.text, labels=("run_id", *metric.labels))


_PEER = ("peer_id", "nickname")

METRICS: tuple[SwarmMetric, ...] = (
    SwarmMetric(
        "peers",
        "gauge",
        "Peers by what they do; `lost` are those that have been silent for longer than the lease.",
        phases,
        ("phase",),
    ),
    SwarmMetric("chain_height", "gauge", "The last committed round.", one(lambda p: p.rounds_committed)),
    SwarmMetric(
        "rounds_committed",
        "counter",
        "Rounds committed since the run began.",
        one(lambda p: p.rounds_committed),
    ),
    SwarmMetric("rounds_planned", "gauge", "Rounds of the whole run.", one(lambda p: p.rounds_planned)),
    SwarmMetric(
        "attempts_voided",
        "counter",
        "Attempts of rounds given up, since the watch began.",
        one(lambda p: p.attempts_voided),
    ),
    SwarmMetric(
        "training_loss",
        "gauge",
        "Training loss of the last committed round over its members, in nats per token.",
        one(latest("avg_loss")),
    ),
    SwarmMetric(
        "validation_loss",
        "gauge",
        "Loss of the last measured anchor on held-out data, in nats per token, averaged over peers.",
        one(latest("val_loss")),
    ),
    SwarmMetric(
        "tokens_per_second",
        "gauge",
        "Training speed of all members that are here together.",
        one(tokens_per_s),
    ),
    SwarmMetric(
        "sent_bytes",
        "counter",
        "Bytes of all-reduce parts that all members sent.",
        one(lambda p: p.bytes_sent),
    ),
    SwarmMetric(
        "data_parallel_bytes",
        "counter",
        "Bytes that data-parallel training would have sent for the same steps.",
        one(lambda p: p.data_parallel_bytes),
    ),
    SwarmMetric(
        "coordinator_changes",
        "counter",
        "Times that another peer went to the front, since the watch began.",
        one(lambda p: p.coordinator_changes),
    ),
    SwarmMetric("term", "gauge", "The coordinator's term.", one(lambda p: p.term)),
    SwarmMetric(
        "last_commit_timestamp_seconds",
        "gauge",
        "When the last commit was first seen, in seconds since 1970.",
        one(lambda p: p.last_commit_at),
    ),
    SwarmMetric(
        "last_commit_age_seconds",
        "gauge",
        "Seconds since the last commit was first seen.",
        one(age_s(lambda p: p.last_commit_at)),
    ),
    SwarmMetric(
        "last_heard_age_seconds",
        "gauge",
        "Seconds since something new came from any peer.",
        one(age_s(heard_at)),
    ),
    SwarmMetric(
        "watch_age_seconds",
        "gauge",
        "Seconds since the watch over the swarm began.",
        one(age_s(lambda p: p.begin)),
    ),
    SwarmMetric(
        "watch_blind",
        "gauge",
        "1 while the observer itself is cut off from the network, and all else is as it was before; else 0.",
        one(lambda p: p.blind_since is not None),
    ),
    SwarmMetric(
        "round_duration_seconds",
        "gauge",
        "Median time between the last commits; before there are two, what the peers' speeds let expect.",
        one(typical_round_s),
    ),
    SwarmMetric(
        "commit_wait_seconds",
        "gauge",
        "Seconds since the last commit; before the first, since as many peers are here as it takes.",
        one(waited_s),
    ),
    SwarmMetric(
        "stalled_after_seconds",
        "gauge",
        "For how long a commit may be waited for until the run is stalled: three rounds, and two leases.",
        one(stalled_after_s),
    ),
    SwarmMetric(
        "quorum_needed",
        "gauge",
        "Members of the last roster that it takes to commit the round in progress.",
        one(lambda p: p.quorum_needed),
    ),
    SwarmMetric("quorum_here", "gauge", "How many of them are here.", one(lambda p: p.quorum_here)),
    SwarmMetric(
        "quorum_margin",
        "gauge",
        "How many more of them may be lost before no round can be committed; below 0, none can.",
        one(lambda p: p.quorum_here - p.quorum_needed),
    ),
    SwarmMetric(
        "peer_up",
        "gauge",
        "1 for a peer that takes part, 0 for one that is lost, leaving or finished.",
        each(is_here),
        _PEER,
    ),
    SwarmMetric(
        "peer_coordinator", "gauge", "1 for the peer at the front.", each(lambda p: p.is_coordinator), _PEER
    ),
    SwarmMetric("peer_round", "gauge", "Round that the peer works on.", each(lambda p: p.round_id), _PEER),
    SwarmMetric(
        "peer_seen_age_seconds",
        "gauge",
        "Seconds since something new came from the peer.",
        each(lambda p: p.seen_s),
        _PEER,
    ),
    SwarmMetric(
        "peer_reachable",
        "gauge",
        "1 for a peer that has proven that it serves its metrics address, 0 for one that failed to.",
        each(lambda p: p.is_reachable),
        _PEER,
    ),
    SwarmMetric(
        "peer_credits",
        "gauge",
        "Sequences that the peer contributed to committed rounds.",
        each(lambda p: p.credits),
        _PEER,
    ),
    SwarmMetric(
        "peer_tokens_per_second",
        "gauge",
        "The peer's training speed.",
        each(lambda p: p.tokens_per_s),
        _PEER,
    ),
    SwarmMetric(
        "peer_training_loss",
        "gauge",
        "Its mean training loss of this round, in nats per token.",
        each(lambda p: p.loss),
        _PEER,
    ),
    SwarmMetric(
        "peer_sent_bytes",
        "counter",
        "Bytes of all-reduce parts that it sent since it started.",
        each(lambda p: p.bytes_out),
        _PEER,
    ),
    SwarmMetric(
        "peer_received_bytes",
        "counter",
        "Bytes of all-reduce parts that it received since it started.",
        each(lambda p: p.bytes_in),
        _PEER,
    ),
)
"""Every metric of the swarm, in the order in which they are served."""
