"""All that is seen of a local swarm: its processes, its peers' events, and what it commits."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from paceline.core.config import SwarmConfig
from paceline.core.events import Event
from paceline.federation.crew import Crew
from paceline.federation.following import Follower
from paceline.peer.folders import RunFolder
from paceline.peer.swarm import LocalSwarm

_POLL_S = 0.2
_LEAVE_S = 60.0


class Watch:
    """Looks after a swarm, and at it.

    Attributes:
        folder: The run's folder.
        local: Its processes. Where they are somebody else's, none is started through this.
        crew: Its peers.
        follower: What they commit.
    """

    def __init__(self, folder: RunFolder, swarm: SwarmConfig) -> None:
        """Prepare; nothing is started or read yet, but a folder for what is followed is made in the run's.

        Args:
            folder: The run's folder.
            swarm: What runs there.
        """
        states = [folder.peer(number) for number in range(1, swarm.peers + 1)]
        self.folder = folder
        self.local = LocalSwarm(folder, swarm.node, swarm.peers)
        self.crew = Crew(self.local.names)
        self.follower = Follower(
            swarm.run, states, Path(tempfile.mkdtemp(prefix=".followed-", dir=folder.path))
        )

    def look(self) -> list[tuple[str, Event]]:
        """See what is new, and start the seed again if it has ended.

        Returns:
            What the peers told: names and events, ordered by time.
        """
        self.local.keep_seed()
        ends = self.local.ends()  # before the news: a peer's last events are older than its end
        news = [(name, told.event) for name, told in self.local.news()]
        for name, event in news:
            self.crew.take(name, event)
        for end in ends:
            self.crew.end(end.name, end.reason)
        self.follower.look()
        return news

    def end(self) -> None:
        """End the processes that were started: in order, and at once where that takes too long."""
        self.follower.close()
        with self.local as local:
            local.ask_to_leave()
            deadline = time.monotonic() + _LEAVE_S
            while local.running() and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            local.stop_seed()
