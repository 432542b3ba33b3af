"""Faults one after another: a swarm is started per stage, and anew whenever a fault has left it unwhole."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tests.nemesis.catalogue import Fault
from tests.nemesis.scene import Scene
from tests.nemesis.stages import open_stage, unavailable
from tests.nemesis.swarm import NeverCame, Swarm
from tests.nemesis.table import FAILED, Outcome, stamped

Say = Callable[[str], None]


class Runner:
    """Runs faults and says what happens. Leaving its `with` block ends every process that it started."""

    def __init__(self, peers: int, say: Say) -> None:
        self._peers, self._say = peers, say
        self._swarm: Swarm | None = None
        self._stage = ""
        self._folder = Path()
        self._keep = False
        self._stack = ExitStack()

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, faults: Sequence[Fault]) -> Iterator[Outcome]:
        """Do the faults in their order.

        Yields:
            What came out of each, at once.
        """
        for number, fault in enumerate(faults, start=1):
            self._say(f"[{number}/{len(faults)}] {fault.name}: {fault.sentence}")
            began = time.monotonic()
            outcome = self._do(fault)
            outcome = stamped(replace(outcome, took_s=round(time.monotonic() - began, 1)))
            self._say(f"    {summary(outcome)}")
            yield outcome

    def _do(self, fault: Fault) -> Outcome:
        if reason := fault.unavailable() or unavailable(fault.stage):
            return Outcome(fault.name, fault.sentence, skipped=reason)
        try:
            scene = Scene(self._swarm_of(fault.stage), self._tell)
        except NeverCame as error:
            self._close(keep=True)
            return Outcome(fault.name, fault.sentence, wrong=[f"no swarm to hurt: {error}"])
        whole = True
        try:
            fault.act(scene)
        except NeverCame as error:
            self._say(f"{error}")
            scene.wrong.append(str(error).partition("\n")[0])
            whole = False
        except Exception as error:
            self._say(traceback.format_exc())
            scene.wrong.append(f"{type(error).__name__}: {error}")
            whole = False
        outcome = judged(fault, scene)
        if not whole or outcome.has_failed:
            self._keep = True
            self._say(f"    its files are in {self._folder}")
        if not whole or fault.spoils:
            self._close()
        return outcome

    def _swarm_of(self, stage: str) -> Swarm:
        if self._swarm is None or self._stage != stage:
            self._close()
            self._folder, self._stage = Path(tempfile.mkdtemp(prefix="paceline-nemesis-")), stage
            self._tell(f"a swarm of {self._peers} peers is started ({stage})")
            began = time.monotonic()
            self._swarm = self._stack.enter_context(open_stage(stage, self._folder, self._peers))
            self._tell(f"all have committed a round after {time.monotonic() - began:.0f} s")
        return self._swarm

    def _tell(self, text: str) -> None:
        self._say(f"    {text}")

    def _close(self, keep: bool = False) -> None:
        try:
            self._stack.close()
        finally:
            if self._folder != Path() and not (keep or self._keep):
                shutil.rmtree(self._folder, ignore_errors=True)
            self._swarm, self._folder, self._keep = None, Path(), False


def judged(fault: Fault, scene: Scene) -> Outcome:
    """Compare what came out with what was promised."""
    if scene.lost:
        scene.wrong.append(f"{scene.lost} rounds lost")
    if scene.drift:
        scene.wrong.append(f"{scene.drift} times drift")
    if fault.closed_within_s is not None and scene.closed_s is not None:
        scene.reach(scene.closed_s, fault.closed_within_s, "seconds until the round closed")
    return Outcome(
        fault.name,
        fault.sentence,
        closed_s=scene.closed_s,
        lost=scene.lost,
        drift=scene.drift,
        wrong=scene.wrong,
        slow=scene.slow,
        notes=scene.notes,
        figures={name: round(value, 3) for name, value in scene.figures.items()},
    )


def summary(outcome: Outcome) -> str:
    """An outcome in one line."""
    if outcome.skipped:
        return outcome.verdict
    closed = "not measured" if outcome.closed_s is None else f"{outcome.closed_s:.1f} s"
    more = ", ".join([*(f"{k} {v:.4g}" for k, v in outcome.figures.items()), *outcome.notes])
    sign = outcome.verdict if not outcome.has_failed else outcome.verdict.replace(FAILED, FAILED.upper(), 1)
    return (
        f"{sign} | closed after {closed} | lost {outcome.lost} | drift {outcome.drift}"
        f" | took {outcome.took_s:.0f} s{' | ' + more if more else ''}"
    )
