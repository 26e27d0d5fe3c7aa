"""The engine: networks that differ in what they see, trained side by side.

``train`` takes a network, data, a ``Recipe`` and seeds to an ``Ensemble``; ``Record`` says what is kept, ``Run`` where
it is computed, ``Start`` where it begins. ``retrain`` leaves examples out.
"""

from lib.training.ensemble import Ensemble, train
from lib.training.recipe import Data, Recipe, Record, Run, Start, learning_rates
from lib.training.retraining import loss_changes, removals, retrain

__all__ = [
    "Data", "Ensemble", "Recipe", "Record", "Run", "Start", "learning_rates",
    "loss_changes", "removals", "retrain", "train",
]  # fmt: skip
