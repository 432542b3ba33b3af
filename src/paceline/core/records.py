"""What peers tell one another: small, typed, signed, expiring records.

Every record names the run, its author (`peer_id`), a sequence number that only grows (`seq`) and when it
expires. The pydantic models *are* the wire format; `paceline.core.wire` packs, signs and checks them.

    >>> GlobalState(round_id=0).digest() == GlobalState(round_id=0).digest()
    True
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import msgpack
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from paceline.core.compact import compact
from paceline.core.document import Document
from paceline.core.signing import PeerId
from paceline.core.vectors import Vector, alike

MAX_MEMBERS = 64
"""The longest roster: it must fit a record of 4 KB."""

Count = Annotated[int, Field(ge=0, le=2**48)]
Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(lambda value: value + 0.0)]
"""A number; minus zero becomes zero, since the two are equal and yet pack to different bytes."""
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Phase(StrEnum):
    """Where a peer stands within its round."""

    TRAIN = "train"
    WAIT = "wait"
    REDUCE = "reduce"
    ATTEST = "attest"
    APPLY = "apply"
    REPAIR = "repair"
    LEAVE = "leave"


class Ballot(NamedTuple):
    """Orders the attempts of one round: by term, then by attempt within the term."""

    term: Count
    attempt: Count


class Frozen(BaseModel):
    """Base of everything that crosses a border: immutable, and unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def __copy__(self) -> Self:
        # A changed copy has other digests: what was worked out from the fields stays behind.
        copied = super().__copy__()
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


class Record(Frozen):
    """What every record carries."""

    kind: ClassVar[str]
    lifetime_s: ClassVar[float]

    run_id: Annotated[str, Field(max_length=80)]
    """The run that the record belongs to."""
    peer_id: PeerId
    """Its author, whose signature it must bear."""
    seq: Count
    """Grows with every record of this author and kind; milliseconds since 1970 at the author."""
    expires_at: Finite
    """When it may be forgotten, in seconds since 1970."""


class Vote(Frozen):
    """A member's word that it holds one attempt's result on its disk; never taken back in that ballot."""

    round_id: Count
    """The round voted in."""
    term: Count
    """Term of the ballot."""
    attempt: Count
    """Attempt of the ballot."""
    plan_digest: Digest
    """Digest of the plan whose average this is."""
    weights_digest: Digest
    """Digest of the anchor that the round would leave behind."""
    momentum_digest: Digest
    """Digest of the outer momentum that the round would leave behind."""

    @property
    def ballot(self) -> Ballot:
        """The attempt that this vote belongs to."""
        return Ballot(self.term, self.attempt)


class PeerRecord(Record):
    """A peer's heartbeat: where it stands, whom it follows, what it has promised."""

    kind = "peer"
    lifetime_s = 90.0  # so much may clocks differ; who is alive is judged by `lease_s`

    round_id: Count
    """The round it works on: one more than its last commit."""
    head_digest: Digest
    """Digest of its last commit."""
    phase: Phase
    """What it does right now."""
    inner_step: Count
    """Inner steps done in this round."""
    samples: Count
    """Sequences trained on in this round."""
    samples_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Its recent speed."""
    loss: Finite
    """Mean training loss of this round so far, nats per token."""
    term: Count
    """The coordinator's term it is in: a promise never to vote in an earlier one."""
    coordinator: PeerId | Literal[""]
    """Whom it follows in that term."""
    vote: Vote | None = None
    """Its latest vote in this round."""
    boot_id: Annotated[str, Field(max_length=16)] = ""
    """Random per start: tells two processes with one identity apart."""
    acts: bool = False
    """Whether the author coordinates and sees a quorum that follows it."""
    metrics_address: Annotated[str, Field(max_length=80)] = ""
    """`host:port` of its Prometheus endpoint, or empty."""


class RoundPlan(Record):
    """The coordinator's order for one attempt: exactly these members, with exactly these weights."""

    kind = "plan"
    lifetime_s = 600.0

    round_id: Count
    """The round to be committed."""
    term: Count
    """The coordinator's term."""
    attempt: Count
    """Counts the attempts within the term."""
    prev_digest: Digest
    """The commit that every member must stand on."""
    roster: Annotated[tuple[PeerId, ...], Field(min_length=1, max_length=MAX_MEMBERS)]
    """The members, sorted by peer id."""
    samples: Annotated[tuple[Count, ...], Field(min_length=1, max_length=MAX_MEMBERS)]
    """Each member's weight in the average: sequences trained on, as the coordinator saw them."""
    avg_loss: Finite
    """Training loss over the members, weighted by samples."""
    departed: Annotated[tuple[PeerId, ...], Field(max_length=MAX_MEMBERS)] = ()
    """Members of the last roster that don't count for this ballot's quorum: they are gone for good."""
    adopts: Vote | None = None
    """Set when this attempt averages nothing and only finishes an earlier one, whose plan it repeats."""
    origin: Ballot | None = None
    """With `adopts`: the ballot in which that plan was made."""

    @model_validator(mode="after")
    def _roster_in_order(self) -> RoundPlan:
        if list(self.roster) != sorted(set(self.roster)) or len(self.roster) != len(self.samples):
            raise ValueError("a roster is sorted, names nobody twice, and gives samples for each")
        return self

    @property
    def ballot(self) -> Ballot:
        """The attempt that this plan opens."""
        return Ballot(self.term, self.attempt)

    def digest(self) -> str:
        """Identify what is averaged, whoever repeats the plan later.

        Returns:
            SHA-256 over what the average depends on; for an adopting plan, that of the plan it adopts.
        """
        return self._digest_once

    @cached_property
    def _digest_once(self) -> str:
        return _plan_digest(self, self.origin or self.ballot, self.roster)


class RoundReceipt(Record):
    """What a member says it got from an attempt. With digests it is the member's vote, signed."""

    kind = "receipt"
    lifetime_s = 1800.0

    round_id: Count
    """The round."""
    term: Count
    """Term of the attempt."""
    attempt: Count
    """The attempt."""
    coordinator: PeerId
    """Author of the plan followed: nobody else may commit this attempt."""
    departed: Annotated[tuple[PeerId, ...], Field(max_length=MAX_MEMBERS)] = ()
    """Whom that plan does not count; the author has not seen them for as long either."""
    plan_digest: Digest
    """Digest of the plan followed."""
    complete: bool
    """Whether the author holds the whole result, on its disk."""
    weights_digest: Digest = ""
    """Digest of the next anchor; empty when the author got nothing."""
    momentum_digest: Digest = ""
    """Digest of the next outer momentum."""
    samples: Count = 0
    """Sequences that the author trained on."""
    loss: Finite = 0.0
    """Its mean training loss, nats per token."""
    blamed: PeerId | Literal[""] = ""
    """Who it holds responsible when the attempt failed."""

    @property
    def ballot(self) -> Ballot:
        """The attempt that this receipt is for."""
        return Ballot(self.term, self.attempt)

    def vote(self) -> Vote | None:
        """Read the receipt as a vote.

        Returns:
            The vote, or None when the author got nothing.
        """
        if not self.complete:
            return None
        return Vote(
            round_id=self.round_id,
            term=self.term,
            attempt=self.attempt,
            plan_digest=self.plan_digest,
            weights_digest=self.weights_digest,
            momentum_digest=self.momentum_digest,
        )


class GlobalState(Frozen):
    """A committed round: one link of the hash chain. Equal for every peer, whoever published it."""

    round_id: Count
    """The round; 0 is the beginning."""
    global_weights: dict[str, Vector] = Field(default_factory=dict)
    """Averaged vectors by parameter name; always empty in a swarm, where weights travel by digest."""
    participating_nodes: list[str] = Field(default_factory=list)
    """Whose training is in this round's average; in a swarm peer ids, sorted."""
    avg_loss: Finite = 0.0
    """Their mean training loss; in a swarm weighted by samples, nats per token."""
    run_id: str = ""
    """The run."""
    samples: list[Count] = Field(default_factory=list)
    """Sequences that each participating node contributed, in the same order."""
    term: Count = 0
    """Term of the plan that was averaged."""
    attempt: Count = 0
    """Attempt of the plan that was averaged."""
    plan_digest: Digest = ""
    """Digest of that plan."""
    prev_digest: Digest = ""
    """Digest of the commit before."""
    weights_digest: Digest = ""
    """Digest of the anchor after this round (`paceline.core.digest`); in a session, of the averages."""
    momentum_digest: Digest = ""
    """Digest of the outer momentum after this round."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GlobalState) and alike(self, other)

    __hash__ = None  # type: ignore[assignment]  # no state was ever hashable: it holds lists

    def digest(self) -> str:
        """Identify this commit.

        Returns:
            SHA-256 over the canonical packing of all fields: the `prev_digest` of the next round.
        """
        return self._digest_once

    @cached_property
    def _digest_once(self) -> str:
        return _digest(self.model_dump())

    def averaged_plan_digest(self) -> str:
        """Work out which plan leads to this commit.

        Receipts vote for a plan by its digest; only a commit whose content gives it again is voted for.

        Returns:
            What `RoundPlan.digest` gives for the plan with this commit's content.
        """
        return self._averaged_plan_digest_once

    def samples_of(self, peer_id: str) -> int:
        """Tell a peer's part in the round.

        Args:
            peer_id: Whose.

        Returns:
            Its sequences; 0 too when it was a member without weight: then nothing of it is in the average.
        """
        return dict(zip(self.participating_nodes, self.samples, strict=False)).get(peer_id, 0)

    @cached_property
    def _averaged_plan_digest_once(self) -> str:
        return _plan_digest(self, Ballot(self.term, self.attempt), self.participating_nodes)


class CommitRecord(Record):
    """A committed round as the coordinator publishes it, with the ballot whose receipts back it."""

    kind = "commit"
    lifetime_s = 1800.0

    state: GlobalState
    """The commit itself."""
    ballot_term: Count
    """Term of the receipts that back it; later than `state.term` when the round was finished by another."""
    ballot_attempt: Count
    """Attempt of the receipts that back it."""
    departed: Annotated[tuple[PeerId, ...], Field(max_length=MAX_MEMBERS)] = ()
    """Members of the last roster that did not count for that ballot's quorum."""

    @property
    def ballot(self) -> Ballot:
        """The attempt whose receipts back this commit."""
        return Ballot(self.ballot_term, self.ballot_attempt)


class WorkerMetrics(Record):
    """How a peer's last round went."""

    kind = "metrics"
    lifetime_s = 600.0

    round_id: Count
    """The round that ended."""
    loss: Finite
    """Its mean training loss, nats per token."""
    val_loss: Finite | None = None
    """Loss of the new anchor on the peer's held-out data, nats per token."""
    tokens_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Training speed over the round's inner steps."""
    train_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds spent on inner steps."""
    sync_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds from the end of training to the commit applied."""
    bytes_in: Count = 0
    """Bytes of parts received since the peer started."""
    bytes_out: Count = 0
    """Bytes of parts sent since the peer started."""


class CreditRecord(Record):
    """A peer's own balance, for show: the truth is the fold over the chain."""

    kind = "credits"
    lifetime_s = 600.0

    round_id: Count
    """The commit up to which the balance was counted."""
    head_digest: Digest
    """That commit's digest."""
    balance: Count
    """Sequences that the author contributed to committed rounds."""


class RunRecord(Record):
    """The run's canonical document, so that one multiaddr is enough to join."""

    kind = "run"
    lifetime_s = 1800.0

    document: Document
    """Canonical JSON of a `RunConfig`; sealed as a map, in which the founders' peer ids are compact."""


RECORD_TYPES: dict[str, type[Record]] = {
    record.kind: record
    for record in (PeerRecord, RoundPlan, RoundReceipt, CommitRecord, WorkerMetrics, CreditRecord, RunRecord)
}


def _plan_digest(source: RoundPlan | GlobalState, ballot: Ballot, members: Sequence[str]) -> str:
    place = (source.run_id, source.round_id, *ballot, source.prev_digest)
    return _digest([*place, members, source.samples, source.avg_loss])


def _digest(content: Any) -> str:
    return hashlib.sha256(msgpack.packb(compact(content))).hexdigest()
