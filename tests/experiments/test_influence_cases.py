"""One image network at a time, on digits so few that everything can be done again by hand."""

import pickle

import numpy as np
import pytest
import torch
from workloads import REPO

from experiments import fragility
from lib.data.datasets import load
from lib.ledger.claims import load_claims
from lib.scores.influence import inverse_hessian
from lib.training import ensemble
from lib.training.recipe import Recipe, Run, Start
from lib.training.retraining import losses_on, removals, retrain

LAMBDA, DELTA = 0.01, 0.02


@pytest.fixture(scope="module")
def images():
    return load("digits", n_train=24, n_test=40, classes=[0, 1, 2], seed=0)


@pytest.fixture(scope="module")
def setting():
    recipe = Recipe(lr=0.01, optimizer="adam", epochs=1, batch_size=8)
    again = {"lr": 0.05, "optimizer": "sgd", "momentum": 0.9}
    return fragility.Setting(recipe, share=0.2, again=again, damping=DELTA, top=6)


@pytest.fixture(scope="module")
def net(images, setting):
    with pytest.warns(UserWarning, match="no optimum"):
        return fragility.train_net("mlp-5", images, setting, epochs=10, weight_decay=LAMBDA, seed=3)


def test_a_fit_is_the_training_and_the_influence_that_it_says(net, images, setting):
    x, y = images.x_train, images.y_train
    assert net.recipe.epochs == 10 and net.recipe.weight_decay == LAMBDA
    assert net.again.iterations == round(0.2 * 10 * 24 / 8) and net.again.optimizer == "sgd" and net.again.lr == 0.05
    run = ensemble.train(net.model, (x, y), net.recipe, [3], run=Run(progress=False))
    assert all((run.parameters[name] == value).all() for name, value in net.weights.items())
    assert net.fitted == float(run.accuracy_train[0])
    with pytest.warns(UserWarning, match="no optimum"):
        inverse = inverse_hessian(
            fragility.placed(net.model, net.weights), x, y, weight_decay=LAMBDA, damping=DELTA, solver="gauss_newton"
        )
    expected = inverse.on_loss(images.x_test[:2], images.y_test[:2]).on_loss.double()
    torch.testing.assert_close(net.scores(slice(2)), expected)
    torch.testing.assert_close(net.losses, losses_on(net.model, net.weights, images.x_test, images.y_test)[0])
    assert net.gradient_ratio == pytest.approx(inverse.gradient_norm / inverse.one_example)


def test_in_another_process_it_has_the_same_influences(net):
    there = pickle.loads(pickle.dumps(net))
    assert "inverse" not in there.__dict__ and there.gradient_ratio == net.gradient_ratio
    with pytest.warns(UserWarning, match="no optimum"):
        torch.testing.assert_close(there.scores([3]), net.scores([3]))


def test_another_optimizer_holds_for_the_retraining_too(images, setting):
    with pytest.warns(UserWarning, match="no optimum"):
        net = fragility.train_net("linear", images, setting, epochs=4, weight_decay=0.1, optimizer="rmsprop", lr=0.02)
    assert net.recipe.optimizer == net.again.optimizer == "rmsprop" and net.again.lr == pytest.approx(0.002)


def test_true_changes_are_those_of_retraining_against_a_control(net, images):
    gone = removals([0, [4, 5]], 24)
    changes = fragility.true_changes(net, gone, [1, 7])
    recipe = fragility.part_of(net.recipe, 0.2, 24, schedule="constant", lr=0.05, optimizer="sgd", momentum=0.9)
    again = retrain(
        net.model, (images.x_train, images.y_train), recipe, [3], removed=gone, start=Start(net.weights),
        run=Run(progress=False),
    )  # fmt: skip
    after, control = (losses_on(net.model, v, images.x_test, images.y_test) for v in (again.parameters, again.control))
    # the two evaluate batches of other sizes in float32: losses of about 1 to 1e-7
    torch.testing.assert_close(changes, (after[0] - control)[:, [1, 7]], rtol=1e-4, atol=1e-6)
    scratch = fragility.true_changes(net, gone, [1, 7], scratch=True)
    assert scratch.shape == changes.shape and not torch.allclose(scratch, changes)
    nobody = fragility.true_changes(net, torch.zeros(1, 24, dtype=torch.bool))
    assert (nobody == 0).all()


def test_a_compared_net_has_the_changes_of_its_most_influential_examples(net, images):
    table = fragility.compared(net, (100, 50), scratch=True).table
    assert len(table) == 12 and {"predicted", "retrained", "from scratch"} <= set(table.columns)
    test = fragility.at_percentile(net.losses, 50)
    rows = fragility.most_influential(net.scores([test])[0], 6)
    part = table[table.percentile == 50]
    assert part.row.tolist() == rows.tolist() and set(part.test) == {test}
    np.testing.assert_allclose(part.predicted, net.scores([test])[0, rows], rtol=1e-5)
    again = fragility.true_changes(net, removals(rows, 24), [test])[:, 0]  # fewer side by side: other sums, in float32
    np.testing.assert_allclose(part.retrained, again, rtol=1e-4, atol=1e-6)
    found = fragility.agreed(net, 50)
    assert found == fragility.agreement_with_truth(part.predicted, part.retrained)
    assert fragility.agreed(net, 50, "from scratch") == fragility.agreement_with_truth(
        part.predicted, part["from scratch"]
    )


def test_eight_test_examples_two_at_each_of_four_ranks(net):
    chosen, ranks = fragility.several(net), net.losses.argsort().argsort()
    assert ranks[chosen].tolist() == [39, 38, 29, 28, 19, 18, 9, 8] and len(set(chosen)) == 8


def test_groups_and_several_test_examples_add_up(net):
    tests = fragility.several(net)
    found = fragility.grouped(net, [1, 3], groups=7)
    assert list(found) == [1, 3]
    draw = torch.Generator().manual_seed(0)
    gone = removals([torch.randperm(24, generator=draw)[:1] for _ in range(7)], 24)
    predicted = net.scores(tests).sum(0)[gone.double().argmax(1)]
    assert found[1] == fragility.agreement_with_truth(predicted, fragility.true_changes(net, gone, tests).sum(1))
    every = fragility.true_changes(net, torch.eye(24, dtype=torch.bool))
    one, other = fragility.agreement_on_summed_loss(net), fragility.agreement_on_summed_loss(net, every)
    assert all(one[name] == pytest.approx(other[name], abs=1e-3) for name in ("pearson", "spearman"))


def test_what_sampling_leaves_of_the_published_range_over_test_points():
    """Correlations over 100 points each, all truly .7: their range over 6 to 10 test points, off the published .54."""
    rng, left = np.random.default_rng(0), []
    for points in (6, 8, 10):
        x, noise = rng.standard_normal((2, 500, points, 100))
        ranks = [part.argsort(-1).argsort(-1) - 49.5 for part in (x, 0.7 * x + 0.51**0.5 * noise)]
        found = (ranks[0] * ranks[1]).sum(-1) / (ranks[0] ** 2).sum(-1)
        left.append(0.54 - np.ptp(found, axis=1).mean())
    size = load_claims(REPO / "notebooks" / "claims.yaml")["if.mnist.selection.spread"].published_effect
    assert 0.33 < min(left) < next(iter(size.values())) < max(left) < 0.43
