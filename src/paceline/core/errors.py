"""The one tree of errors: each names its cause and its remedy.

Libraries raise these; only the command line turns them into exit codes.

    >>> str(ProcessDied("averager"))
    "this peer's averager process died; start the peer again; its state is on disk"
"""

from __future__ import annotations

from typing import Any


class PacelineError(Exception):
    """Anything that paceline itself reports.

    Attributes:
        cause: What was found, in one clause.
        remedy: What the reader can do about it.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = cause
        self.remedy = remedy
        super().__init__(f"{cause}; {remedy}" if remedy else cause)

    def __reduce__(self) -> tuple[Any, ...]:
        # The usual way calls the class with the finished text: an error that crosses to another process would
        # lose what else it says, or fail to arrive.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[PacelineError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PacelineError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class BadPayload(PacelineError, ValueError):
    """Bytes that no codec makes of finite values, or values that none can carry."""


class NotFinite(PacelineError, ValueError):
    """An average that would leave weights or momentum infinite, or no number."""


class ConfigError(PacelineError):
    """A configuration file, or a `--set`, that can't be used."""


class IdentityError(PacelineError):
    """A peer's key is unreadable, malformed, or in use by a live peer."""


class IdentityInUse(IdentityError):
    """Another process on this machine holds the identity.

    Attributes:
        holder: Which process, such as `pid 123`.
    """

    def __init__(self, cause: str, remedy: str, holder: str) -> None:
        self.holder = holder
        super().__init__(cause, remedy)


class JoinError(PacelineError):
    """The swarm could not be joined."""


class SeedsUnreachable(JoinError):
    """None of the bootstrap addresses answered."""

    def __init__(self, tried: list[str], seconds: float) -> None:
        self.tried = tried
        super().__init__(
            f"no seed answered within {seconds:.0f} s (tried {', '.join(tried)})",
            "check that a seed runs, that its address and port are right and that no firewall is between",
        )


class RunMismatch(JoinError):
    """The swarm behind the seeds trains another run than the one asked for."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__(
            f"this run's digest is {ours}, the swarm's is {theirs}",
            "take the run.json of the swarm you want to join, or other seeds",
        )


class SwarmStalled(PacelineError):
    """A swarm that did not get where its watcher waited for it, or has ended before."""


class RecordRejected(PacelineError):
    """A record from the network that failed a check.

    Attributes:
        reason: A short label from `paceline.core.wire.REASONS`, fit for a metric.
    """

    def __init__(self, reason: str, cause: str) -> None:
        self.reason = reason
        super().__init__(cause, "drop it")


class TransferFailed(PacelineError):
    """State or history could not be fetched, or what came did not match its digest."""


class CheckpointError(PacelineError):
    """A checkpoint that is truncated, edited or of another model."""


class LedgerError(PacelineError):
    """A run log that can't be opened, or that does not verify."""


class DamagedLog(LedgerError):
    """A run log whose content is not what was written to it (`paceline.ledger.damage`)."""


class UnusableState(LedgerError):
    """A state folder with which a peer can't go on: its operator has to choose another."""


class ForeignLog(UnusableState):
    """A state folder that belongs to another run."""

    def __init__(self, path: str, theirs: str, ours: str) -> None:
        super().__init__(
            f"{path} is the log of run {theirs}, not of {ours}", "choose another `state_dir` for this run"
        )


class HistoryBroken(LedgerError):
    """A history that does not verify: names the round and the first thing that is wrong.

    Attributes:
        where: The place, such as `round 3`.
        what: What is wrong there.
    """

    def __init__(self, where: str, what: str) -> None:
        self.where, self.what = where, what
        super().__init__(
            f"{where}: {what}", "take the history of another peer; this one is not what the swarm agreed on"
        )


class HistoryForked(LedgerError):
    """A peer's history and the swarm's part, and no quorum is seen on theirs."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause, "it is kept until a quorum of the last common roster is seen on the other")


class LeftFork(PacelineError):
    """A peer has given up its own branch of a forked history, and must start anew on the swarm's."""

    def __init__(self, after_round: int) -> None:
        super().__init__(
            f"this peer's history was not the swarm's after round {after_round}; its own is kept aside",
            "start the peer again; it takes the rest from the others",
        )


class ProcessDied(PacelineError):
    """One of a peer's own child processes ended unexpectedly."""

    def __init__(self, which: str) -> None:
        super().__init__(f"this peer's {which} process died", "start the peer again; its state is on disk")
