"""What one peer has trained in one round: its stretch of data, its steps, and what they came to."""

from __future__ import annotations

from paceline.core.voice import Progress
from paceline.learning.data import Stream
from paceline.learning.inner import StepResult

_SPEED_MEMORY = 0.9


class Tally:
    """Counts the steps of one round.

    Attributes:
        round_id: The round.
        stream: Its data.
        progress: What was done.
    """

    def __init__(self, round_id: int, stream: Stream, samples_per_s: float) -> None:
        """Begin to count.

        Args:
            round_id: The round.
            stream: Its data.
            samples_per_s: Recent speed, from before.
        """
        self.round_id, self.stream = round_id, stream
        self.progress = Progress(samples_per_s=samples_per_s)
        self._loss_sum, self._loss_count = 0.0, 0

    def count(self, result: StepResult, seconds: float) -> None:
        """Count a step.

        Args:
            result: What it did; a skipped one counts as a step without samples.
            seconds: How long it took.
        """
        done = self.progress
        if result.loss is not None:
            self._loss_sum, self._loss_count = self._loss_sum + result.loss, self._loss_count + 1
        speed, before = result.samples / seconds, done.samples_per_s
        self.progress = Progress(
            inner_step=done.inner_step + 1,
            samples=done.samples + result.samples,
            samples_per_s=_SPEED_MEMORY * before + (1 - _SPEED_MEMORY) * speed if before else speed,
            loss=self._mean_loss(),
        )

    def discard(self) -> None:
        """Let the steps so far count for nothing: their weights are gone."""
        self._loss_sum, self._loss_count = 0.0, 0
        self.progress = Progress(inner_step=self.progress.inner_step)

    def take_in(self, other: Tally) -> None:
        """Count the steps of another round as ones of this.

        Args:
            other: That round's tally; counts no more.
        """
        mine, more = self.progress, other.progress
        self._loss_sum, self._loss_count = (
            self._loss_sum + other._loss_sum,
            self._loss_count + other._loss_count,
        )
        self.progress = Progress(
            inner_step=mine.inner_step + more.inner_step,
            samples=mine.samples + more.samples,
            samples_per_s=more.samples_per_s or mine.samples_per_s,
            loss=self._mean_loss(),
        )

    def _mean_loss(self) -> float:
        return self._loss_sum / self._loss_count if self._loss_count else 0.0
