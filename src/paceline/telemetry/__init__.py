"""What becomes of a peer's events: lines for people, JSON for programs, metrics for Prometheus.

Usage:
    registry = CollectorRegistry()
    with JsonlSink(path) as jsonl, MetricsServer("127.0.0.1", 0, registry, health):
        emit = fan_out(LogSink(), jsonl, PrometheusSink(registry, peer_id))
        emit(QuorumMissing(got=1, needed=3))
"""

from paceline.telemetry.lines import LogSink, describe
from paceline.telemetry.prometheus import PrometheusSink
from paceline.telemetry.server import Health, MetricsServer
from paceline.telemetry.sinks import JsonlSink, fan_out

__all__ = ["Health", "JsonlSink", "LogSink", "MetricsServer", "PrometheusSink", "describe", "fan_out"]
