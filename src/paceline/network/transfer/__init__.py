"""State and history between peers, over libp2p streams of our own.

A commit pins the digests of the state it leaves behind, so a joiner, or a peer that has drifted, takes that
state from several donors at once and trusts none of them. `StateServer` gives, `fetch_state` and
`fetch_history` take; `paceline.network.transfer.protocol` says what travels.
"""

from paceline.network.transfer.donor import ServeLimits, StateServer
from paceline.network.transfer.fetcher import fetch_history, fetch_state
from paceline.network.transfer.library import Library, StateFile
from paceline.network.transfer.terms import (
    FetchedHistory,
    FetchOutcome,
    HistoryWant,
    StateWant,
    TransferLimits,
)

__all__ = [
    "FetchOutcome",
    "FetchedHistory",
    "HistoryWant",
    "Library",
    "ServeLimits",
    "StateFile",
    "StateServer",
    "StateWant",
    "TransferLimits",
    "fetch_history",
    "fetch_state",
]
