"""Train many networks that differ in what they see. See ``train``; recipes and what is kept: ``lib.recipe``."""

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lib.batched import Flat, initialize, loss_gradient, losses, network
from lib.recipe import Recipe, Record

__all__ = ["Ensemble", "Recipe", "Record", "features", "predict", "train"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Ensemble:
    """E trained networks and what was recorded of them at T moments (T = 1 for ``final``).

    ``epochs`` names the T moments of ``correct_*``; 0 is the initialization. Correctness is kept as packed bits.
    """

    parameters: dict[str, Tensor] | None
    epochs: tuple[int, ...]
    bits_train: np.ndarray = field(repr=False)  # (E, T, ⌈n/8⌉)
    bits_test: np.ndarray | None = field(repr=False)
    n_train: int
    n_test: int
    loss_train: Tensor | None
    loss_test: Tensor | None
    errors: dict[int, Tensor]
    checkpoints: dict[int, dict[str, Tensor]]
    accuracy_train: Tensor
    accuracy_test: Tensor | None
    steps_per_second: float

    @property
    def correct_train(self) -> Tensor:
        """``(E, T, n)`` bool."""
        return torch.from_numpy(np.unpackbits(self.bits_train, axis=-1, count=self.n_train).view(bool))

    @property
    def correct_test(self) -> Tensor | None:
        """``(E, T, n_test)`` bool."""
        if self.bits_test is None:
            return None
        return torch.from_numpy(np.unpackbits(self.bits_test, axis=-1, count=self.n_test).view(bool))


class _Batches:
    """A member's stream of batches: its rows, reshuffled every pass, cut into full batches across the passes."""

    def __init__(self, rows, batch, seed):
        self.rows, self.batch = rows, batch
        self.rng, self.left = np.random.default_rng([int(seed), 0]), rows[:0]

    def take(self, steps):
        need, parts, have = steps * self.batch, [self.left], len(self.left)
        while have < need:
            parts.append(self.rng.permutation(self.rows))
            have += len(self.rows)
        stream = np.concatenate(parts)
        self.left = stream[need:]
        return stream[:need].reshape(steps, self.batch)


def _augment(x, kind, rng_list, size):
    """Crop (pad by 4) and flip a batch of images ``(E·B, c, h, w)``; each member draws from its own generator."""
    offsets = torch.from_numpy(np.concatenate([r.integers(0, 9, (size, 2)) for r in rng_list])).to(x.device)
    flips = torch.from_numpy(np.concatenate([r.integers(0, 2, size).astype(bool) for r in rng_list])).to(x.device)
    n, c, h, w = x.shape
    rows, cols = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
    cols = cols.expand(n, w)
    if "flip" in kind:
        cols = torch.where(flips[:, None], w - 1 - cols, cols)
    rows = rows.expand(n, h)
    if "crop" in kind:
        x = nn.functional.pad(x, (4, 4, 4, 4))
        rows, cols = rows + offsets[:, :1], cols + offsets[:, 1:]
    n_, c_ = (
        torch.arange(n, device=x.device)[:, None, None, None],
        torch.arange(c, device=x.device)[None, :, None, None],
    )
    return x[n_, c_, rows[:, None, :, None], cols[:, None, None, :]]


class _Update:
    """The optimizer of a group on flat buffers. ``gradient(into, beta)`` computes ``into ← β·into + g``."""

    def __init__(self, recipe, state, trained):
        self.r, self.w, self.t = recipe, state, 0
        self.v = trained.like()
        self.g = trained.like() if recipe.nesterov or recipe.optimizer != "sgd" else None
        self.s = trained.like().buffer if recipe.optimizer != "sgd" else None
        self.reference = state.buffer.clone() if recipe.weight_decay and recipe.decay_to == "init" else None

    def _decay(self, into):
        if self.r.weight_decay:
            into.add_(self.w.buffer, alpha=self.r.weight_decay)
            if self.reference is not None:
                into.sub_(self.reference, alpha=self.r.weight_decay)

    def step(self, gradient, lr):
        r, w = self.r, self.w.buffer
        self.t += 1
        into = self.v if self.g is None else self.g
        gradient(into, r.momentum if self.g is None else 0.0)
        self._decay(into.buffer)
        g, v = into.buffer, self.v.buffer
        if self.g is None:
            w.sub_(v, alpha=lr)
        elif r.optimizer == "sgd":
            v.mul_(r.momentum).add_(g)
            w.sub_(g.add_(v, alpha=r.momentum), alpha=lr)
        elif r.optimizer == "adam":
            b1, b2 = r.betas
            v.lerp_(g, 1 - b1)
            self.s.mul_(b2).addcmul_(g, g, value=1 - b2)
            root = torch.sqrt(self.s, out=g).div_(math.sqrt(1 - b2**self.t)).add_(r.eps)
            w.addcdiv_(v, root, value=-lr / (1 - b1**self.t))
        else:
            self.s.mul_(r.alpha).addcmul_(g, g, value=1 - r.alpha)
            v.mul_(r.momentum).addcdiv_(g, self.s.sqrt().add_(r.eps))
            w.sub_(v, alpha=lr)


def _correct(logits, y, middle):
    if logits.shape[-1] == 1:
        return (logits[..., 0] > middle) == (y.reshape(*y.shape[: logits.ndim - 1]) > middle)
    return logits.argmax(-1) == (y.argmax(-1) if y.is_floating_point() else y)


def _target(y, loss, outputs, dtype):
    if loss == "mse" and (outputs == 1 or y.is_floating_point()):
        return y.to(dtype).reshape(*y.shape, 1) if y.ndim < 2 or outputs == 1 and y.shape[-1] != 1 else y.to(dtype)
    return y


def _steps(recipe, seen, n):
    """Steps in all, steps an epoch."""
    batch = recipe.batch_size
    if recipe.iterations is not None:
        return recipe.iterations, 1 if batch is None else math.ceil(n / batch)
    per_epoch = 1 if batch is None else math.ceil(seen / batch)
    return recipe.epochs * per_epoch, per_epoch


def _train_group(net, model, data, recipe, record, seeds, sees, masked, labels, initial, dtype, device, tick):
    """Train members that take equally many steps side by side; returns the recorded arrays."""
    x, y, x_test, y_test = data
    members, n, batch = len(seeds), len(x), recipe.batch_size
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items() if v.is_floating_point()}
    trained = {k: v for k, v in shapes.items() if k in dict(model.named_parameters())}
    state = Flat(trained, members, dtype=dtype, device=device)
    for e, seed in enumerate(seeds):
        start = initialize(model, int(seed)) if initial is None else {k: v[e] for k, v in initial.items()}
        for name in trained:
            state[name][e].copy_(start[name])
    outputs = net.logits(state, x[:1]).shape[-1]
    seen = torch.ones(members, n, dtype=torch.bool) if sees is None else sees
    counts = seen.sum(1)
    steps, per_epoch = _steps(recipe, n if masked else int(counts[0]), n)
    last = math.ceil(steps / per_epoch)
    own = (y[None] if labels is None else labels).to(device)
    target = _target(own, recipe.loss, outputs, dtype)
    weights = None
    if sees is not None and (masked or batch is None):
        weights = seen.to(device=device, dtype=dtype)
        weights = (
            weights / n
            if batch is None and masked
            else weights / (counts.to(device)[:, None] if batch is None else batch)
        )
    streams = (
        []
        if batch is None
        else [
            _Batches(np.arange(n) if masked or sees is None else np.flatnonzero(s.numpy()), batch, seed)
            for s, seed in zip(seen, seeds)
        ]
    )
    generators = [np.random.default_rng([int(seed), 1]) for seed in seeds]
    member = torch.arange(members, device=device)[:, None]
    update = _Update(recipe, state, state)
    kept = _Kept(record, last)
    kept.take(0, net, state, data, own, recipe, dtype)
    t = 0
    for epoch in range(1, last + 1):
        now = min(per_epoch, steps - t)
        if batch is not None:
            order = torch.from_numpy(np.stack([s.take(now) for s in streams], 1)).to(device)  # (steps, E, B)
        for i in range(now):
            if batch is None:
                xb, tb, cb = x.expand(members, *x.shape), target.expand(members, *target.shape[1:]), weights
                size = n
            else:
                index, size = order[i], batch
                xb = x.index_select(0, index.view(-1))
                tb = target[0][index] if labels is None else target[member, index]
                cb = None if weights is None else weights[member, index]
            if recipe.augment:
                xb = _augment(xb.reshape(-1, *x.shape[1:]), recipe.augment, generators, size)
            xb = xb.reshape(members, size, -1) if net.flat_input else xb.reshape(members, size, *x.shape[1:])
            cb = torch.full((members, 1, 1), 1 / size, dtype=dtype, device=device) if cb is None else cb[..., None]
            call = lambda into, beta: net.gradient_(into, state, xb, tb, cb, recipe.loss, beta)  # noqa: B023
            update.step(call, recipe.lr * recipe.factor(t, steps=steps, per_epoch=per_epoch))
            t += 1
            tick(members)
        kept.take(epoch, net, state, data, own, recipe, dtype)
    return kept.finish(state, seen)


class _Kept:
    """What ``Record`` asks for, gathered while a group trains."""

    def __init__(self, record, last):
        self.record, self.last = record, last
        self.correct, self.loss, self.errors, self.checkpoints = (
            {"train": [], "test": []},
            {"train": [], "test": []},
            {},
            {},
        )
        self.epochs = []

    def take(self, epoch, net, state, data, own, recipe, dtype):
        record, final = self.record, epoch == self.last
        if epoch in record.checkpoints_at:
            self.checkpoints[epoch] = {k: v.clone().cpu() for k, v in state.views.items()}
        want_correct, want_loss = (
            final or record.correct == "epoch",
            record.loss is not None and (final or record.loss == "epoch"),
        )
        if not (want_correct or want_loss or epoch in record.errors_at):
            return
        if want_correct:
            self.epochs.append(epoch)
        x, y, x_test, y_test = data
        for name, rows, labels in (("train", x, own), ("test", x_test, None if y_test is None else y_test[None])):
            if rows is None:
                continue
            middle = (labels.max() + labels.min()) / 2
            correct, loss, errors = [], [], []
            for at in range(0, len(rows), 4096):
                cut = slice(at, at + 4096)
                part = rows[cut].flatten(1) if net.flat_input else rows[cut]
                f = net.logits(state, part)
                lab = labels[:, cut].expand(f.shape[0], *labels[:, cut].shape[1:])
                correct.append(_correct(f, lab, middle).cpu())
                target = _target(lab, recipe.loss, f.shape[-1], dtype)
                if want_loss:
                    loss.append(losses(f, target, recipe.loss).float().cpu())
                if name == "train" and epoch in record.errors_at:
                    errors.append(loss_gradient(f, target, "cross_entropy").float().cpu())
            correct = torch.cat(correct, 1)
            if final:
                setattr(self, f"last_{name}", correct)
            if want_correct:
                self.correct[name].append(np.packbits(correct.numpy(), axis=-1))
            if want_loss:
                self.loss[name].append(torch.cat(loss, 1))
            if errors:
                self.errors[epoch] = torch.cat(errors, 1)

    def finish(self, state, seen):
        out = {"epochs": np.array(self.epochs)}
        for name in ("train", "test"):
            if self.correct[name]:
                out[f"bits_{name}"] = np.stack(self.correct[name], 1)
            if self.loss[name]:
                out[f"loss_{name}"] = torch.stack(self.loss[name], 1).numpy()
        out["accuracy_train"] = ((self.last_train & seen).sum(1) / seen.sum(1)).numpy()
        if self.correct["test"]:
            out["accuracy_test"] = self.last_test.float().mean(1).numpy()
        for epoch, value in self.errors.items():
            out[f"errors/{epoch}"] = value.numpy()
        for epoch, values in self.checkpoints.items():
            out |= {f"checkpoint/{epoch}/{k}": v.numpy() for k, v in values.items()}
        if self.record.parameters:
            out |= {f"parameter/{k}": v.cpu().numpy() for k, v in state.views.items()}
        return out


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
    initial: dict[str, Tensor] | None = None,
    record: Record = Record(),  # noqa: B008 (frozen)
    device: str = "cpu",
    precision: str = "float32",
    chunk: int | None = None,
    store=None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Ensemble:
    """Train E copies of ``model``; member e is decided by its own seed, rows, labels and initial weights alone."""
    if store is not None or scheduler is not None:
        raise NotImplementedError("store and scheduler are being built")
    dtype = DTYPES[precision]
    seeds = [int(s) for s in seeds]
    n, members = len(x_train), len(seeds)
    sees = None if member_sees is None else torch.as_tensor(member_sees)
    if sees is not None and tuple(sees.shape) != (members, n):
        raise ValueError(f"member_sees must be ({members}, {n}), got {tuple(sees.shape)}")
    if sees is not None and not sees.any(1).all():
        raise ValueError("member_sees: every member must see at least one row")
    net = network(model)
    move = lambda v: None if v is None else v.to(device=device, dtype=dtype if v.is_floating_point() else v.dtype)
    data = tuple(map(move, (x_train, y_train, x_test, y_test)))
    if net.flat_input and not recipe.augment:
        data = (data[0].flatten(1), data[1], None if x_test is None else data[2].flatten(1), data[3])
    seen = [n if sees is None or masked else int(c) for c in (sees.sum(1) if sees is not None else [n] * members)]
    by_steps: dict[tuple, list[int]] = {}
    for e in range(members):
        by_steps.setdefault(_steps(recipe, seen[e], n), []).append(e)
    size = chunk or 8
    done, total = {}, sum(steps * len(group) for (steps, _), group in by_steps.items())
    began = time.perf_counter()
    with tqdm(total=total, unit="step", disable=not progress, smoothing=0.05) as bar, torch.no_grad():
        for group in by_steps.values():
            for at in range(0, len(group), size):
                who = group[at : at + size]
                done[tuple(who)] = _train_group(
                    net, model, data, recipe, record, [seeds[e] for e in who], None if sees is None else sees[who], masked,
                    None if labels is None else torch.as_tensor(labels)[who],
                    None if initial is None else {k: v[who] for k, v in initial.items()}, dtype, device, bar.update,
                )  # fmt: skip
    return _assemble(done, members, n, 0 if x_test is None else len(x_test), total / (time.perf_counter() - began))


def _assemble(done, members, n, n_test, rate):
    order = np.argsort(np.concatenate([np.array(who) for who in done]))
    parts = list(done.values())
    join = lambda key: np.concatenate([p[key] for p in parts])[order]
    under = lambda prefix: {k[len(prefix) :]: torch.from_numpy(join(k)) for k in parts[0] if k.startswith(prefix)}
    tensor = lambda key: torch.from_numpy(join(key)) if key in parts[0] else None
    checkpoints: dict[int, dict] = {}
    for key, value in under("checkpoint/").items():
        epoch, name = key.split("/", 1)
        checkpoints.setdefault(int(epoch), {})[name] = value
    return Ensemble(
        parameters=under("parameter/") or None, epochs=tuple(parts[0]["epochs"].tolist()),
        bits_train=join("bits_train"), bits_test=join("bits_test") if n_test else None, n_train=n, n_test=n_test,
        loss_train=tensor("loss_train"), loss_test=tensor("loss_test"),
        errors={int(k): v for k, v in under("errors/").items()}, checkpoints=checkpoints,
        accuracy_train=tensor("accuracy_train"), accuracy_test=tensor("accuracy_test"), steps_per_second=rate,
    )  # fmt: skip


def predict(model, parameters, x, *, device="cpu", chunk=None) -> Tensor:
    """Logits ``(E, n, k)`` of E members with stacked ``parameters`` on ``x``."""
    return _apply("logits", model, parameters, x, device, chunk)


def features(model, parameters, x, *, device="cpu", chunk=None) -> Tensor:
    """Penultimate features ``(E, n, d)`` of E members on ``x``."""
    return _apply("features", model, parameters, x, device, chunk)


@torch.no_grad()
def _apply(what, model, parameters, x, device, chunk):
    net = network(model)
    members = len(next(iter(parameters.values())))
    dtype = next(iter(parameters.values())).dtype
    size, out = chunk or 8, []
    x = x.to(device=device, dtype=dtype)
    x = x.flatten(1) if net.flat_input else x
    for at in range(0, members, size):
        part = {k: v[at : at + size] for k, v in parameters.items()}
        state = Flat(
            {k: tuple(v.shape[1:]) for k, v in part.items()}, len(next(iter(part.values()))), dtype=dtype, device=device
        )
        for k, v in part.items():
            state[k].copy_(v)
        out.append(torch.cat([getattr(net, what)(state, x[i : i + 4096]).cpu() for i in range(0, len(x), 4096)], 1))
    return torch.cat(out)
