"""The peers of a local swarm as a coordinator sees them: who is up, who stands where, who is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from paceline.core.events import Evaluated, Event, PeerStarted, PeerStopped, RoundCommitted, StateFetched
from paceline.federation.models import FederatedNode

_FINAL = ("finished", "asked")


class Crew:
    """What the peers' own events tell, and what is known of their processes.

    Attributes:
        val_losses: Loss on held-out data by round, nats per token, as the first peer that measured it tells.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Nobody is up yet.

        Args:
            names: What the peers are called, in their order.
        """
        self.val_losses: dict[int, float] = {}
        self._names = tuple(names)
        self._started: dict[str, PeerStarted] = {}
        self._ended: dict[str, str] = {}
        self._heights: dict[str, int] = {}

    def take(self, name: str, event: Event) -> None:
        """Note what a peer told.

        Args:
            name: What the peer is called.
            event: What happened to it.
        """
        match event:
            case PeerStarted():
                self._started[name] = event
                self._ended.pop(name, None)
            case PeerStopped() if event.cause in _FINAL:
                self._ended[name] = "" if event.cause == "finished" else "asked to leave"
            case RoundCommitted() | StateFetched():
                self._heights[name] = max(event.round_id, self._heights.get(name, 0))
            case Evaluated():
                self.val_losses.setdefault(event.round_id, event.val_loss)
            case _:
                pass

    def end(self, name: str, reason: str) -> None:
        """Note that a peer's process is gone, and nobody starts it again.

        Args:
            name: What the peer is called.
            reason: Why; empty for one that finished.
        """
        self._ended[name] = reason or self._ended.get(name, "")

    def node_id(self, name: str) -> str:
        """Name a peer by its id.

        Args:
            name: What it is called.

        Returns:
            Its peer id; what it is called as long as it has never been up.
        """
        return self._started[name].peer_id if name in self._started else name

    def nodes(self) -> list[FederatedNode]:
        """Describe all who have been up.

        Returns:
            Them, in their order.
        """
        return [self._node(name, self._started[name]) for name in self._names if name in self._started]

    def ended(self) -> dict[str, str]:
        """Tell who is gone for good.

        Returns:
            Reason by node id, empty for one that finished.
        """
        return {self.node_id(name): reason for name, reason in self._ended.items()}

    def all_ended(self) -> bool:
        """Tell whether nobody is left.

        Returns:
            Whether all are gone for good.
        """
        return self._ended.keys() >= set(self._names)

    def missing(self) -> list[str]:
        """Tell who has never been up.

        Returns:
            What they are called.
        """
        return [name for name in self._names if name not in self._started]

    def stillborn(self) -> str:
        """Look for a peer that ended before it was ever up.

        Returns:
            The first one and its reason, in one clause; empty when there is none.
        """
        gone = [name for name in self.missing() if name in self._ended]
        return f"{gone[0]} ended: {self._ended[gone[0]] or 'no reason given'}" if gone else ""

    def away(self, node_ids: Sequence[str], round_id: int) -> list[str]:
        """Tell who is to be waited for.

        Args:
            node_ids: Who is wanted; strangers are nobody.
            round_id: Where they are to be.

        Returns:
            Ids of those who are not gone for good, and have neither committed this round, or a later one, nor
            fetched its state.
        """
        wanted = [name for name in self._started if self.node_id(name) in node_ids]
        behind = [name for name in wanted if self._heights.get(name, 0) < round_id]
        return [self.node_id(name) for name in behind if name not in self._ended]

    def awaits_evaluation(self, round_id: int) -> bool:
        """Tell whether a round's evaluation is still to come.

        Args:
            round_id: The round.

        Returns:
            False when it is there, when the peers evaluate nothing, and when nobody is left to do it.
        """
        evaluates = bool(self.val_losses)  # the first one comes before the first round
        return evaluates and round_id not in self.val_losses and not self.all_ended()

    def _node(self, name: str, started: PeerStarted) -> FederatedNode:
        return FederatedNode(
            node_id=started.peer_id,
            address=started.multiaddrs[0] if started.multiaddrs else name,
            capabilities={
                "name": name,
                "device": started.device,
                "parameters": started.parameters,
                "metrics_address": started.metrics_address,
            },
            status=self._status(name),
        )

    def _status(self, name: str) -> Literal["training", "done", "failed"]:
        if name not in self._ended:
            return "training"
        return "failed" if self._ended[name] else "done"
