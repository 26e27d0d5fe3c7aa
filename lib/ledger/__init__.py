"""What the papers claim, how a verdict is reached, and what the notebooks found."""

from lib.ledger.ledger import Ledger

__all__ = ["Ledger"]
