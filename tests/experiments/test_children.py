import pytest
import torch

from experiments.dynamics import children
from lib.networks import models
from lib.training import ensemble
from lib.training.recipe import Recipe, Record, Run, Start


@pytest.fixture(scope="module")
def family():
    g = torch.Generator().manual_seed(0)
    x, model = torch.randn(40, 5, generator=g), models.mlp(5, (6,), classes=3)
    y = (x @ torch.randn(5, 3, generator=g)).argmax(1)
    recipe = Recipe(lr=0.1, epochs=4, batch_size=10, schedule="step", milestones=(2,), weight_decay=1e-3)
    record = Record(checkpoints_at=(0, 2, 3, 4))
    parent = ensemble.train(model, (x, y), recipe, [0, 1], record=record, run=Run(progress=False))
    grown = children(model, (x, y), recipe, [[10, 11], [20, 21]], parents=parent.checkpoints, run=Run(progress=False))
    return model, x, y, recipe, parent, grown


def test_children_of_the_end_are_their_parents(family):
    *_, parent, grown = family
    for child in grown[4]:
        for name, value in child.items():
            assert torch.equal(value, parent.parameters[name])


@pytest.mark.parametrize("time", [0, 2, 3])
def test_a_child_trains_alone_as_beside_the_others(family, time):
    model, x, y, recipe, parent, grown = family
    start = {name: value[1:] for name, value in parent.checkpoints[time].items()}
    alone = ensemble.train(
        model, (x, y), recipe, [21], start=Start(start, after=time), run=Run(progress=False)
    ).parameters
    for name, value in alone.items():
        torch.testing.assert_close(grown[time][1][name][1:], value)


def test_a_child_with_its_parents_batches_is_its_parent():
    """Without momentum: the schedule goes on, and so do the batches of a seed."""
    x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 3
    for schedule in ({"schedule": "cosine"}, {"schedule": "warmup_linear"}, {"schedule": "step", "milestones": (2,)}):
        recipe, model = Recipe(lr=0.1, epochs=4, batch_size=10, **schedule), models.mlp(5, (6,), classes=3)
        parent = ensemble.train(
            model, (x, y), recipe, [3], record=Record(checkpoints_at=(1, 3)), run=Run(progress=False)
        )
        for twin in children(
            model, (x, y), recipe, [[3]], parents=parent.checkpoints, run=Run(progress=False)
        ).values():
            assert all(torch.equal(twin[0][name], value) for name, value in parent.parameters.items())


def test_children_differ_from_each_other_and_less_when_spawned_late(family):
    *_, grown = family
    gap = {t: sum((a[k] - b[k]).square().sum() for k in a) for t, (a, b) in grown.items()}
    assert gap[0] > gap[2] > gap[3] > gap[4] == 0


def test_what_does_not_fit_is_named(family):
    model, x, y, recipe, parent, _ = family
    with pytest.raises(ValueError, match="expected 0 ≤ after ≤ until ≤ 4, the recipe's last epoch; got 5 and 4"):
        children(model, (x, y), recipe, [[7, 8]], parents={5: parent.checkpoints[4]}, run=Run(progress=False))
    with pytest.raises(ValueError, match=r"rows of 2 integers, got rows of \[1\]"):
        children(model, (x, y), recipe, [[7]], parents=parent.checkpoints)
