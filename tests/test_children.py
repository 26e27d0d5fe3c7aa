from dataclasses import replace

import pytest
import torch

from lib import ensemble, models
from lib.children import children, remaining
from lib.recipe import Recipe, Record


@pytest.fixture(scope="module")
def family():
    g = torch.Generator().manual_seed(0)
    x, model = torch.randn(40, 5, generator=g), models.mlp(5, (6,), classes=3)
    y = (x @ torch.randn(5, 3, generator=g)).argmax(1)
    recipe = Recipe(lr=0.1, epochs=4, batch_size=10, schedule="step", milestones=(2,), weight_decay=1e-3)
    record = Record(checkpoints_at=(0, 2, 3, 4))
    parent = ensemble.train(model, x, y, recipe=recipe, seeds=[0, 1], record=record, progress=False)
    grown = children(model, x, y, parent.checkpoints, recipe=recipe, seeds=[[10, 11], [20, 21]], progress=False)
    return model, x, y, recipe, parent, grown


def test_children_of_the_end_are_their_parents(family):
    *_, parent, grown = family
    for child in grown[4]:
        for name, value in child.items():
            assert torch.equal(value, parent.parameters[name])


@pytest.mark.parametrize(("time", "lr", "milestones"), [(0, 0.1, (2,)), (2, 0.01, ()), (3, 0.01, ())])
def test_a_child_trains_alone_as_beside_the_others(family, time, lr, milestones):
    model, x, y, recipe, parent, grown = family
    left = replace(recipe, lr=lr, epochs=4 - time, milestones=milestones)
    start = {name: value[1:] for name, value in parent.checkpoints[time].items()}
    alone = ensemble.train(model, x, y, recipe=left, seeds=[21], initial=start, progress=False).parameters
    for name, value in alone.items():
        torch.testing.assert_close(grown[time][1][name][1:], value)


def test_children_differ_from_each_other_and_less_when_spawned_late(family):
    *_, grown = family
    gap = {t: sum((a[k] - b[k]).square().sum() for k in a) for t, (a, b) in grown.items()}
    assert gap[0] > gap[2] > gap[3] > gap[4] == 0


def test_a_remaining_recipe_has_the_steps_of_the_whole_one():
    whole = Recipe(lr=0.5, epochs=10, schedule="step", milestones=(3, 7), gamma=0.2)
    rates = lambda r: [r.lr * r.factor(t, steps=5 * r.epochs, per_epoch=5) for t in range(5 * r.epochs)]
    for epoch in range(11):
        assert rates(remaining(whole, epoch)) == pytest.approx(rates(whole)[5 * epoch :])


def test_what_does_not_fit_is_named(family):
    model, x, y, recipe, parent, _ = family
    with pytest.raises(ValueError, match="schedule constant or step without warm-up"):
        remaining(Recipe(lr=1.0, epochs=3, schedule="cosine"), 1)
    with pytest.raises(ValueError, match="epoch must be from 0 to 4, got 5"):
        remaining(recipe, 5)
    with pytest.raises(ValueError, match=r"rows of 2 integers, got rows of \[1\]"):
        children(model, x, y, parent.checkpoints, recipe=recipe, seeds=[[7]])
