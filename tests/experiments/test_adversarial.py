import pytest
import torch
from torch import nn

from experiments.unique_information import fgsm, predicted, successes
from lib.networks import models


def test_on_a_linear_model_it_is_the_closed_form():
    model = models.initialize(models.mlp(6, (), 1), 0)
    x, y = torch.rand(20, 6) * 0.6 + 0.2, torch.arange(20) % 2
    moved = fgsm(model, x, y, 0.05, block=7)
    way = torch.where(model(x)[:, 0] > y, 1.0, -1.0)[:, None] * model.head.weight.sign()
    torch.testing.assert_close(moved, x + 0.05 * way)


def test_it_climbs_and_stays_in_range():
    model = models.initialize(models.mlp(784, (16,), 10), 0)
    x, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    loss = lambda inputs: (model(inputs) - nn.functional.one_hot(y, 10)).square().sum(1)
    moved = fgsm(model, x, y, 0.01)
    assert (loss(moved) > loss(x)).all()
    assert (moved - x).abs().max() <= 0.01 + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1
    assert torch.equal(fgsm(model, x, y, 0.0), x)


def test_successes_are_right_before_and_wrong_after():
    model = models.mlp(1, (), 1)
    model.head.weight.data.fill_(1.0), model.head.bias.data.fill_(0.0)
    x, y = torch.tensor([[0.55], [0.9], [0.4], [0.45]]), torch.tensor([1, 1, 1, 0])
    assert predicted(model, x).tolist() == [1, 1, 0, 0]
    moved, flags = successes(model, x, y, 0.1)
    assert flags.tolist() == [True, False, False, True]
    torch.testing.assert_close(moved[:, 0], torch.tensor([0.45, 0.8, 0.3, 0.55]))


def test_negative_epsilon():
    with pytest.raises(ValueError, match="epsilon must be at least 0, got -1"):
        fgsm(models.mlp(1, (), 1), torch.zeros(1, 1), torch.zeros(1).long(), -1)
