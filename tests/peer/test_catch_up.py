"""Claims about catching up, with real donors in a process of their own: some of them lie."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from paceline.core.config import GptConfig
from paceline.core.errors import TransferFailed
from paceline.core.events import DonorDropped, Event
from paceline.core.nicknames import named
from paceline.core.records import Vote
from paceline.learning.model import num_parameters
from paceline.ledger import Ledger
from paceline.network.averager import Averager
from paceline.peer.aside import Aside
from paceline.peer.catch_up import CatchUp
from paceline.peer.shelf import Shelf
from tests.core.history import genesis_of, peers, run_of
from tests.network.donor_program import PREFIX
from tests.network.donors import State, Swarm, swarm

pytestmark = pytest.mark.live

MODEL = GptConfig(dim=64, layers=2, heads=2, seq_len=64)
RUN = run_of(peers(2), model=MODEL)
GENESIS = genesis_of(RUN)


class Caller:
    """Stands where the averager's process is, and talks to donors itself."""

    prefix = PREFIX

    def __init__(self, donors: Swarm) -> None:
        self._donors = donors

    def call(self, work: Callable[..., Awaitable[Any]], timeout_s: float, **content: Any) -> Any:
        del timeout_s

        async def working() -> Any:
            return await work(self._donors.p2p, **content)

        return self._donors.run(working())


@pytest.fixture(scope="module")
def donors() -> Iterator[Swarm]:
    with swarm() as started:
        yield started


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def catch_up(donors: Swarm, told: list[Event], tmp_path: Path) -> CatchUp:
    shelf = Shelf(tmp_path / "checkpoints", RUN.run_id, MODEL, keep=2)
    aside = Aside(tmp_path / "aside", told.append)
    caller = cast(Averager, Caller(donors))
    return CatchUp(RUN, caller, shelf, num_parameters(MODEL), aside, told.append)


@pytest.fixture
def state(tmp_path: Path) -> State:
    folder = tmp_path / "state"
    folder.mkdir()
    return State(folder, num_parameters(MODEL))


def vote_for(state: State) -> Vote:
    want = state.want
    return Vote(
        round_id=want.round_id,
        term=1,
        attempt=0,
        plan_digest="0a" * 32,
        weights_digest=want.weights_digest,
        momentum_digest=want.momentum_digest,
    )


@pytest.mark.parametrize(
    "fault", ["wrong_byte", "too_many_bytes", "too_few_bytes", "hangs_up", "wrong_hashes"]
)
def test_a_donor_that_lies_is_named_and_the_state_comes_from_another(
    donors: Swarm, catch_up: CatchUp, state: State, tmp_path: Path, fault: str
) -> None:
    liar = donors.donor(state, fault)
    path = tmp_path / "checkpoints" / "round-000001.safetensors"
    with pytest.raises(TransferFailed, match=named(liar)):
        catch_up.fetch_result(vote_for(state), (liar,), path)
    assert not path.exists()
    honest = donors.donor(state)
    assert honest in catch_up.fetch_result(vote_for(state), (liar, honest), path).donors
    assert path.read_bytes()[-len(state.data) :] == state.data


def test_a_donor_that_gave_nothing_while_another_gave_all_is_told_of(
    donors: Swarm, catch_up: CatchUp, told: list[Event], state: State, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    poor = donors.donor(State(tmp_path / "empty", 10))
    rich = donors.donor(state, limits={"bytes_per_s": 100_000})  # so slow that the other has its turn
    catch_up.fetch_result(
        vote_for(state), (poor, rich), tmp_path / "checkpoints" / "round-000001.safetensors"
    )
    assert [e.peer_id for e in told if isinstance(e, DonorDropped)] == [poor]


def test_who_claims_to_be_ahead_without_a_history_is_named(
    donors: Swarm, catch_up: CatchUp, told: list[Event], state: State, tmp_path: Path
) -> None:
    braggart = donors.donor(state, num_links=3)  # links of nothing
    with Ledger.open(tmp_path / "log.sqlite", RUN, GENESIS) as ledger:
        with pytest.raises(TransferFailed, match="no history that shows it"):
            catch_up.repair(ledger, (braggart,), GENESIS.digest(), {})
        assert ledger.head() == GENESIS
    (dropped,) = told
    assert isinstance(dropped, DonorDropped) and dropped.peer_id == braggart
    assert not (tmp_path / "aside").exists()


def test_states_of_a_history_that_is_left_are_kept_aside(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "checkpoints", RUN.run_id, MODEL, keep=5)
    shelf.folder.mkdir()
    for round_id in (3, 4, 5):
        shelf.committed(round_id).write_bytes(b"state")
    shelf.staged(6, "ab" * 32).write_bytes(b"staged")
    shelf.set_aside(3, tmp_path / "aside")
    assert [path.name for path in sorted(shelf.folder.iterdir())] == ["round-000003.safetensors"]
    assert len(list((tmp_path / "aside").iterdir())) == 3
