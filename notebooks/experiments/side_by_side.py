"""Notebooks 05, 07: how do scores rank, whom do they name, what do they find and cost, how many runs do they take?

Scores come as name → ``(n,)``, all turned so that high = hard (``Scored.hardness``).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy import stats as distributions
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from experiments.rankings import ranks
from lib.statistics import auroc, spearman_r


def precision(score: Tensor, marked: Tensor, *, seed: int = 0) -> float:
    """Share of the marked among as many of the highest scores as there are marked; chance is their share of all.

    Example:
        >>> precision(torch.tensor([3.0, 1.0, 2.0, 4.0]), torch.tensor([True, False, False, True]))
        1.0
    """
    if marked.dtype != torch.bool or marked.shape != score.shape or not marked.any():
        raise ValueError(f"marked must be booleans {tuple(score.shape)}, some of them true; got {marked.dtype}")
    highest = extremes(score, int(marked.sum()) / len(marked), seed=seed)
    return float(marked[highest].double().mean())


def correlations(scores: Mapping[str, Tensor]) -> pd.DataFrame:
    """Spearman of every pair of scores, a row and a column a score; ties share their mean rank.

    Example:
        >>> correlations({"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([1.0, 4.0, 9.0])}).loc["a"].tolist()
        [1.0, 1.0]
    """
    return pd.DataFrame(_spearman(_stacked(scores)), index=list(scores), columns=list(scores)).round(12)


def median_agreement(
    scores: Mapping[str, Tensor], *, resamples: int = 400, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, tuple[float, float]]]:
    """Median of each score's Spearman with the others, with its interval over examples: name → (value, (low, high)).

    The interval is that of the basic bootstrap: all scores are ranked anew on each resample of the examples.

    Example:
        >>> one = torch.arange(30.0)
        >>> median_agreement({"a": one, "b": one, "c": -one}, resamples=20)["a"][0]
        0.0
    """
    matrix, rng = _stacked(scores), np.random.default_rng(seed)
    if len(matrix) < 2:
        raise ValueError(f"scores must be at least two, got {list(scores)}")
    others, n = ~np.eye(len(matrix), dtype=bool), matrix.shape[1]
    medians = lambda rows: np.median(_spearman(rows)[others].reshape(len(rows), -1), axis=1)
    value = medians(matrix)
    drawn = np.array([medians(matrix[:, rng.integers(0, n, n)]) for _ in range(resamples)])
    low, high = 2 * value - np.quantile(drawn, [(1 + level) / 2, (1 - level) / 2], axis=0)
    bounds = zip(np.clip(low, -1, 1).tolist(), np.clip(high, -1, 1).tolist(), strict=True)
    return dict(zip(scores, zip(value.tolist(), bounds, strict=True), strict=True))


def clustered(matrix: pd.DataFrame) -> list[str]:
    """The names in an order in which scores that rank alike stand together: average linkage on 1 − correlation.

    Example:
        >>> rho = pd.DataFrame([[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]], index=list("abc"), columns=list("abc"))
        >>> clustered(rho).index("b") in (0, 2)  # a and c stay together
        True
    """
    distance = 1 - matrix.to_numpy(dtype=float)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), "average", optimal_ordering=True)
    return [matrix.index[i] for i in leaves_list(tree)]


def extremes(score: Tensor, share: float, *, highest: bool = True, seed: int = 0) -> Tensor:
    """Positions of the ``round(share·n)`` highest (or lowest) scores, the most extreme first; ties drawn by the seed.

    Example:
        >>> extremes(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5)
        tensor([3, 0])
    """
    count = round(share * len(score))
    if not 0 < share <= 1 or not count:
        raise ValueError(f"share must be in (0, 1] and take at least one of {len(score)}, got {share}")
    order = ranks(score.double(), seed=seed).argsort()
    return order.flip(0)[:count] if highest else order[:count]


def overlap(scores: Mapping[str, Tensor], share: float, *, highest: bool = True, seed: int = 0) -> pd.DataFrame:
    """Which part of one score's extreme ``share`` is in another's; chance is ``share`` itself (:func:`overlap_chance`).

    Ties are drawn for each score anew: two scores that leave many rows tied do not agree on which of them to name.

    Example:
        >>> one = torch.arange(10.0)
        >>> overlap({"a": one, "b": -one}, 0.2).loc["a"].tolist()
        [1.0, 0.0]
    """
    n = len(next(iter(scores.values())))
    named = torch.zeros(len(scores), n)
    for number, score in enumerate(scores.values()):
        named[number, extremes(score, share, highest=highest, seed=seed + number)] = 1
    common = (named @ named.T / named[0].sum()).numpy()
    return pd.DataFrame(common, index=list(scores), columns=list(scores))


def overlap_chance(n: int, share: float, level: float = 0.95) -> tuple[float, float]:
    """The band in which the overlap of two random choices lies (hypergeometric).

    Example:
        >>> low, high = overlap_chance(1000, 0.05)
        >>> low <= 0.05 <= high
        True
    """
    count = round(share * n)
    low, high = distributions.hypergeom(n, count, count).interval(level)
    return float(low / count), float(high / count)


def detection(scores: Mapping[str, Tensor], marked: Mapping[str, Tensor], *, seed: int = 0) -> pd.DataFrame:
    """How well each score, name → ``(r, n)``, finds what is marked in each of r labellings, name → ``(n,)`` bool.

    A row a labelling and score: ``labels, score, auroc, low, high`` (95%), ``precision``.
    """
    rows = []
    for r, (labels, truth) in enumerate(marked.items()):
        for name, score in scores.items():
            value, interval = auroc(score[r].numpy(), truth.numpy(), seed=seed)
            rows.append((labels, name, value, *interval, precision(score[r], truth, seed=seed)))
    return pd.DataFrame(rows, columns=["labels", "score", "auroc", "low", "high", "precision"])


def frontier(cost, gain) -> np.ndarray:
    """Which points nothing beats: no other is at least as good for less, or better for the same. ``(m,)`` bool.

    Example:
        >>> frontier([1.0, 2.0, 3.0], [0.5, 0.4, 0.9]).tolist()
        [True, False, True]
    """
    cost, gain = np.asarray(cost, float), np.asarray(gain, float)
    cheaper = (cost <= cost[:, None]) & (gain >= gain[:, None])
    return ~(cheaper & ((cost < cost[:, None]) | (gain > gain[:, None]))).any(1)


def guide(results: pd.DataFrame, budgets: Mapping[str, float]) -> pd.DataFrame:
    """For each purpose and budget the score that does best in it, and those that cannot be told from it.

    Args:
        results: a row a purpose and way to score: ``purpose, score, seconds, value, low, high`` (95%), and ``chance``,
            the value that needs no score.
        budgets: name → seconds.

    Returns:
        A row a purpose, a column a budget: the best score with its value, then the others whose interval reaches that
        value, the cheapest first; "–" where nothing in the budget is better than chance.
    """
    lines = []
    for purpose, rows in results.groupby("purpose", sort=False):
        cells = {"purpose": purpose}
        for budget, limit in budgets.items():
            affordable = rows[rows.seconds <= limit].sort_values("value", ascending=False)
            text = "–"
            if len(affordable) and (best := affordable.iloc[0]).low > best.chance:
                level = affordable[(affordable.high >= best.value) & (affordable.score != best.score)]
                level = level.sort_values("seconds")
                text = f"{best.score} {best.value:.2f}"
                if others := list(dict.fromkeys(level.score)):
                    text += f" (or {', '.join(others)})"
            cells[budget] = text
        lines.append(cells)
    return pd.DataFrame(lines).set_index("purpose")


def rolling_means(per_run: Tensor, runs: int) -> Tensor:
    """Means over so many successive runs, starting at each run and wrapping round.

    Row e of the result is the mean of runs e, e + 1, …, e + runs − 1 (modulo E); ``per_run`` and it are ``(E, n)``.

    Example:
        >>> rolling_means(torch.tensor([[0.0], [2.0], [4.0]]), 2).flatten()
        tensor([1., 3., 2.])
    """
    if per_run.ndim != 2:
        raise ValueError(f"per_run must be (runs, examples), got {tuple(per_run.shape)}")
    if not 1 <= runs <= len(per_run):
        raise ValueError(f"runs must be from 1 to {len(per_run)}, got {runs}")
    successive = (torch.arange(len(per_run))[:, None] + torch.arange(runs)) % len(per_run)
    return per_run[successive].mean(1)


def agreement(per_run: Tensor, others: Tensor | None = None) -> pd.DataFrame:
    """Spearman of the mean over 1 … E runs with the mean over all E, and with the mean over other runs.

    A run is part of its own mean (Paul et al. 2021, figures 9 and 10, compare with that): E runs of pure noise agree
    with their mean by about 1/√E each, and all of them by 1. With ``others`` nothing is shared.

    Args:
        per_run: ``(E, n)``.
        others: scores of other runs of the same examples, ``(E′, n)``.

    Returns:
        A row for each number of runs and each start (see :func:`rolling_means`): ``runs, start, own``, and ``others``
        where these were given. For ``runs = E`` one row.

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
        rho = {name: spearman_r(means.numpy(), mean[None].numpy()) for name, mean in references.items()}
        rows.append(pd.DataFrame({"runs": runs, "start": range(len(means))} | rho))
    return pd.concat(rows, ignore_index=True)


def _stacked(scores: Mapping[str, Tensor]) -> np.ndarray:
    matrix = [np.asarray(score, dtype=float) for score in scores.values()]
    for name, row in zip(scores, matrix, strict=True):
        if row.ndim != 1 or len(row) != len(matrix[0]) or not np.isfinite(row).all() or np.ptp(row) == 0:
            raise ValueError(f"score {name!r} must be {len(matrix[0])} finite numbers that vary, got shape {row.shape}")
    return np.array(matrix)


def _spearman(matrix: np.ndarray) -> np.ndarray:
    return np.corrcoef(distributions.rankdata(matrix, axis=1))
