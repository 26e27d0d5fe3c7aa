"""Norms and inner products of gradients from their factors, against gradients written out by torch.func in float64."""

import pytest
import torch
from drawn import draw
from torch import nn
from torch.func import functional_call, vmap

from lib.networks import models, stacked
from lib.numerics import gradients
from lib.scores import definitions


def jacobian(model, state, x):
    """All derivatives of all logits, ``(n, k, p)``."""
    return definitions.jacobian(model, state, x).view(len(x), -1, sum(p.numel() for p in model.parameters()))


def block(inner, outer, stride=1):
    """Convolution, normalization, and activations that overwrite what they are given."""
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(True))


NETWORKS = {
    "linear": (models.mlp(36, (), classes=3), (1, 6, 6)),
    "dense": (models.mlp(36, (7, 5), classes=3, activation="tanh"), (1, 6, 6)),
    "batch-normalized features": (nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), (6,)),
    "positions": (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(15, 3)), (3, 4)),
    "convolutions": (models.small_cnn(1, classes=3, width=4), (1, 8, 8)),
    "dilated": (
        nn.Sequential(nn.Conv2d(2, 3, (3, 2), (2, 1), (1, 0), (1, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)),
        (2, 8, 8),
    ),
    "in place": (
        nn.Sequential(block(1, 4), block(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        (1, 6, 6),
    ),
    "wide patches": (
        nn.Sequential(nn.Conv2d(8, 16, 4), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)),
        (8, 6, 6),
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    model, shape = NETWORKS[request.param]
    x = torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return model.eval(), next(stacked.members(model, draw(model))), x


def directions(logits):
    """Two linear functions of the logits, others for each example."""
    return torch.randn(len(logits), 2, 3, dtype=logits.dtype, generator=torch.Generator().manual_seed(2))


def test_norms_and_products_equal_those_of_gradients_written_out(network):
    model, state, x = network
    written = directions(x) @ jacobian(model, state, x)  # (n, c, p)
    parts = list(gradients.signals(model, state, x, directions))
    torch.testing.assert_close(
        sum(map(gradients.squared_norms, parts)), written.square().sum(2), rtol=1e-11, atol=1e-12
    )
    inner = torch.tensordot(written, written, ([2], [2]))
    torch.testing.assert_close(sum(gradients.products(part, part) for part in parts), inner, rtol=1e-11, atol=1e-12)


def test_products_of_two_networks_states(network):
    """Two sets of examples, of other sizes, at other weights."""
    model, _, x = network
    one, two = stacked.members(model, draw(model, seed=3))
    left, right = directions(x) @ jacobian(model, one, x), jacobian(model, two, x[:3])
    eye = lambda logits: torch.eye(3, dtype=x.dtype).expand(len(logits), 3, 3)
    pairs = zip(gradients.signals(model, one, x, directions), gradients.signals(model, two, x[:3], eye), strict=True)
    torch.testing.assert_close(
        sum(gradients.products(a, b) for a, b in pairs),
        torch.tensordot(left, right, ([2], [2])),
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize(("d", "p"), [(2, 3), (40, 50)], ids=["writes the gradient", "keeps the factors"])
@pytest.mark.parametrize("bias", [False, True])
def test_both_routes_of_a_layer(d, p, bias):
    g = torch.Generator().manual_seed(0)
    a, delta = torch.randn(4, 6, d, dtype=torch.float64, generator=g), torch.randn(4, 2, 6, p, generator=g).double()
    signal = gradients.Signal(a, delta, bias)
    written = torch.einsum("nctp,ntd->ncpd", delta, torch.cat([a, torch.ones(4, 6, int(bias)).double()], 2)).flatten(2)
    torch.testing.assert_close(gradients.squared_norms(signal), written.square().sum(2))
    torch.testing.assert_close(gradients.products(signal, signal), torch.tensordot(written, written, ([2], [2])))


def test_little_memory_changes_nothing(network, monkeypatch):
    model, state, x = network
    whole = sum(gradients.products(part, part) for part in gradients.signals(model, state, x, directions))
    monkeypatch.setattr(gradients, "WORKING", 200)
    assert gradients.rows_at_once(model, state, x) == 1
    parts = gradients.signals(model, state, x, directions)
    torch.testing.assert_close(sum(gradients.products(part, part) for part in parts), whole)


@pytest.mark.parametrize("bias", [True, False])
def test_last_layer_factors(bias):
    model = models.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU()), nn.Linear(4, 3, bias=bias))
    parameters, x = draw(model), torch.randn(6, 1, 3, 3, dtype=torch.float64)
    y = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 1, 1, 0, 0]])
    features, errors = stacked.last_layer(model, parameters, x, y)
    for e, state in enumerate(stacked.members(model, parameters)):
        head = {name: state[name] for name in state if name.startswith("head")}

        def loss(head, row, label, state=state):
            return nn.functional.cross_entropy(functional_call(model, {**state, **head}, (row[None],)), label[None])

        slow = vmap(torch.func.grad(loss), (None, 0, 0))(head, x, y[e])
        written = torch.cat([slow["head.weight"], slow["head.bias"][..., None]], 2) if bias else slow["head.weight"]
        torch.testing.assert_close(errors[e][:, :, None] * features[e][:, None], written)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x))


class Halved(nn.Conv2d):
    def forward(self, x):
        return super().forward(x / 2)


class OfLengthOne(nn.Linear):
    """Not Wx + b, though a Linear by its type."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight / self.weight.norm(), self.bias)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), "1 is LayerNorm"),
        (nn.Sequential(nn.Conv2d(2, 2, 1, groups=2)), "one group"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding="same")), "numeric zero padding"),
        (nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), "running statistics"),
        (Twice(), "called once in a pass; these were not: layer"),
        (OfLengthOne(3, 3), "model is OfLengthOne"),
        (Halved(1, 1, 1), "model is Halved"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "model may have parameters in Linear"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        list(gradients.signals(model, dict(model.state_dict()), torch.randn(2, 3), lambda logits: logits[:, None]))


def test_an_input_changed_after_its_use_is_noticed():
    class Overwrites(Twice):
        def forward(self, x):
            x = x.clone()
            out = self.layer(x)
            x.zero_()
            return out

    model = Overwrites()
    with pytest.raises((ValueError, RuntimeError), match=r"changed in place|modified by an inplace"):
        list(gradients.signals(model, dict(model.state_dict()), torch.randn(2, 3), lambda logits: logits[:, None]))


def test_missing_states_and_labels_are_named():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = draw(model)
    with pytest.raises(ValueError, match=r"1.running_var.*the model has \(2,\), got nothing"):
        list(stacked.members(model, {k: v for k, v in state.items() if k != "1.running_var"}))
    with pytest.raises(ValueError, match=r"0.weight.*the model has \(2, 3\), got \(3,\)"):
        list(stacked.members(model, {**state, "0.weight": state["0.weight"][0]}))
    with pytest.raises(ValueError, match=r"integer labels \(5,\) or \(2, 5\), got torch.int64 \(4,\)"):
        stacked.labels_by_run(torch.zeros(4, dtype=torch.int64), 2, 5)
