"""Jacobians and kernels against finite differences, one another, and closed forms."""

import pytest
import torch
from drawn import F64, random
from torch import nn
from torch.func import functional_call

from lib.networks.models import by_name, initialize, mlp
from lib.numerics.gradients import coordinates, jacobians, ntk
from lib.scores import definitions


def network(name, shape=(1, 12, 12), classes=2, seed=0):
    """In float64, in training mode, with running statistics that are not those of a fresh network."""
    model = initialize(by_name(name, shape=shape, classes=classes), seed).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * random(len(module.running_mean))
            module.running_var *= 1.5
    return model


def finite_differences(model, x, step=1e-6):
    """``(n·k, p)`` by central differences, weight by weight."""
    model, columns = model.eval(), []
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())
    with torch.no_grad():
        for value in state.values():
            for place in range(value.numel()):
                moved = []
                for sign in (1, -1):
                    value.view(-1)[place] += sign * step
                    moved.append(functional_call(model, {**state, **buffers}, (x,)).flatten())
                    value.view(-1)[place] -= sign * step
                columns.append((moved[0] - moved[1]) / (2 * step))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("activation", ["tanh", "selu"])
def test_dense_networks_by_finite_differences(activation):
    model, x = mlp(6, (5, 4), 3, activation).double(), random(7, 6)
    torch.testing.assert_close(jacobians(model, x), finite_differences(model, x), rtol=1e-6, atol=1e-8)


def test_batch_normalization_is_in_evaluation_mode():
    """By finite differences with running statistics; one example like all together; the model stays as it was."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2)).double()
    model[1].running_mean += 0.3
    x = random(4, 1, 5, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    j = jacobians(model, x)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(j, torch.cat([jacobians(model, row[None]) for row in x]))
    torch.testing.assert_close(j, finite_differences(model, x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "mlp-8-6", "small_cnn", "lenet", "densenet_small", "resnet18"])
def test_the_kernel_is_the_product_of_jacobians(name):
    shape = (1, 28, 28) if name == "lenet" else (1, 12, 12)
    model = network(name, shape)
    few = 2 if name == "resnet18" else 5
    x, other = random(few, *shape), random(3, *shape, seed=1)
    j, j_other = (definitions.jacobian(model, model.state_dict(), rows) for rows in (x, other))
    torch.testing.assert_close(jacobians(model, x), j)
    scale = (j @ j.T).abs().max().item()
    torch.testing.assert_close(ntk(model, x), j @ j.T, rtol=1e-9, atol=1e-11 * scale)
    torch.testing.assert_close(ntk(model, x, other), j_other @ j.T, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize("name", ["mlp-8-6", "small_cnn"])
def test_blocks_change_nothing(name):
    model, x, other = network(name), random(9, 1, 12, 12), random(4, 1, 12, 12, seed=1)
    for memory in (1, 10**6, 3 * 10**6):
        torch.testing.assert_close(ntk(model, x, memory=memory), ntk(model, x))
        torch.testing.assert_close(ntk(model, x, other, memory=memory), ntk(model, x, other))


def test_the_kernel_of_a_linear_model():
    """Θ = (x·x′ + 1) ⊗ I, whatever the weights."""
    x = random(5, 3)
    wanted = torch.kron(x @ x.T + 1, torch.eye(2, dtype=F64))
    torch.testing.assert_close(ntk(mlp(3, (), 2).double(), x), wanted)


def test_a_subset_of_coordinates_is_scaled_columns_of_the_whole():
    model, x = network("small_cnn"), random(4, 1, 12, 12)
    whole, part = jacobians(model, x), jacobians(model, x, per_layer=30, seed=5)
    kept, start, done = coordinates(model, 30, seed=5), 0, 0
    for name, p in model.named_parameters():
        indices = torch.arange(p.numel()) if kept[name] is None else kept[name]
        assert len(indices) == min(30, p.numel()) == len(indices.unique())
        wanted = whole[:, start + indices] * (p.numel() / len(indices)) ** 0.5
        torch.testing.assert_close(part[:, done : done + len(indices)], wanted)
        start, done = start + p.numel(), done + len(indices)
    assert done == part.shape[1]


def test_a_subset_of_coordinates_is_unbiased():
    """The mean over many draws of kernel and of squared weight changes is the whole's, within 4 standard errors."""
    model, x, alpha = mlp(10, (20,), 1, "tanh").double(), random(3, 10), random(3, 1)
    whole, weights = ntk(model, x), (jacobians(model, x).T @ alpha).square().sum()
    draws = [jacobians(model, x, per_layer=40, seed=seed) for seed in range(400)]
    kernels = torch.stack([j @ j.T for j in draws])
    norms = torch.stack([(j.T @ alpha).square().sum() for j in draws])
    for samples, wanted in ((kernels, whole), (norms, weights)):
        assert ((samples.mean(0) - wanted).abs() <= 4 * samples.std(0) / 20 + 1e-12).all()
        assert (samples.std(0) > 0).all()
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws[3], jacobians(model, x, per_layer=40, seed=3))


def test_types_follow_the_model():
    model, x = mlp(6, (5,), 1), random(4, 6)
    assert jacobians(model, x).dtype == ntk(model, x).dtype == torch.float32
    torch.testing.assert_close(ntk(model, x).double(), ntk(model.double(), x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: jacobians(m, x, per_layer=0), "per_layer must be at least 1, or None for all coordinates, got 0"),
        (
            lambda m, x: jacobians(nn.Sequential(m, nn.Flatten(0)), x),
            r"model must map \(n, …\) to \(n, k\), got outputs",
        ),
        (lambda m, x: ntk(nn.Sequential(nn.GroupNorm(2, 6).double(), m), x), "0 is GroupNorm"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(mlp(6, (4,), 2).double(), random(3, 6))


def test_what_cannot_fit_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setattr("lib.numerics.gradients.free_bytes", lambda device: 1000)
    with pytest.raises(MemoryError, match="the Jacobian needs 0.0 GB"):
        jacobians(mlp(6, (4,), 2), torch.rand(4, 6))  # 4 examples × 2 outputs × 38 parameters × 4 bytes = 1,216
    assert len(jacobians(mlp(6, (4,), 2), torch.rand(3, 6))) == 6  # 912 bytes
