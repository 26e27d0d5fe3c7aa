"""How many runs a score needs: the mean over some runs beside the mean over all of them, and over others."""

import pandas as pd
import torch
from torch import Tensor

from lib.stats import spearman_r


def rolling_means(per_run: Tensor, runs: int) -> Tensor:
    """Means over so many successive runs, starting at each run and wrapping round.

    Args:
        per_run: a score of each run, ``(E, n)``.
        runs: 1 … E.

    Returns:
        ``(E, n)``; row e is the mean of runs e, e + 1, …, e + runs − 1 (modulo E). All rows agree where ``runs`` is E.

    Raises:
        ValueError: for another number of runs, or a score that is not ``(E, n)``.

    Example:
        >>> rolling_means(torch.tensor([[0.0], [2.0], [4.0]]), 2).flatten()
        tensor([1., 3., 2.])
    """
    if per_run.ndim != 2:
        raise ValueError(f"per_run must be (runs, examples), got {tuple(per_run.shape)}")
    if not 1 <= runs <= len(per_run):
        raise ValueError(f"runs must be from 1 to {len(per_run)}, got {runs}")
    at = (torch.arange(len(per_run))[:, None] + torch.arange(runs)) % len(per_run)
    return per_run[at].mean(1)


def agreement(per_run: Tensor, others: Tensor | None = None) -> pd.DataFrame:
    """Spearman of the mean over 1 … E runs with the mean over all E, and with the mean over other runs.

    A run is part of its own mean (Paul et al. 2021, figures 9 and 10, compare with that): E runs of pure noise agree
    with their mean by about 1/√E each, and all of them by 1. With ``others`` nothing is shared.

    Args:
        per_run: ``(E, n)``.
        others: scores of other runs, ``(E′, n)``.

    Returns:
        A row for each number of runs and each start (see :func:`rolling_means`): ``runs, start, own``, and ``others``
        where these were given. For ``runs = E`` one row.

    Raises:
        ValueError: as :func:`rolling_means`, or if ``others`` has other examples.

    Cost: E² rankings of n.

    Example:
        >>> agreement(torch.tensor([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])).query("runs == 2").own.tolist()
        [1.0]
    """
    if others is not None and others.shape[1:] != per_run.shape[1:]:
        raise ValueError(f"others must be of the same examples, {tuple(per_run.shape[1:])}, got {tuple(others.shape)}")
    references = {"own": per_run.mean(0)} | ({} if others is None else {"others": others.mean(0)})
    rows = []
    for runs in range(1, len(per_run) + 1):
        means = rolling_means(per_run, runs)[: 1 if runs == len(per_run) else None]
        found = {name: spearman_r(means.numpy(), mean[None].numpy()) for name, mean in references.items()}
        rows.append(pd.DataFrame({"runs": runs, "start": range(len(means))} | found))
    return pd.concat(rows, ignore_index=True)
