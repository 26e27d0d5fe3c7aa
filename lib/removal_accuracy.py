"""How well predicted changes match those found by retraining: correlations over the left-out examples, with intervals.

Pearson, as in Table 1 of Harutyunyan et al. (ICLR 2021), whose values are in ``PUBLISHED``; Spearman beside it, since
a few examples with large changes carry much of a Pearson correlation; and, since neither sees the size, the median of
|predicted/true − 1|.
"""

import numpy as np
import pandas as pd

from lib.removal import Change
from lib.stats import bootstrap_interval, pearson, pearson_r, spearman

QUANTITIES = {"weights": "squared_weights", "predictions": "squared_predictions"}
NETWORKS = ("MLP", "CNN from scratch", "pretrained CNN", "ResNet-18", "ResNet-50")
PUBLISHED = {  # (quantity, λ of the sum over 1,000 examples, method): Pearson of each network; influence is by LiSSA
    ("weights", 0, "linearization"): (0.987, 0.193, 0.870, 0.895, 0.968),
    ("weights", 0, "LiSSA"): (0.935, 0.319, 0.736, 0.675, 0.897),
    ("weights", 1000, "linearization"): (0.977, -0.012, 0.964, 0.940, 0.816),
    ("weights", 1000, "LiSSA"): (0.978, 0.069, 0.979, 0.858, 0.912),
    ("predictions", 0, "linearization"): (0.993, 0.033, 0.875, 0.877, 0.895),
    ("predictions", 0, "LiSSA"): (0.920, 0.647, 0.770, 0.530, 0.715),
    ("predictions", 1000, "linearization"): (0.993, 0.070, 0.974, 0.931, 0.519),
    ("predictions", 1000, "LiSSA"): (0.990, 0.407, 0.954, 0.753, 0.506),
}


def pair(found: dict[str, Change], method: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true changes, ``(e,)`` each; ``found`` has the truth under ``retrained``."""
    return tuple(getattr(found[name], QUANTITIES[quantity]).numpy() for name in (method, "retrained"))


def accuracy(found: dict[str, Change], *, seed: int = 0, **columns) -> pd.DataFrame:
    """A row for each quantity and method: pearson with low and high (95%, bootstrap), spearman, off (median error).

    Args:
        found: changes of the same examples by method, and by retraining under ``retrained``.
        columns: constants that are put in front.

    Raises:
        ValueError: with fewer than four examples, or changes that do not vary.

    Example:
        >>> change = Change(torch.tensor([1.0, 2.0, 4.0, 3.0]), torch.tensor([1.0, 2.0, 4.0, 3.0]))
        >>> accuracy({"retrained": change, "guess": change}, network="MLP").pearson.tolist()
        [1.0, 1.0]
    """
    rows = []
    for quantity in QUANTITIES:
        for method in (name for name in found if name != "retrained"):
            guess, truth = pair(found, method, quantity)
            r, (low, high) = pearson(guess, truth, seed=seed)
            rho, off = spearman(guess, truth, seed=seed)[0], float(np.median(np.abs(guess / truth - 1)))
            rows.append(columns | {"quantity": quantity, "method": method, "pearson": r, "low": low, "high": high,
                                   "spearman": rho, "off": off})  # fmt: skip
    return pd.DataFrame(rows)


def published(network: str, quantity: str, penalty: int, method: str) -> float | None:
    """A cell of the paper's table, None where there is none. ``penalty``: λ, 0 or 1000."""
    row = PUBLISHED.get((quantity, penalty, method))
    return row[NETWORKS.index(network)] if row and network in NETWORKS else None


def correlation_gap(first: tuple, second: tuple, *, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """``r(first) − r(second)`` of two pairs of arrays, with its bootstrap interval over examples.

    Pairs that share their truth are resampled together; others, each by itself.

    Example:
        >>> truth = np.arange(9.0)
        >>> correlation_gap((truth, truth), (-truth, truth))
        (2.0, (2.0, 2.0))
    """
    shared = len(first[1]) == len(second[1]) and np.array_equal(first[1], second[1])

    def gap(*places, axis=-1):
        one, other = (p.astype(int) for p in (places * 2 if shared else places))
        r = [pearson_r(a[where], b[where], axis=axis) for (a, b), where in ((first, one), (second, other))]
        return r[0] - r[1]

    places = [np.arange(len(truth), dtype=float) for _, truth in ((first,) if shared else (first, second))]
    value = float(gap(*places))
    return round(value, 12), tuple(round(end, 12) for end in bootstrap_interval(gap, *places, seed=seed))
