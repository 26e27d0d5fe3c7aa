"""The complexity-gap (CG) score of Ki, Choi and Chung (ICLR 2023), for every class from one factorization.

Conventions: inputs are scaled to unit length inside; labels are one against the rest, +1 for the class of the
example that is scored and −1 for all others; positive scores only, and larger = more irregular.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CGScores:
    """Scores and their three terms (eq. 6), each ``(n,)`` or ``(r, n)``; ``score = quadratic + partial + diagonal``."""

    score: Tensor
    quadratic: Tensor  # d⁻¹(y₋ᵢᵀhᵢ)²
    partial: Tensor  # 2yᵢ(y₋ᵢᵀhᵢ), the "partial CG-score": positive = looks mislabelled
    diagonal: Tensor  # yᵢ²dᵢ
    spread: Tensor  # standard deviation of the score over runs; 0 where exact


def relu_gram(x: Tensor) -> Tensor:
    """``H∞ᵢⱼ = xᵢᵀxⱼ (π − arccos xᵢᵀxⱼ) / 2π`` (eq. 1) of the rows of x ``(n, …)``, made unit length."""
    x = torch.nn.functional.normalize(x.flatten(1), dim=1)
    cosine = (x @ x.T).clamp_(-1, 1)
    cosine.diagonal().fill_(1)
    return torch.acos(cosine).neg_().add_(math.pi).mul_(cosine).div_(2 * math.pi)


def one_vs_rest(y: Tensor) -> tuple[Tensor, Tensor]:
    """Signs ``(n, k)``, +1 in the column of the example's class and −1 elsewhere, and each row's column ``(n,)``."""
    classes, column = y.unique(return_inverse=True)
    return 2.0 * torch.nn.functional.one_hot(column, len(classes)) - 1, column


def cg_scores(
    x, y, *, negatives=None, runs=1, seed=0, dtype=None, device=None, jitter=0.0, block=None, progress=False
) -> CGScores:
    """Exact CG-score of every example (dense; the blocked and subsampled forms follow)."""
    if negatives is not None:
        raise NotImplementedError("subsampled scores are on their way")
    y = torch.as_tensor(y)
    gram = relu_gram(torch.as_tensor(x).to(device=device, dtype=dtype or torch.float32))
    gram.diagonal().add_(jitter)
    inverse = torch.linalg.inv(gram)
    d, own = inverse.diagonal(), []
    for labels in y.reshape(-1, y.shape[-1]).to(gram.device):
        signs, column = one_vs_rest(labels)
        own.append((inverse @ signs.to(gram.dtype)).gather(1, column[:, None])[:, 0])
    v = torch.stack(own).reshape(y.shape)
    d = d.expand_as(v)
    return CGScores(v**2 / d, (v - d) ** 2 / d, 2 * (v - d), d.clone(), torch.zeros_like(v))


def cg_prime(x, y, *, dtype=None, device=None) -> Tensor:
    """``CG′(i) = yᵀHy − y₋ᵢᵀH₋ᵢy₋ᵢ = 2yᵢ(gᵢᵀy₋ᵢ) + yᵢ²cᵢ``: the score with H∞ in place of its inverse; ``(n,)``."""
    gram = relu_gram(torch.as_tensor(x).to(device=device, dtype=dtype or torch.float32))
    signs, column = one_vs_rest(torch.as_tensor(y).to(gram.device))
    return 2 * (gram @ signs.to(gram.dtype)).gather(1, column[:, None])[:, 0] - gram.diagonal()
