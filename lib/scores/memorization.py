"""Memorization, influence of seeing and C-score, from many trainings on random subsets.

t networks, each trained on some of the n examples (Feldman and Zhang 2020, algorithm 1; Jiang et al. 2021). Two bit
matrices say everything: ``member_sees (t, n)``, who was trained on what, and ``correct (t, ·)``, who is right about
what. Signs: positive memorization or influence = having seen the example helps; a high C-score = regular.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

BLOCK = 256  # training examples in one matrix product: what follows it then stays near the cache


class Estimate(NamedTuple):
    """What the counts say, and how well they say it."""

    value: Tensor  # float64, in [−1, 1]; NaN where the example was always seen, or never
    error: Tensor  # float64, standard error of the value; NaN where a count is below 2
    seen: Tensor  # (n,) int64, networks trained with the example
    held_out: Tensor  # (n,) int64, networks trained without it


def subsets(n: int, m: int, trials: int, seed: int) -> Tensor:
    """Random subsets of m out of n examples as booleans ``(trials, n)``, each row with exactly m true.

    Row k depends on ``(n, m, seed, k)`` alone, so asking for more trials extends what there is.

    Raises: ValueError unless 1 ≤ m < n and trials ≥ 1.

    Example:
        >>> subsets(10, 7, trials=3, seed=0).sum(1)
        tensor([7, 7, 7])
    """
    if not 1 <= m < n or trials < 1:
        raise ValueError(f"expected 1 ≤ m < n and trials ≥ 1, got m = {m}, n = {n}, trials = {trials}")
    sees = torch.zeros(trials, n, dtype=torch.bool)
    for k in range(trials):
        sees[k, torch.from_numpy(np.random.default_rng([seed, k]).permutation(n)[:m])] = True
    return sees


def subsets_of_shares(n: int, shares, trials: int, seed: int) -> Tensor:
    """Who sees what: ``trials`` random subsets of each size ``round(share·n)``, ``(len(shares)·trials, n)`` bool.

    Raises: ValueError unless every share leaves an example out and keeps one.

    Example:
        >>> subsets_of_shares(10, (0.2, 0.8), trials=2, seed=0).sum(1)
        tensor([2, 2, 8, 8])
    """
    return torch.cat([subsets(n, round(share * n), trials, seed + i) for i, share in enumerate(shares)])


def memorization(member_sees: Tensor, correct_train: Tensor) -> Estimate:
    """Subsampled memorization of each training example: how much likelier its label is got right when it was seen.

        mem_m(i) = Pr_k[h_k(x_i) = y_i | i ∈ I_k] − Pr_k[h_k(x_i) = y_i | i ∉ I_k]        (algorithm 1, line 5)

    The standard error is ``√(p(1−p)/(k−1) + q(1−q)/(l−1))`` from the two shares p, q and their counts k, l.

    Args:
        member_sees, correct_train: ``(t, n)`` bool, each network on each training example.

    Returns:
        :class:`Estimate` with value and error ``(n,)``.

    Raises: ValueError if the two are not boolean and of one shape.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True]])
        >>> memorization(sees, sees).value
        tensor([1., 1.], dtype=torch.float64)
    """
    _check(member_sees, correct_train, of_training_rows=True)
    seen = member_sees.sum(0)
    return _estimate((member_sees & correct_train).sum(0), correct_train.sum(0), seen, len(member_sees) - seen)


def influence_of_seeing(member_sees: Tensor, correct_test: Tensor) -> Estimate:
    """Subsampled influence of each training example i on each test example j (algorithm 1, line 7).

        infl_m(i, j) = Pr_k[h_k(x′_j) = y′_j | i ∈ I_k] − Pr_k[h_k(x′_j) = y′_j | i ∉ I_k]

    Pass some columns of either matrix for some of the pairs: ``influence_of_seeing(sees[:, rows], correct)``.

    Args:
        member_sees, correct_test: ``(t, n)`` and ``(t, n′)`` bool.

    Returns:
        :class:`Estimate` with value and error ``(n, n′)``, on the device of the input.

    Raises: ValueError if the two are not boolean matrices with one number of rows, or t ≥ 2²⁴ (counts in float32).

    Cost: 2·t·n·n′ operations in float32 products of 256 training examples, 16·n·n′ bytes for the result.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True]])
        >>> influence_of_seeing(sees, torch.tensor([[True], [False]])).value.flatten()
        tensor([ 1., -1.], dtype=torch.float64)
    """
    _check(member_sees, correct_test)
    trials, n = member_sees.shape
    seen = member_sees.sum(0)
    total, right = correct_test.sum(0), correct_test.float()
    value = torch.empty(n, correct_test.shape[1], dtype=torch.float64, device=member_sees.device)
    error = torch.empty_like(value)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        hits = member_sees[:, rows].T.float() @ right  # whole numbers below 2²⁴: exact
        value[rows], error[rows], *_ = _estimate(hits, total, seen[rows, None], trials - seen[rows, None])
    return Estimate(value, error, seen, trials - seen)


def held_out_accuracy(member_sees: Tensor, correct_train: Tensor) -> Tensor:
    """Share of the networks trained without an example that get it right, ``(n,)``: the C-score at one subset size.

    High = regular; NaN where every network saw the example.
    """
    _check(member_sees, correct_train)
    return (~member_sees & correct_train).sum(0).double() / (~member_sees).sum(0)


def c_scores(member_sees: Tensor, correct_train: Tensor) -> Tensor:
    """C-score: how surely networks that never saw an example get it right (Jiang et al. 2021). High = regular.

        C(x, y) = E_m E_S [ P(f(x; S without (x, y)) = y) ],   S a random subset of m examples

    estimated as Jiang et al. do: of each size m the share of networks right about an example among those that did not
    see it, then the plain mean over the sizes.

    Args:
        member_sees, correct_train: ``(t, n)`` bool, of networks on random subsets of one size or several.

    Returns:
        ``(n,)`` float64 in [0, 1]; a size whose every network saw an example does not count for it, and NaN where
        all of them did.

    Raises: ValueError if the two are not boolean and of one shape.

    Example:
        >>> sees = torch.tensor([[True, False, False], [False, True, False], [True, True, False]])
        >>> c_scores(sees, ~sees | torch.tensor([False, False, True]))
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    _check(member_sees, correct_train, of_training_rows=True)
    sizes = member_sees.sum(1)
    by_size = [held_out_accuracy(member_sees[sizes == m], correct_train[sizes == m]) for m in sizes.unique()]
    return torch.stack(by_size).nanmean(0)


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
    _check_labels(member_sees, correct_test, y_train, y_test)
    mem = memorization(member_sees, correct_train).value
    candidates = torch.nonzero(mem >= min_memorization).flatten()
    columns = {name: [torch.empty(0)] for name in ("train", "test", "influence", "error")}
    for rows in candidates.split(BLOCK):
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


def _estimate(hits: Tensor, total: Tensor, seen: Tensor, held_out: Tensor) -> Estimate:
    p, q = hits.double() / seen, (total - hits).double() / held_out  # 0/0 = NaN
    return Estimate(p - q, (p * (1 - p) / (seen - 1) + q * (1 - q) / (held_out - 1)).sqrt(), seen, held_out)


def _check(member_sees: Tensor, correct: Tensor, *, of_training_rows: bool = False) -> None:
    for name, bits in (("member_sees", member_sees), ("correct", correct)):
        if bits.dtype != torch.bool or bits.ndim != 2:
            raise ValueError(f"{name} must be booleans (networks, examples), got {bits.dtype} {tuple(bits.shape)}")
    if of_training_rows and member_sees.shape != correct.shape:
        shapes = f"{tuple(member_sees.shape)}, got {tuple(correct.shape)}"
        raise ValueError(f"correct_train must have the shape of member_sees, {shapes}")
    if len(member_sees) != len(correct):
        raise ValueError(f"one row a network in both: member_sees has {len(member_sees)}, correct has {len(correct)}")
    if len(correct) >= 2**24:
        raise ValueError(f"at most 2²⁴ networks can be counted in float32, got {len(correct)}")


def _check_labels(member_sees: Tensor, correct_test: Tensor, y_train: Tensor, y_test: Tensor) -> None:
    _check(member_sees, correct_test)
    for name, y, n in (("y_train", y_train, member_sees.shape[1]), ("y_test", y_test, correct_test.shape[1])):
        if y.shape != (n,):
            raise ValueError(f"{name} must have one label an example, ({n},), got {tuple(y.shape)}")
