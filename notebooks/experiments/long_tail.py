"""Notebook 03: do two sets of estimates agree, which pairs of examples are shown, and how many are there by chance?

After Feldman and Zhang 2020, section 3.5 and appendix C.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pandas.io.formats.style import Styler
from scipy.stats import t as student
from torch import Tensor

from lib.costs import bar
from lib.data.datasets import Dataset
from lib.networks import models
from lib.scores.memorization import influence_of_seeing, memorization
from lib.statistics import spearman_r
from lib.training import Recipe, Record, Run, ensemble


def standardized(d: Dataset) -> Dataset:
    """Pixels less the mean training image, over the standard deviation of all training pixels."""
    mean, spread = d.x_train.mean(0), d.x_train.std()
    return replace(d, x_train=(d.x_train - mean) / spread, x_test=(d.x_test - mean) / spread)


def fit(
    d: Dataset, sees: Tensor, recipe: Recipe, network: str, *, run: Run, first_seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Train a network on the rows of each mask; who is right about what: (networks, n) and (networks, n′) booleans."""
    model = models.by_name(network, shape=tuple(d.x_train.shape[1:]), classes=len(d.classes))
    seeds, bits = range(first_seed, first_seed + len(sees)), Record(parameters=False)
    trained = ensemble.train(model, d, recipe, seeds, sees=sees, record=bits, run=run)
    return trained.correct_train[:, -1], trained.correct_test[:, -1]


def right_by_role(**ensembles: tuple[Tensor, Tensor, Tensor]) -> Styler:
    """A table: how often the networks are right on rows that they saw, on rows held out, and on test rows.

    Each of ``ensembles`` is ``(member_sees, correct_train, correct_test)``.
    """
    rows = {
        name: [len(sees), *(float(bits.double().mean()) for bits in (right[sees], right[~sees], test))]
        for name, (sees, right, test) in ensembles.items()
    }
    columns = ["networks", "right on seen", "right on held out", "right on test"]
    return pd.DataFrame(rows, index=columns).T.style.format({"networks": "{:,.0f}"}, precision=4)


def consistency(
    first: Tensor, second: Tensor, thresholds: list[float], *, eligible: tuple[Tensor, Tensor] | None = None
) -> pd.DataFrame:
    """Agreement of two estimates of the same quantities, threshold by threshold (Feldman and Zhang 2020, eq. 4).

        J(θ) = |I ∩ I′| / |I ∪ I′|        D(θ) = mean over I ∪ I′ of |a − a′|        I = {a ≥ θ}, I′ = {a′ ≥ θ}

    Args:
        first, second: estimates of one shape; NaN is above no threshold, and no part of the difference.
        eligible: two boolean masks of a shape that broadcasts, which I and I′ are confined to (the paper's
            mem ≥ .25 for influence, as ``mem[:, None] >= .25``).

    Returns:
        One row a threshold: ``threshold``, ``jaccard``, ``difference`` (NaN for no union), set sizes ``first, second``.

    Example:
        >>> consistency(torch.tensor([0.9, 0.4]), torch.tensor([0.8, 0.6]), [0.5]).jaccard.tolist()
        [0.5]
    """
    if first.shape != second.shape:
        raise ValueError(f"first and second must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    mask, gap, rows = eligible or (torch.tensor(True), torch.tensor(True)), (first - second).abs(), []
    for threshold in thresholds:
        a, b = (first >= threshold) & mask[0], (second >= threshold) & mask[1]
        union, both = a | b, (a & b).sum().item()
        size = union.sum().item()
        jaccard, difference = both / size if size else np.nan, gap[union].nanmean().item()
        rows.append((threshold, jaccard, difference, a.sum().item(), b.sum().item()))
    return pd.DataFrame(rows, columns=["threshold", "jaccard", "difference", "first", "second"])


def consistency_of_ensembles(
    first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor], y_train: Tensor, y_test: Tensor,
    thresholds: list[float], *, min_memorization: float = 0.25,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Agreement of two ensembles on memorization, and on the influence of the memorized on test examples of one label.

    ``first`` and ``second`` are ``(member_sees (t, n), correct_train (t, n), correct_test (t, n′))``; t may differ.
    ``{"memorization": ..., "influence": ...}``, each as from :func:`consistency`.

    Cost: :func:`influence_of_seeing` of the memorized training examples, twice; holds both results.
    """
    mem = [memorization(sees, right).value for sees, right, _ in (first, second)]
    rows = (mem[0] >= min_memorization) | (mem[1] >= min_memorization)
    infl = [influence_of_seeing(sees[:, rows], right_test).value for sees, _, right_test in (first, second)]
    same = y_train[rows, None] == y_test
    eligible = tuple((m[rows, None] >= min_memorization) & same for m in mem)
    of_influence = consistency(*infl, thresholds, eligible=eligible)
    return {"memorization": consistency(*mem, thresholds), "influence": of_influence}


def shared_pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Pairs found by both, counted by test example, so that whatever they sum to can be resampled over test examples.

        Jaccard = both / either        share of one's pairs that the other finds = 2 both / (first + second)

    Pairs have columns ``train`` and ``test``, as from ``memorization.high_influence_pairs``. One row a test example in
    any pair: ``first, second, both, either``, numbers of pairs.

    Example:
        >>> one = pd.DataFrame({"train": [1, 2], "test": [7, 7]})
        >>> shared_pairs(one, one.head(1)).loc[7].tolist()
        [2, 1, 1, 2]
    """
    key = ["train", "test"]
    either = first[key].merge(second[key], how="outer", on=key, indicator="where")
    table = pd.crosstab(either.test, either["where"].astype(str))
    table = table.reindex(columns=["both", "left_only", "right_only"], fill_value=0)
    out = {"first": table.both + table.left_only, "second": table.both + table.right_only, "both": table.both}
    return pd.DataFrame(out).assign(either=table.sum(axis=1))


def mantel(
    one: np.ndarray, other: np.ndarray, *, seed: int = 0, level: float = 0.95, n_resamples: int = 1000
) -> tuple[float, tuple, tuple]:
    """Spearman of two distances ``(k, k)`` over the pairs of k ≥ 4 objects, its interval, and the band of no relation.

    Pairs are not independent; so the interval is the jackknife over objects, on the z scale with Student's t (it covers
    94 to 98% with 9 to 30), and the band gives the objects of one matrix to those of the other (Mantel 1967).

    Example:
        >>> gaps = abs(np.subtract.outer(*[np.arange(6.0) ** 2] * 2))
        >>> mantel(gaps, 2 * gaps)[0]
        1.0
    """
    if one.shape != other.shape or one.shape != (k := len(one), k) or k < 4:
        raise ValueError(f"one and other must be (k, k) of one k ≥ 4, got {one.shape} and {other.shape}")

    def correlation(at: np.ndarray, there: np.ndarray) -> float:
        i, j = np.triu_indices(len(at), 1)
        return float(spearman_r(one[at[i], at[j]], other[there[i], there[j]]).round(12))

    every, rng = np.arange(k), np.random.default_rng(seed)
    values = [correlation(rows, rows) for rows in (every, *(np.delete(every, i) for i in every))]
    z = np.arctanh(np.clip(values, -1 + 1e-9, 1 - 1e-9))
    half = student.ppf((1 + level) / 2, k - 1) * (k - 1) * z[1:].std(ddof=1) / np.sqrt(k)
    null = [correlation(every, rng.permutation(k)) for _ in range(n_resamples)]
    interval = np.tanh([z[0] - half, z[0] + half]).tolist()
    return values[0], tuple(interval), tuple(np.quantile(null, [(1 - level) / 2, (1 + level) / 2]).tolist())


def displayed_examples(pairs: pd.DataFrame, *, copies: int = 3, examples: int = 5) -> np.ndarray:
    """The training examples to show, without cherry-picking (Feldman and Zhang 2020, appendix C).

    Sorted by the highest influence each has on a test example, they are read off at ``examples`` evenly spread places,
    and at the ``copies − 1`` places after each.

    ``pairs`` have columns ``train`` and ``influence``. Returns ``(copies, examples)`` values of ``train``.
    """
    strongest = pairs.groupby("train").influence.max().sort_values(ascending=False, kind="stable").index.to_numpy()
    if len(strongest) < copies:
        raise ValueError(f"pairs must hold at least {copies} training examples to show, got {len(strongest)}")
    base = np.linspace(0, len(strongest) - copies, examples).astype(int)
    return np.stack([strongest[base + copy] for copy in range(copies)])


class PairCounts(NamedTuple):
    """High-influence pairs, the distinct test examples in them, and those of these with a single influencer."""

    pairs: int
    test_examples: int
    single: int


def pair_counts(test: np.ndarray) -> PairCounts:
    """Counts from the test side of the pairs, one entry a pair.

    Example:
        >>> pair_counts(np.array([4, 4, 9]))
        PairCounts(pairs=3, test_examples=2, single=1)
    """
    times = np.unique(np.asarray(test), return_counts=True)[1]
    return PairCounts(len(test), len(times), int((times == 1).sum()))


def permuted_pair_counts(
    member_sees: Tensor, correct_test: Tensor, y_train: Tensor, y_test: Tensor, *, candidates: Tensor,
    permutations: int = 100, seed: int = 0, min_influence: float = 0.15,
) -> pd.DataFrame:  # fmt: skip
    """How many pairs chance alone would give: the count with the subsets dealt out to the networks anew.

    Dealing keeps every network's answers, and every example's number of networks; all true influences become zero, so
    what still passes θ_infl is selection bias. The mean over permutations is the expected number of false pairs.

    ``candidates (n,)`` may stand in a pair (those with mem ≥ θ_mem). One row a deal, as :class:`PairCounts`.

    Cost: ``permutations`` products as in ``influence_of_seeing``, of the candidates, class by class.
    """
    if candidates.dtype != torch.bool or candidates.shape != y_train.shape:
        raise ValueError(f"candidates must be booleans {tuple(y_train.shape)}, got {candidates.dtype}")
    generator, networks = torch.Generator().manual_seed(seed), len(member_sees)
    deals = [torch.randperm(networks, generator=generator).argsort() for _ in range(permutations)]
    counts = torch.zeros(permutations, 3, dtype=torch.int64)
    for label in bar(y_train[candidates].unique()):
        sees, right = member_sees[:, candidates & (y_train == label)], correct_test[:, y_test == label].float()
        seen, total = sees.sum(0)[:, None], right.sum(0).double()
        for k, deal in enumerate(deals):  # the few that saw are dealt, which comes to the same
            hits = (sees[deal.to(sees.device)].T.float() @ right).double()  # whole numbers: exact
            influencers = (hits / seen - (total - hits) / (networks - seen) >= min_influence).sum(0)
            counts[k] += torch.stack([influencers.sum(), (influencers > 0).sum(), (influencers == 1).sum()]).cpu()
    return pd.DataFrame(counts.numpy(), columns=PairCounts._fields)
