"""Outcomes of faults: as lines for people, as JSON to be kept, and as the table of `docs/reliability.md`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

BEGIN, END = "<!-- nemesis: begin -->", "<!-- nemesis: end -->"
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What came out of one fault.

    Attributes:
        name: The fault.
        sentence: What happened.
        closed_s: Seconds until the survivors had committed the round in progress; None when not measured.
        lost: Rounds lost; None when not measured.
        drift: Peers and rounds that differ; None when not measured.
        wrong: Promises that were broken.
        slow: Figures that were missed.
        notes: What else is worth knowing.
        figures: Other measurements.
        skipped: Why it was not done; empty when it was.
        took_s: Seconds that it took altogether.
        measured_at: When, in UTC.
        machine: Where.
    """

    name: str
    sentence: str
    closed_s: float | None = None
    lost: int | None = None
    drift: int | None = None
    wrong: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    skipped: str = ""
    took_s: float = 0.0
    measured_at: str = ""
    machine: str = ""

    @property
    def verdict(self) -> str:
        """`ok`, `failed` or `skipped`, with the reasons."""
        if self.skipped:
            return f"{SKIPPED}: {self.skipped}"
        broken = [*self.wrong, *self.slow]
        return f"{FAILED}: {'; '.join(broken)}" if broken else OK

    @property
    def has_failed(self) -> bool:
        return self.verdict.startswith(FAILED)


def stamped(outcome: Outcome) -> Outcome:
    """Note when and where something was measured."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    return replace(outcome, measured_at=now, machine=machine)


def merge(path: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Put outcomes into a file in place of earlier ones of the same faults.

    Returns:
        All that the file now holds.
    """
    kept = {outcome.name: outcome for outcome in load(path)}
    kept |= {outcome.name: outcome for outcome in outcomes}
    content = [asdict(outcome) | {"verdict": outcome.verdict} for outcome in kept.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return list(kept.values())


def load(path: Path) -> list[Outcome]:
    """Read what `merge` wrote; nothing if there is no such file."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Outcome(**{key: value for key, value in row.items() if key != "verdict"}) for row in rows]


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table, with what else was measured below it."""
    head = ["fault", "closed after, s", "rounds lost", "drift", "verdict"]
    rows = [
        [
            f"`{o.name}`: {o.sentence}",
            _number(o.closed_s, 1),
            _number(o.lost),
            _number(o.drift),
            o.verdict,
        ]
        for o in outcomes
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---", "--:", "--:", "--:", "---"], *rows]]
    told = [f"- `{o.name}`: {'; '.join(_told(o))}" for o in outcomes if _told(o)]
    return "\n".join([*lines, "", *told])


def _told(outcome: Outcome) -> list[str]:
    figures = [f"{name} {value:.4g}" for name, value in outcome.figures.items()]
    return [*figures, *outcome.notes]


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def write_between_markers(path: Path, table: str) -> None:
    """Replace what stands between the markers of a document."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{path} needs the lines {BEGIN} and {END}"
    path.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
