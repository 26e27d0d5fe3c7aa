"""What the papers claim, what was found, and what came of each claim."""

from lib.ledger.ledger import Ledger

__all__ = ["Ledger"]
