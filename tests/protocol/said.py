"""What virtual peers say in the claims of this folder."""

from __future__ import annotations

from paceline.core.config import RunConfig
from paceline.core.records import GlobalState, PeerRecord, Phase, Vote


def heartbeat(
    run: RunConfig,
    head: GlobalState,
    peer_id: str,
    *,
    term: int = 0,
    coordinator: str = "",
    phase: Phase = Phase.WAIT,
    vote: Vote | None = None,
) -> PeerRecord:
    """A peer that has trained its ten steps after this commit, and follows somebody."""
    return PeerRecord(
        run_id=run.run_id,
        peer_id=peer_id,
        seq=1,
        expires_at=1e9,
        round_id=head.round_id + 1,
        head_digest=head.digest(),
        phase=phase,
        inner_step=10,
        samples=80,
        samples_per_s=1.0,
        loss=2.0,
        term=term,
        coordinator=coordinator,
        vote=vote,
    )
