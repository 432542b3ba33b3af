"""The run log: every commit that this peer has applied, with the receipts that back it.

Usage:
    with Ledger.open(path, run, genesis) as ledger:
        ledger.append(link)
    print(verify(path).credits)
"""

from paceline.ledger.damage import salvage
from paceline.ledger.log import Ledger, LogReader
from paceline.ledger.replay import VerifiedLog, verify

__all__ = ["Ledger", "LogReader", "VerifiedLog", "salvage", "verify"]
