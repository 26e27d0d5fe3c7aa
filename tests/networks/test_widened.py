"""Networks as one of many channels: the same networks, forward, backward and through a training."""

import pytest
import torch
from torch import nn

from experiments.transfer import narrow_resnet, transferred
from lib.networks import models
from lib.networks.stacked import group, loss_gradient
from lib.training import ensemble
from lib.training.recipe import Recipe, Run

NAMES = ("small_cnn", "lenet", "vgg13_bn-2", "resnet18-2", "resnet50-2", "fine-tuned")


def made(name):
    if name == "fine-tuned":  # its statistics stay as they are, by a layer of its own
        return models.initialize(transferred(narrow_resnet(18, width=2, channels=2), 3, seed=0), 0)
    return models.initialize(models.by_name(name, shape=(2, 16, 16), classes=3), 0)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_gradients_and_statistics_are_those_of_single_networks(name):
    g = torch.Generator().manual_seed(0)
    one, wide = (group(made(name), 3, precision="float64", device="cpu", wide=wide) for wide in (False, True))
    for key, view in {**one.w.views, **one.buffers}.items():
        view.copy_(
            torch.rand(view.shape, generator=g, dtype=torch.float64).sub(0.4) if view.is_floating_point() else view
        )
        {**wide.w.views, **wide.buffers}[key].copy_(view.abs_() if "running" in key else view)
    x, shared = (torch.randn(*lead, 2, 16, 16, generator=g, dtype=torch.float64) for lead in ((3, 6), (4,)))
    target = nn.functional.one_hot(torch.randint(3, (3, 6), generator=g), 3).double()
    weight = torch.rand(3, 6, 1, generator=g, dtype=torch.float64)
    torch.testing.assert_close(wide.logits(shared), one.logits(shared))
    torch.testing.assert_close(wide.features(shared), one.features(shared))
    found, expected = wide.w.like(), one.w.like()
    for net, into in ((wide, found), (one, expected)):
        into.buffer.fill_(0.5)
        net.gradient_(into, x, target, weight, "cross_entropy", 0.9)
    for key, value in expected.views.items():
        torch.testing.assert_close(found[key], value)
    for key, value in one.buffers.items():
        torch.testing.assert_close(wide.buffers[key], value)
    assert loss_gradient(wide.logits(shared), target[:, :4], "mse").shape == (3, 4, 3)


def test_a_training_is_the_same_to_rounding():
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(30, 1, 16, 16, generator=g), torch.randint(3, (30,), generator=g)
    sees = torch.rand(5, 30, generator=g) < 0.8
    recipe = Recipe(lr=0.05, momentum=0.9, epochs=2, batch_size=10, weight_decay=0.01)
    model = models.by_name("small_cnn", shape=(1, 16, 16), classes=3)
    run = lambda **how: ensemble.train(
        model, (x, y), recipe, range(5), sees=sees, masked=True, run=Run(precision="float64", progress=False, **how)
    )
    plain, wide, pairs = run(), run(wide=True), run(wide=True, chunk=2)
    for name, value in plain.parameters.items():
        torch.testing.assert_close(wide.parameters[name], value)
        torch.testing.assert_close(pairs.parameters[name], value)


def test_networks_that_cannot_stand_side_by_side_are_refused():
    with pytest.raises(ValueError, match="side by side may have no LayerNorm; there is LayerNorm"):
        group(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), 2, precision="float32", device="cpu", wide=True)

    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.head(self.conv(x).mean((2, 3)).flip(1))

    net = group(Mixing(), 2, precision="float32", device="cpu", wide=True)
    net.w.buffer.normal_(generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="model mixes its channels"):
        net.logits(torch.rand(3, 1, 5, 5))
