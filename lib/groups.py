"""Groups: E networks of one architecture as one computation.

A group keeps its members' trained parameters in one flat buffer, so that an optimizer is a handful of operations on one
vector. There are four kinds, with the same methods ``logits``, ``features``, ``gradient_`` and ``export``:

- ``lib.batched.Layers``: a chain of linear layers and activations, as batched matrix products, forward and backward
  written out by hand. The product that makes the weights' gradient also adds the momentum (``v ← μv + xᵀδ`` is one
  call), and the gradient with respect to the inputs is never formed.
- :class:`Stacked`: any other network without running statistics, on a GPU: ``torch.func.vmap`` over the members, which
  turns E convolutions into one grouped convolution.
- :class:`Plain`: any other network, one member after another through autograd, which adds the gradient straight into
  the momentum. On a CPU this beats ``vmap``, members run beside each other on the cores, and convolutions over few
  positions are products (``lib.convolution``).
- :class:`Widened`, where it is asked for: the others as one network of E times the channels (``lib.widened``), several
  times as fast for narrow networks on a CPU. Here alone the last bits depend on the number of members.
"""

import contextlib
import copy
import threading

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from lib.batched import Flat, Layers, chain, loss_gradient
from lib.convolution import as_products
from lib.widened import widen


def group(model: nn.Module, members: int, *, precision: str, device, layers=None, wide: bool = False):
    """A group of ``members`` networks like ``model``, their parameters zero; ``layers``: ``chain(model)``, if known.

    ``wide``: as :class:`Widened`, if not a chain.
    """
    dtype = torch.float64 if precision == "float64" else torch.float32
    layers = layers or chain(model)
    if layers:
        return Layers(layers, model, members, dtype=dtype, device=device)
    kind = Plain if torch.device(device).type == "cpu" or any(True for _ in model.buffers()) else Stacked
    kind = Widened if wide else kind
    return kind(model, members, dtype=dtype, device=device, mixed=precision == "bfloat16")


_rounding, _rounded = threading.Lock(), []  # the settings before, once for every thread that now rounds


@contextlib.contextmanager
def rounded_products(precision: str):
    """While it is open, products of float32 matrices in this process round their factors if ``precision`` asks for it.

    ``bfloat16`` on a CPU with AMX, TF32 on a GPU; the sums are float32, and so is everything that is kept.
    """
    kinds = (torch.backends.mkldnn.matmul, "bf16"), (torch.backends.cuda.matmul, "tf32")
    if precision != "bfloat16":
        yield
        return
    with _rounding:
        _rounded.append(_rounded[0] if _rounded else [kind.fp32_precision for kind, _ in kinds])
        for kind, name in kinds:
            kind.fp32_precision = name
    try:
        yield
    finally:
        with _rounding:
            before = _rounded.pop()
            for (kind, _), name in zip(kinds, before if not _rounded else [], strict=False):
                kind.fp32_precision = name


class _Modules:
    """What :class:`Stacked` and :class:`Plain` share. Running statistics lie beside the parameters, in ``buffers``.

    ``mixed`` is ``torch.autocast``: products and convolutions in bfloat16, what is kept in float32.
    """

    def __init__(self, model: nn.Module, members: int, *, dtype, device, mixed=False):
        self.members, self.device = members, torch.device(device)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.w = Flat(shapes, members, dtype=dtype, device=device)
        own = {name: b.to(device, dtype if b.is_floating_point() else b.dtype) for name, b in model.named_buffers()}
        self.buffers = {name: b.expand(members, *b.shape).clone() for name, b in own.items()}
        self.autocast = lambda: torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)

    def export(self) -> dict[str, Tensor]:
        views = {**self.w.views, **self.buffers}
        return {name: view.to("cpu", copy=True).contiguous() for name, view in views.items()}


class Stacked(_Modules):
    """E networks through ``vmap``."""

    def __init__(self, model: nn.Module, members: int, **options):
        super().__init__(model, members, **options)
        self.model = _Features(copy.deepcopy(model).to(self.device))

    def _run(self, views, x, x_dim, what="forward"):
        views, self.model.what = {f"model.{name}": view for name, view in views.items()}, what
        with self.autocast():
            return vmap(lambda own, x: functional_call(self.model, own, (x,)), in_dims=(0, x_dim))(views, x)

    def logits(self, x: Tensor) -> Tensor:
        self.model.eval()
        return self._run(self.w.views, x, None).to(self.w.buffer.dtype)

    def features(self, x: Tensor) -> Tensor:
        self.model.eval()
        return self._run(self.w.views, x, None, "features").to(self.w.buffer.dtype)

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight: Tensor, loss: str, beta: float) -> Tensor:
        self.model.train()
        logits, pull = vjp(lambda views: self._run(views, x, 0), self.w.views)
        delta = loss_gradient(logits.to(self.w.buffer.dtype), target, loss).mul_(weight)
        into.buffer.mul_(beta)
        for name, gradient in pull(delta.to(logits.dtype))[0].items():
            into[name].add_(gradient)
        return logits


class Plain(_Modules):
    """E modules whose parameters are views of the buffer, one after another."""

    def __init__(self, model: nn.Module, members: int, **options):
        super().__init__(model, members, **options)
        self.modules = [copy.deepcopy(model) for _ in range(members)]
        if self.device.type == "cpu":
            self.modules = [as_products(module) for module in self.modules]
        self.leaves = [list(module.named_parameters()) for module in self.modules]
        for e, module in enumerate(self.modules):
            for name, p in self.leaves[e]:
                p.data = self.w[name][e]
            for name, buffer in self.buffers.items():
                owner, _, leaf = name.rpartition(".")
                module.get_submodule(owner)._buffers[leaf] = buffer[e]

    def _each(self, call, x: Tensor) -> Tensor:
        x = _channels_last(x)
        with self.autocast():
            return torch.stack([call(module.eval())(x) for module in self.modules]).to(self.w.buffer.dtype)

    def logits(self, x: Tensor) -> Tensor:
        return self._each(lambda module: module, x)

    def features(self, x: Tensor) -> Tensor:
        return self._each(lambda module: module.features, x)

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight: Tensor, loss: str, beta: float) -> Tensor:
        into.buffer.mul_(beta)
        outputs = []
        for e, module in enumerate(self.modules):
            for name, p in self.leaves[e]:
                p.grad = into[name][e]
            with torch.enable_grad(), self.autocast():
                logits = module.train()(_channels_last(x[e]))
            delta = loss_gradient(logits.detach().to(self.w.buffer.dtype), target[e], loss)
            logits.backward(delta.mul_(weight if isinstance(weight, float) else weight[e]).to(logits.dtype))
            outputs.append(logits.detach())
        return torch.stack(outputs)


class Widened(_Modules):
    """E networks as one of E times the channels."""

    def __init__(self, model: nn.Module, members: int, **options):
        super().__init__(model, members, **options)
        self.one, self.module, self.checked = copy.deepcopy(model), widen(model, members).to(self.device), False
        self.leaves = dict(self.module.named_parameters())
        for name, p in self.leaves.items():
            p.data = self._as(self.w[name], p)
        for name, buffer in self.buffers.items():
            owner, _, leaf = name.rpartition(".")
            self.module.get_submodule(owner)._buffers[leaf] = buffer.flatten()

    def _as(self, view: Tensor, p: Tensor) -> Tensor:
        return view if view.ndim == p.ndim else view.flatten(0, 1)

    def _call(self, call, x: Tensor) -> Tensor:
        """``(E, B, …)`` to ``(E, B, …)``."""
        x = _channels_last(x.transpose(0, 1).flatten(1, 2))
        with self.autocast():
            return call(x).unflatten(1, (self.members, -1)).transpose(0, 1).to(self.w.buffer.dtype)

    def _shared(self, call, x: Tensor) -> Tensor:
        out = self._call(call, x.expand(self.members, *x.shape))
        if not self.checked:  # that no member meets another's channels
            state = {name: view[-1] for name, view in {**self.w.views, **self.buffers}.items()}
            single = functional_call(_Features(self.one.eval()), {f"model.{n}": v for n, v in state.items()}, (x,))
            if call is self.module and not torch.allclose(single.to(out), out[-1], rtol=1e-3, atol=1e-4):
                raise ValueError("model mixes its channels, so that its networks cannot stand side by side (wide)")
            self.checked = True
        return out

    def logits(self, x: Tensor) -> Tensor:
        return self._shared(self.module.eval(), x)

    def features(self, x: Tensor) -> Tensor:
        return self._shared(self.module.eval().features, x)

    def gradient_(self, into: Flat, x: Tensor, target: Tensor, weight: Tensor, loss: str, beta: float) -> Tensor:
        into.buffer.mul_(beta)
        for name, p in self.leaves.items():
            p.grad = self._as(into[name], p)
        with torch.enable_grad():
            logits = self._call(self.module.train(), x)
        delta = loss_gradient(logits.detach(), target, loss)
        logits.backward(delta.mul_(weight))
        return logits.detach()


def _channels_last(x: Tensor) -> Tensor:
    """Images in channels-last layout. One channel lies alike in both layouts: only its stride tells them apart."""
    if x.ndim != 4:
        return x
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, _, width = x.shape
    return x.as_strided(x.shape, (x.stride(0), 1, width, 1)) if channels == 1 else x


class _Features(nn.Module):
    """A model of which ``functional_call`` can ask for the features."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.what = model, "forward"

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.what)(x)
