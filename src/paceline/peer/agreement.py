"""Whether several run logs hold one history."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from paceline.core.errors import HistoryBroken
from paceline.core.records import CommitRecord
from paceline.core.wire import unseal
from paceline.ledger import LogReader, VerifiedLog


def check_same_chain(logs: Mapping[Path, VerifiedLog]) -> None:
    """Check that every log holds the same chain, as far as it goes.

    Two logs agree when the shorter one's head is what the longer one's next commit follows: each commit
    names the digest of the one before it.

    Args:
        logs: Verified logs by their paths.

    Raises:
        HistoryBroken: Names a log that holds another history than the longest one.
    """
    if not logs:
        return
    longest = max(logs, key=lambda path: logs[path].rounds)
    with closing(LogReader(longest)) as reader:
        for path, log in logs.items():
            if log.head_digest != _digest_at(reader, log.rounds, logs[longest]):
                raise HistoryBroken(f"{path}, round {log.rounds}", f"its chain is not that of {longest}")


def _digest_at(reader: LogReader, round_id: int, log: VerifiedLog) -> str:
    if round_id == log.rounds:
        return log.head_digest
    commit = unseal(reader.links(round_id, 1)[0].commit)
    assert isinstance(commit, CommitRecord)  # the log has been verified
    return commit.state.prev_digest
