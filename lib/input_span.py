"""The part of a first layer that its training inputs can see.

A dense layer meets its weights W (o, d) through Wx alone. With an orthonormal basis B (d, r) of the span of n < d
training inputs, the objective's Hessian at ``W = W′Bᵀ + W⊥`` is that of a smaller network with inputs Bᵀx and weights
W′ = WB, and across the span the penalty λ alone:

    (H + δI)⁻¹ v  =  up (H′ + δI)⁻¹ down v  +  v⊥ / (λ + δ)

exactly: for 200 of Fashion-MNIST's images a network of 200 inputs in place of 784.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from lib.batched import chain
from lib.objective import Objective, flat, named


class Span:
    """The smaller objective ``inner``, and the way of vectors ``(c, p)`` to its ``(c, p′)`` and back."""

    def __init__(self, objective: Objective, first: str):
        self.outer, self.first = objective, first
        self.basis = torch.linalg.qr(objective.x.flatten(1).T)[0]  # (d, n)
        model = copy.deepcopy(objective.model)
        layer = model.get_submodule(first.rpartition(".")[0])
        layer.weight = torch.nn.Parameter(objective.weights[first] @ self.basis)
        layer.in_features = self.basis.shape[1]
        weights = {**objective.weights, first: layer.weight.detach()}
        x = objective.x.flatten(1) @ self.basis
        self.inner = replace(objective, model=model, weights=weights, x=x, reference=None)

    def down(self, vectors: Tensor) -> Tensor:
        """What the training inputs see of them."""
        parts = named(vectors, self.outer.weights)
        return flat({**parts, self.first: parts[self.first] @ self.basis})

    def up(self, inner: Tensor) -> Tensor:
        """The transpose of :meth:`down`."""
        parts = named(inner, self.inner.weights)
        return flat({**parts, self.first: parts[self.first] @ self.basis.T})


def input_span(objective: Objective) -> Span | None:
    """Where it makes the network smaller: a chain of linear layers with more inputs than training examples."""
    layers = chain(objective.model)
    if not layers or objective.n >= objective.weights[layers[0][0]].shape[1]:
        return None
    return Span(objective, layers[0][0])
