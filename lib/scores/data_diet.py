"""Scores read off a network at initialization or while it trains: GraNd, EL2N, margin, forgetting.

Every function returns one score per run and example, ``(E, n)``, so that averaging over runs stays visible
(``.mean(0)``) and its spread can be kept. Sign: high = hard, in all of them but ``margin``.
"""

import copy

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.costs import device_of, one_of
from lib.networks import stacked
from lib.scores import takes_arrays

LAYERS = ("last", "all")


@takes_arrays
def grand(
    model: nn.Module, parameters: dict[str, Tensor], x: Tensor, y: Tensor, *, layers: str = "all",
    loss: str = "cross_entropy", device: str = "cpu", chunk: int | None = None, progress: bool = False,
) -> Tensor:  # fmt: skip
    """Norm of the loss gradient of each example over all parameters, per run (Paul et al. 2021, definition 2.1).

        GraNdᵢ = E ‖∇_w ℓ(f_w(xᵢ), yᵢ)‖₂        (the mean over runs, ``grand(…).mean(0)``)

    Args:
        model: an architecture with parameters in linear, convolutional and batch-normalization layers. It is in
            evaluation mode: batch normalization by its running statistics, as they are in ``parameters``.
        parameters: name → ``(E, …)``, of E runs at the epoch in question, such as ``Ensemble.checkpoints[0]``.
        x, y: ``(n, …)``; integer labels ``(n,)``, or ``(E, n)`` where runs have their own.
        layers: ``last`` is what later code often calls GraNd, the gradient over ``model.head`` alone and no substitute:
            ‖p − onehot(y)‖₂ · √(‖h‖² + 1), EL2N times the length of the features h = ``model.features(x)`` and a 1.
        loss: ``cross_entropy`` or ``mse`` (½‖f − onehot‖²). The penalty on the weights is no part of it.
        chunk: examples at a time; ``None`` takes as many as fit into ``gradients.WORKING`` bytes.

    Returns: ``(E, n)``, at least 0, in the unit of the loss over that of a weight.

    Raises: ValueError if the model has parameters in another kind of layer, or shapes disagree, or gradients overflow.

    Cost: about two forward passes a run for dense layers; for a convolution with T positions, d inputs and p outputs
    min(T²(d + p), Tdp) multiplications an example more. Runs go one after another: batching them would gain nothing.

    Example:
        >>> from lib.networks.models import mlp
        >>> still = {"head.weight": torch.zeros(1, 2, 2), "head.bias": torch.zeros(1, 2)}  # p = (½, ½)
        >>> grand(mlp(2, (), classes=2), still, torch.tensor([[3.0, 4.0]]), torch.tensor([0]))  # √½ · √(3² + 4² + 1)
        tensor([[3.6056]])
    """
    one_of("layers", layers, LAYERS)
    how = {"layers": layers, "loss": loss, "device": device, "chunk": chunk, "progress": progress}
    norms = _norms(model, parameters, x, y, **how)
    if norms.dtype != torch.float64 and not norms.isfinite().all():  # squares that float32 does not hold
        wider = {name: value.double() for name, value in parameters.items()}
        norms = _norms(model, wider, x.double(), y, **how).to(norms.dtype)
    if rows := (~norms.isfinite()).nonzero()[:, -1].unique()[:5].tolist():
        raise ValueError(f"x: the gradients of rows {rows} overflow or are no numbers; scale them")
    return norms


def _norms(model, parameters, x, y, *, layers, loss, device, chunk, progress) -> Tensor:
    if layers == "last":
        features, errors = stacked.last_layer(model, parameters, x, y, loss=loss, device=device)
        return torch.linalg.vector_norm(features, dim=2) * torch.linalg.vector_norm(errors, dim=2)
    from lib.numerics import gradients  # here alone: the other scores of this module need no gradient

    net, norms, runs = copy.deepcopy(model).eval().to(device_of(device)), [], stacked.stacked_members(model, parameters)
    y = stacked.labels_by_run(y, runs, len(x))
    states = stacked.members(model, parameters, device=device)
    for e, state in enumerate(tqdm(states, total=runs, unit="run", disable=None if progress else True)):
        dtype = next(iter(state.values())).dtype
        size = chunk or gradients.rows_at_once(net, state, x[:1].to(device, dtype))
        squares = []
        for rows, labels in zip(x.split(size), y[e].split(size), strict=True):
            objective = lambda logits, labels=labels: stacked.errors(logits, labels.to(device), loss)[:, None]
            signals = gradients.signals(net, state, rows.to(device, dtype), objective)
            squares.append(sum(gradients.squared_norms(signal) for signal in signals)[:, 0])
        norms.append(torch.cat(squares).sqrt().cpu())
    return torch.stack(norms)


@takes_arrays
def el2n(errors: Tensor) -> Tensor:
    """Norm of the error vector, per run (Paul et al. 2021, definition 2.3; the mean over runs is EL2N).

        EL2Nᵢ = E ‖softmax(f(xᵢ)) − onehot(yᵢ)‖₂

    Args:
        errors: softmax minus one-hot label, ``(E, n, k)``, as ``Record(errors_at=...)`` keeps them.

    Returns: ``(E, n)`` in [0, √2].

    Raises: ValueError if ``errors`` is not three-dimensional.

    Cost: O(E n k).

    Example:
        >>> el2n(torch.tensor([[[-0.5, 0.5], [0.0, 0.0]]]))
        tensor([[0.7071, 0.0000]])
    """
    if errors.ndim != 3:
        raise ValueError(f"errors must be (runs, examples, classes), got {tuple(errors.shape)}")
    return torch.linalg.vector_norm(errors, dim=2)


@takes_arrays
def margin(outputs: Tensor, y: Tensor) -> Tensor:
    """By how much the label's output exceeds the largest other one, per run (high = easy, below 0 = wrong).

        marginᵢ = f(xᵢ)_y − max_{c ≠ y} f(xᵢ)_c

    Args:
        outputs: logits or probabilities, ``(E, n, k)``, k ≥ 2. y: integer labels ``(n,)`` or ``(E, n)``.

    Returns: ``(E, n)`` in the unit of ``outputs``.

    Raises: ValueError if shapes disagree, or a label is none of the outputs.

    Example:
        >>> margin(torch.tensor([[[2.0, 0.5, 1.0], [0.0, 3.0, 1.0]]]), torch.tensor([0, 2]))
        tensor([[ 1., -2.]])
    """
    if outputs.ndim != 3 or outputs.shape[2] < 2:
        raise ValueError(f"outputs must be (runs, examples, at least 2 classes), got {tuple(outputs.shape)}")
    label = stacked.labels_below(stacked.labels_by_run(y, *outputs.shape[:2]), outputs.shape[2])[..., None]
    others = outputs.scatter(2, label, -torch.inf)
    return (outputs.gather(2, label) - others.amax(2, keepdim=True))[..., 0]


@takes_arrays
def forgetting(correct: Tensor, *, never_learned: str = "most") -> Tensor:
    """How often an example goes from classified to misclassified (Toneva et al. 2019; Ki et al. 2023, eq. 10).

        forgettingᵢ = Σₜ 1[correct at t − 1] · 1[wrong at t]

    The moments decide between two definitions. Toneva et al. look at an example when it is in a minibatch, before the
    step (Paul et al. 2021, section 2.3): ``Ensemble.correct_visits`` with ``Record(visits=True)``. ``Record(correct=
    "epoch")`` looks at all examples at the end of each epoch, as often and on the same weights for all:
    ``Ensemble.correct_train``.

    Args:
        correct: ``(E, T, n)`` bool, correctness at T successive moments.
        never_learned: ``"most"`` gives an example that is wrong at every moment T, more than any count
            can reach (Toneva et al. rank these last); ``"none"`` leaves the count of eq. 10, which is 0.

    Returns: ``(E, n)`` float32 counts.

    Raises: ValueError if ``correct`` is not a three-dimensional bool tensor or the option is unknown.

    Cost: O(E T n).

    Example:
        >>> forgetting(torch.tensor([[[True, False], [False, False], [True, False]]]))
        tensor([[1., 3.]])
    """
    if correct.ndim != 3 or correct.dtype != torch.bool:
        got = f"{correct.dtype} {tuple(correct.shape)}"
        raise ValueError(f"correct must be a bool tensor (runs, moments, examples), got {got}")
    one_of("never_learned", never_learned, ("most", "none"))
    count = (correct[:, :-1] & ~correct[:, 1:]).sum(1).float()
    return torch.where(correct.any(1), count, float(correct.shape[1])) if never_learned == "most" else count


@takes_arrays
def input_norm(x: Tensor) -> Tensor:
    """Length of each example as the network gets it, ``(n,)``: the control for GraNd at initialization (2303.14753).

    Example:
        >>> input_norm(torch.tensor([[[3.0, 4.0]]]))
        tensor([5.])
    """
    return torch.linalg.vector_norm(x.flatten(1), dim=1)
