"""A checkup of a node: what is right with this machine, this node and its way to the swarm, and what to do.

    for finding in examine(Subject(node, target), checks()):
        print(finding.status, finding.said, finding.remedy)

Each check is a function from the subject to findings; an early one may leave in the subject what later ones
need, such as the run's parameters. A check that breaks is a finding too, and stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

from paceline.core.config import Handout, NodeConfig, RunConfig
from paceline.core.errors import PacelineError
from paceline.core.records import Frozen, PeerRecord
from paceline.peer.folders import StateFolder

_OF_A_RUN = frozenset({"swarm", "reachable", "clock", "recipe"})
Status = Literal["ok", "warn", "fail"]
BUNDLE_HINT = "paceline doctor --bundle report.zip, and attach that to a bug report"


class Finding(Frozen):
    """What one check found."""

    check: str
    """The check's name."""
    status: Status
    """`fail` when a node can't do its work like this, `warn` when it may come to that."""
    said: str
    """What was found, in one sentence."""
    remedy: str = ""
    """What to do about it: a command where there is one."""


class Checkup(Frozen):
    """All that was found, as `paceline doctor --json` prints it."""

    version: str
    """Version of paceline."""
    at: float
    """When it was made, in seconds since 1970."""
    run_id: str = ""
    """The run that the node was examined for, if it is known."""
    healthy: bool
    """Whether nothing failed."""
    findings: tuple[Finding, ...]
    """In the order of the checks."""


@dataclass
class Subject:
    """Who is examined, and what has become known of it.

    Attributes:
        node: The node's configuration.
        target: The run's hand-out, or a multiaddr; None when no run was named.
        run: The run's parameters, once they are known: from the hand-out, the swarm or the node's log.
        peer_id: Who the node is; empty before its first start.
        is_running: Whether the node runs now.
        peers: Heartbeats of the swarm.
        ahead_s: By how many seconds the clocks of others are ahead of this one, by peer id.
        has_joined: Whether the swarm could be reached.
    """

    node: NodeConfig
    target: Handout | str | None = None
    run: RunConfig | None = None
    peer_id: str = ""
    is_running: bool = False
    peers: list[PeerRecord] = field(default_factory=list)
    ahead_s: dict[str, float] = field(default_factory=dict)
    has_joined: bool = False


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        name: What it is called.
        doing: What it does, for whoever waits; empty for one that takes no time.
        look: Finds something, or nothing when the subject gives no reason to look.
    """

    name: str
    doing: str
    look: Callable[[Subject], Iterable[Finding]]


def ok(check: str, said: str) -> Finding:
    """Find nothing wrong.

    Args:
        check: The check.
        said: What was found.

    Returns:
        The finding.
    """
    return Finding(check=check, status="ok", said=said)


def warn(check: str, said: str, remedy: str) -> Finding:
    """Find what may become a trouble.

    Args:
        check: The check.
        said: What was found.
        remedy: What to do about it.

    Returns:
        The finding.
    """
    return Finding(check=check, status="warn", said=said, remedy=remedy)


def fail(check: str, said: str, remedy: str) -> Finding:
    """Find what keeps a node from its work.

    Args:
        check: The check.
        said: What was found.
        remedy: What to do about it.

    Returns:
        The finding.
    """
    return Finding(check=check, status="fail", said=said, remedy=remedy)


def examine(
    subject: Subject, checks: Sequence[Check], begin: Callable[[Check], None] = lambda _: None
) -> Iterator[Finding]:
    """Carry out checks, one after the other.

    Guarantees:
        A check that breaks is a finding and stops no other.

    Args:
        subject: Who is examined.
        checks: What to look at, in this order.
        begin: Told of every check before it begins.

    Yields:
        Findings as they come.
    """
    for check in checks:
        begin(check)
        yield from _looked(check, subject)


def _looked(check: Check, subject: Subject) -> list[Finding]:
    found: list[Finding] = []
    try:
        found += check.look(subject)
    except PacelineError as error:
        found.append(fail(check.name, error.cause, error.remedy))
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        cause = f"it could not be tried: {error}"
        found.append(fail(check.name, cause, f"pip install --force-reinstall {package or 'paceline'}"))
    except Exception as error:  # the next check may be the one that tells why
        cause = f"the check itself broke: {type(error).__name__}: {error}"
        found.append(fail(check.name, cause, BUNDLE_HINT))
    return found


def checks(subject: Subject) -> tuple[Check, ...]:
    """List the checks for a subject in their order: what is quick and what others build on comes first.

    Args:
        subject: Who is to be examined.

    Returns:
        The checks. Nothing heavy is imported before one of them needs it.
    """
    has_log = StateFolder(subject.node.state_dir).log.exists()
    return tuple(
        check
        for check in _all_checks()
        if (check.name != "log" or has_log) and (check.name not in _OF_A_RUN or subject.target is not None)
    )


def _all_checks() -> tuple[Check, ...]:
    return (
        Check("python", "", _from("machine", "python")),
        Check("packages", "", _from("machine", "packages")),
        Check("open files", "", _from("machine", "descriptors")),
        Check("shared memory", "", _from("machine", "shared_memory")),
        Check("identity", "", _from("state", "identity")),
        Check("log", "reads this node's log", _from("state", "log")),
        Check("daemon", "starts the network daemon on loopback", _from("network", "daemon")),
        Check("ports", "", _from("ports", "ports")),
        Check("swarm", "connects to the swarm and listens to its heartbeats", _from("network", "swarm")),
        Check("reachable", "asks others to dial back", _from("network", "reachable")),
        Check("clock", "", _from("network", "clock")),
        Check("recipe", "", _from("training", "recipe")),
        Check("disk", "", _from("training", "disk")),
        Check("memory", "", _from("training", "memory")),
        Check("average", "lets two peers on loopback average", _from("training", "average")),
        Check("speed", "trains a few steps", _from("training", "speed")),
    )


def _from(module: str, name: str) -> Callable[[Subject], Iterable[Finding]]:
    # Imported when it is carried out: a package that is broken then breaks one check, and not the checkup.
    def look(subject: Subject) -> Iterable[Finding]:
        found: Iterable[Finding] = getattr(import_module(f"paceline.peer.checks_{module}"), name)(subject)
        return found

    return look
