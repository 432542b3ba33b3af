"""Checks of the work itself: disk, memory, a real average between two peers, and a few real steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from statistics import median

from paceline.core.config import RunConfig
from paceline.core.doubts import doubts
from paceline.core.tuning import CodecName
from paceline.peer.checkup import BUNDLE_HINT, Finding, Subject, fail, ok, warn
from paceline.peer.machine import available_memory_bytes, existing

_EVENTS_BYTES = 128 << 20
_COMMIT_BYTES, _RECEIPT_BYTES = 1024, 600
_SLOW = 0.25


def recipe(subject: Subject) -> Iterator[Finding]:
    """Look for choices of the run that learn badly.

    Args:
        subject: The node, whose run is looked at if it is known.

    Yields:
        Findings: one for each doubt, or one that there is none.
    """
    if subject.run is None:
        return
    found = [warn("recipe", doubt.said, doubt.remedy) for doubt in doubts(subject.run)]
    yield from found or [ok("recipe", "nothing speaks against the run's codec and outer step")]


def disk(subject: Subject) -> Iterator[Finding]:
    """Compare what the node will keep with what its disk has left.

    Args:
        subject: The node.

    Yields:
        A finding.
    """
    from paceline.learning.footprint import CHECKPOINT_BYTES
    from paceline.learning.model import num_parameters

    run, node = _run(subject), subject.node
    state = CHECKPOINT_BYTES * num_parameters(run.model)
    log = run.rounds * (_COMMIT_BYTES + run.expected_peers * _RECEIPT_BYTES)
    # One more state than it keeps: the result that is being voted on.
    needed = (node.keep_checkpoints + 1) * state + log + _EVENTS_BYTES
    kept = sum(file.stat().st_size for file in node.state_dir.rglob("*") if file.is_file())
    folder = existing(node.state_dir)
    left = shutil.disk_usage(folder).free + kept
    said = f"{_size(left)} are free for {node.state_dir}, and this run takes {_size(needed)}{_whose(subject)}"
    other = "free some space, keep fewer checkpoints (--set keep_checkpoints=2), or choose another state_dir"
    if left < needed:
        yield fail("disk", said, other)
    elif left < 2 * needed:
        yield warn("disk", f"{said}: not twice as much", other)
    else:
        yield ok("disk", said)


def memory(subject: Subject) -> Iterator[Finding]:
    """Compare what the model takes with the memory that is left.

    Args:
        subject: The node; it is not tried to train what does not fit.

    Yields:
        Findings: one for the machine, and one for the device if that has memory of its own.
    """
    import torch

    from paceline.learning.footprint import PROCESS_BYTES, footprint
    from paceline.learning.inner import autocast_dtype, resolve_device

    node = subject.node
    device = resolve_device(node.device)
    halves = autocast_dtype(node.autocast, device) is not None
    need = footprint(_run(subject), node, halves=halves)
    shared = need.shared_bytes + PROCESS_BYTES
    where = f"{need.parameters:,} weights{_whose(subject)}"
    if device.type == "cuda":
        left, _ = torch.cuda.mem_get_info(device)
        taken = need.device_bytes + need.copy_bytes
        yield _fits("memory", f"training {where} takes", taken, left, str(device))
    else:
        shared += need.device_bytes
    machine = available_memory_bytes()
    if machine is None:
        yield ok("memory", f"{where} take some {_size(shared)}; this system does not tell what is free")
    else:
        # A node that runs holds its part already.
        left = machine + (shared if subject.is_running else 0)
        yield _fits("memory", f"{where} take some", shared, left, "this machine")


def average(subject: Subject) -> Iterator[Finding]:
    """Let two peers average through the run's codec, and compare the bits.

    Args:
        subject: The node, whose run tells the codec.

    Yields:
        A finding for each codec that the run needs.
    """
    for codec in _run(subject).codecs:
        yield _averaged(codec)


def _averaged(codec: CodecName) -> Finding:
    from paceline.peer.rehearsal import AVERAGE_ELEMENTS, rehearse_average
    from paceline.peer.rehearsing import mean_digest

    first, second = rehearse_average(codec)
    if not (first.complete and second.complete):
        cause = first.cause or second.cause
        return fail("average", f"two peers on loopback could not average: {cause}", BUNDLE_HINT)
    if first.sha256 != second.sha256 or first.sha256 != mean_digest(codec):
        cause = f"two peers on loopback averaged through {codec} and got a wrong mean"
        return fail("average", cause, "pip install --force-reinstall numpy torch")
    seconds = max(first.seconds, second.seconds)
    said = f"two peers on loopback averaged {AVERAGE_ELEMENTS:,} values through {codec} in {seconds:.1f} s"
    return ok("average", f"{said} and hold the same bits")


def speed(subject: Subject) -> Iterator[Finding]:
    """Take a few inner steps on the node's device, and tell how long a round takes.

    Args:
        subject: The node.

    Yields:
        A finding.
    """
    if any(finding.status == "fail" for finding in memory(subject)):
        cause = "training was not tried: it would not fit the memory"
        yield warn("speed", cause, "see memory above")
        return
    from paceline.peer.rehearsal import rehearse_training

    run = _run(subject)
    done = rehearse_training(run, subject.node)
    if done.loss is None:
        cause = f"the loss is not finite after {done.steps + 1} steps on {done.device}"
        yield fail("speed", cause, "--set autocast=off, or another device")
        return
    tokens = done.samples_per_s * run.model.seq_len
    said = f"{done.samples_per_s:,.1f} samples/s ({tokens:,.0f} tokens/s) on {done.device}{_whose(subject)}"
    said += f"; {run.inner_steps} steps of a round take {_spelled(done.step_s * run.inner_steps)}"
    if subject.is_running:
        said += ", measured beside the running node"
    others = [record.samples_per_s for record in subject.peers if record.samples_per_s > 0]
    if others and done.samples_per_s < _SLOW * median(others):
        cause = f"{said}; the swarm's median peer does {median(others):,.1f} samples/s"
        yield warn(
            "speed", cause, "it takes part with the steps that it gets done; see device and batch_size"
        )
    else:
        yield ok("speed", said)


def _run(subject: Subject) -> RunConfig:
    return subject.run or RunConfig()


def _whose(subject: Subject) -> str:
    return "" if subject.run is not None else " (of the default model: name a run for its own)"


def _fits(check: str, what: str, needed: int, left: int, where: str) -> Finding:
    said = f"{what} {_size(needed)}, and {_size(left)} are free on {where}"
    smaller = "lower batch_size and raise grad_accumulation as much, or end other programs"
    if left < needed:
        return fail(check, said, smaller)
    return warn(check, said, smaller) if left < 1.2 * needed else ok(check, said)


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def _spelled(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
