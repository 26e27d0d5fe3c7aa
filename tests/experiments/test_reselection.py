"""Rows chosen anew: against one training where the choice never changes, and against stretches by hand."""

import pytest
import torch

from experiments.craig import train_reselecting
from lib.networks.models import mlp
from lib.networks.stacked import predict
from lib.store import Store
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Record, Run

MODEL, SEEDS = mlp(6, (8,), 3), [0, 5]
RECIPE = Recipe(lr=0.1, momentum=0.9, weight_decay=1e-3, schedule="cosine", batch_size=10, iterations=42)  # 8.4 epochs


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=g)
    return x, (x @ torch.randn(6, 3, generator=g)).argmax(1)


def hard_half(x, y):
    """The rows on which a network is least right, weighted by how wrong it is."""

    def choose(epoch, run):
        p = predict(MODEL, run.parameters, x).softmax(2)
        torch.testing.assert_close(run.errors[epoch], p - torch.nn.functional.one_hot(y, 3))
        wrong = 1 - p.gather(2, y.expand(len(p), -1)[..., None])[..., 0]
        return wrong >= wrong.median(1, keepdim=True).values, 0.5 + wrong

    return choose


def test_one_choice_for_ever_is_a_plain_training(data):
    sees = torch.rand(2, 50, generator=torch.Generator().manual_seed(1)) < 0.6
    weights = torch.rand(2, 50, generator=torch.Generator().manual_seed(2))
    asked = []
    always = lambda epoch, run: asked.append(epoch) or (sees, weights)
    options = {"recipe": RECIPE, "seeds": SEEDS, "run": Run(progress=False)}
    anew = train_reselecting(MODEL, (*data, *data), every=2, choose=always, **options)
    plain = train(MODEL, (*data, *data), sees=sees, weights=weights, **options)
    assert asked == [0, 2, 4, 6, 8] and anew.epochs == plain.epochs == (9,)
    assert all(torch.equal(anew.parameters[name], value) for name, value in plain.parameters.items())
    assert torch.equal(anew.accuracy_test, plain.accuracy_test)


def test_members_choose_by_themselves(data):
    """A member's rows follow its own parameters, so it ends alone as it ends beside the other."""
    go = lambda seeds: (
        train_reselecting(
            MODEL, data, RECIPE, seeds, every=3, choose=hard_half(*data), run=Run(progress=False)
        ).parameters
    )
    both, alone = go(SEEDS), go(SEEDS[1:])
    for name, value in alone.items():
        torch.testing.assert_close(both[name][1:], value, rtol=1e-4, atol=1e-5)


def test_a_killed_run_goes_on_after_its_last_stretch(data, tmp_path):
    class Killed(Exception):
        pass

    def mortal(last):
        def choose(epoch, run):
            if epoch > last:
                raise Killed
            return hard_half(*data)(epoch, run)

        return choose

    go = lambda choose, store=None: train_reselecting(
        MODEL, data, RECIPE, SEEDS, every=2, choose=choose, record=Record(loss="final"),
        run=Run(store=store, progress=False),
    )  # fmt: skip
    with pytest.raises(Killed):
        go(mortal(4), Store(tmp_path))
    shards = len(list(tmp_path.glob("*.npz")))
    resumed, whole = go(hard_half(*data), Store(tmp_path)), go(hard_half(*data))
    assert shards == 4 and len(list(tmp_path.glob("*.npz"))) == 6  # the start and five stretches
    for name, value in whole.parameters.items():
        assert torch.equal(resumed.parameters[name], value)
    assert torch.equal(resumed.loss_train, whole.loss_train)


def test_choices_need_an_interval(data):
    with pytest.raises(ValueError, match="every must be at least 1 epoch, got 0"):
        train_reselecting(MODEL, data, RECIPE, [0], every=0, choose=None)
