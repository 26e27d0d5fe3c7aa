"""Train many networks that differ in what they see: one call, from two networks on a laptop to thousands on a cluster.

    run = train(mlp(784), x, y, x_test, y_test, recipe=Recipe(lr=0.1, epochs=20), seeds=range(512), member_sees=sees)

The parts, in the order in which to read them: ``lib.training.recipe`` (how to train, what to keep, and the conventions of loss
and update), ``lib.training.recipe`` (the arguments), ``lib.networks.stacked`` and ``lib.networks.stacked`` (many networks as one computation),
``lib.training.loop`` (batches), ``lib.training.loop``, ``lib.training.loop``, ``lib.training.loop`` (these put together: one group's
training), ``lib.training.parallel`` (groups over cores), ``lib.training.parallel`` (killed and resumed, other machines).
"""

import os
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.networks.stacked import chain
from lib.training.parallel import total_steps, train_shards
from lib.training.recipe import Members, Recipe, Record, Work, check


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
        return torch.from_numpy(np.unpackbits(self.bits_train, axis=-1, count=self.n_train).view(bool))

    @property
    def correct_test(self) -> Tensor | None:
        """Whether each member is right about each test example: ``(E, T, n_test)`` bool."""
        if self.bits_test is None:
            return None
        return torch.from_numpy(np.unpackbits(self.bits_test, axis=-1, count=self.n_test).view(bool))

    @property
    def correct_visits(self) -> Tensor | None:
        """Whether each training example was right at its visits: ``(E, passes, n)`` bool; unseen rows are False."""
        if self.bits_visits is None:
            return None
        return torch.from_numpy(np.unpackbits(self.bits_visits, axis=-1, count=self.n_train).view(bool))


def train(
    model: nn.Module,
    x_train: Tensor,
    y_train: Tensor,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    *,
    recipe: Recipe,
    seeds,
    member_sees: Tensor | None = None,
    masked: bool = False,
    labels: Tensor | None = None,
    weights: Tensor | None = None,
    initial: dict[str, Tensor] | None = None,
    state: dict[str, Tensor] | None = None,
    start: int = 0,
    stop: int | None = None,
    record: Record = Record(),  # noqa: B008 (frozen)
    device: str = "cpu",
    precision: str = "float32",
    chunk: int | None = None,
    store=None,
    scheduler=None,
    wide: bool = False,
    progress: bool = True,
) -> Ensemble:
    """Train E copies of ``model``, each by its own seed, on its own rows, with its own labels, from its own weights.

    A member's result depends on its own arguments alone: not on the others, their order, ``chunk``, or interruptions.
    (On one machine to the bit; only convolutional networks fewer than the cores, which share these, may round
    otherwise.)

    Args:
        model: a template; its weights are ignored. Chains of linear layers are trained as batched matrix products.
        x_train, y_train: ``(n, …)`` float, and ``(n,)`` int64 classes; for ``mse`` also float values ``(n,)`` or
            ``(n, k)``. A network with one output is right where it is on the label's side of the labels' middle.
        x_test, y_test: what else to evaluate on.
        recipe: how to train, and the loss; see ``lib.training.recipe``.
        seeds: E integers ≥ 0; each draws a member's initial weights, batches and augmentation.
        member_sees: ``(E, n)`` bool; member e draws its batches from its rows alone, in reshuffled passes.
        masked: instead draw batches from all rows, as if nobody missed any, and give unseen rows weight 0 (the mean
            stays over B): leaving one out with everything else, the order of batches included, unchanged.
        labels: ``(E, n)``, per-member labels in place of ``y_train``.
        weights: ``(E, n)``, of each row's loss: (1/B) Σ_b weight_b ℓ_b. Not normalized: 1 leaves things as they are.
        initial: name → ``(E, …)``, weights to start from, as in ``Ensemble.parameters``.
        state: the optimizer's, to go on with, as in ``Ensemble.state`` (``Record(state=True)``); at rest if ``None``.
        start, stop: train from the end of one epoch to the end of another, with the learning rates and the batches
            that these epochs have in the whole training: with ``initial`` and ``state`` of a run that stopped at
            ``start``, what follows is what would have followed. Penalties to ``init`` pull towards ``initial`` at rest.
        record: what to keep.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: ``float32``, ``float64``, or, on a GPU, ``bfloat16``: factors of products and convolutions are
            rounded to it, what is kept is float32.
        chunk: members computed side by side, at most; chosen from the free memory and by measurement if ``None``.
        store: a ``lib.store.Store``; finished shards are kept there, and a killed run goes on after the last of them.
        scheduler: address of a Dask scheduler (``tcp://…``), a ``distributed.Client``, or ``local`` for one process a
            core; the shards are trained by its workers, each on its own ``device``.
        wide: train networks with convolutions as one of many channels: up to twice as fast for narrow ones on a CPU
            (``lib.networks.stacked``); members then depend on ``chunk`` and company by rounding.
        progress: show a bar, in model-steps.

    Raises:
        ValueError: if shapes, types or options do not fit together, the model draws random numbers while training
            (dropout).

    Memory: results, and ``chunk`` members at work on each core; the data once.

    Example:
        >>> x, y = torch.randn(64, 8), torch.arange(64) % 2
        >>> run = train(nn.Linear(8, 2), x, y, recipe=Recipe(lr=0.1, epochs=1), seeds=[0, 1], progress=False)
        >>> run.correct_train.shape
        torch.Size([2, 1, 64])
    """
    here = lambda value: None if value is None else torch.as_tensor(value).cpu()
    members = Members([int(seed) for seed in seeds], here(member_sees), here(labels), initial, here(weights), state)
    work = Work(
        model, recipe, record, x_train, y_train, x_test, y_test, masked, precision, device, chain(model), start, stop,
        wide,
    )  # fmt: skip
    check(work, members)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    total, start = total_steps(work, members), time.perf_counter()
    silent = not progress or "TQDM_DISABLE" in os.environ  # which tqdm's notebook bar does not look at itself
    with tqdm(total=total, unit="step", unit_scale=True, disable=silent) as bar:
        shards, steps = train_shards(work, members, chunk=chunk, store=store, scheduler=scheduler, tick=bar.update)
    return _assemble(shards, work, steps / (time.perf_counter() - start))


def _assemble(shards: list[dict], work: Work, rate: float) -> Ensemble:
    """The shards' arrays, joined along the members."""
    joined = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    tensors = {name: torch.from_numpy(value) for name, value in joined.items() if not name.startswith("bits")}
    kinds: dict[str, dict] = {}
    for name, value in tensors.items():
        kind, _, parameter = name.partition(":")
        kinds.setdefault(kind, {})[parameter] = value
    numbered = lambda prefix: {
        int(kind.removeprefix(prefix)): value for kind, value in kinds.items() if kind.startswith(prefix)
    }
    (first, last), moments = work.span(), joined["bits_train"].shape[1]
    state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
    return Ensemble(
        parameters=kinds.get("final"), epochs=tuple(range(first, last + 1)) if moments > 1 else (last,),
        bits_train=joined["bits_train"], bits_test=joined.get("bits_test"),
        n_train=len(work.x), n_test=0 if work.x_test is None else len(work.x_test),
        loss_train=tensors.get("loss_train"), loss_test=tensors.get("loss_test"),
        errors={epoch: value[""] for epoch, value in sorted(numbered("errors.").items())},
        checkpoints=dict(sorted(numbered("checkpoint.").items())),
        accuracy_train=tensors["accuracy_train"], accuracy_test=tensors.get("accuracy_test"), steps_per_second=rate,
        bits_visits=joined.get("bits_visits"), state=state or None,
    )  # fmt: skip
