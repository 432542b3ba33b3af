"""Facts that a peer emits; sinks render them (`paceline.telemetry`). Nothing parses log lines.

>>> RoundCommitted(round_id=3, loss=2.5, members=4, digest="ab" * 32, sync_s=1.5).name
'RoundCommitted'
"""

from __future__ import annotations

from collections.abc import Callable

from paceline.core.records import Frozen


class Event(Frozen):
    """A fact. Its class name is the event's name."""

    @property
    def name(self) -> str:
        """The event's name in logs and streams."""
        return type(self).__name__


class PeerStarted(Event):
    """The peer is up and reachable."""

    peer_id: str
    """Who."""
    run_id: str
    """Of which run."""
    multiaddrs: tuple[str, ...]
    """Where others reach it."""
    metrics_address: str
    """`host:port` of its Prometheus endpoint."""
    round_id: int
    """The round it starts in."""
    parameters: int
    """Number of weights of the model."""
    device: str
    """Where it trains."""


class StepDone(Event):
    """One inner step."""

    round_id: int
    """The round."""
    inner_step: int
    """Steps done in this round."""
    of_steps: int
    """Steps that the round asks for."""
    loss: float
    """Loss of the step, nats per token."""
    tokens: int
    """Tokens trained on in the step."""
    seconds: float
    """How long it took."""
    ahead: bool = False
    """Whether the round before is still being exchanged."""


class StepSkipped(Event):
    """A step whose loss or gradient was not finite; the weights are as before."""

    round_id: int
    """The round."""
    inner_step: int
    """Steps done in this round."""
    in_a_row: int
    """How many were skipped in a row."""


class WentBackToAnchor(Event):
    """Too many steps were skipped; local weights and inner state start anew from the anchor."""

    round_id: int
    """The round."""


class PhaseChanged(Event):
    """The peer entered another phase of its round."""

    round_id: int
    """The round."""
    phase: str
    """The phase entered (`paceline.core.records.Phase`)."""


class CoordinatorChanged(Event):
    """Another peer leads."""

    term: int
    """The new term."""
    coordinator: str
    """Peer id of its coordinator."""
    is_me: bool
    """Whether that is this peer."""


class RoundPlanned(Event):
    """A roster was named."""

    round_id: int
    """The round."""
    term: int
    """The term."""
    attempt: int
    """The attempt within the term."""
    members: int
    """Length of the roster."""


class ReduceEnded(Event):
    """An all-reduce ended on this peer."""

    round_id: int
    """The round."""
    attempt: int
    """The attempt."""
    complete: bool
    """Whether this peer holds the whole average."""
    seconds: float
    """How long it took."""
    bytes_in: int
    """Bytes of parts received in this attempt."""
    bytes_out: int
    """Bytes of parts sent in this attempt."""
    cause: str = ""
    """Why it failed."""
    blamed: str = ""
    """Peer id held responsible."""


class ResultStaged(Event):
    """The state that an attempt's average would leave is on this peer's disk; its vote follows."""

    round_id: int
    """The round."""
    attempt: int
    """The attempt."""
    seconds: float
    """How long it took to work it out, to hash it and to write it."""


class AttemptVoided(Event):
    """An attempt was given up; the round goes on with another."""

    round_id: int
    """The round."""
    attempt: int
    """The attempt."""
    cause: str
    """Why."""


class RoundCommitted(Event):
    """A round was committed and applied here."""

    round_id: int
    """The round."""
    loss: float
    """Training loss over all members, nats per token."""
    members: int
    """How many peers are in the average."""
    digest: str
    """Digest of the commit."""
    sync_s: float
    """Seconds from the end of this peer's training to the commit applied."""


class Evaluated(Event):
    """The anchor was measured on held-out data."""

    round_id: int
    """The commit measured; 0 is the start."""
    val_loss: float
    """Nats per token."""


class DriftDetected(Event):
    """This peer's weights are not those that the swarm committed; it repairs itself."""

    round_id: int
    """The commit."""
    ours: str
    """Our digest."""
    theirs: str
    """The committed digest."""


class StateFetched(Event):
    """Anchor, momentum and history came from other peers and match the committed digests."""

    round_id: int
    """The commit fetched."""
    size_bytes: int
    """Size of the state."""
    seconds: float
    """How long it took."""
    donors: tuple[str, ...]
    """Who sent it."""


class RepairFailed(Event):
    """State could not be fetched; it is tried again."""

    cause: str
    """Why."""


class QuorumMissing(Event):
    """Too few peers to commit; the peer waits."""

    got: int
    """Peers here."""
    needed: int
    """Peers needed."""


class RoundStalled(Event):
    """Enough peers are here, and yet the round has not ended for long."""

    round_id: int
    """The round."""
    seconds: float
    """How long this peer has waited."""
    term: int
    """The term it is in."""
    coordinator: str
    """Whom it follows."""


class CreditsCounted(Event):
    """The peer's balance after a commit."""

    round_id: int
    """The commit."""
    balance: int
    """Sequences contributed to committed rounds."""


class PeerStopped(Event):
    """The peer left, or the run is finished."""

    round_id: int
    """Last committed round."""
    cause: str
    """`finished`, `asked` or an error."""


class PeerRestarting(Event):
    """The peer ended unexpectedly, and its supervisor is about to start it again."""

    cause: str
    """Why it ended: the signal, or the last error that it told."""
    wait_s: float
    """Seconds until the restart."""
    restarts: int
    """Restarts since the supervisor began, this one included."""


class DonorDropped(Event):
    """Another peer gave no state or history, or gave what did not verify; others are asked instead."""

    peer_id: str
    """Who."""
    cause: str
    """What was wrong."""


class SetAside(Event):
    """Files of this peer that it can't go on with were kept in another folder, and are replaced."""

    cause: str
    """Why."""
    folder: str
    """Where they are now."""


Emit = Callable[[Event], None]
"""A sink, or many behind one."""
