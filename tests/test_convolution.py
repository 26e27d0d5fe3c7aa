"""Convolutions as products of patches: equal to torch's, forward and backward, wherever they step in."""

import copy

import pytest
import torch
from torch import nn

from lib.networks import stacked
from lib.networks.models import resnet18
from lib.networks.stacked import as_products, fold, patches

SHAPES = [(64, 256, 5, 3, 1, 0), (3, 64, 6, 3, 2, 1), (16, 64, 4, 1, 2, 0), (5, 70, 8, 4, 2, 1), (8, 64, 3, 3, 1, 2)]


@pytest.mark.parametrize("c, o, side, kernel, stride, padding", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_convolution_and_its_gradients(c, o, side, kernel, stride, padding, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(c, o, kernel, stride=stride, padding=padding, bias=bias).double()
    ours = as_products(copy.deepcopy(layer))
    x = torch.randn(7, c, side, side, dtype=torch.float64)
    out = []
    for module in (layer, ours):
        own = x.clone().requires_grad_()
        y = module(own)
        (y * torch.linspace(0, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        out.append([y, own.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*out, strict=True):
        torch.testing.assert_close(a, b)


def test_fold_is_the_transpose_of_patches():
    x, how = torch.randn(3, 4, 7, 7, dtype=torch.float64), (3, 2, 1)
    seen = patches(x, *how)
    other = torch.randn_like(seen)
    assert torch.isclose((seen * other).sum(), (x * fold(other, x.shape, *how)).sum())


def test_gradients_by_finite_differences():
    layer = as_products(nn.Conv2d(2, 64, 2, padding=1).double())
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_which_convolutions_step_aside(monkeypatch):
    calls = []
    product = stacked._Product.apply
    monkeypatch.setattr(stacked._Product, "apply", lambda *a: calls.append(1) or product(*a))
    many = torch.rand(11, 64, 10, 10)
    others = [
        nn.Conv2d(64, 63, 3), nn.Conv2d(64, 64, 3, groups=2), nn.Conv2d(64, 64, 3, dilation=2),
        nn.Conv2d(64, 64, (3, 1)), nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
    ]  # fmt: skip
    for layer in others:
        as_products(layer)(many[:2])
    as_products(nn.Conv2d(64, 64, 3, padding=1))(many)  # 1,100 positions
    assert not calls
    as_products(nn.Conv2d(64, 64, 3, padding=1))(many[:10])  # 1,000
    assert calls


def test_a_whole_network_in_bfloat16_stays_within_its_rounding():
    torch.manual_seed(0)
    model, x = resnet18(channels=1).eval(), torch.rand(4, 1, 8, 8)
    ours = as_products(copy.deepcopy(model))
    with torch.autocast("cpu", torch.bfloat16):
        a, b = model(x).float(), ours(x).float()
    exact = model(x)
    assert (b - exact).norm() < 2 * (a - exact).norm() + 1e-3
    assert b.dtype == torch.float32 and ours(x).sub(exact).abs().max() < 1e-4
