"""What a person wants to know first: does the swarm learn, and if not, what is to be done. Pure.

The dashboard says the same in its own language (`web/page/verdict.js`): change both, or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from paceline.core.nicknames import named
from paceline.watch.picture import PeerView, Picture, RoundView
from paceline.watch.stall import is_here, stalled_after_s, typical_round_s, waited_s

Tone = Literal["good", "calm", "watch", "bad", "over"]
_LOOK_BACK = 5
_UNCHANGED, _BAD = 0.001, 0.05


class Verdict(NamedTuple):
    """How a swarm is.

    Attributes:
        tone: How to feel about it.
        word: In a word or two.
        detail: The number behind it.
        advice: What to do, or what explains it; may be empty.
    """

    tone: Tone
    word: str
    detail: str
    advice: str


class _Trend(NamedTuple):
    name: str
    value: float
    change: float | None
    rounds: int


def verdict(picture: Picture) -> Verdict:
    """Say how a swarm is.

    Args:
        picture: The swarm as it stands.

    Returns:
        The verdict. It repeats causes that came from peers: escape it like everything else.
    """
    if 0 < picture.rounds_planned <= picture.rounds_committed:
        loss = _trend(picture)
        end = f", {loss.name} {loss.value:.3f}" if loss else ""
        return Verdict("over", "Finished", f"all {_plural(picture.rounds_committed, 'round')}{end}", "")
    if not picture.is_live:
        done = f"{picture.rounds_committed} of {_plural(picture.rounds_planned, 'round')}"
        return Verdict("over", "Ended", f"{done} committed", _lost_words(picture))
    if picture.blind_since is not None:
        again = "It connects again by itself; what is shown is what it saw last."
        return Verdict("watch", "The monitor is blind", "it is cut off from the network itself", again)
    if not _here(picture):
        return _nobody(picture)
    if picture.quorum_here < picture.quorum_needed:
        return _no_quorum(picture)
    waited = waited_s(picture)
    if waited is not None and waited > stalled_after_s(picture):
        typical_s = typical_round_s(picture)
        takes = f", a round takes {duration(typical_s)}" if typical_s else ""
        detail = f"no commit for {duration(waited)}{takes}"
        return Verdict("bad", "Stalled", detail, _stalled(picture))
    return _learning(picture)


def duration(seconds: float) -> str:
    """Spell a length of time.

    Args:
        seconds: How long; nothing below 0.

    Returns:
        Such as `4.5 s`, `12 min`, `3 h 20 min`.
    """
    seconds = max(0.0, seconds)
    if seconds < 180:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def _here(picture: Picture) -> list[PeerView]:
    return [peer for peer in picture.peers if is_here(peer)]


def _committed(picture: Picture) -> list[RoundView]:
    return [view for view in picture.rounds if view.committed_at is not None]


def _trend(picture: Picture) -> _Trend | None:
    # Validation where it is measured, training otherwise.
    rounds = _committed(picture)
    if not rounds:
        return None
    is_measured = rounds[-1].val_loss is not None
    losses = [(view.round_id, view.val_loss if is_measured else view.avg_loss) for view in rounds]
    known = [(round_id, loss) for round_id, loss in losses if loss is not None][-_LOOK_BACK - 1 :]
    if not known:
        return None
    (first_round, first), (last_round, last) = known[0], known[-1]
    change = last / first - 1 if len(known) > 1 and first > 0 else None
    name = "validation loss" if is_measured else "training loss"
    return _Trend(name, last, change, last_round - first_round)


def _learning(picture: Picture) -> Verdict:
    loss, lost = _trend(picture), _lost_words(picture)
    advice = f"{lost} The others go on." if lost else ""
    if loss is None:
        here = _here(picture)
        done = sum(peer.inner_step for peer in here) / max(1, len(here) * picture.inner_steps)
        detail = f"{_plural(len(here), 'peer')}, {min(1.0, done):.0%} of the steps done"
        return Verdict("calm", "On the first round", detail, advice)
    value, over = f"{loss.name} {loss.value:.3f}", f"over {_plural(loss.rounds, 'round')}"
    if loss.change is None:
        return Verdict("good", "Begun", f"{value} after the first measured round", advice)
    amount = f"{abs(loss.change):.1%}" if abs(loss.change) < 0.0995 else f"{abs(loss.change):.0%}"
    if loss.change < -_UNCHANGED:
        return Verdict("good", "Learning", f"{value}, down {amount} {over}", advice)
    if loss.change <= _UNCHANGED:
        return Verdict("calm", "Level", f"{value}, unchanged {over}", advice)
    more = "A round or two of this is chance; more is a learning rate too high or bad data."
    tone: Tone = "bad" if loss.change > _BAD else "watch"
    return Verdict(tone, "Not learning", f"{value}, up {amount} {over}", f"{advice} {more}".strip())


def _nobody(picture: Picture) -> Verdict:
    since = picture.heard_at if picture.heard_at is not None else picture.begin
    silent_s = picture.at - since if since is not None else 0.0
    if not picture.peers and silent_s < picture.lease_s:
        return Verdict("calm", "Looking for peers", "none is heard yet", "")
    advice = "Either all peers are down, or this monitor is cut off from them: try paceline doctor."
    return Verdict("bad", "Nobody is heard", f"for {duration(silent_s)}", advice)


def _no_quorum(picture: Picture) -> Verdict:
    needed, here = picture.quorum_needed, picture.quorum_here
    verb = "is" if here == 1 else "are"
    detail = f"a commit needs {needed} of the last members, {here} {verb} here"
    again = f"Start {needed - here} of them again; the round waits for them and nothing is lost."
    return Verdict("bad", "Cannot commit", detail, f"{_lost_words(picture)} {again}".strip())


def _stalled(picture: Picture) -> str:
    parts = [_lost_words(picture)]
    working = next((view for view in picture.rounds if view.committed_at is None), None)
    if working is not None and working.voids:
        parts.append(f"The last attempt was given up: {working.voids[-1].cause}.")
    training = [peer for peer in _here(picture) if peer.standing == "train"]
    if training:
        slow = min(training, key=lambda peer: (peer.round_id, peer.inner_step))
        at = f"{slow.inner_step} of {picture.inner_steps} steps of round {slow.round_id}"
        parts.append(f"Furthest behind: {named(slow.peer_id)}, at {at}.")
    return " ".join(part for part in parts if part)


def _lost_words(picture: Picture) -> str:
    lost = [peer for peer in picture.peers if peer.standing == "lost"]
    if not lost:
        return ""
    silent = f", silent for {duration(lost[0].seen_s)}" if len(lost) == 1 else ""
    return f"Lost: {_names(lost)}{silent}."


def _names(peers: Sequence[PeerView]) -> str:
    shown = ", ".join(named(peer.peer_id) for peer in peers[:3])
    return shown + (f" and {len(peers) - 3} more" if len(peers) > 3 else "")


def _plural(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else f'{what}s'}"
