"""What is kept of a group while it trains: correctness as bits, losses, error vectors, states."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from lib.batched import losses, softmax

ROWS = 1024  # examples evaluated at a time


def targets(y: Tensor, outputs: int, dtype) -> Tensor:
    """What a loss compares with, ``(·, n, k)``, from labels ``(·, n)`` or values ``(·, n[, k])``.

    One-hot rows of the labels, the label itself where there is one output, or the values.
    """
    if y.is_floating_point():
        return (y if y.ndim == 3 else y[..., None]).to(dtype)
    return (nn.functional.one_hot(y, outputs) if outputs > 1 else y[..., None]).to(dtype)


def correct(f: Tensor, y: Tensor, middle: Tensor) -> Tensor:
    """Whether each output ``(E, b, k)`` names the class of ``y (·, b[, k])``; one output is held against ``middle``."""
    if f.shape[-1] == 1:
        return (f[..., 0] > middle) == (y.reshape(*y.shape[:2]) > middle)
    return f.argmax(-1) == (y.argmax(-1) if y.is_floating_point() else y)


class Recorder:
    """Gathers what ``work.record`` asks for of the group ``net``; ``last`` is the final epoch.

    Names of the arrays: ``bits_train (E, T, ⌈n/8⌉)``, ``accuracy_train (E,)`` over the rows that were seen,
    ``loss_train (E, T, n)``, the same for ``test``, ``errors.EPOCH (E, n, k)``, ``checkpoint.EPOCH:NAME`` and
    ``final:NAME (E, …)``.
    """

    def __init__(self, work, net, y: Tensor, sees: Tensor | None, last: int):
        self.work, self.net, self.last = work, net, last
        self.sets = {"train": (work.x, y)} | ({} if work.x_test is None else {"test": (work.x_test, work.y_test[None])})
        self.seen = {"train": True if sees is None else sees.numpy(), "test": True}
        self.middle = (work.y.max() + work.y.min()) / 2  # between the classes of a network with one output
        self.moments: dict[str, list[np.ndarray]] = {}
        self.once: dict[str, np.ndarray] = {}

    def take(self, epoch: int) -> None:
        """Look at the group at the end of ``epoch``, 0 being the start."""
        record, final = self.work.record, epoch == self.last
        kinds = [f"checkpoint.{epoch}"] * (epoch in record.checkpoints_at) + ["final"] * (final and record.parameters)
        for kind in kinds:
            self.once |= {f"{kind}:{name}": value.numpy() for name, value in self.net.export().items()}
        wanted = {
            "correct": final or record.correct == "epoch",
            "loss": record.loss == "epoch" or (final and record.loss == "final"),
            "errors": epoch in record.errors_at,
        }
        for name, (x, y) in self.sets.items():
            found = self._evaluate(
                x, y, {what for what in wanted if wanted[what] and (name, what) != ("test", "errors")}
            )
            if "correct" in found:
                self.moments.setdefault(f"bits_{name}", []).append(np.packbits(found["correct"], axis=1))
            if "loss" in found:
                self.moments.setdefault(f"loss_{name}", []).append(found["loss"])
            if "errors" in found:
                self.once[f"errors.{epoch}"] = found["errors"]
            if final:
                seen = np.broadcast_to(self.seen[name], found["correct"].shape)
                self.once[f"accuracy_{name}"] = (found["correct"] & seen).sum(1) / seen.sum(1)

    def _evaluate(self, x: Tensor, y: Tensor, wanted: set[str]) -> dict[str, np.ndarray]:
        """Correctness, loss and errors of every example, a block of rows at a time."""
        blocks: dict[str, list] = {what: [] for what in wanted}
        for at in range(0, len(x) if wanted else 0, ROWS):
            f, own = self.net.logits(x[at : at + ROWS]), y[:, at : at + ROWS]  # (E, b, k)
            goal = targets(own, f.shape[-1], f.dtype)
            if "correct" in wanted:
                blocks["correct"].append(correct(f, own, self.middle))
            if "loss" in wanted:
                blocks["loss"].append(losses(f, goal, self.work.recipe.loss).float())
            if "errors" in wanted:
                blocks["errors"].append(((softmax(f) if f.shape[-1] > 1 else f) - goal).float())
        return {what: torch.cat(parts, 1).cpu().numpy() for what, parts in blocks.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        return self.once | {name: np.stack(parts, 1) for name, parts in self.moments.items()}


class Visits:
    """Whether each example was right when a batch held it, before the step: ``bits_visits (E, passes, ⌈n/8⌉)``.

    A pass over a member's rows visits each of them once; passes that training begins or ends within are left out.

    Args:
        pool: rows in a pass, of every member of the group. steps: that will be taken.
    """

    def __init__(self, work, members, pool: int, steps: range):
        self.batch, self.pool = work.recipe.batch_size or len(work.x), pool
        self.first = math.ceil(steps.start * self.batch / pool)
        last = max(self.first, steps.stop * self.batch // pool)
        size, self.middle = len(members.seeds), (work.y.max() + work.y.min()) / 2
        self.right = torch.zeros(last - self.first, size, len(work.x), dtype=torch.bool, device=work.device)
        self.range = self.first * pool, last * pool  # places in a member's stream of rows
        self.who = torch.arange(size, device=work.device)

    def take(self, t: int, rows: Tensor, logits: Tensor, target: Tensor) -> None:
        """What step t saw: ``rows (E, B)``, ``logits`` and ``target (E, B, k)``."""
        begin, end = (min(max(0, place - t * self.batch), self.batch) for place in self.range)
        if begin < end:
            place = torch.arange(begin, end, device=rows.device) + t * self.batch
            right = correct(logits[:, begin:end], target[:, begin:end], self.middle)
            self.right[(place // self.pool - self.first)[:, None], self.who, rows[:, begin:end].T] = right.T

    def arrays(self) -> dict[str, np.ndarray]:
        return {"bits_visits": np.packbits(self.right.transpose(0, 1).cpu().numpy(), axis=-1)}
