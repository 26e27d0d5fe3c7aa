"""Label noise: noisy labels ``(n,)``, and ``flipped (n,)``, True where a label was really replaced.

Of the labels ``y (n,)``, integers, exactly ``round(fraction · n)`` are drawn, 0 ≤ fraction ≤ 1. Drawing is numpy's,
whose streams are stable; a seed is passed in.
"""

import numpy as np
import torch
from torch import Tensor

NOISE = 3  # random stream of a seed, apart from those that `lib.data` draws rows with


def uniform_noise(y: Tensor, fraction: float, *, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Each label drawn is replaced by one of the ``k − 1`` other classes 0…k−1, all equally likely.

    Example:
        >>> uniform_noise(torch.zeros(4, dtype=torch.int64), 0.5, k=2, seed=0)[0].sum()
        tensor(2)
    """
    chosen, rng = drawn(y, fraction, seed)
    if k < 2:
        raise ValueError(f"k: expected at least 2 classes, got {k}")
    if y.min() < 0 or y.max() >= k:
        raise ValueError(f"y: expected labels 0…{k - 1}, got {y.min()}…{y.max()}")
    shift = torch.from_numpy(rng.integers(1, k, len(chosen))).to(y.device)
    noisy = y.clone()
    noisy[chosen] = ((y[chosen].long() + shift) % k).to(y.dtype)
    return noisy, noisy != y


def drawn(y, fraction, seed):
    """The rows drawn, and the generator that drew them."""
    if y.ndim != 1 or not len(y) or y.dtype.is_floating_point or y.dtype == torch.bool:
        raise ValueError(f"y: expected integer labels (n,), n ≥ 1, got {y.dtype} {tuple(y.shape)}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: expected 0 to 1, got {fraction}")
    rng = np.random.default_rng((seed, NOISE))
    return torch.from_numpy(rng.permutation(len(y))[: round(fraction * len(y))]), rng
