"""paceline: train one neural network together, peer to peer.

Importing this package starts nothing and imports neither torch nor hivemind. The names of the fedtrain API
are here too; the modules behind them are loaded when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paceline.federation.averaging import GradientAverager
    from paceline.federation.coordinator import DiLoCoCoordinator
    from paceline.federation.credits import CreditTracker
    from paceline.federation.hashing import HashVerifier
    from paceline.federation.local import LocalTrainingProvider
    from paceline.federation.models import (
        FederatedNode,
        GlobalState,
        LocalUpdate,
        TrainingConfig,
        TrainingResult,
    )
    from paceline.federation.provider import UpdateProvider
    from paceline.federation.swarm import SwarmUpdateProvider

__version__ = "0.1.0"
__all__ = [
    "CreditTracker",
    "DiLoCoCoordinator",
    "FederatedNode",
    "GlobalState",
    "GradientAverager",
    "HashVerifier",
    "LocalTrainingProvider",
    "LocalUpdate",
    "SwarmUpdateProvider",
    "TrainingConfig",
    "TrainingResult",
    "UpdateProvider",
    "__version__",
]

_HOMES = {
    "CreditTracker": "credits",
    "DiLoCoCoordinator": "coordinator",
    "FederatedNode": "models",
    "GlobalState": "models",
    "GradientAverager": "averaging",
    "HashVerifier": "hashing",
    "LocalTrainingProvider": "local",
    "LocalUpdate": "models",
    "SwarmUpdateProvider": "swarm",
    "TrainingConfig": "models",
    "TrainingResult": "models",
    "UpdateProvider": "provider",
}


if not TYPE_CHECKING:  # for a type checker, only the names above exist

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.federation.{_HOMES[name]}"), name)
        globals()[name] = found  # asked for once only
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
