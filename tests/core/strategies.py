"""Values of every record type for property tests."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from paceline.core.config import RunConfig
from paceline.core.records import (
    Ballot,
    CommitRecord,
    CreditRecord,
    GlobalState,
    PeerRecord,
    Phase,
    Record,
    RoundPlan,
    RoundReceipt,
    RunRecord,
    Vote,
    WorkerMetrics,
)
from tests.core.history import peers

few = settings(max_examples=60, deadline=None)
"""For properties whose every example signs, writes or hashes something."""

KEYS = peers(8)
IDS = [key.peer_id for key in KEYS]

counts = st.integers(0, 2**48)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e300)
digests = st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(bytes.hex))
texts = st.text(st.characters(codec="utf-8"), max_size=16)
ids = st.sampled_from(IDS)
rosters = st.lists(ids, min_size=1, unique=True).map(sorted)


def ballots() -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({"term": counts, "attempt": counts})


votes = st.builds(
    Vote,
    round_id=counts,
    term=counts,
    attempt=counts,
    plan_digest=digests,
    weights_digest=digests,
    momentum_digest=digests,
)
states = st.builds(
    GlobalState,
    round_id=counts,
    global_weights=st.dictionaries(texts, st.lists(numbers, max_size=3), max_size=2),
    participating_nodes=st.lists(st.one_of(ids, texts), max_size=5),
    avg_loss=numbers,
    run_id=texts,
    samples=st.lists(counts, max_size=5),
    term=counts,
    attempt=counts,
    plan_digest=digests,
    prev_digest=digests,
    weights_digest=digests,
    momentum_digest=digests,
)
_head = {"run_id": texts, "peer_id": ids, "seq": counts, "expires_at": numbers}


@st.composite
def _plans(draw: st.DrawFn) -> RoundPlan:
    roster = draw(rosters)
    sizes = st.lists(counts, min_size=len(roster), max_size=len(roster))
    adopts = draw(st.none() | votes)
    content = st.fixed_dictionaries(
        {
            **_head,
            "round_id": counts,
            "term": counts,
            "attempt": counts,
            "prev_digest": digests,
            "samples": sizes,
            "avg_loss": numbers,
            "departed": st.lists(ids, max_size=3),
        }
    )
    origin = Ballot(draw(counts), draw(counts)) if adopts is not None else None
    return RoundPlan.model_validate({**draw(content), "roster": roster, "adopts": adopts, "origin": origin})


records: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        PeerRecord,
        **_head,
        round_id=counts,
        head_digest=digests,
        phase=st.sampled_from(Phase),
        inner_step=counts,
        samples=counts,
        samples_per_s=positive,
        loss=numbers,
        term=counts,
        coordinator=st.one_of(st.just(""), ids),
        vote=st.none() | votes,
        boot_id=texts,
        acts=st.booleans(),
        metrics_address=texts,
    ),
    _plans(),
    st.builds(
        RoundReceipt,
        **_head,
        round_id=counts,
        term=counts,
        attempt=counts,
        coordinator=ids,
        plan_digest=digests,
        complete=st.booleans(),
        weights_digest=digests,
        momentum_digest=digests,
        samples=counts,
        loss=numbers,
        blamed=st.one_of(st.just(""), ids),
    ),
    st.builds(
        CommitRecord,
        **_head,
        state=states,
        ballot_term=counts,
        ballot_attempt=counts,
        departed=st.lists(ids, max_size=3).map(tuple),
    ),
    st.builds(
        WorkerMetrics,
        **_head,
        round_id=counts,
        loss=numbers,
        val_loss=st.none() | numbers,
        tokens_per_s=positive,
        train_s=positive,
        sync_s=positive,
        bytes_in=counts,
        bytes_out=counts,
    ),
    st.builds(CreditRecord, **_head, round_id=counts, head_digest=digests, balance=counts),
    st.builds(
        RunRecord, **_head, document=st.integers(0, 2**31 - 1).map(lambda n: RunConfig(seed=n).document())
    ),
)
