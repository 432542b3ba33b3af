"""Results as a table, and what was to be reached beside what was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from tests.bench.training.recipe import ONE, OURS, Row
from tests.bench.training.results import Result

WITHIN = {"fp16": 0.005, "bf16": 0.005, "int8": 0.005, "int4": 0.01, "int2": 0.02, "topk": 0.02}
"""By how much a codec's validation loss may lie above that of fp32, at the same H."""
OF_ONE_PROCESS = 0.03
"""By how much the loss at H 30 may lie above that of one large batch."""
FEWER_BYTES = {("int8", 30): 100.0, ("int8", 100): 400.0}
"""How many times fewer bytes than data-parallel training."""

Found = Mapping[Row, list[Result]]


@dataclass(frozen=True)
class Figure:
    """One thing to be reached.

    Attributes:
        text: What.
        value: What was measured.
        limit: What was to be reached.
        at_least: Whether the value has to be at least the limit; else at most.
        percent: Whether both are shares.
    """

    text: str
    value: float
    limit: float
    at_least: bool = False
    percent: bool = True

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def spelled(self) -> str:
        """For people."""
        value, limit = (
            (f"{100 * self.value:+.2f} %", f"{100 * self.limit:g} %")
            if self.percent
            else (f"{self.value:.1f} x", f"{self.limit:g} x")
        )
        wanted = f"{'at least' if self.at_least else 'at most'} {limit}"
        return f"{self.text}: {value} ({wanted}){'' if self.reached else ', **missed**'}"


def loss(results: Iterable[Result]) -> float:
    """Mean validation loss over the seeds."""
    return mean(each.val_loss for each in results)


def above(ours: list[Result], theirs: list[Result]) -> float:
    """Tell how far a loss lies above another one, as a share, over the seeds that both have."""
    seeds = {each.seed for each in ours} & {each.seed for each in theirs}
    ratio = loss(each for each in ours if each.seed in seeds) / loss(
        each for each in theirs if each.seed in seeds
    )
    return ratio - 1


def figures(found: Found) -> list[Figure]:
    """Compare what is there with what was to be reached."""
    made = []
    for row, results in found.items():
        if row.method != OURS or row.settings:
            continue
        whole = found.get(Row(OURS, row.inner, row.inner_steps, "fp32"))
        if whole and row.inner_steps == 30 and row.codec in WITHIN:
            text = f"{row.codec} against fp32, H 30, {row.inner}"
            made.append(Figure(text, above(results, whole), WITHIN[row.codec]))
        one = found.get(Row(ONE, row.inner))
        if one and row.inner_steps == 30 and row.codec == "fp32":
            made.append(
                Figure(f"H 30 against one large batch, {row.inner}", above(results, one), OF_ONE_PROCESS)
            )
        wanted = FEWER_BYTES.get((row.codec, row.inner_steps))
        if one and wanted:
            ratio = one[0].sent_bytes / results[0].sent_bytes
            text = f"bytes of data-parallel over ours, {row.codec}, H {row.inner_steps}, {row.inner}"
            made.append(Figure(text, ratio, wanted, at_least=True, percent=False))
    return made + _others(found)


def _others(found: Found) -> list[Figure]:
    # Against whoever trained beside us with the same inner optimizer: the best of ours with no more bytes.
    made = []
    for row, results in found.items():
        if row.method in (OURS, ONE, "gloo"):
            continue
        rivals = [
            ours
            for other, ours in found.items()
            if (other.method, other.inner, other.rate) == (OURS, row.inner, row.rate)
            if ours[0].sent_bytes <= results[0].sent_bytes
        ]
        if rivals:
            best = min(rivals, key=loss)
            text = f"{best[0].row} against {row.name}, no more bytes"
            made.append(Figure(text, above(best, results), 0.0))
    return made


def markdown(found: Found) -> str:
    """The table, and the figures below it."""
    head = [
        "who averages",
        "inner",
        "H",
        "codec",
        "loss",
        "±",
        "above one batch",
        "MB sent",
        "fewer bytes",
        "inner / wall",
        "seeds",
    ]
    lines = [head, ["---", "---", "--:", "---", *["--:"] * 7], *(_line(row, found) for row in found)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    judged = [f"- {figure.spelled()}" for figure in figures(found)]
    return "\n".join([*table, *(["", *judged] if judged else [])])


def _line(row: Row, found: Found) -> list[str]:
    results = found[row]
    one = found.get(Row(ONE, row.inner, rate=row.rate))
    losses = [each.val_loss for each in results]
    return [
        ", ".join([row.method, *(f"{key} {value}" for key, value in row.settings.items())]),
        row.inner,
        str(row.inner_steps),
        row.codec if row.method == OURS else "–",
        f"{mean(losses):.4f}",
        f"{stdev(losses):.4f}" if len(losses) > 1 else "–",
        f"{100 * above(results, one):+.1f} %" if one else "–",
        f"{mean(each.sent_bytes for each in results) / 1e6:.2f}",
        f"{one[0].sent_bytes / results[0].sent_bytes:.1f}" if one else "–",
        f"{100 * mean(each.utilisation for each in results):.1f} %",
        str(len(results)),
    ]


def as_json(found: Found) -> list[dict[str, object]]:
    """Spell the rows for a file."""
    return [
        {
            "name": row.name,
            "method": row.method,
            "inner": row.inner,
            "inner_steps": row.inner_steps,
            "codec": row.codec if row.method == OURS else None,
            "own_outer_step": row.outer is None,
            "loss": round(loss(results), 6),
            "sent_bytes": round(mean(each.sent_bytes for each in results)),
            "seeds": len(results),
        }
        for row, results in found.items()
    ]
