"""The engine against plain loops over one network in float64, with torch's own optimizers."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from lib.networks.models import initialize, mlp, small_cnn
from lib.networks.stacked import chain, features, group, loss_gradient, losses, predict
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Record, Run, Start

SEED = 5


def conv():
    return nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4))


def normalized():
    return nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(50, 1, 8, 8, generator=g, dtype=torch.float64)
    return x, torch.randint(0, 4, (50,), generator=g)


def batches(rows, batch, seed, steps):
    """Permutations one after another, cut into batches: the documented order."""
    rng, stream = np.random.default_rng([seed, 0]), np.zeros(0, dtype=int)
    while len(stream) < steps * batch:
        stream = np.concatenate([stream, rng.permutation(rows)])
    return stream[: steps * batch].reshape(steps, batch)


def schedule(recipe, optimizer, steps, per_epoch):
    lr = torch.optim.lr_scheduler
    if recipe.schedule == "step":
        return lr.MultiStepLR(optimizer, [m * per_epoch for m in recipe.milestones], recipe.gamma)
    if recipe.schedule == "cosine":
        return lr.CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "warmup_linear":
        top = recipe.warmup * steps
        return lr.LambdaLR(
            optimizer, lambda t: np.interp(t, [-1, top - 1], [0, 1]) if t < top else (steps - t) / (steps - top)
        )
    return lr.ConstantLR(optimizer, 1.0)


def plain_loop(model, x, y, recipe, steps, per_epoch, *, rows=None, weight=None, seed=SEED, change=None):
    """One network, trained in the way that everybody writes down; ``weight``: of every row in a batch's mean."""
    model = initialize(copy.deepcopy(model), seed).double().train()
    start = [p.detach().clone() for p in model.parameters()]
    decay = recipe.weight_decay if recipe.decay_to == "zero" else 0.0
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            model.parameters(), recipe.lr, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov
        )
    elif recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), recipe.lr, weight_decay=decay)
    else:
        optimizer = torch.optim.RMSprop(model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=decay)
    rates = schedule(recipe, optimizer, steps, per_epoch)
    rows = np.arange(len(x)) if rows is None else rows
    order = [rows] * steps if recipe.batch_size is None else batches(rows, recipe.batch_size, seed, steps)
    for step, index in enumerate(order):
        optimizer.zero_grad()
        outputs = model(x[index] if change is None else change(x[index], step))
        if recipe.loss == "cross_entropy":
            each = nn.functional.cross_entropy(outputs, y[index], reduction="none")
        else:
            each = 0.5 * (outputs - nn.functional.one_hot(y[index], outputs.shape[1])).square().sum(1)
        (each.mean() if weight is None else (weight[index] * each).sum() / len(index)).backward()
        if recipe.decay_to == "init":
            for p, origin in zip(model.parameters(), start, strict=True):
                p.grad += recipe.weight_decay * (p.detach() - origin)
        optimizer.step()
        rates.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


def agree(ensemble, reference, member=0, **tolerance):
    for name, value in reference.items():
        torch.testing.assert_close(
            ensemble.parameters[name][member], value, **{"rtol": 1e-9, "atol": 1e-11, **tolerance}
        )


def run(model, x, y, recipe, seeds=(SEED,), **options):
    return train(model, (x, y), recipe, seeds, run=Run(precision="float64", progress=False), **options)


OPTIMIZERS = [
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9},
    {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": True},
    {"optimizer": "adam", "lr": 0.01},
    {"optimizer": "rmsprop", "lr": 0.01},
    {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.7},
]


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.03}, {"weight_decay": 0.03, "decay_to": "init"}], ids=str)
@pytest.mark.parametrize("how", OPTIMIZERS, ids=str)
def test_equals_torch_optim(data, how, decay):
    recipe = Recipe(epochs=4, batch_size=8, **how, **decay)
    trained = run(mlp(64, (7,), 4), *data, recipe, seeds=(SEED, 1))
    agree(trained, plain_loop(mlp(64, (7,), 4), *data, recipe, 4 * 7, 7))
    agree(trained, plain_loop(mlp(64, (7,), 4), *data, recipe, 4 * 7, 7, seed=1), member=1)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    "how",
    [
        {"schedule": "step", "milestones": (1, 3), "gamma": 0.2},
        {"schedule": "cosine"},
        {"schedule": "warmup_linear"},
        {"schedule": "warmup_linear", "warmup": 0.5},
    ],
    ids=str,
)
def test_schedules_and_losses(data, how, loss):
    recipe = Recipe(lr=0.1, momentum=0.9, epochs=5, batch_size=8, loss=loss, **how)
    agree(run(mlp(64, (7,), 4), *data, recipe), plain_loop(mlp(64, (7,), 4), *data, recipe, 5 * 7, 7))


@pytest.mark.parametrize("how", OPTIMIZERS[:4], ids=str)
@pytest.mark.parametrize(
    "model", [mlp(64, (6, 5), 4, "tanh"), mlp(64, (6,), 4, "selu"), mlp(64, (), 4), conv(), normalized()]
)
def test_architectures_and_full_batch(data, model, how):
    for batch, per_epoch in ((16, 4), (None, 1)):
        recipe = Recipe(epochs=3, batch_size=batch, **how)
        agree(run(model, *data, recipe), plain_loop(model, *data, recipe, 3 * per_epoch, per_epoch))


@pytest.mark.parametrize("model", [mlp(64, (7,), 4), conv()])
@pytest.mark.parametrize("length", [{"epochs": 3}, {"iterations": 11}], ids=str)
def test_members_see_their_own_rows(data, model, length):
    x, y = data
    sees = torch.rand(3, 50, generator=torch.Generator().manual_seed(1)) < torch.tensor([[0.3], [0.6], [0.9]])
    labels = (y + torch.arange(3)[:, None]) % 4
    recipe = Recipe(lr=0.1, momentum=0.9, batch_size=8, schedule="cosine", **length)
    trained = run(model, x, y, recipe, seeds=(3, 4, 3), sees=sees, labels=labels)
    for e, seed in enumerate((3, 4, 3)):
        rows = sees[e].nonzero().flatten().numpy()
        per_epoch = math.ceil(len(rows) / 8)
        steps = 11 if "iterations" in length else 3 * per_epoch
        agree(trained, plain_loop(model, x, labels[e], recipe, steps, per_epoch, rows=rows, seed=seed), member=e)
        right = (predict(model, trained.parameters, x)[e].argmax(1) == labels[e])[rows]
        assert trained.accuracy_train[e] == pytest.approx(right.double().mean().item())


@pytest.mark.parametrize("batch", [8, None])
def test_leaving_one_out_is_weight_zero_and_nothing_else(data, batch):
    x, y = data
    sees = ~torch.eye(50, dtype=torch.bool)[:4]
    recipe = Recipe(lr=0.1, momentum=0.9, batch_size=batch, epochs=4)
    for model in (mlp(64, (7,), 4), conv()):
        left_out = run(model, x, y, recipe, seeds=[SEED] * 4, sees=sees, masked=True)
        for e in range(4):
            weight = sees[e].double()
            steps = 4 if batch is None else 28
            agree(left_out, plain_loop(model, x, y, recipe, steps, steps // 4, weight=weight), member=e)
        everything = run(model, x, y, recipe, seeds=[SEED], sees=torch.ones(1, 50, dtype=torch.bool), masked=True)
        agree(everything, plain_loop(model, x, y, recipe, steps, steps // 4))


def test_full_batch_means_over_the_seen_rows(data):
    x, y = data
    sees = torch.arange(50) % torch.tensor([[2], [3]]) == 0
    recipe = Recipe(lr=0.5, batch_size=None, epochs=5)
    trained = run(mlp(64, (7,), 4), x, y, recipe, seeds=[SEED] * 2, sees=sees)
    for e in range(2):
        agree(trained, plain_loop(mlp(64, (7,), 4), x[sees[e]], y[sees[e]], recipe, 5, 1), member=e)


@pytest.mark.parametrize("model", [mlp(64, (7,), 4), conv(), normalized()])
def test_rows_weigh_what_they_are_given(data, model):
    x, y = data
    weights = torch.rand(2, 50, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 3
    sees = torch.rand(2, 50, generator=torch.Generator().manual_seed(8)) < 0.6
    sees[:, :2] = True
    recipe = Recipe(lr=0.1, momentum=0.9, batch_size=8, iterations=21, weight_decay=0.01)
    drawn = run(model, x, y, recipe, seeds=(3, 4), sees=sees, weights=weights)
    masked = run(model, x, y, recipe, seeds=(3, 4), sees=sees, masked=True, weights=weights)
    full = run(model, x, y, Recipe(lr=0.1, batch_size=None, epochs=4), seeds=(3, 4), sees=sees, weights=weights)
    for e, seed in enumerate((3, 4)):
        rows, loop = sees[e].nonzero().flatten().numpy(), lambda *a, **k: plain_loop(model, x, y, *a, **k)
        agree(drawn, loop(recipe, 21, 7, rows=rows, weight=weights[e], seed=seed), member=e)
        agree(masked, loop(recipe, 21, 7, weight=weights[e] * sees[e], seed=seed), member=e)
        if not isinstance(model, nn.Sequential) or len(model) < 5:  # batch statistics are of all rows
            own = loop(Recipe(lr=0.1, batch_size=None, epochs=4), 4, 1, rows=rows, weight=weights[e], seed=seed)
            agree(full, own, member=e)


HALVES = [
    (mlp(64, (7,), 4), {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9}, {}),
    (mlp(64, (7,), 4), {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1, "decay_to": "init"}, {}),
    (normalized(), {"optimizer": "rmsprop", "lr": 0.01, "momentum": 0.5}, {"augment": "crop_flip"}),
    (conv(), {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8, "nesterov": True}, {"batch_size": None}),
]


@pytest.mark.parametrize(("model", "how", "more"), HALVES)
@pytest.mark.parametrize("length", [{"epochs": 5}, {"iterations": 33}], ids=str)
def test_a_training_cut_in_two_is_the_whole_one(data, model, how, more, length):
    """Parameters, running statistics, optimizer, learning rate, batches, augmentation all go on: equal to the bit."""
    x, y = data
    sees = torch.rand(2, 50, generator=torch.Generator().manual_seed(9)) < 0.7
    recipe = Recipe(**{"batch_size": 8, "schedule": "cosine", "warmup": 0.1, **length, **how, **more})
    record = Record(correct="epoch", visits=recipe.batch_size is None, state=True)
    go = lambda start=None: run(model, x, y, recipe, (0, 6), sees=sees, record=record, start=start)
    whole, first = go(), go(Start(until=2))
    rest = go(Start(first.parameters, first.state, after=2))
    assert whole.epochs == first.epochs[:-1] + rest.epochs and rest.epochs[0] == 2
    assert torch.equal(whole.correct_train, torch.cat([first.correct_train[:, :-1], rest.correct_train], 1))
    if record.visits:
        assert torch.equal(whole.correct_visits, torch.cat([first.correct_visits, rest.correct_visits], 1))
    for a, b in ((whole.parameters, rest.parameters), (whole.state, rest.state)):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("batch", [8, 60, None])
def test_visits_are_the_outputs_before_each_step(data, batch):
    """Rows in the order of the stream; each was visited by the network of the steps before."""
    x, y = data
    recipe = lambda steps: Recipe(lr=0.5, batch_size=batch, iterations=steps)
    sees = torch.arange(50).expand(2, 50) < 40
    seen = 50 if batch is None else 40
    whole = run(mlp(64, (7,), 4), x, y, recipe(11), (0, 3), sees=sees, record=Record(visits=True))
    size = batch or 50
    passes = 11 * size // seen
    expected = torch.zeros(2, passes, 50, dtype=torch.bool)
    for e, seed in enumerate((0, 3)):
        order = np.arange(50)[None].repeat(11, 0) if batch is None else batches(np.arange(40), batch, seed, 11)
        for t, rows in enumerate(order):
            before = run(mlp(64, (7,), 4), x, y, recipe(t), (seed,), sees=sees[e : e + 1]).parameters
            right = predict(mlp(64, (7,), 4), before, x[rows])[0].argmax(1) == y[rows]
            for place, (row, good) in enumerate(zip(rows, right, strict=True), start=t * size):
                if place < passes * seen:
                    expected[e, place // seen, row] = good
    assert torch.equal(whole.correct_visits, expected)
    if batch:
        assert whole.correct_visits[:, :, 40:].sum() == 0 and 0 < expected.float().mean() < 0.8


def test_visits_of_images_as_the_network_saw_them(data):
    """In training mode: with one batch a pass, batch statistics are those of all rows."""
    record = Record(visits=True, loss="epoch", correct="epoch")
    for model in (normalized(), conv()):
        watched = run(model, *data, Recipe(lr=0.1, batch_size=50, epochs=4), (0, 1), record=record)
        assert watched.correct_visits.shape == (2, 4, 50)
        if model[1].__class__ is nn.Tanh:  # no batch statistics: the visit sees what the end of the epoch before saw
            assert torch.equal(watched.correct_visits, watched.correct_train[:, :-1])
        else:
            initial = run(model, *data, Recipe(lr=0.1, epochs=0), (0, 1)).parameters
            for e in range(2):
                net = copy.deepcopy(model).double().train()
                net.load_state_dict({name: value[e] for name, value in initial.items()})
                assert torch.equal(watched.correct_visits[e, 0], net(data[0]).argmax(1) == data[1])


def test_augmentation_moves_and_mirrors(data):
    recipe = Recipe(lr=0.1, batch_size=8, epochs=3, augment="crop_flip")
    rng = np.random.default_rng([SEED, 1])
    shifts = np.concatenate([rng.integers(0, [9, 9, 2], (7, 8, 3)) for _ in range(3)])

    def change(images, step):
        padded = nn.functional.pad(images, [4] * 4)
        moved = [p[:, r : r + 8, c : c + 8] for p, (r, c, _) in zip(padded, shifts[step], strict=True)]
        return torch.stack([m.flip(-1) if f else m for m, (_, _, f) in zip(moved, shifts[step], strict=True)])

    for model in (mlp(64, (7,), 4), conv()):
        agree(run(model, *data, recipe), plain_loop(model, *data, recipe, 21, 7, change=change))


def test_one_output_with_mse(data):
    x, y = data
    values = torch.where(y < 2, -1.0, 1.0).double()
    recipe = Recipe(lr=0.05, batch_size=10, epochs=3, loss="mse")
    by_label = run(mlp(64, (7,), 1), x, (y >= 2).long(), recipe, record=Record(loss="final"))
    by_value = run(mlp(64, (7,), 1), x, values, recipe, record=Record(loss="final"))
    for trained, target, middle in ((by_label, (y >= 2).double(), 0.5), (by_value, values, 0.0)):
        f = predict(mlp(64, (7,), 1), trained.parameters, x)[0, :, 0]
        torch.testing.assert_close(trained.loss_train[0, 0], (0.5 * (f - target) ** 2).float())
        assert torch.equal(trained.correct_train[0, 0], (f > middle) == (target > middle))
    with pytest.raises(ValueError, match="y_train must be integer labels .* for two outputs or more"):
        run(mlp(64, (7,), 1), x, y, Recipe(lr=0.05, epochs=1))


@pytest.mark.parametrize("model", [mlp(64, (7,), 4), small_cnn(classes=4), normalized()])
def test_records_are_those_of_the_shorter_trainings(data, model):
    """What is recorded of epoch t is what a training of t epochs ends with."""
    x, y = data[0][:40], data[1][:40]
    test = data[0][40:], data[1][40:]
    record = Record(correct="epoch", loss="epoch", errors_at=(0, 2), checkpoints_at=(0, 1, 3))
    recipe = lambda epochs: Recipe(lr=0.1, momentum=0.9, batch_size=8, epochs=epochs)
    go = lambda epochs, **options: train(
        model, (x, y, *test), recipe(epochs), (0, 1, 2), run=Run(precision="float64", progress=False), **options
    )
    watched = go(3, record=record)
    assert watched.epochs == (0, 1, 2, 3)
    for t in range(4):
        short = go(t)
        for inputs, labels, correct, loss in (
            (x, y, watched.correct_train, watched.loss_train),
            (*test, watched.correct_test, watched.loss_test),
        ):
            f = predict(model, short.parameters, inputs)
            assert torch.equal(correct[:, t], f.argmax(-1) == labels)
            expected = nn.functional.cross_entropy(f.mT, labels.expand(3, -1), reduction="none")
            torch.testing.assert_close(loss[:, t], expected.float(), rtol=1e-5, atol=1e-6)
        if t in watched.errors:
            expected = predict(model, short.parameters, x).softmax(-1) - nn.functional.one_hot(y, 4)
            torch.testing.assert_close(watched.errors[t], expected.float(), rtol=1e-5, atol=1e-6)
        if t in watched.checkpoints:
            for name, value in short.parameters.items():
                torch.testing.assert_close(watched.checkpoints[t][name], value)
    assert sorted(watched.checkpoints) == [0, 1, 3] and sorted(watched.errors) == [0, 2]
    torch.testing.assert_close(watched.accuracy_test, watched.correct_test[:, -1].double().mean(1))


def test_features_lead_to_the_logits(data):
    for model in (mlp(64, (7, 6), 4), small_cnn(classes=4)):
        parameters = run(model, *data, Recipe(lr=0.1, epochs=1), seeds=(0, 1)).parameters
        hidden = features(model, parameters, data[0])
        logits = hidden @ parameters["head.weight"].mT + parameters["head.bias"][:, None]
        torch.testing.assert_close(logits, predict(model, parameters, data[0], chunk=1))


def test_starting_from_given_weights(data):
    recipe = lambda epochs: Recipe(lr=0.1, batch_size=10, epochs=epochs, weight_decay=0.1, decay_to="init")
    model = mlp(64, (7,), 4)
    initial = run(model, *data, recipe(2), seeds=(8, 9)).parameters
    still = run(model, *data, recipe(0), seeds=(0, 1), start=Start(initial)).parameters
    assert all(torch.equal(still[name], initial[name]) for name in initial)
    moved = run(model, *data, recipe(1), seeds=(0, 1), start=Start(initial)).parameters
    swapped = {name: value.flip(0) for name, value in initial.items()}
    back = run(model, *data, recipe(1), seeds=(1, 0), start=Start(swapped)).parameters
    assert all(
        torch.equal(moved[name], back[name].flip(0)) and not torch.equal(moved[name], initial[name]) for name in moved
    )


def test_arrays_labels_of_any_width_and_data_sets_are_welcome(data):
    x, y = data
    recipe = Recipe(lr=0.1, batch_size=10, epochs=1)
    plain = run(mlp(64, (7,), 4), x, y, recipe).parameters
    named = SimpleNamespace(x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    for given in ((x.numpy(), y.numpy().astype("int8")), (x, pd.Series(y.numpy())), named):
        same = train(mlp(64, (7,), 4), given, recipe, [SEED], run=Run(precision="float64", progress=False)).parameters
        assert all(torch.equal(same[name], value) for name, value in plain.items())


def test_the_template_and_the_random_stream_stay_as_they_were(data):
    model = conv()
    before, stream = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    run(model, *data, Recipe(lr=0.1, epochs=1))
    assert torch.equal(stream, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("model", [mlp(64, (16,), 4), conv()])
def test_a_member_is_the_same_in_any_company(data, model):
    x, y = data[0].float(), data[1]
    sees = torch.rand(64, 50, generator=torch.Generator().manual_seed(2)) < 0.7
    recipe = Recipe(lr=0.2, momentum=0.9, batch_size=8, epochs=10)
    go = lambda who, chunk=None: train(
        model, (x, y), recipe, [e % 40 for e in who], sees=sees[who], run=Run(chunk=chunk, progress=False)
    )
    everybody = go(list(range(64)), 64)
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(3)).tolist()
    for who, chunk in (([11], None), ([40, 11, 2], 3), (shuffled, 5)):
        some = go(who, chunk)
        assert torch.equal(some.correct_train, everybody.correct_train[who])
        for name, value in some.parameters.items():
            torch.testing.assert_close(value, everybody.parameters[name][who], rtol=1e-4, atol=1e-5)
    assert not torch.equal(
        everybody.parameters[next(iter(some.parameters))][0], everybody.parameters[next(iter(some.parameters))][40]
    )


@pytest.mark.parametrize("model", [mlp(64, (16,), 4), small_cnn(classes=4)])
def test_what_a_gpu_computes_in_bfloat16_is_within_its_rounding(data, model):
    """Here on the CPU, which rounds alike; what is kept is float32."""
    g = torch.Generator().manual_seed(1)
    exact, rounded = (group(model, 3, precision=precision, device="cpu") for precision in ("float32", "bfloat16"))
    states = {name: torch.randn(view.shape, generator=g) / 4 for name, view in exact.w.views.items()}
    rows, weight = torch.randint(0, 50, (3, 10), generator=g), torch.rand(3, 10, 1, generator=g)
    x, target = data[0][rows].float(), nn.functional.one_hot(data[1][rows], 4).float()
    gradients = []
    for net in (exact, rounded):
        for name, view in net.w.views.items():
            view.copy_(states[name])
        into = net.w.like()
        into.buffer.fill_(1.0)
        logits = net.gradient_(into, x, target, weight, "cross_entropy", 0.5)
        assert logits.dtype == into.buffer.dtype == torch.float32
        gradients.append(torch.cat([into[name].flatten() for name in states]) - 0.5)
        with torch.no_grad():
            assert net.logits(x[0]).shape == (3, 10, 4) and net.features(x[0]).shape[:2] == (3, 10)
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert 0 < difference < 0.05  # a factor keeps 8 bits, and there are a handful of layers


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_loss_gradient_is_the_derivative_of_the_losses(loss):
    f = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    target = nn.functional.one_hot(torch.randint(0, 4, (2, 5)), 4) if loss == "cross_entropy" else torch.randn(2, 5, 4)
    (derivative,) = torch.autograd.grad(losses(f, target, loss).sum(), f)
    torch.testing.assert_close(loss_gradient(f.detach(), target, loss), derivative)


def test_a_diverged_network_is_right_about_nothing():
    x, y = 1e20 * torch.rand(12, 3), torch.arange(12) % 3
    for recipe in (Recipe(lr=1e30, iterations=4), Recipe(lr=1e30, iterations=4, loss="mse")):
        diverged = train(nn.Linear(3, 3), (x, y, x, y), recipe, [0], run=Run(progress=False))
        assert not diverged.parameters["weight"].isfinite().all()
        assert not diverged.correct_train.any() and diverged.accuracy_test.item() == 0


def test_shared_weights_are_trained_once():
    """As torch's SGD trains them."""

    class Shared(nn.Sequential):
        def __init__(self):
            layer = nn.Linear(3, 3)
            super().__init__(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(3, 2))

    x, y, other = torch.rand(12, 3), torch.arange(12) % 2, initialize(Shared(), 4)
    assert chain(Shared()) is None
    recipe = Recipe(lr=0.5, iterations=9, batch_size=12)
    found = train(Shared(), (x, y), recipe, [4], run=Run(progress=False)).parameters
    rule = torch.optim.SGD(other.parameters(), lr=0.5)
    for _ in range(9):
        rule.zero_grad()
        nn.functional.cross_entropy(other(x), y).backward()
        rule.step()
    for name, value in other.named_parameters():
        torch.testing.assert_close(found[name][0], value.detach(), atol=1e-5, rtol=1e-4)


def test_only_chains_are_taken_for_chains():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return self.second(x + self.first(x))

    twice = nn.Linear(6, 6)
    chains = [
        mlp(6, (5, 4), 3),
        nn.Linear(6, 2),
        nn.Sequential(nn.Linear(6, 4, bias=False), nn.SELU(), nn.Linear(4, 3)),
    ]
    others = [Skip(), nn.Sequential(twice, nn.ReLU(), twice), conv(), nn.Sequential(nn.Linear(6, 4), nn.ReLU())]
    assert all(chain(model) for model in chains)
    assert not any(chain(model) for model in others)


def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    return x[:1000], y[:1000], x[1000:], y[1000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_is_as_accurate_within_the_spread_over_seeds(precision):
    sets = digits()
    cnn = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    for model in (mlp(64, (64,), 10), cnn):
        recipe = Recipe(lr=0.1, momentum=0.9, epochs=6, batch_size=50)
        run = lambda **how: train(model, sets, recipe, range(16), run=Run(progress=False, **how))  # noqa: B023
        on_cpu, on_gpu = run().accuracy_test, run(device="cuda", precision=precision).accuracy_test
        assert (on_cpu.mean() - on_gpu.mean()).abs() < on_cpu.std()


def test_losses_and_errors_of_what_is_surely_right_are_no_rounding():
    x, y, still = torch.linspace(8, 30, 50)[:, None], torch.zeros(50, dtype=torch.int64), Recipe(lr=0.1, epochs=0)
    sure = {"weight": torch.tensor([[[1.0], [0.0], [0.1]]]), "bias": torch.zeros(1, 3)}
    record = {"start": Start(sure), "record": Record(loss="final", errors_at=(0,))}
    rough, fine = (
        train(nn.Linear(1, 3), (x, y), still, [0], **record, run=Run(precision=kind, progress=False))
        for kind in ("float32", "float64")
    )
    torch.testing.assert_close(rough.loss_train, fine.loss_train, rtol=1e-4, atol=0)
    torch.testing.assert_close(rough.errors[0], fine.errors[0], rtol=1e-4, atol=0)


def test_recipes_are_checked():
    for wrong, words in (
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, rmsprop, got 'lion'"),
        ({"schedule": "triangle"}, "schedule must be one of constant, step"),
        ({"augment": "mixup"}, "augment must be one of None, crop"),
        ({"iterations": 3}, "give epochs or iterations, one of them; got 1 and 3"),
        ({"lr": -1.0}, "lr must be finite and above 0, got -1.0"),
        ({"lr": math.inf}, "lr must be finite and above 0"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0 and below inf, got nan"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"betas": (0.9, 1.5)}, r"betas must be at least 0 and below 1, got \(0.9, 1.5\)"),
        ({"betas": (0.9,)}, r"betas must be β₁ and β₂ of Adam, got \(0.9,\)"),
        ({"alpha": -0.1}, "alpha must be at least 0 and below 1, got -0.1"),
        ({"eps": math.inf}, "eps must be at least 0 and below inf, got inf"),
        ({"gamma": math.nan}, "gamma must be at least 0"),
        ({"milestones": (5, -1)}, r"milestones must be at least 0 .* got \(5, -1\)"),
        ({"nesterov": True}, "nesterov needs optimizer 'sgd' and momentum"),
        ({"warmup": 1.5}, "warmup must be at least 0 and below 1, got 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number of at least 0, got 2.5"),
    ):
        with pytest.raises(ValueError, match=words):
            Recipe(**{"lr": 0.1, "epochs": 1, **wrong})


def test_arguments_are_checked(data):
    x, y = data
    ones = torch.ones(1, 50, dtype=torch.bool)
    dropout = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Dropout())
    frozen = mlp(64, (7,), 4)
    frozen.head.bias.requires_grad_(False)
    for wrong, words in (
        ({"sees": ones[:, :9]}, r"sees must be bool \(1, 50\), got torch.bool \(1, 9\)"),
        ({"sees": ~ones}, "member 0 sees no row"),
        ({"masked": True}, "masked needs sees"),
        ({"labels": y[None].float()}, "labels must be torch.int64"),
        ({"data": (x, y + 1)}, r"y_train must be integer labels from 0 to 3 for 4 output\(s\), got torch.int64 1 to 4"),
        ({"data": (x, y[:9])}, r"y_train must be integer labels \(50,\) .* got torch.int64 \(9,\)"),
        ({"data": (x, y[:, None])}, r"y_train must be integer labels \(50,\) .* got torch.int64 \(50, 1\)"),
        (
            {"data": (x, y[:, None]), "recipe": Recipe(lr=1.0, epochs=1, loss="mse")},
            r"y_train .* got torch.int64 \(50, 1\)",
        ),
        ({"data": (x, y.double())}, "y_train must be integer labels"),
        ({"data": (x, y, x, y[:, None])}, r"y_test must be integer labels \(50,\) .* got torch.int64 \(50, 1\)"),
        ({"data": (x, y, x, y - 1)}, "y_test must be integer labels from 0 to 3 .* -1 to 2"),
        ({"data": (x, y, x, None)}, "x_test and y_test must be given together"),
        ({"data": (x * math.nan, y)}, "x_train must be finite floats .* NaN or infinity"),
        (
            {"labels": y[None] + 1},
            "labels must be integer labels from 0 to 3",
        ),
        ({"data": (x, y, x)}, "data must be .*, got 3 parts"),
        ({"data": (x.flatten(1), y), "recipe": Recipe(lr=1.0, epochs=1, augment="flip")}, "augment needs images"),
        ({"seeds": [-1]}, "seeds must be integers"),
        ({"start": Start({"head.weight": torch.zeros(1, 4, 7)})}, "the model has .*, got nothing"),
        ({"record": Record(errors_at=(2,))}, "record asks for epoch 2, trained are epochs 0 to 1"),
        ({"weights": torch.ones(50)}, r"weights must be finite \(1, 50\), got \(50,\)"),
        ({"weights": torch.full((1, 50), torch.nan)}, "weights must be finite"),
        (
            {"start": Start(until=0), "record": Record(errors_at=(1,))},
            "record asks for epoch 1, trained are epochs 0 to 0",
        ),
        (
            {"start": Start(state={"steps": torch.zeros(1)})},
            "state goes with start.parameters and is an Ensemble.state of this recipe",
        ),
        ({"model": dropout}, "model must not draw random numbers while training, got dropout in 2"),
        ({"model": frozen}, "head.bias frozen"),
    ):
        call = {"model": mlp(64, (7,), 4), "data": (x, y), "recipe": Recipe(lr=0.1, epochs=1), "seeds": [0]}
        with pytest.raises(ValueError, match=words):
            train(**{**call, **wrong})
    with pytest.raises(ValueError, match="precision must be one of float32, float64, bfloat16"):
        Run(precision="float16")
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        Run(chunk=0)
    for start, words in (
        (Start(after=2), "expected 0 ≤ after ≤ until ≤ 1, the recipe's last epoch; got 2 and 1"),
        (Start(until=0), "record asks for epoch 1, trained are epochs 0 to 0"),
        (Start(state={"steps": torch.zeros(1)}), "state goes with start.parameters and is an Ensemble.state of this"),
    ):
        with pytest.raises(ValueError, match=words):
            train(**call, record=Record(errors_at=(1,)), start=start)
    uneven = torch.arange(50) < torch.tensor([[20], [30]])
    with pytest.raises(ValueError, match="visits needs members that see equally many rows"):
        run(mlp(64, (7,), 4), x, y, Recipe(lr=0.1, epochs=1), (0, 1), sees=uneven, record=Record(visits=True))
    with pytest.raises(ValueError, match="correct must be one of final, epoch"):
        Record(correct="always")
    with pytest.raises(ValueError, match="must have a method features"):
        features(conv(), {}, x)
