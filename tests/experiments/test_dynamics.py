import pytest
import torch
from drawn import draw
from torch import nn

from experiments.dynamics import cosine_distance, error_barrier, errors_on_segment, kernel_velocity, tangent_kernel
from lib.networks import models, stacked
from lib.scores import definitions


def by_definition(model, parameters, x):
    """JJᵀ of each run."""
    jacobians = [definitions.jacobian(model, state, x) for state in stacked.members(model, parameters)]
    return torch.stack([j @ j.T for j in jacobians])


@pytest.mark.parametrize("name", ["mlp-7-5", "lenet", "small_cnn", "densenet_small"])
def test_kernel_and_velocity_against_the_jacobian_written_out(name):
    model = models.by_name(name, shape=(1, 16, 16), classes=3).eval()
    x = torch.rand(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before, after = draw(model), draw(model, seed=1)
    slow = [by_definition(model, moment, x) for moment in (before, after)]
    torch.testing.assert_close(tangent_kernel(model, before, x), slow[0], rtol=1e-11, atol=1e-11)
    inner = [[(a * b).sum((1, 2)) for b in slow] for a in slow]
    velocity = 1 - inner[0][1] / (inner[0][0] * inner[1][1]).sqrt()
    torch.testing.assert_close(kernel_velocity(model, before, after, x), velocity, rtol=1e-9, atol=1e-13)


def test_the_kernel_of_a_linear_model_stands_still():
    """K = (XXᵀ + 1) ⊗ I at any weights."""
    model, x = models.mlp(6, (), classes=3), torch.randn(5, 6, dtype=torch.float64)
    before, after = draw(model), draw(model, seed=1)
    closed = torch.kron(x @ x.T + 1, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(tangent_kernel(model, before, x), closed.expand(2, 15, 15))
    assert kernel_velocity(model, before, after, x).abs().max() < 1e-30


def test_velocity_ignores_the_size_of_the_kernel_and_the_order_of_the_examples():
    """A one-layer ReLU network's kernel is homogeneous in all of its weights, biases apart."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 9, bias=False), nn.ReLU())
    model, x = models.Classifier(body, nn.Linear(9, 3, bias=False)), torch.randn(5, 6, dtype=torch.float64)
    before, after = draw(model), draw(model, seed=1)
    scaled = {name: 3 * value for name, value in before.items()}
    assert kernel_velocity(model, before, scaled, x).abs().max() < 1e-30
    velocity = kernel_velocity(model, before, after, x)
    assert (velocity > 1e-3).all()
    torch.testing.assert_close(kernel_velocity(model, after, scaled, x.flip(0)), velocity)


def test_cosine_distance_ends():
    a = torch.randn(3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(cosine_distance(a, 2 * a), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(cosine_distance(a, -a), torch.full((3,), 2.0, dtype=torch.float64))
    tiny = torch.eye(2, dtype=torch.float64) + 1e-9 * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert cosine_distance(torch.eye(2, dtype=torch.float64), tiny) == pytest.approx(0.5e-18, rel=1e-6)


# --- error barriers --------------------------------------------------------------------------------------------------


def test_barrier_of_two_thresholds():
    """f = (0, w·x): w = 1 and w = −1 label alike if shifted by their biases, and the middle network is blind."""
    model = models.mlp(1, (), classes=2)
    state = lambda w: {"head.weight": torch.tensor([[[0.0], [w]]]), "head.bias": torch.zeros(1, 2)}
    x, y = torch.tensor([[-1.0], [1.0], [2.0]]), torch.tensor([0, 1, 1])
    wrong = errors_on_segment(model, state(1.0), state(-3.0), x, y, points=5)  # w = 1, 0, −1, −2, −3
    assert wrong[:, 0].tolist() == [[False] * 3, [False, True, True]] + [[True] * 3] * 3
    # errors 0, ⅔, 1, 1, 1 over the line 0, ¼, ½, ¾, 1
    torch.testing.assert_close(error_barrier(wrong), torch.tensor([0.5], dtype=torch.float64))
    torch.testing.assert_close(error_barrier(wrong[..., 1:]), torch.tensor([0.75], dtype=torch.float64))


def test_barrier_against_a_loop():
    wrong = torch.rand(7, 3, 20, generator=torch.Generator().manual_seed(0)) < 0.4
    for pair in range(3):
        error = [w[pair].tolist().count(True) / 20 for w in wrong]
        slow = max(error[i] - (1 - i / 6) * error[0] - i / 6 * error[6] for i in range(7))
        assert error_barrier(wrong)[pair] == pytest.approx(slow)
    torch.testing.assert_close(error_barrier(wrong.flip(0)), error_barrier(wrong))
    assert (error_barrier(wrong[:1].expand(5, 3, 20)) == 0).all()


def test_relabelled_hidden_units_have_a_barrier_at_the_middle_alone():
    """Two networks that differ by a permutation of units are the same function, but their mean is not."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=g)
    y = (x.abs()[:, 0] > x.abs()[:, 1]).long()
    model = models.mlp(2, (4,), classes=2)
    # |x₁| − |x₂| out of ReLU(±x₁), ReLU(±x₂)
    hidden = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
    head = torch.tensor([[[0.0] * 4, [1.0, 1.0, -1.0, -1.0]]])
    first = {
        "body.1.weight": hidden,
        "body.1.bias": torch.zeros(1, 4),
        "head.weight": head,
        "head.bias": torch.zeros(1, 2),
    }
    order = torch.tensor([1, 0, 3, 2])
    second = {**first, "body.1.weight": hidden[:, order], "head.weight": head[..., order]}
    wrong = errors_on_segment(model, first, second, x, y, points=3)
    assert not wrong[[0, 2]].any()
    # all hidden units are off in the middle: class 0 everywhere
    torch.testing.assert_close(error_barrier(wrong), (y == 1).double().mean()[None])
    assert (error_barrier(errors_on_segment(model, first, first, x, y, points=3)) == 0).all()


def test_what_does_not_fit_is_named():
    model = models.mlp(5, (6,), classes=3)
    x, y, state = torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64), draw(model)
    one = {name: value[:1] for name, value in state.items()}
    with pytest.raises(ValueError, match="same runs, got 2 and 1"):
        kernel_velocity(model, state, one, x)
    with pytest.raises(ValueError, match="same runs, got 2 and 1"):
        errors_on_segment(model, state, one, x, y)
    with pytest.raises(ValueError, match="points must be at least 2"):
        errors_on_segment(model, state, state, x, y, points=1)
    with pytest.raises(ValueError, match=r"at least 1 example\), got \(5, 2, 0\)"):
        error_barrier(torch.zeros(5, 2, 0, dtype=torch.bool))
    normalized = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    lacking = {k: v for k, v in draw(normalized).items() if "running" not in k}
    with pytest.raises(ValueError, match=r"1.running_.*the model has \(4,\), got nothing"):
        errors_on_segment(normalized, lacking, lacking, x, y)
