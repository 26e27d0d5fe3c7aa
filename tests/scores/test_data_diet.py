import copy

import pytest
import torch
from torch import nn

from lib.networks import models
from lib.scores.data_diet import el2n, forgetting, grand, margin


def initial(model, seeds):
    states = [models.initialize(copy.deepcopy(model), seed).state_dict() for seed in seeds]
    stack = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return {name: value.double() if value.is_floating_point() else value for name, value in stack.items()}


@pytest.mark.parametrize("name", ["lenet", "densenet_small"])
def test_grand_in_pieces_is_the_same(name):
    model, g = models.by_name(name, shape=(1, 16, 16), classes=4).eval(), torch.Generator().manual_seed(0)
    x, y = torch.rand(5, 1, 16, 16, dtype=torch.float64, generator=g), torch.randint(0, 4, (2, 5), generator=g)
    parameters = initial(model, [0, 1])
    whole = grand(model, parameters, x, y)
    torch.testing.assert_close(grand(model, parameters, x, y, chunk=2), whole, rtol=1e-11, atol=0)


def test_grand_of_a_linear_model_is_el2n_times_the_length_of_the_input():
    model, x = models.mlp(6, (), classes=3), torch.randn(7, 6, dtype=torch.float64)
    y, parameters = torch.arange(7) % 3, initial(models.mlp(6, (), classes=3), [0, 1, 2])
    weight, bias = parameters["head.weight"], parameters["head.bias"]
    errors = (x @ weight.mT + bias[:, None]).softmax(2) - nn.functional.one_hot(y, 3)
    closed = el2n(errors) * (x.square().sum(1) + 1).sqrt()
    torch.testing.assert_close(grand(model, parameters, x, y), closed)
    torch.testing.assert_close(grand(model, parameters, x, y, layers="last"), closed)


@pytest.mark.parametrize("layers", ["all", "last"])
def test_large_gradients_are_right_or_named(layers):
    model, x, y = models.mlp(3, (), classes=2), torch.ones(5, 3), torch.tensor([0, 1, 0, 1, 0])
    runs = {"head.weight": torch.zeros(4, 2, 3), "head.bias": torch.zeros(4, 2)}
    runs["head.weight"][3, 0] = 1  # ‖error‖ is √2 there, elsewhere √½
    for size in (1e19, 1e20, 1e30):  # whose squares float32 does not hold; ∞ · 0 would be no number
        x[3] = size
        got = grand(model, runs, x, y, layers=layers)[:, 3] / size
        torch.testing.assert_close(got, torch.tensor([1.5, 1.5, 1.5, 6.0]).sqrt())
    for size, of in ((2e38, runs), (1e200, {name: value.double() for name, value in runs.items()})):
        wide = torch.ones(5, 3, dtype=torch.float64).index_fill_(0, torch.tensor([3]), size)
        with pytest.raises(ValueError, match=r"rows \[3\] overflow"):
            grand(model, of, wide, y, layers=layers)


def test_grand_leaves_the_model_as_it_was_and_does_not_see_the_other_examples():
    model = models.densenet_small(classes=3).train()
    parameters, x, y = initial(model, [4]), torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = grand(model, parameters, x, y)
    torch.testing.assert_close(grand(model, parameters, x[2:3], y[2:3])[:, 0], whole[:, 2])
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_last_layer_holds_a_part_of_the_gradient():
    """A network whose body has no parameters: all of it. Any other: less."""
    model = models.lenet(size=16, classes=4)
    parameters, x, y = initial(model, [0, 1]), torch.rand(6, 1, 16, 16, dtype=torch.float64), torch.arange(6) % 4
    part, whole = grand(model, parameters, x, y, layers="last"), grand(model, parameters, x, y)
    assert (part < whole).all()
    with pytest.raises(ValueError, match="layers must be one of last, all, got 'first'"):
        grand(model, parameters, x, y, layers="first")


def test_the_sign_of_the_margin():
    outputs, y = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5
    assert torch.equal(margin(outputs, y) > 0, outputs.argmax(2) == y)
    assert torch.equal(margin(outputs, outputs.argmin(2)), outputs.amin(2) - outputs.amax(2))
    assert torch.equal(margin(outputs[..., :2], torch.zeros_like(y)), outputs[..., 0] - outputs[..., 1])


def test_el2n_ends_at_root_two_for_a_confident_mistake_and_zero_for_a_confident_hit():
    logits = torch.tensor([[[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]])
    onehot = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    torch.testing.assert_close(el2n(logits.softmax(2) - onehot), torch.tensor([[0.0, 2.0**0.5]]))


def test_never_learned_ranks_above_every_count_or_is_left_at_zero():
    correct = torch.zeros(1, 6, 2, dtype=torch.bool)
    correct[0, ::2, 0] = True  # forgotten as often as can be
    most, none = forgetting(correct), forgetting(correct, never_learned="none")
    assert most[0, 1] > most[0, 0] == 3
    assert none[0].tolist() == [3, 0]


def test_shapes_and_options_are_checked():
    with pytest.raises(ValueError, match=r"outputs must be .* got \(5, 4\)"):
        margin(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="loss must be one of cross_entropy, mse, got 'hinge'"):
        model = models.mlp(2, (), classes=2)
        grand(model, initial(model, [0]), torch.zeros(1, 2), torch.tensor([0]), loss="hinge")
    with pytest.raises(ValueError, match=r"y must be integer labels \(5,\) or \(1, 5\), got torch.float32 \(5,\)"):
        margin(torch.zeros(1, 5, 4), torch.zeros(5))
    with pytest.raises(ValueError, match=r"errors must be .* got \(5, 4\)"):
        el2n(torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"got torch.float32 \(1, 2, 3\)"):
        forgetting(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="never_learned must be one of most, none, got 'last'"):
        forgetting(torch.zeros(1, 2, 3, dtype=torch.bool), never_learned="last")
