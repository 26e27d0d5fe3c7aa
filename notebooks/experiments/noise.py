"""Notebooks 05, 07, 15 and 17: labels that are wrong in other ways than at random (``lib.data.noise``)."""

import torch
from torch import Tensor

from lib.data.noise import drawn


def permuted_noise(y: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """The labels drawn are permuted among themselves: the class counts stay, and about one label in k is not flipped.

    The random-label experiments of Paul et al. 2021 ("Deep learning on a data diet", appendix) do this with 10%.

    Example:
        >>> noisy, flipped = permuted_noise(torch.arange(5), 1.0, seed=0)
        >>> noisy.sort().values
        tensor([0, 1, 2, 3, 4])
    """
    chosen, rng = drawn(y, fraction, seed)
    noisy = y.clone()
    noisy[chosen] = y[chosen[torch.from_numpy(rng.permutation(len(chosen)))]]
    return noisy, noisy != y


def paired_noise(y: Tensor, fraction: float, partner: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Each label drawn becomes its class's ``partner``: for each class 0…k−1 another one, as of :func:`nearest_class`.

    Example:
        >>> paired_noise(torch.tensor([0, 1, 2]), 1.0, torch.tensor([2, 0, 1]), seed=0)[0]
        tensor([2, 0, 1])
    """
    chosen, _ = drawn(y, fraction, seed)
    if partner.ndim != 1 or y.max() >= len(partner) or (partner == torch.arange(len(partner))).any():
        raise ValueError(f"partner: expected another class for each of {int(y.max()) + 1}, got {partner.tolist()}")
    noisy = y.clone()
    noisy[chosen] = partner[y[chosen]].to(y.dtype)
    return noisy, noisy != y


def nearest_class(x: Tensor, y: Tensor) -> Tensor:
    """For each class the other one whose mean example is most alike (cosine), ``(k,)``: what one would confuse it with.

    Example:
        >>> nearest_class(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 1, 2]))
        tensor([1, 0, 1])
    """
    means = torch.stack([x[y == c].flatten(1).mean(0) for c in range(int(y.max()) + 1)])
    unit = torch.nn.functional.normalize(means, dim=1)
    return (unit @ unit.T).fill_diagonal_(-torch.inf).argmax(1)
