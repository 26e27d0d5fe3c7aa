from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments import craig as module
from experiments.craig import craig, retrain_craig, train_reselecting
from experiments.pruning import retrain_pruned
from lib.networks.models import mlp
from lib.networks.stacked import predict
from lib.store import Store
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Record, Run, Start


@pytest.fixture
def blobs():
    """Two classes in the plane that overlap a little."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 2
    x = torch.randn(240, 2, generator=g) + 1.2 * (2 * y[:, None] - 1)
    return SimpleNamespace(x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])


OPTIONS = {"recipe": Recipe(lr=0.1, batch_size=20, iterations=30), "seeds": [3, 4], "run": Run(progress=False)}


def test_a_coreset_of_everybody_is_plain_training(blobs):
    """Each example stands for itself, with weight 1."""
    everybody = {("all",): torch.ones(120, dtype=torch.bool)}
    plain = retrain_pruned(mlp(2, (8,), 2), blobs, everybody, columns=("rows",), **OPTIONS)
    coreset = retrain_craig(mlp(2, (8,), 2), blobs, [1.0], every=2, **OPTIONS)
    assert coreset.columns.tolist() == ["keep", "kept", "seed", "accuracy", "correct"]
    assert coreset[["kept", "seed", "accuracy"]].equals(plain[["kept", "seed", "accuracy"]])
    assert all(map(np.array_equal, coreset.correct, plain.correct))


def test_a_coreset_follows_its_own_network(blobs):
    """By hand: choose by the error vectors of each stretch's end, weigh, train on."""
    net, sets = mlp(2, (8,), 2), (blobs.x_train, blobs.y_train)
    run = train(net, sets, start=Start(until=0), **OPTIONS)
    for start, stop in ((0, 2), (2, 4), (4, 5)):
        p = predict(net, run.parameters, blobs.x_train).softmax(2)
        errors = p - torch.nn.functional.one_hot(blobs.y_train, 2)
        kept, weights = craig(errors, 0.25, y=blobs.y_train, seed=1000 * start)
        assert (kept.sum(1) == 30).all()
        run = train(
            net, (*sets, blobs.x_test, blobs.y_test), sees=kept, weights=weights / 4,
            start=Start(run.parameters, run.state, after=start, until=stop), record=Record(state=True), **OPTIONS
        )  # fmt: skip
    table = retrain_craig(net, blobs, [0.5, 0.25], every=2, **OPTIONS)  # beside another share
    assert table.accuracy[2:].tolist() == run.accuracy_test.tolist() and table.kept.tolist() == [60, 60, 30, 30]


def test_finished_shares_are_kept(blobs, tmp_path, monkeypatch):
    store, net = Store(tmp_path), mlp(2, (8,), 2)
    once = retrain_craig(net, blobs, [0.2, 0.5], every=2, **OPTIONS | {"run": Run(store=store, progress=False)})
    assert len(list(tmp_path.glob("*.npz"))) == 2
    monkeypatch.setattr(module, "train_reselecting", lambda *_, **__: pytest.fail("trained what the store has"))
    again = retrain_craig(net, blobs, [0.5, 0.2], every=2, **OPTIONS | {"run": Run(store=store, progress=False)})
    assert again.accuracy.tolist() == [*once.accuracy[2:], *once.accuracy[:2]]
    with pytest.raises(pytest.fail.Exception):
        retrain_craig(net, blobs, [0.5], every=3, **OPTIONS | {"run": Run(store=store, progress=False)})


def test_the_control_draws_other_rows_at_every_choice(blobs, tmp_path, monkeypatch):
    drawn, train_on = [], train_reselecting

    def watched(*data, choose, **options):
        def remembered(epoch, run):
            sees, weights = choose(epoch, run)
            drawn.append(sees)
            return sees, weights

        return train_on(*data, choose=remembered, **options)

    monkeypatch.setattr(module, "train_reselecting", watched)
    store, net = Store(tmp_path), mlp(2, (8,), 2)
    retrain_craig(net, blobs, [0.25], every=2, control=True, **OPTIONS | {"run": Run(store=store, progress=False)})
    assert len(drawn) == 3 and all((sees.sum(1) == 30).all() for sees in drawn)
    overlap = (drawn[0] & drawn[1]).sum(1)
    assert (overlap < 20).all() and not torch.equal(drawn[0][0], drawn[0][1])
    assert all((sees[:, blobs.y_train == c].sum(1) == 15).all() for sees in drawn for c in (0, 1))
    retrain_craig(net, blobs, [0.25], every=2, **OPTIONS | {"run": Run(store=store, progress=False)})
    assert len(list(tmp_path.glob("*.npz"))) == 2  # another question
