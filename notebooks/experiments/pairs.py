"""Notebooks 03, 13 and 15: pairs of a memorized and a test example that depends on it, and how sure estimates are."""

import math

import pandas as pd
import torch
from torch import Tensor

from lib.scores.memorization import influence_of_seeing, memorization


def squared_error_bound(trials: int, n: int, m: int) -> float:
    """Lemma 2.1's bound on the mean squared error of an estimate: 1/(pt) + 1/((1−p)t) + e^(−pt/16)/2.

    p = min(m/n, 1 − m/n). It holds for any training algorithm and example; a value of 1 or more says nothing.

    Example:
        >>> squared_error_bound(4000, 10, 7)  # a standard deviation of 0.034 at most
        0.001190...
    """
    p = min(m / n, 1 - m / n)
    return 1 / (p * trials) + 1 / ((1 - p) * trials) + math.exp(-p * trials / 16) / 2


def high_influence_pairs(
    member_sees: Tensor, correct_train: Tensor, correct_test: Tensor, y_train: Tensor, y_test: Tensor, *,
    rows_train: Tensor | None = None, rows_test: Tensor | None = None, min_memorization: float = 0.25,
    min_influence: float = 0.15, same_label: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Pairs (i, j) with mem(i) ≥ .25, infl(i, j) ≥ .15 and y_i = y′_j (Feldman and Zhang 2020, section 2).

    Args:
        y_train, y_test: labels ``(n,)``, ``(n′,)``.
        rows_train, rows_test: the examples' rows in the original files; their positions where left out.
        min_memorization, min_influence: θ_mem and θ_infl; ``-math.inf`` lifts the first.
        same_label: keep pairs of one label only, as the paper does.

    Returns:
        One row a pair, the most influential first: ``train, test`` (positions), ``train_row, test_row``,
        ``influence, error, memorization, same_label``. Examples without an estimate are in no pair.

    Raises: ValueError if shapes disagree.

    Cost: that of :func:`influence_of_seeing` for the memorized examples; never holds more than 512 × n′ estimates.
    """
    for name, y, n in (("y_train", y_train, member_sees.shape[1]), ("y_test", y_test, correct_test.shape[1])):
        if y.shape != (n,):
            raise ValueError(f"{name} must have one label an example, ({n},), got {tuple(y.shape)}")
    mem = memorization(member_sees, correct_train).value
    candidates = torch.nonzero(mem >= min_memorization).flatten()
    columns = {name: [torch.empty(0)] for name in ("train", "test", "influence", "error")}
    for rows in candidates.split(256):
        estimate = influence_of_seeing(member_sees[:, rows], correct_test)
        high = estimate.value >= min_influence
        if same_label:
            high &= y_train[rows, None] == y_test
        i, j = torch.nonzero(high, as_tuple=True)
        for column, values in zip(
            columns.values(), (rows[i], j, estimate.value[i, j], estimate.error[i, j]), strict=True
        ):
            column.append(values.cpu())
    pairs = pd.DataFrame({name: torch.cat(parts).numpy() for name, parts in columns.items()})
    train, test = (torch.tensor(pairs[name].to_list(), dtype=torch.int64) for name in ("train", "test"))
    original = lambda rows, positions: (positions if rows is None else rows.cpu()[positions]).numpy()
    pairs = pairs.assign(train=train.numpy(), test=test.numpy(), memorization=mem.cpu()[train].numpy())
    pairs = pairs.assign(train_row=original(rows_train, train), test_row=original(rows_test, test))
    pairs["same_label"] = (y_train.cpu()[train] == y_test.cpu()[test]).numpy()
    order = ["train", "test", "train_row", "test_row", "influence", "error", "memorization", "same_label"]
    return pairs[order].sort_values(["influence", "train", "test"], ascending=[False, True, True], ignore_index=True)
