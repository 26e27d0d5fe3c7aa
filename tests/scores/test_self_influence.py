import pytest
import torch

from lib.networks import models
from lib.scores.influence import inverse_hessian, self_influence


def networks(runs=2, hidden=(5,)):
    nets = [models.initialize(models.mlp(6, hidden, classes=3), seed).double() for seed in range(runs)]
    states = [net.state_dict() for net in nets]
    return nets, {name: torch.stack([state[name] for state in states]) for name in states[0]}


def inputs(n=30):
    return torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_it_is_the_diagonal_of_the_influence_on_the_training_losses(hidden):
    nets, states = networks(hidden=hidden)
    x, y = inputs()
    found = self_influence(nets[0], states, x, y, weight_decay=0.01, damping=0.1)
    for net, one in zip(nets, found, strict=True):
        with pytest.warns(UserWarning, match="no optimum"):
            inverse = inverse_hessian(net, x, y, weight_decay=0.01, damping=0.1, solver="ekfac")
        torch.testing.assert_close(one, inverse.on_loss(x, y).on_loss.diagonal())


def test_much_damping_leaves_the_squared_gradient():
    from lib.scores.data_diet import grand

    (net, _), states = networks()
    x, y = inputs()
    norms = grand(net, states, x, y)
    torch.testing.assert_close(self_influence(net, states, x, y, damping=1e9) * 1e9 * len(x), norms**2)


def test_each_run_may_have_its_own_labels():
    (net, _), states = networks()
    x, y = inputs()
    both = self_influence(net, states, x, torch.stack([y, y.roll(1)]))
    torch.testing.assert_close(both[0], self_influence(net, states, x, y)[0])
    torch.testing.assert_close(both[1], self_influence(net, states, x, y.roll(1))[1])


def test_what_does_not_fit_is_refused():
    (net, _), states = networks()
    x, y = inputs()
    with pytest.raises(ValueError, match=r"weight_decay \+ damping must be positive, got 0.0 \+ 0.0"):
        self_influence(net, states, x, y, damping=0.0)
    with pytest.raises(ValueError, match="y must be integer labels"):
        self_influence(net, states, x, y[:5])
    conv = models.by_name("lenet", shape=(1, 28, 28), classes=3)
    state = {name: value[None] for name, value in conv.state_dict().items()}
    with pytest.raises(ValueError, match="linear layers only"):
        self_influence(conv, state, torch.rand(4, 1, 28, 28), torch.arange(4) % 3)


def test_it_keeps_float64():
    x, y, net = torch.rand(6, 3, dtype=torch.float64), torch.arange(6) % 2, models.mlp(3, (), classes=2)
    state = {name: value.double()[None] for name, value in net.state_dict().items()}
    assert self_influence(net, state, x, y, damping=1.0).dtype == torch.float64
