"""Pictures of what benchmarks measured, drawn from their JSON files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.documents import Document

_INK, _GREY = "#24292f", "#8c959f"
_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "paceline",  # else every drawing has other ids
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GREY,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def draw(document: Document, path: Path) -> None:
    """Draw a benchmark's figures as SVG.

    Guarantees:
        The same file gives the same picture, with one version of matplotlib.

    Args:
        document: What a benchmark of `PLOTS` wrote.
        path: Where to draw; folders above it are made.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # needs no screen
    from matplotlib import pyplot

    with mpl.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.0), layout="constrained")
        PLOTS[document["benchmark"]](axes, document)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    # Matplotlib ends some lines with a space.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def sync(axes: Any, document: Document) -> None:
    """Wall and processor time of one all-reduce per codec, over those of stock hivemind."""
    found: dict[str, dict[str, float]] = {}
    for each in document["comparisons"]:
        subject, _, quantity = each["name"].partition(", ")
        if quantity in ("wall", "CPU"):
            found.setdefault(subject, {})[quantity] = each["ratio"]
    for number, quantity in enumerate(("wall", "CPU")):
        places = [place + 0.38 * (number - 0.5) for place in range(len(found))]
        heights = [row.get(quantity, 0.0) for row in found.values()]
        bars = axes.bar(places, heights, 0.36, color=_COLOURS[number], label=quantity)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.axhline(1.0, color=_GREY, linestyle=":")
    axes.set_xticks(range(len(found)), [subject.replace(" ", "\n") for subject in found])
    axes.set_ylabel("time, of stock hivemind fp32's")
    axes.set_title("One all-reduce among four peers: less is better")
    axes.legend(frameon=False)


def train(axes: Any, document: Document) -> None:
    """Validation loss against bytes sent, at equal tokens."""
    rows = [row for row in document["rows"] if row["own_outer_step"] and row["inner"] == "adamw"]
    kinds = list(dict.fromkeys(row["method"] for row in rows))
    for number, method in enumerate(kinds):
        mine = [row for row in rows if row["method"] == method]
        xs, ys = [row["sent_bytes"] / 1e6 for row in mine], [row["loss"] for row in mine]
        axes.scatter(
            xs, ys, s=28, color=_COLOURS[number % len(_COLOURS)], marker="osD^vP"[number % 6], label=method
        )
        for row, x, y in zip(mine, xs, ys, strict=True):
            if row["codec"]:
                text = f"{row['codec']}, H {row['inner_steps']}"
                axes.annotate(text, (x, y), (0, 5), textcoords="offset points", rotation=60, fontsize=7)
    axes.set_xscale("log")
    axes.margins(y=0.3)
    axes.set_xlabel("MB sent by all nodes together")
    axes.set_ylabel("validation loss, nats per byte")
    axes.set_title("The same model, data and number of tokens (adamw): down and left is better")
    axes.legend(frameon=False, fontsize=8)


def scale(axes: Any, document: Document) -> None:
    """Seconds per round against peers, real and simulated."""
    real, simulated = document["real"], document["simulated"]
    axes.plot(
        [cost["peers"] for cost in real],
        [median(cost["rounds_s"]) for cost in real],
        "o-",
        color=_COLOURS[0],
        label=f"real peers, all on one machine ({document['machine']})",
    )
    axes.plot(
        [growth["peers"] for growth in simulated],
        [growth["round_s"] for growth in simulated],
        "s--",
        color=_COLOURS[1],
        label="simulated: the protocol alone, virtual seconds",
    )
    sizes = sorted({each["peers"] for each in (*real, *simulated)})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(peers) for peers in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("peers")
    axes.set_ylabel("seconds per round")
    axes.set_title("A round with next to nothing to train")
    axes.legend(frameon=False, fontsize=8)


PLOTS: dict[str, Callable[[Any, Document], None]] = {"sync": sync, "train": train, "scale": scale}
