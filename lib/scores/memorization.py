"""Memorization, influence of seeing and C-score, from many trainings on random subsets.

t networks, each trained on some of the n examples (Feldman and Zhang 2020, algorithm 1; Jiang et al. 2021). Two bit
matrices say everything: ``member_sees (t, n)``, who was trained on what, and ``correct (t, ·)``, who is right about
what. Signs: positive memorization or influence = having seen the example helps; a high C-score = regular.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.scores import takes_arrays

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


@takes_arrays
def memorization(member_sees: Tensor, correct_train: Tensor) -> Estimate:
    """Subsampled memorization of each training example: how much likelier its label is got right when it was seen.

        mem_m(i) = Pr_k[h_k(x_i) = y_i | i ∈ I_k] − Pr_k[h_k(x_i) = y_i | i ∉ I_k]        (algorithm 1, line 5)

    The standard error is ``√(p(1−p)/(k−1) + q(1−q)/(l−1))`` from the two shares p, q and their counts k, l.

    Args:
        member_sees, correct_train: ``(t, n)`` bool, each network on each training example.

    Returns: :class:`Estimate` with value and error ``(n,)``.

    Raises: ValueError if the two are not boolean and of one shape.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True]])
        >>> memorization(sees, sees).value
        tensor([1., 1.], dtype=torch.float64)
    """
    _check(member_sees, correct_train, of_training_rows=True)
    seen = member_sees.sum(0)
    return _estimate((member_sees & correct_train).sum(0), correct_train.sum(0), seen, len(member_sees) - seen)


@takes_arrays
def influence_of_seeing(member_sees: Tensor, correct_test: Tensor) -> Estimate:
    """Subsampled influence of each training example i on each test example j (algorithm 1, line 7).

        infl_m(i, j) = Pr_k[h_k(x′_j) = y′_j | i ∈ I_k] − Pr_k[h_k(x′_j) = y′_j | i ∉ I_k]

    Of margins or losses it is the difference of their means, with ``√(s²/k + s′²/l)`` as its standard error; a positive
    one raises them, so hand over minus the losses for positive = helpful. Pass some columns of either matrix for some
    of the pairs: ``influence_of_seeing(sees[:, rows], correct)``.

    Args:
        member_sees: ``(t, n)`` bool.
        correct_test: ``(t, n′)`` bool, or a finite float for each network and test example.

    Returns: :class:`Estimate` with value and error ``(n, n′)``, on the device of the input.

    Raises: ValueError if they are not such matrices with one number of rows, or t ≥ 2²⁴ (counts in float32).

    Cost: 2·t·n·n′ operations in float32 products of 256 training examples (of floats twice, in float64), 16·n·n′ bytes.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True]])
        >>> influence_of_seeing(sees, torch.tensor([[True], [False]])).value.flatten()
        tensor([ 1., -1.], dtype=torch.float64)
    """
    outcome = _check(member_sees, correct_test, floats=True)
    trials, n = member_sees.shape
    seen = member_sees.sum(0)
    total, kind = outcome.sum(0), torch.float32 if correct_test.dtype == torch.bool else torch.float64
    right, squares = outcome.to(kind), None if kind == torch.float32 else outcome.square()
    value = torch.empty(n, correct_test.shape[1], dtype=torch.float64, device=member_sees.device)
    error = torch.empty_like(value)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        some = member_sees[:, rows].T.to(kind)
        hits = some @ right  # of bits whole numbers below 2²⁴: exact
        of_squares = () if squares is None else (some @ squares, squares.sum(0))
        value[rows], error[rows], *_ = _estimate(hits, total, seen[rows, None], trials - seen[rows, None], *of_squares)
    return Estimate(value, error, seen, trials - seen)


@takes_arrays
def datamodel(member_sees: Tensor, outcome: Tensor, *, ridge: float) -> Tensor:
    """What seeing each example adds to each outcome, all examples at once by least squares, ``(n, n′)`` float64.

        θ_j = argmin Σ_k (outcome_kj − a − Σᵢ θᵢⱼ [i ∈ I_k])² + λ ‖θ_j‖²

    a linear datamodel (Ilyas et al. 2022, section 2, who take a lasso), λ = ``ridge`` > 0 in networks. Of one example
    with λ → 0 it is :func:`influence_of_seeing`; of several it takes account of who else was seen. Sign and arguments
    as there. Cost: m²·max(t, n) + m³/3 operations, m the less of t and n.

    Raises: ValueError as :func:`influence_of_seeing`, and unless ridge > 0.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
        >>> datamodel(sees, sees[:, :1].double(), ridge=1e-9).round(decimals=6).flatten()
        tensor([1., 0.], dtype=torch.float64)
    """
    outcome = _check(member_sees, outcome, floats=True).double()
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge: expected a finite number above 0, got {ridge}")
    centred = member_sees.double() - member_sees.double().mean(0)
    wide = centred.shape[1] > len(centred)
    gram = centred @ centred.T if wide else centred.T @ centred
    gram.diagonal().add_(ridge)
    solve = lambda b: torch.cholesky_solve(b, torch.linalg.cholesky(gram))
    return centred.T @ solve(outcome) if wide else solve(centred.T @ outcome)


@takes_arrays
def held_out_accuracy(member_sees: Tensor, correct_train: Tensor) -> Tensor:
    """Share of the networks trained without an example that get it right, ``(n,)``: the C-score at one subset size.

    High = regular; NaN where every network saw the example.
    """
    _check(member_sees, correct_train, of_training_rows=True)
    return (~member_sees & correct_train).sum(0).double() / (~member_sees).sum(0)


@takes_arrays
def c_scores(member_sees: Tensor, correct_train: Tensor) -> Tensor:
    """C-score: how surely networks that never saw an example get it right (Jiang et al. 2021). High = regular.

        C(x, y) = E_m E_S [ P(f(x; S without (x, y)) = y) ],   S a random subset of m examples

    estimated as Jiang et al. do: of each size m the share of networks right about an example among those that did not
    see it, then the plain mean over the sizes.

    Args:
        member_sees, correct_train: ``(t, n)`` bool, of networks on random subsets of one size or several.

    Returns: ``(n,)`` float64 in [0, 1]; a size whose every network saw an example does not count for it, and NaN where
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


def _estimate(hits: Tensor, total: Tensor, seen: Tensor, held_out: Tensor, *of_squares: Tensor) -> Estimate:
    """From sums over those that saw it and over all, and those of the squares; of bits these are the same."""
    squares, total_squares = of_squares or (hits, total)
    p, q = hits.double() / seen, (total - hits).double() / held_out  # 0/0 = NaN
    spread = (squares.double() / seen - p**2).clamp_min(0) / (seen - 1)
    spread = spread + ((total_squares - squares).double() / held_out - q**2).clamp_min(0) / (held_out - 1)
    return Estimate(p - q, spread.sqrt(), seen, held_out)


def _check(member_sees: Tensor, correct: Tensor, *, of_training_rows: bool = False, floats: bool = False) -> Tensor:
    """The outcomes: bits as they came, floats less their means, which no difference needs, in float64."""
    take, floats = floats, floats and correct.is_floating_point() and bool(correct.isfinite().all())
    for name, bits in (("member_sees", member_sees), ("correct", correct)):
        if bits.ndim != 2 or not (bits.dtype == torch.bool or (floats and bits is correct)):
            wanted = "booleans or finite floats" if take and bits is correct else "booleans"
            raise ValueError(f"{name} must be {wanted} (networks, examples), got {bits.dtype} {tuple(bits.shape)}")
    if of_training_rows and member_sees.shape != correct.shape:
        shapes = f"{tuple(member_sees.shape)}, got {tuple(correct.shape)}"
        raise ValueError(f"correct_train must have the shape of member_sees, {shapes}")
    if len(member_sees) != len(correct):
        raise ValueError(f"one row a network in both: member_sees has {len(member_sees)}, correct has {len(correct)}")
    if len(correct) >= 2**24:
        raise ValueError(f"at most 2²⁴ networks can be counted in float32, got {len(correct)}")
    return correct.double() - correct.double().mean(0) if floats else correct
