"""All faults, in the order of the table, and the kinds of swarm that they happen to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.nemesis import moments
from tests.nemesis.crowds import less_than_half_killed, more_than_half_killed, power_cut, seed_gone
from tests.nemesis.deaths import coordinator_killed, member_killed, part_killed
from tests.nemesis.disks import disk_full, foreign_folder, history_forked, row_torn
from tests.nemesis.lab_faults import long_partition, partition_in_pieces
from tests.nemesis.networks import DELAY_S, LOSS, PARTED_S, RATE_MBIT, bad_network, partition
from tests.nemesis.paces import joiner, slow_peer
from tests.nemesis.pauses import PAUSE_S, stopped
from tests.nemesis.scene import Scene
from tests.nemesis.stages import LOOPBACK, NETWORK, SHARES, no_small_disk

CLOSED_S = 15.0
"""A round that loses a peer commits with the survivors within so many seconds."""


def _nothing_needed() -> str | None:
    return None


@dataclass(frozen=True)
class Fault:
    """Something bad that may happen to a swarm.

    Attributes:
        name: What one types.
        sentence: What happens.
        promise: What must come out.
        act: Does it, and measures.
        closed_within_s: Figure to reach for the round in progress; None when there is none.
        stage: The kind of swarm it happens to; faults of one stage share a running swarm.
        unavailable: Says why this machine can't do it, or None.
        spoils: Whether the swarm can't be used for another fault afterwards.
    """

    name: str
    sentence: str
    promise: str
    act: Callable[[Scene], None]
    closed_within_s: float | None = CLOSED_S
    stage: str = LOOPBACK
    unavailable: Callable[[], str | None] = _nothing_needed
    spoils: bool = False


_GOES_ON = "the round commits with the survivors; the peer that is started again is back in a roster"
_COMES_BACK = "the round commits with the others; the peer comes back by itself and is back in a roster"


def _deaths() -> list[Fault]:
    struck = {
        "train": moments.TRAIN,
        "plan": moments.PLAN,
        "reduce": moments.REDUCE,
        "attest": moments.ATTEST,
        "commit": moments.COMMIT,
        "apply": moments.APPLY,
    }
    members = {"before": moments.TRAIN, "during": moments.REDUCE, "after": moments.AVERAGED}
    return [
        *(
            Fault(
                f"member-killed-{when}-reduce",
                f"SIGKILL of a member {moment.name}",
                _GOES_ON,
                member_killed(moment),
            )
            for when, moment in members.items()
        ),
        *(
            Fault(
                f"coordinator-killed-in-{phase}",
                f"SIGKILL of the coordinator {moment.name}",
                _GOES_ON,
                coordinator_killed(moment),
            )
            for phase, moment in struck.items()
        ),
        *(
            Fault(
                f"{part.lower()}-killed",
                f"SIGKILL of only the {part} process of a member, in the middle of the all-reduce",
                _COMES_BACK,
                part_killed(part),
            )
            for part in ("p2pd", "DHT", "averager")
        ),
    ]


def _pauses() -> list[Fault]:
    promise = "the others lose at most one attempt; it repairs itself within two rounds, and no part is stale"
    return [
        Fault(
            f"sigstop-in-{phase}",
            f"SIGSTOP of a whole member {moment.name}, SIGCONT {PAUSE_S:.0f} s later",
            promise,
            stopped(moment),
            closed_within_s=None,
        )
        for phase, moment in (("train", moments.TRAIN), ("reduce", moments.REDUCE))
    ]


def _crowds() -> list[Fault]:
    power_back = "all stand on what was on their disks; at most the uncommitted round is trained again"
    return [
        Fault(
            "seed-gone",
            "SIGKILL of the only seed, which is back a while later",
            "rounds go on; who starts meanwhile comes in through the peers that it has met before",
            seed_gone,
        ),
        Fault(
            "minority-killed",
            "SIGKILL of two of five at once, the coordinator among them, in the middle of the all-reduce",
            "the round commits with the survivors, which are a quorum",
            less_than_half_killed,
        ),
        Fault(
            "majority-killed",
            "SIGKILL of three of five at once, the coordinator among them",
            "nothing commits until one of them is back; then the same round does",
            more_than_half_killed,
            closed_within_s=None,
        ),
        Fault(
            "power-cut-in-train",
            "SIGKILL of everybody at once, the seed too, while they train",
            power_back,
            power_cut(moments.TRAIN),
            closed_within_s=None,
        ),
        Fault(
            "power-cut-in-attest",
            "SIGKILL of everybody at once, the seed too, while receipts are collected",
            power_back,
            power_cut(moments.ATTEST),
            closed_within_s=None,
        ),
    ]


def _disks() -> list[Fault]:
    return [
        Fault(
            "disk-full",
            "the disk of a member's folder fills up in a round, and is freed later",
            "it ends with an error that names the disk; the others go on; it is back when there is space",
            disk_full,
            unavailable=no_small_disk,
        ),
        Fault(
            "torn-row",
            "the last row of a stopped member's log is torn",
            "started again, it says so, keeps the old files aside, and repairs itself",
            row_torn,
        ),
        Fault(
            "foreign-folder",
            "a member is started with the log of another run in its folder",
            "it is refused with both runs' names; the log is not touched; the others go on",
            foreign_folder,
        ),
        Fault(
            "forked-log",
            "a peer comes back with a log that is ahead of the swarm and of another past",
            "it says so, keeps the old files aside, and repairs itself; the others go on",
            history_forked,
            spoils=True,
        ),
    ]


def _networks() -> list[Fault]:
    return [
        Fault(
            "bad-network",
            f"{DELAY_S * 1000:.0f} ms delay each way, {LOSS:.0%} loss, {RATE_MBIT:.0f} Mbit/s for every peer",
            "rounds go on committing, only slower",
            bad_network,
            closed_within_s=None,
            stage=NETWORK,
        ),
        Fault(
            "partition",
            f"the network is cut 3 and 2, the coordinator among the two, and heals {PARTED_S:.0f} s later",
            "the three go on, the two commit nothing; healed, they catch up",
            partition,
            stage=NETWORK,
        ),
        Fault(
            "partition-long",
            "the network is cut 3 and 2 for 90 s, the seed among the two",
            "the three go on, the two say that they wait; healed, they catch up within two rounds",
            long_partition,
            stage=NETWORK,
        ),
        Fault(
            "partition-in-pieces",
            "the network is cut 2, 2 and 1 for 60 s",
            "nobody commits, all say so; healed, the same round commits",
            partition_in_pieces,
            closed_within_s=None,
            stage=NETWORK,
        ),
    ]


def _burdens() -> list[Fault]:
    return [
        Fault(
            "joiner",
            "a sixth peer joins",
            "it is in a roster within two rounds; the others' median round grows by less than 10 %",
            joiner,
            closed_within_s=None,
            stage=SHARES,
        ),
        Fault(
            "slow-peer",
            "one peer gets so little of the processor that it trains four times slower than the others",
            "the others' median round grows by at most 30 %; its credit is what it trained",
            slow_peer,
            closed_within_s=None,
            stage=SHARES,
        ),
    ]


FAULTS: tuple[Fault, ...] = (
    *_deaths(),
    *_pauses(),
    *_crowds(),
    *_disks(),
    *_networks(),
    *_burdens(),
)
