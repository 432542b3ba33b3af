"""What there is to see of a swarm at one moment: the one format that page, terminal and report read.

A picture is worked out from signed records, or from the event files and logs of a local run; nothing in it is
anybody's free text but `cause`, which a reader must escape like everything else that came from peers.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from paceline.core.records import Frozen

Standing = Literal["train", "wait", "reduce", "attest", "apply", "repair", "leave", "lost", "finished"]
"""A peer's phase by its own account; `lost` when it is silent for `lease_s`, `finished` after the end."""


class PeerView(Frozen):
    """One peer."""

    peer_id: str
    """Its identity."""
    nickname: str
    """Two words that follow from the identity (`paceline.core.nicknames`)."""
    standing: Standing
    """What it does now."""
    is_coordinator: bool = False
    """Whether it is at the front."""
    is_member: bool = True
    """Whether it is, or was, in a committed roster or founded the run; everybody while no such peer is known.
    What others say of themselves is in no total."""
    round_id: int = 0
    """The round it works on."""
    inner_step: int = 0
    """Inner steps done in that round."""
    samples: int = 0
    """Sequences trained on in that round."""
    samples_per_s: float = 0.0
    """Its recent speed."""
    tokens_per_s: float = 0.0
    """The same in tokens."""
    loss: float | None = None
    """Mean training loss of its round so far, nats per token."""
    val_loss: float | None = None
    """Loss of the last anchor on its held-out data, nats per token."""
    bytes_in: int = 0
    """Bytes of parts received since it started."""
    bytes_out: int = 0
    """Bytes of parts sent since it started."""
    credits: int = 0
    """Sequences that it contributed to committed rounds, as far as they are known here."""
    seen_s: float = 0.0
    """Seconds since something new came from it."""
    metrics_address: str = ""
    """`host:port` that it announces for its metrics."""
    is_reachable: bool | None = None
    """Whether it has proven that it serves that address; None when nobody has asked yet."""


class VoidView(Frozen):
    """An attempt that was given up."""

    term: int
    """Term of its plan."""
    attempt: int
    """Its number within the term."""
    cause: str
    """Why, in one clause."""
    blamed: tuple[str, ...] = ()
    """Peer ids that members held responsible."""


class RoundView(Frozen):
    """One round, committed or in progress."""

    round_id: int
    """The round."""
    committed_at: float | None = None
    """When its commit was first seen, in seconds since 1970; None while it is in progress."""
    author: str = ""
    """Who published the commit."""
    term: int = 0
    """Term of the plan that was averaged."""
    attempt: int = 0
    """Its attempt."""
    members: tuple[str, ...] = ()
    """Peer ids in the average, sorted."""
    samples: tuple[int, ...] = ()
    """What each of them contributed, in the same order."""
    receipts: int = 0
    """Complete, equal receipts seen."""
    avg_loss: float | None = None
    """Training loss over the members, nats per token."""
    val_loss: float | None = None
    """Loss of the new anchor on held-out data, nats per token, averaged over those who told."""
    losses: dict[str, float] = Field(default_factory=dict)
    """Each member's own training loss of the round, nats per token."""
    digest: str = ""
    """Digest of the commit."""
    prev_digest: str = ""
    """Digest of the commit before."""
    weights_digest: str = ""
    """Digest of the anchor after it."""
    voids: tuple[VoidView, ...] = ()
    """Attempts that were given up before."""


class Span(Frozen):
    """A peer spent a stretch of time in one phase."""

    peer_id: str
    """Who."""
    round_id: int
    """In which round."""
    standing: Standing
    """In which phase."""
    begin: float
    """From when on, in seconds since 1970."""
    end: float
    """Until when."""


class Picture(Frozen):
    """A swarm at one moment."""

    run_id: str
    """The run."""
    at: float
    """The moment, in seconds since 1970."""
    is_live: bool
    """False for a replay of what is over."""
    rounds_planned: int
    """Rounds of the whole run."""
    inner_steps: int
    """Inner steps of the round in progress."""
    tokens_per_sample: int
    """Tokens of one sequence."""
    parameters: int
    """Weights of the model."""
    lease_s: float
    """A peer that is silent for so long is lost."""
    coordinator: str = ""
    """Peer id of who is at the front, or nobody."""
    term: int = 0
    """In which term."""
    coordinator_changes: int = 0
    """How often another peer went to the front, since the watch began."""
    peers: tuple[PeerView, ...] = ()
    """Everybody who was seen lately, sorted by peer id."""
    rounds: tuple[RoundView, ...] = ()
    """Rounds in their order, the one in progress last; a reader may ask for the latest ones only."""
    spans: tuple[Span, ...] = ()
    """What everybody did lately, in order of `begin`."""
    rounds_committed: int = 0
    """The last committed round: the height of the chain."""
    attempts_voided: int = 0
    """Attempts given up, since the watch began."""
    last_commit_at: float | None = None
    """When the last commit was first seen, in seconds since 1970."""
    ready_since: float | None = None
    """Since when as many peers are here as the first commit takes, in seconds since 1970; None while fewer
    are, and once it is made."""
    bytes_sent: int = 0
    """Bytes of parts that all members sent, over all that is known."""
    data_parallel_bytes: int = 0
    """What data-parallel training of the same steps would have sent: at each step, for each peer, a ring
    all-reduce of all gradients in float32."""
    quorum_needed: int = 0
    """How many of the last roster it takes to commit the round in progress."""
    quorum_here: int = 0
    """How many of them are here."""
    begin: float | None = None
    """The first moment that is known, in seconds since 1970: when the watch began, or the run in a replay."""
    heard_at: float | None = None
    """When something new last came from anybody, in seconds since 1970; None when nobody has been heard."""
    blind_since: float | None = None
    """Since when the monitor itself is cut off from the network, in seconds since 1970; None while it is not.
    All else is as it was then: of the swarm nothing is known."""
    notice: str = ""
    """What is wrong with the swarm as a whole, in one sentence for people (`paceline.watch.notice`)."""
