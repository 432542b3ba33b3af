"""paceline: train one neural network together, peer to peer.

Importing this package starts nothing and imports neither torch nor hivemind.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
