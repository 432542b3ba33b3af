"""The loss curve of a local run as a picture."""

from __future__ import annotations

import math
from pathlib import Path

from paceline.cli.progress import Progress

_UNIFORM = math.log(256)


def draw_losses(progress: Progress, path: Path) -> None:
    """Draw every peer's training loss and the validation loss of each commit over the inner steps.

    Args:
        progress: The run.
        path: The PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")  # needs no screen
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    for name, steps in progress.steps.items():
        xs, ys = [step for step, _ in steps], [loss for _, loss in steps]
        axes.plot(xs, ys, linewidth=0.8, alpha=0.5, label=progress.riders[name].called)
    measured = sorted(progress.val_losses.items())
    if measured:
        ends = [progress.run.timetable.ends_at(round_id) for round_id, _ in measured]
        axes.plot(
            ends, [loss for _, loss in measured], "o-", color="black", linewidth=1.6, label="validation"
        )
    axes.axhline(_UNIFORM, linestyle=":", color="grey", label="knows nothing (ln 256)")
    axes.set_xlabel(f"inner steps per peer (everything is exchanged every {progress.run.inner_steps})")
    axes.set_ylabel("loss, nats per token")
    axes.set_title(progress.run.run_id)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)
