"""The update rules of ``lib.recipe`` for a group of networks at once, on the flat buffers of ``lib.batched``."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lib.batched import Flat
from lib.recipe import Recipe
from lib.work import state_kinds

BLOCK = 2**17  # numbers of a buffer updated at a time: a few such blocks fit a core's second cache


class Optimizer:
    """The update rules of ``lib.recipe`` on the flat buffers of a group, with the penalty's gradient λ(w − w_ref).

    On a CPU a buffer is worked through in blocks, so that the operations of an update find a block in the cache.
    """

    def __init__(self, recipe: Recipe, net):
        self.recipe, self.t = recipe, 0
        self.folded = recipe.optimizer == "sgd" and not recipe.nesterov
        self.v = net.w.like()  # velocity, or Adam's first moment
        self.g = self.v if self.folded else net.w.like()  # plain SGD gathers gradients in its velocity
        vectors = [net.w.buffer, self.v.buffer, self.g.buffer]
        kinds = state_kinds(recipe)
        self.state = {"velocity": self.v} | {kind: net.w.like() for kind in kinds[1:]}
        if "reference" in kinds:
            self.state["reference"].buffer.copy_(net.w.buffer)
        vectors += [self.state[kind].buffer if kind in kinds else None for kind in ("second", "reference")]
        lone = self.folded and not recipe.weight_decay  # one operation has nothing to find in the cache
        size = BLOCK if net.w.buffer.device.type == "cpu" and not lone else len(net.w.buffer)
        split = [v.split(size) if v is not None else itertools.repeat(None) for v in vectors]
        self.blocks = list(zip(*split, strict=False))

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from where another optimizer was, as it said in ``export``."""
        self.t = int(state["steps"][0])
        for kind, flat in self.state.items():
            for name, view in flat.views.items():
                view.copy_(state[f"{kind}:{name}"])

    def export(self) -> dict[str, Tensor]:
        """``kind:name`` → ``(E, *shape)`` and ``steps (E,)``, on the CPU."""
        vectors = {f"{kind}:{name}": v for kind, flat in self.state.items() for name, v in flat.views.items()}
        members = len(next(iter(vectors.values())))
        found = {name: view.to("cpu", copy=True).contiguous() for name, view in vectors.items()}
        return found | {"steps": torch.full((members,), self.t)}

    def step(self, add_gradient: Callable[[Flat, float], Tensor], lr: float) -> Tensor:
        """One update, where ``add_gradient(into, β)`` does ``into ← β·into + g``; returns what that returns."""
        self.t += 1
        logits = add_gradient(self.g, self.recipe.momentum if self.folded else 0.0)
        for w, v, g, s, reference in self.blocks:
            if self.recipe.weight_decay:  # the difference first: it is 0, not a rounding error, before the first step
                g.add_(w if reference is None else w - reference, alpha=self.recipe.weight_decay)
            self._update(w, v, g, s, lr)
        return logits

    def _update(self, w: Tensor, v: Tensor, g: Tensor, s: Tensor | None, lr: float) -> None:
        r = self.recipe
        if r.optimizer == "adam":
            v.lerp_(g, 1 - r.betas[0])
            s.mul_(r.betas[1]).addcmul_(g, g, value=1 - r.betas[1])
            root = torch.sqrt(s).div_(math.sqrt(1 - r.betas[1] ** self.t)).add_(r.eps)
            w.addcdiv_(v, root, value=-lr / (1 - r.betas[0] ** self.t))
        elif r.optimizer == "rmsprop":
            s.mul_(r.alpha).addcmul_(g, g, value=1 - r.alpha)
            w.sub_(v.mul_(r.momentum).addcdiv_(g, torch.sqrt(s).add_(r.eps)), alpha=lr)
        elif r.nesterov:
            v.mul_(r.momentum).add_(g)
            w.sub_(g.add_(v, alpha=r.momentum), alpha=lr)
        else:
            w.sub_(v, alpha=lr)
