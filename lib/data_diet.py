"""Scores read off a network while it trains: EL2N and forgetting.

Every function returns one score per run and example, ``(E, n)``, so that averaging over runs stays
visible (``.mean(0)``) and its spread can be kept. Sign: high = hard, in all of them.
"""

import torch
from torch import Tensor


def el2n(errors: Tensor) -> Tensor:
    """Norm of the error vector, per run (Paul et al. 2021, definition 2.1 and section 2.2; the mean over runs is EL2N).

        EL2Nᵢ = E ‖softmax(f(xᵢ)) − onehot(yᵢ)‖₂

    Args:
        errors: softmax minus one-hot label, ``(E, n, k)``, as ``Record(errors_at=...)`` keeps them.

    Returns:
        ``(E, n)`` in [0, √2].

    Raises:
        ValueError: if ``errors`` is not three-dimensional.

    Cost: O(E n k).

    Example:
        >>> el2n(torch.tensor([[[-0.5, 0.5], [0.0, 0.0]]]))
        tensor([[0.7071, 0.0000]])
    """
    if errors.ndim != 3:
        raise ValueError(f"errors must be (runs, examples, classes), got {tuple(errors.shape)}")
    return torch.linalg.vector_norm(errors, dim=2)


def forgetting(correct: Tensor, *, never_learned: str = "most") -> Tensor:
    """How often an example goes from classified to misclassified (Toneva et al. 2019; Ki et al. 2023, eq. 10).

        forgettingᵢ = Σₜ 1[correct at t − 1] · 1[wrong at t]

    Args:
        correct: ``(E, T, n)`` bool, correctness at T successive moments (here: the ends of epochs).
        never_learned: ``"most"`` gives an example that is wrong at every moment T, more than any count
            can reach (Toneva et al. rank these last); ``"none"`` leaves the count of eq. 10, which is 0.

    Returns:
        ``(E, n)`` float32 counts.

    Raises:
        ValueError: if ``correct`` is not a three-dimensional bool tensor or the option is unknown.

    Cost: O(E T n).

    Example:
        >>> forgetting(torch.tensor([[[True, False], [False, False], [True, False]]]))
        tensor([[1., 3.]])
    """
    if correct.ndim != 3 or correct.dtype != torch.bool:
        raise ValueError(
            f"correct must be a bool tensor (runs, moments, examples), got {correct.dtype} {tuple(correct.shape)}"
        )
    if never_learned not in ("most", "none"):
        raise ValueError(f"never_learned must be 'most' or 'none', got {never_learned!r}")
    count = (correct[:, :-1] & ~correct[:, 1:]).sum(1).float()
    return torch.where(correct.any(1), count, float(correct.shape[1])) if never_learned == "most" else count
