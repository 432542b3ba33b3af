"""The local weights of one peer, and what an exchange does to them.

    Δ_p = θ_p − s_p                     with s_p = x_p as it was when the fragment p was sent
    x_p ← θ_p + (x_p − s_p)             "drift": keeps what was learned since
    x_p ← (x_p + θ_p) / 2               "mix"

as in Streaming DiLoCo (arXiv 2501.18512), with θ the anchor and x the local weights. Where training waits for
an exchange, nothing is learned since, and x_p ← θ_p: that is plain DiLoCo.

While a fragment that was sent has not come back, its s_p is kept, so that another attempt sends the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn

from paceline.learning.flat import Flat, FlatView, check_flat
from paceline.learning.fragments import Fragment


class LocalWeights:
    """A model's weights, seen as fragments that are sent and come back.

    Guarantees:
        What is sent again is what was sent.
        A fragment that comes back touches no other.
    """

    def __init__(
        self,
        model: nn.Module,
        fragments: Sequence[Fragment],
        *,
        keeps_sent: bool,
        apply: Literal["drift", "mix"] = "drift",
    ) -> None:
        """Watch a model.

        Args:
            model: The model, where it is trained.
            fragments: How it is cut.
            keeps_sent: Whether training goes on while a fragment is exchanged; takes 4 bytes for each value
                of the largest fragment.
            apply: What becomes of the local weights when a fragment comes back.
        """
        self.view = FlatView(model)
        self._parts = [_Part(fragment, model) for fragment in fragments]
        size = max(fragment.num_elements for fragment in fragments) if keeps_sent else 0
        self._room = np.empty(size, np.float32)
        self._apply = apply
        self._sent: int | None = None
        self._is_moved = False

    @property
    def has_sent(self) -> bool:
        """Whether a fragment was sent and has not come back."""
        return self._sent is not None

    def stand_on(self, anchor: Flat) -> None:
        """Take the anchor everywhere, and forget what was sent.

        Args:
            anchor: float32 `[num_whole]`.
        """
        self.view.write(anchor)
        self._sent = None

    def go_back(self, anchor: Flat) -> None:
        """Take the anchor everywhere while something may be under way: what was learned since was bad.

        Args:
            anchor: float32 `[num_whole]`.
        """
        self.view.write(anchor)
        self._is_moved = True

    def send(self, fragment: int) -> None:
        """Keep a fragment as it is now.

        Args:
            fragment: Which.
        """
        part = self._parts[fragment]
        part.view.read(self._room[: part.fragment.num_elements])
        self._sent, self._is_moved = fragment, False

    def forget_sent(self) -> None:
        """Go on as if nothing had been sent."""
        self._sent = None

    def pseudo_gradient(self, fragment: int, anchor: Flat, out: Flat) -> None:
        """Compute anchor − local weights of a fragment: as they were when it was sent, or else as they are.

        Args:
            fragment: Which.
            anchor: float32 `[num_whole]`.
            out: float32 `[num_elements]` of the fragment, overwritten; must not overlap the anchor.

        Raises:
            ValueError: The two vectors overlap, or one has the wrong type or size.
        """
        part = self._parts[fragment]
        check_flat(out, part.fragment.num_elements)
        check_flat(anchor, part.fragment.num_whole)
        if np.may_share_memory(anchor, out):
            raise ValueError("the pseudo-gradient would overwrite the anchor")
        if self._sent == fragment:
            sent = self._room
        else:
            part.view.read(out)
            sent = out
        for there, here in part.fragment.pieces():
            np.subtract(anchor[there], sent[here], out=out[here])

    @torch.no_grad()
    def take_back(self, fragment: int, anchor: Flat) -> None:
        """Take over a fragment's new anchor; what was learned since it was sent is kept as configured.

        Args:
            fragment: Which.
            anchor: float32 `[num_whole]`, with the fragment's new values.
        """
        part = self._parts[fragment]
        learned = self._sent == fragment and not self._is_moved
        sent = part.view.named(self._room[: part.fragment.num_elements]) if learned else {}
        agreed = self.view.named(anchor)
        for name, parameter in part.parameters.items():
            new = _on(parameter, agreed[name])
            if name not in sent:
                parameter.copy_(new)
            elif self._apply == "drift":
                parameter.sub_(_on(parameter, sent[name])).add_(new)
            else:
                parameter.mul_(0.5).add_(new.mul(0.5))
        self._sent = None


class _Part:
    # One fragment of a living model.
    def __init__(self, fragment: Fragment, model: nn.Module) -> None:
        named = dict(model.named_parameters())
        self.fragment = fragment
        self.parameters = {name: named[name].detach() for name in fragment.names}
        self.view = FlatView(model, fragment.names)


def _on(parameter: torch.Tensor, values: Flat) -> torch.Tensor:
    return torch.from_numpy(values).to(parameter.device)
