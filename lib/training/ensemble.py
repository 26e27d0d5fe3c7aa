"""Train many networks that differ in what they see: one call, from two networks on a laptop to thousands on a cluster.

    run = train(mlp(784), (x, y, x_test, y_test), Recipe(lr=0.1, epochs=20), seeds=range(512), sees=sees)

Read in this order: ``recipe`` (the arguments, the conventions of loss and update), ``lib.networks.stacked`` (many
networks as one computation), ``loop`` (one group's training), ``parallel`` (groups over cores, killed and resumed).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lib.costs import bar
from lib.training.parallel import total_steps, train_shards
from lib.training.recipe import Data, Members, Recipe, Record, Run, Start, Work, check, tensor_of


@dataclass(frozen=True)
class Ensemble:
    """E trained networks and what was recorded of them, everything on the CPU.

    Recordings ``final`` have T = 1 moment; those by ``epoch`` have T = epochs + 1, the first being the initialization.
    """

    parameters: dict[str, Tensor] | None  # name → (E, …), running statistics included; None if not kept
    epochs: tuple[int, ...]  # the T moments of correct_train and correct_test
    bits_train: np.ndarray = field(repr=False)  # (E, T, ⌈n/8⌉) packed
    bits_test: np.ndarray | None = field(repr=False)
    n_train: int
    n_test: int
    loss_train: Tensor | None  # (E, T, n) of each example, without the penalty
    loss_test: Tensor | None
    errors: dict[int, Tensor]  # epoch → (E, n, k)
    checkpoints: dict[int, dict[str, Tensor]]  # epoch → parameters
    accuracy_train: Tensor  # (E,) in [0, 1], at the end, over the rows that the member saw, by its own labels
    accuracy_test: Tensor | None  # (E,)
    steps_per_second: float  # model-steps computed (not read from a store) by the wall clock, recording included
    bits_visits: np.ndarray | None = field(default=None, repr=False)  # (E, passes, ⌈n/8⌉)
    state: dict[str, Tensor] | None = field(default=None, repr=False)  # of the optimizer, kind:name → (E, …)

    @property
    def correct_train(self) -> Tensor:
        """Whether each member is right about each training example, by the member's own labels: ``(E, T, n)`` bool."""
        return _unpacked(self.bits_train, self.n_train)

    @property
    def correct_test(self) -> Tensor | None:
        """Whether each member is right about each test example: ``(E, T, n_test)`` bool."""
        return _unpacked(self.bits_test, self.n_test)

    @property
    def correct_visits(self) -> Tensor | None:
        """Whether each training example was right at its visits: ``(E, passes, n)`` bool; unseen rows are False."""
        return _unpacked(self.bits_visits, self.n_train)


def _unpacked(bits: np.ndarray | None, count: int) -> Tensor | None:
    return None if bits is None else torch.from_numpy(np.unpackbits(bits, axis=-1, count=count).view(bool))


def train(
    model: nn.Module, data: Data | tuple, recipe: Recipe, seeds: Sequence[int], *,
    sees: Tensor | None = None, masked: bool = False, labels: Tensor | None = None, weights: Tensor | None = None,
    start: Start | None = None, record: Record = Record(), run: Run = Run(),
) -> Ensemble:  # fmt: skip
    """Train E copies of ``model``, each by its own seed, on its own rows, with its own labels, from its own weights.

    A member's result depends on its own arguments alone: not on the others, their order, ``run``, or interruptions.
    (To rounding, which groups of other sizes may change, and convolutional networks fewer than the cores.)

    Args:
        model: a template; its weights are ignored. Chains of linear layers are trained as batched matrix products.
        data: ``(x, y)`` or ``(x, y, x_test, y_test)`` as in ``recipe.Data``, or a ``lib.data`` set. A network with one
            output is right where it is on the label's side of the labels' middle.
        recipe: how to train, and the loss.
        seeds: E integers ≥ 0; each draws a member's initial weights, batches and augmentation.
        sees: ``(E, n)`` bool; member e draws its batches from its rows alone, in reshuffled passes.
        masked: instead draw batches from all rows, as if nobody missed any, and give unseen rows weight 0 (the mean
            stays over B): leaving one out with everything else, the order of batches included, unchanged.
        labels: ``(E, n)``, per-member labels in place of y.
        weights: ``(E, n)``, of each row's loss: (1/B) Σ_b weight_b ℓ_b. Not normalized: 1 leaves things as they are.
        start: weights to start from, and the epochs to train; a whole training from the seeds' weights if ``None``.
        record: what to keep.
        run: where and by what means.

    Raises: ValueError if shapes, types or options do not fit together, the model draws random numbers while training
    (dropout).

    Memory: results, and ``run.chunk`` members at work on each core; the data once.

    Example:
        >>> x, y = torch.randn(64, 8), torch.arange(64) % 2
        >>> trained = train(nn.Linear(8, 2), (x, y), Recipe(lr=0.1, epochs=1), [0, 1], run=Run(progress=False))
        >>> trained.correct_train.shape
        torch.Size([2, 1, 64])
    """
    start, given = start or Start(), {"sees": sees, "labels": labels, "weights": weights}
    own = {k: tensor_of(v, k).cpu() for k, v in given.items() if v is not None}
    members = Members([int(seed) for seed in seeds], **own, parameters=start.parameters, state=start.state)
    work = Work(model, Data.of(data), recipe, record, run, masked, start.after, start.until)
    check(work, members)
    begun = time.perf_counter()
    with bar(total=total_steps(work, members), unit="step", unit_scale=True, progress=run.progress) as shown:
        shards, steps = train_shards(work, members, shown.update)
    work.steppers.clear()  # which hold this work in turn: the memory of what a GPU has captured is free at once
    return _assemble(shards, work, steps / (time.perf_counter() - begun))


def _assemble(shards: list[dict], work: Work, rate: float) -> Ensemble:
    """The shards' arrays, joined along the members."""
    joined = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    tensors = {name: torch.from_numpy(value) for name, value in joined.items() if not name.startswith("bits")}
    kinds: dict[str, dict] = {}
    for name, value in tensors.items():
        kind, _, parameter = name.partition(":")
        kinds.setdefault(kind, {})[parameter] = value
    of_epochs = lambda what: {int(kind.removeprefix(what)): kinds[kind] for kind in kinds if kind.startswith(what)}
    (first, last), moments = work.span(), joined["bits_train"].shape[1]
    state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
    return Ensemble(
        parameters=kinds.get("final"), epochs=tuple(range(first, last + 1)) if moments > 1 else (last,),
        bits_train=joined["bits_train"], bits_test=joined.get("bits_test"),
        n_train=work.n, n_test=0 if work.data.x_test is None else len(work.data.x_test),
        loss_train=tensors.get("loss_train"), loss_test=tensors.get("loss_test"),
        errors={epoch: value[""] for epoch, value in sorted(of_epochs("errors.").items())},
        checkpoints=dict(sorted(of_epochs("checkpoint.").items())),
        accuracy_train=tensors["accuracy_train"], accuracy_test=tensors.get("accuracy_test"), steps_per_second=rate,
        bits_visits=joined.get("bits_visits"), state=state or None,
    )  # fmt: skip
