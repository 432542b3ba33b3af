"""The processes of a rehearsal (`paceline.peer.rehearsal`), each a program of its own.

python -m paceline.peer.rehearsing average FOLDER 0     one of two peers that average
python -m paceline.peer.rehearsing train FOLDER         a few inner steps
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.core.config import NodeConfig, RunConfig
from paceline.core.errors import PacelineError
from paceline.core.events import Event
from paceline.core.tuning import CodecName
from paceline.peer.rehearsal import (
    AVERAGE_ELEMENTS,
    LIMIT_S,
    POLL_S,
    Averaged,
    Start,
    Trained,
    read,
    result_of,
    state_of,
    write,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from paceline.network.dht import PeerDht

WEIGHTS = (1, 3)
"""How much each of the two peers counts."""
_TRAIN_S, _MOST_STEPS, _LEAST_STEPS = 6.0, 20, 3


def mean_digest(name: CodecName) -> str:
    """Work out in one process what both peers must get.

    Args:
        name: How values travel.

    Returns:
        SHA-256 of the mean's bytes.
    """
    import numpy as np

    from paceline.learning.codecs import make_codec

    codec, mean = make_codec(name), np.zeros(AVERAGE_ELEMENTS, np.float32)
    for number, weight in enumerate(WEIGHTS):
        codec.accumulate(codec.encode(values(number)), mean.size, weight / sum(WEIGHTS), mean)
    mean = codec.back.decode(codec.back.encode(mean), mean.size)
    return hashlib.sha256(mean.astype("<f4").tobytes()).hexdigest()


def values(number: int) -> NDArray[np.float32]:
    """Make what a peer brings along.

    Args:
        number: Which of the two.

    Returns:
        float32 `[AVERAGE_ELEMENTS]`.
    """
    # Multiples of 4 below 256: their weighted mean is a whole number, which all codecs of floats hold.
    import numpy as np

    return (np.arange(AVERAGE_ELEMENTS) % (61, 53)[number] * 4).astype(np.float32)


def _average(folder: Path, number: int) -> None:
    from paceline.learning.aggregate import mean_factors, weighted_mean
    from paceline.learning.codecs import make_codec, self_test
    from paceline.network.averager import Averager
    from paceline.network.butterfly import Arithmetic, ReduceOrder
    from paceline.network.dht import PeerDht

    start = read(folder / "start.json", Start)
    codec = make_codec(start.codec)
    self_test(codec)
    dht = PeerDht(
        _address_of_first(folder) if number else (),
        identity_path=str(state_of(folder, number).key),
        host_maddrs=["/ip4/127.0.0.1/tcp/0"],
        nat_port_map=False,
        use_relay=False,
    )
    with dht:
        if not number:
            _publish(folder, dht)
        with Averager(
            dht,
            num_elements=AVERAGE_ELEMENTS,
            arithmetic=Arithmetic(codec, weighted_mean, factors=mean_factors),
            prefix="rehearsal",
        ) as averager:
            averager.buffer[:] = values(number)
            mine = start.places[number]
            weights = (WEIGHTS[number], WEIGHTS[1 - number])
            order = ReduceOrder(
                key="5e" * 32,
                roster=start.roster,
                weights=weights if mine == 0 else weights[::-1],
                start_s=LIMIT_S,
                stall_s=30.0,
                total_s=LIMIT_S,
            )
            outcome = averager.reduce(order)
            digest = hashlib.sha256(averager.buffer.astype("<f4").tobytes()).hexdigest()
            got = Averaged(
                complete=outcome.complete, cause=outcome.cause, sha256=digest, seconds=outcome.seconds
            )
            write(result_of(folder, number), got)
            while not result_of(folder, 1 - number).exists():  # it may still need this one's slice
                time.sleep(POLL_S)


def _publish(folder: Path, dht: PeerDht) -> None:
    (folder / "address.new").write_text(str(dht.get_visible_maddrs()[0]), encoding="utf-8")
    (folder / "address.new").rename(folder / "address")


def _address_of_first(folder: Path) -> tuple[str, ...]:
    while not (folder / "address").exists():  # the checkup ends us when the first one fails
        time.sleep(POLL_S)
    return ((folder / "address").read_text(encoding="utf-8"),)


def _unheard(event: Event) -> None:
    """Nobody follows these steps."""


def _train(folder: Path) -> None:
    from paceline.peer.learner import Learner

    run, node = read(folder / "run.json", RunConfig), read(folder / "node.json", NodeConfig)
    learner = Learner(run, node.model_copy(update={"eval_batches": 0}), "rehearsal")
    learner.begin_round(1)
    result, _ = learner.train(_unheard)  # the first one pays for everybody's preparations
    began, steps, samples = time.monotonic(), 0, 0
    while steps < _LEAST_STEPS or (steps < _MOST_STEPS and time.monotonic() < began + _TRAIN_S):
        result, _ = learner.train(_unheard)
        steps, samples = steps + 1, samples + result.samples
    seconds = time.monotonic() - began
    trained = Trained(
        device=str(learner.device),
        steps=steps,
        samples_per_s=samples / seconds,
        step_s=seconds / steps,
        loss=result.loss,
        peak_bytes=_peak_bytes(),
    )
    write(result_of(folder, 0), trained)


def _peak_bytes() -> int:
    # On Linux `ru_maxrss` begins with what the process that started this one had, also after an exec.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: Sequence[str]) -> None:
    """Rehearse, in a process that the checkup started.

    Args:
        arguments: What follows the module's name on the command line.
    """
    try:
        if arguments[0] == "average":
            _average(Path(arguments[1]), int(arguments[2]))
        else:
            _train(Path(arguments[1]))
    except PacelineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
