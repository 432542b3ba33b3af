"""Where pictures of a run come from: a live swarm is watched, what is left of one is played back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.core.errors import ConfigError

if TYPE_CHECKING:
    from paceline.watch.source import Source


@contextmanager
def source_of(target: str, history: Path | None = None) -> Iterator[Source]:
    """Watch a run, or open what is left of it.

    Args:
        target: A `run.json`, a seed's multiaddr or the folder of a local run that goes on is watched; the
            folder of one that is over, a node's folder, a log or a monitor's history is played back.
        history: Where a watch keeps what it sees; in memory when left out.

    Yields:
        The source; use it in the main thread's block, since a watch forks.

    Raises:
        ConfigError: It is none of these, or a history was asked for of what is over.
        JoinError: The swarm could not be reached.
        LedgerError: The log or the history is damaged.
    """
    from paceline.cli.targets import names_a_run, run_target

    path = Path(target)
    if names_a_run(target) or _goes_on(path):
        run = run_target(target)
        from paceline.watch.watcher import Watcher  # heavy: after everything that may be refused

        with Watcher(run, history) as watcher:
            yield watcher
        return
    if history is not None and path.exists():
        raise ConfigError(f"{target} is over: there is nothing to keep a history of", "leave --history out")
    from paceline.watch.replay import Replay

    with closing(Replay.open(path)) as replay:
        yield replay


def _goes_on(path: Path) -> bool:
    # A hand-out without logs beside it, or the folder of a local run of which a process is alive.
    from paceline.peer.folders import RunFolder

    folder = RunFolder(path)
    if not folder.handout.is_file():
        return False
    if not folder.logs():
        return True
    from paceline.core.errors import IdentityInUse
    from paceline.network.identity import hold

    for key in sorted(path.glob("*/identity.key")):
        try:
            with hold(key, patience_s=0.0):
                pass
        except IdentityInUse:
            return True
        except OSError:  # somebody else's folder, or an archive
            return False
    return False
