"""Events as Prometheus metrics: base units, `_total` for counters, every label value there from the start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import singledispatchmethod
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from paceline.core import events
from paceline.core.events import Event
from paceline.core.records import Phase
from paceline.core.wire import REASONS


class _Rejections(Collector):
    # Records are checked in another process, which counts in shared memory: ask when scraped.
    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def describe(self) -> Iterable[CounterMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = self._family()
        for reason, count in {**dict.fromkeys(REASONS, 0), **self._counts()}.items():
            family.add_metric([reason], count)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(
            "paceline_records_rejected", "Records of other peers dropped by a check.", labels=["reason"]
        )


class _DiskSpace(Collector):
    # Asked when scraped as well; a disk that can't be asked, one that was unmounted say, has no samples.
    def __init__(self, usage: Callable[[], DiskUsage]) -> None:
        self._usage = usage

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return self._families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = self._families()
        try:
            usage = self._usage()
        except OSError:
            return families
        for family, value in zip(families, (usage.free, usage.total), strict=True):
            family.add_metric([], value)
        return families

    def _families(self) -> list[GaugeMetricFamily]:
        return [
            GaugeMetricFamily(
                "paceline_disk_free_bytes", "Free space where the peer keeps its log and checkpoints."
            ),
            GaugeMetricFamily("paceline_disk_size_bytes", "Size of that disk."),
        ]


class DiskUsage(Protocol):
    """What `shutil.disk_usage` tells."""

    @property
    def total(self) -> int:
        """Size of the disk in bytes."""

    @property
    def free(self) -> int:
        """Bytes that the peer may still write."""


class PrometheusSink:
    """Keeps a peer's metrics up to date with its events.

    Guarantees:
        No counter ever goes back.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        peer_id: str,
        rejected: Callable[[], Mapping[str, int]] = dict,
        clock: Callable[[], float] = time.time,
        disk: Callable[[], DiskUsage] | None = None,
    ) -> None:
        """Register all metrics.

        Args:
            registry: Where they are scraped from.
            peer_id: The peer, for `paceline_peer_info`.
            rejected: Gives the number of dropped records by reason (`paceline.core.wire.REASONS`).
            clock: Tells the time in seconds since 1970.
            disk: Tells the space of the disk that the peer writes to; without it, that is not told.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._peer_id = peer_id
        self._phase_now = ""
        self._round_now = -1
        self._phase_since = clock()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"paceline_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"paceline_{name}", text, labels, registry=registry)

        self._peer = Info("paceline_peer", "Who this is.", registry=registry)
        self._peer.info({"peer_id": peer_id})
        self._round = gauge("round", "Round that the peer works on.")
        self._phase = gauge("phase", "1 for the phase that the peer is in, 0 for the others.", "phase")
        self._inner_step = gauge("inner_step", "Inner steps done in this round.")
        self._loss = gauge("loss", "Training loss of the last inner step, in nats per token.")
        self._validation_loss = gauge(
            "validation_loss", "Loss of the anchor on held-out data, in nats per token."
        )
        self._speed = gauge("tokens_per_second", "Training speed of the last inner step.")
        self._roster_size = gauge("roster_size", "Members of the last planned or committed round.")
        self._credits = gauge("credits", "Sequences that this peer contributed to committed rounds.")
        self._coordinator = gauge("coordinator", "1 while this peer coordinates, 0 otherwise.")
        self._term = gauge("term", "Term of the coordinator that this peer follows.")
        self._last_commit = gauge(
            "last_commit_timestamp_seconds", "When the last commit was applied here, since 1970."
        )
        self._phase_seconds = counter("phase_seconds", "Seconds spent, by phase.", "phase")
        self._step_seconds = counter(
            "step_seconds", "Seconds spent in inner steps. Its rate is the peer's utilisation."
        )
        self._received = counter("bytes_received", "Bytes of all-reduce parts received.")
        self._sent = counter("bytes_sent", "Bytes of all-reduce parts sent.")
        self._commits = counter("commits", "Rounds committed and applied here.")
        self._voids = counter("voids", "Attempts of rounds that were given up.")
        self._drift = counter("drift_detected", "Times that these weights were not the committed ones.")
        self._skipped = counter("steps_skipped", "Inner steps skipped for a loss that was not finite.")
        self._repairs = counter("repairs", "Times that state was fetched from other peers.")
        self._failed_repairs = counter("repairs_failed", "Times that state could not be fetched.")
        gauge("start_time_seconds", "When the peer was started, in seconds since 1970.").set(clock())
        registry.register(_Rejections(rejected))
        if disk is not None:
            registry.register(_DiskSpace(disk))
        for phase in Phase:
            self._phase.labels(phase.value)
            self._phase_seconds.labels(phase.value)

    def __call__(self, event: Event) -> None:
        """Move the metrics that it is about.

        Args:
            event: Any event.
        """
        with self._lock:  # events come from several threads, and a second must not be counted twice
            self._count_phase()
            self._note(event)

    def _count_phase(self) -> None:
        now = self._clock()
        if self._phase_now:
            # The machine's clock may be set back.
            self._phase_seconds.labels(self._phase_now).inc(max(0.0, now - self._phase_since))
        self._phase_since = now

    def _enter_round(self, round_id: int) -> None:
        if round_id != self._round_now:
            self._round_now = round_id
            self._round.set(round_id)
            self._inner_step.set(0)

    @singledispatchmethod
    def _note(self, event: Event) -> None:
        """Most events move a metric; the others are for people."""

    @_note.register
    def _(self, event: events.PeerStarted) -> None:
        self._peer.info({"peer_id": self._peer_id, "run_id": event.run_id, "device": event.device})
        self._enter_round(event.round_id)

    @_note.register
    def _(self, event: events.StepDone) -> None:
        if not event.ahead:
            self._enter_round(event.round_id)
            self._inner_step.set(event.inner_step)
        self._loss.set(event.loss)
        if event.seconds > 0:
            self._step_seconds.inc(event.seconds)
            self._speed.set(event.tokens / event.seconds)

    @_note.register
    def _(self, event: events.StepSkipped) -> None:
        self._skipped.inc()

    @_note.register
    def _(self, event: events.PhaseChanged) -> None:
        self._enter_round(event.round_id)
        self._phase_now = event.phase
        for phase in Phase:
            self._phase.labels(phase.value).set(phase.value == event.phase)

    @_note.register
    def _(self, event: events.CoordinatorChanged) -> None:
        self._term.set(event.term)
        self._coordinator.set(event.is_me)

    @_note.register
    def _(self, event: events.RoundPlanned) -> None:
        self._roster_size.set(event.members)

    @_note.register
    def _(self, event: events.ReduceEnded) -> None:
        self._received.inc(event.bytes_in)
        self._sent.inc(event.bytes_out)

    @_note.register
    def _(self, event: events.AttemptVoided) -> None:
        self._voids.inc()

    @_note.register
    def _(self, event: events.RoundCommitted) -> None:
        self._commits.inc()
        self._roster_size.set(event.members)
        self._last_commit.set(self._clock())

    @_note.register
    def _(self, event: events.Evaluated) -> None:
        self._validation_loss.set(event.val_loss)

    @_note.register
    def _(self, event: events.DriftDetected) -> None:
        self._drift.inc()

    @_note.register
    def _(self, event: events.StateFetched) -> None:
        self._repairs.inc()

    @_note.register
    def _(self, event: events.RepairFailed) -> None:
        self._failed_repairs.inc()

    @_note.register
    def _(self, event: events.CreditsCounted) -> None:
        self._credits.set(event.balance)
