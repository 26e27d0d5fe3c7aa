import copy
import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lib.networks import models, stacked
from lib.scores.data_diet import el2n, forgetting, grand, grand_last_layer, margin


def written_out(model, parameters, x, y, loss="cross_entropy"):
    """GraNd by its definition: each example's gradient in full, for each run."""

    def objective(p, row, label):
        f = functional_call(model, {**rest, **p}, (row[None],))
        if loss == "cross_entropy":
            return nn.functional.cross_entropy(f, label[None])
        return 0.5 * (f[0] - (label == torch.arange(f.shape[1])).to(f)).square().sum()

    runs = []
    for e in range(len(next(iter(parameters.values())))):
        state = {name: value[e] for name, value in parameters.items()}
        trained = {name: state.pop(name) for name, _ in model.named_parameters()}
        rest = state
        each = vmap(grad(objective), (None, 0, 0))(trained, x, y[e] if y.ndim == 2 else y)
        runs.append(torch.cat([g.flatten(1) for g in each.values()], 1).norm(dim=1))
    return torch.stack(runs)


def initial(model, seeds):
    states = [models.initialize(copy.deepcopy(model), seed).state_dict() for seed in seeds]
    stack = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return {name: value.double() if value.is_floating_point() else value for name, value in stack.items()}


@pytest.mark.parametrize("name", ["mlp-16-8", "lenet", "small_cnn", "densenet_small"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_grand_is_the_norm_of_the_gradient_written_out(name, loss):
    model, g = models.by_name(name, shape=(1, 16, 16), classes=4).eval(), torch.Generator().manual_seed(0)
    x, y = torch.rand(5, 1, 16, 16, dtype=torch.float64, generator=g), torch.randint(0, 4, (2, 5), generator=g)
    parameters = initial(model, [0, 1])
    slow = written_out(model, parameters, x, y, loss)
    torch.testing.assert_close(grand(model, parameters, x, y, loss=loss), slow, rtol=1e-11, atol=0)
    torch.testing.assert_close(grand(model, parameters, x, y, loss=loss, chunk=2), slow, rtol=1e-11, atol=0)


def test_grand_of_a_linear_model_is_el2n_times_the_length_of_the_input():
    model, x = models.mlp(6, (), classes=3), torch.randn(7, 6, dtype=torch.float64)
    y, parameters = torch.arange(7) % 3, initial(models.mlp(6, (), classes=3), [0, 1, 2])
    weight, bias = parameters["head.weight"], parameters["head.bias"]
    errors = (x @ weight.mT + bias[:, None]).softmax(2) - nn.functional.one_hot(y, 3)
    closed = el2n(errors) * (x.square().sum(1) + 1).sqrt()
    torch.testing.assert_close(grand(model, parameters, x, y), closed)
    torch.testing.assert_close(grand_last_layer(model, parameters, x, y), closed)


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
    part, whole = grand_last_layer(model, parameters, x, y), grand(model, parameters, x, y)
    assert (part < whole).all()
    for e, features in enumerate(stacked.features(model, parameters, x)):
        head = {name: parameters[name][e : e + 1] for name in ("head.weight", "head.bias")}
        torch.testing.assert_close(part[e : e + 1], written_out(models.mlp(84, (), classes=4), head, features, y))


def test_margin_against_a_loop_and_its_sign():
    outputs, y = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5
    fast = margin(outputs, y)
    for e in range(3):
        for i in range(8):
            row = outputs[e, i].tolist()
            label = row.pop(int(y[i]))
            assert fast[e, i] == pytest.approx(label - max(row))
    assert torch.equal(fast > 0, outputs.argmax(2) == y)
    assert torch.equal(margin(outputs, outputs.argmin(2)), outputs.amin(2) - outputs.amax(2))


def test_el2n_is_the_norm_of_each_run():
    errors = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(el2n(errors), (errors**2).sum(2).sqrt())


def test_el2n_ends_at_root_two_for_a_confident_mistake_and_zero_for_a_confident_hit():
    logits = torch.tensor([[[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]])
    onehot = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    torch.testing.assert_close(el2n(logits.softmax(2) - onehot), torch.tensor([[0.0, 2.0**0.5]]))


def test_forgetting_counts_like_a_plain_loop():
    correct = torch.rand(2, 9, 30, generator=torch.Generator().manual_seed(0)) < 0.6
    for e in range(2):
        for i in range(30):
            seen = correct[e, :, i].tolist()
            slow = sum(a and not b for a, b in itertools.pairwise(seen)) if any(seen) else 9
            assert forgetting(correct)[e, i] == slow


def test_never_learned_ranks_above_every_count_or_is_left_at_zero():
    correct = torch.zeros(1, 6, 2, dtype=torch.bool)
    correct[0, ::2, 0] = True  # forgotten as often as can be
    most, none = forgetting(correct), forgetting(correct, never_learned="none")
    assert most[0, 1] > most[0, 0] == 3
    assert none[0].tolist() == [3, 0]


def test_shapes_and_options_are_checked():
    with pytest.raises(ValueError, match=r"outputs must be .* got \(5, 4\)"):
        margin(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="loss must be cross_entropy or mse, got 'hinge'"):
        model = models.mlp(2, (), classes=2)
        grand(model, initial(model, [0]), torch.zeros(1, 2), torch.tensor([0]), loss="hinge")
    with pytest.raises(ValueError, match=r"y must be integer labels \(5,\) or \(1, 5\), got torch.float32 \(5,\)"):
        margin(torch.zeros(1, 5, 4), torch.zeros(5))
    with pytest.raises(ValueError, match=r"errors must be .* got \(5, 4\)"):
        el2n(torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"got torch.float32 \(1, 2, 3\)"):
        forgetting(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="'most' or 'none', got 'last'"):
        forgetting(torch.zeros(1, 2, 3, dtype=torch.bool), never_learned="last")
