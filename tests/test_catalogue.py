import dataclasses

import pytest
import torch

from lib.catalogue import SCORES, Settings, compute, run_recipe, trial_recipe
from lib.networks import models
from lib.scores.complexity_gap import cg_scores
from lib.scores.data_diet import el2n, forgetting, grand
from lib.scores.memorization import held_out_accuracy, memorization, subsets
from lib.statistics import standardized
from lib.store import Store
from lib.training import ensemble
from lib.training.recipe import Record, Run

SMALL = Settings(
    architecture="mlp-8", epochs=3, early=1, networks=4, curvatures=2, trials=12, trial_epochs=2, tangent_width=16
)
QUIET = {"settings": SMALL, "progress": False}


@pytest.fixture(scope="module")
def xy():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    return torch.randn(60, 5, generator=generator) + 2 * torch.nn.functional.one_hot(y, 5), y


@pytest.fixture(scope="module")
def every(xy):
    return compute(SCORES, *xy, **QUIET)


def test_every_score_has_values_errors_costs_and_a_direction(every):
    assert list(every) == list(SCORES)
    drawn = {name for name in SCORES if SCORES[name].group not in ("input", "cg")}
    for name, one in every.items():
        assert one.values.shape == (60,) and one.values.dtype == torch.float64 and one.name == name
        assert one.seconds >= 0 and one.peak_bytes >= 0
        assert (one.stderr is not None) == (name in drawn)
        assert (one.halves is not None) == (name in drawn or name == "random")
        torch.testing.assert_close(one.hardness, one.sign * one.values, equal_nan=True)
    trainings = {name: one.trainings for name, one in every.items()}
    assert trainings["CG"] == trainings["GraNd"] == trainings["F-SI"] == 0
    assert trainings["EL2N"] == pytest.approx(4 / 3) and trainings["loss"] == 4
    assert trainings["influence"] == 2 and trainings["memorization"] == 12


def test_the_values_are_those_of_the_single_functions(xy, every):
    x, y = xy
    net, z = models.by_name("mlp-8", shape=(5,), classes=3), standardized(x)
    record = Record(errors_at=(1,), visits=True, checkpoints_at=(0, 1), loss="final", correct="epoch")
    run = ensemble.train(net, (z, y), run_recipe(SMALL), range(4), record=record, run=Run(progress=False))
    sees = subsets(60, 42, 12, 0)
    record = Record(parameters=False)
    trial = ensemble.train(
        net, (z, y), trial_recipe(SMALL), range(12), sees=sees, record=record, run=Run(progress=False)
    ).correct_train[:, -1]
    wanted = {
        "CG": cg_scores(x, y).score,
        "CG partial": cg_scores(x, y).partial,
        "GraNd": grand(net, run.checkpoints[0], z, y).mean(0),
        "GraNd early": grand(net, run.checkpoints[1], z, y).mean(0),
        "EL2N": el2n(run.errors[1]).mean(0),
        "forgetting": forgetting(run.correct_visits).mean(0),
        "forgetting, epochs": forgetting(run.correct_train[:, -3:]).mean(0),  # after each of three epochs
        "loss": run.loss_train[:, -1].mean(0),
        "memorization": memorization(sees, trial).value,
        "C-score": held_out_accuracy(sees, trial),
        "input norm": z.norm(dim=1),
    }
    for name, value in wanted.items():
        close = {"rtol": 1e-4, "atol": 1e-6}  # float32, in batches of another size
        torch.testing.assert_close(every[name].values, value.double(), msg=name, equal_nan=True, **close)
    errors = el2n(run.errors[1]).double()
    torch.testing.assert_close(every["EL2N"].stderr, errors.std(0) / 2)
    torch.testing.assert_close(every["EL2N"].halves, torch.stack([errors[:2].mean(0), errors[2:].mean(0)]))
    torch.testing.assert_close(every["memorization"].stderr, memorization(sees, trial).error, equal_nan=True)
    halves = torch.stack([held_out_accuracy(sees[:6], trial[:6]), held_out_accuracy(sees[6:], trial[6:])])
    torch.testing.assert_close(every["C-score"].halves, halves, equal_nan=True)


def test_wrong_labels_are_hard_by_every_score_but_the_controls(xy):
    x, y = xy
    wrong = torch.arange(60) % 10 == 0
    given = torch.where(wrong, (y + 1) % 3, y)
    settings = dataclasses.replace(SMALL, trials=60, epochs=12, early=4, trial_epochs=10, batch_size=6)
    found = compute(SCORES, x, given, settings=settings, progress=False)
    blind = {"random", "input norm", "CG quadratic", "CG diagonal", "GraNd"}
    for name in SCORES:
        if name not in blind:
            hardness = found[name].hardness
            assert hardness[wrong].nanmean() > hardness[~wrong].nanmean(), name


def test_a_single_score_is_the_same_as_among_all(xy, every):
    for name in ("GraNd", "EL2N", "TracIn", "C-score", "F-SI"):
        torch.testing.assert_close(compute([name], *xy, **QUIET)[name].values, every[name].values, equal_nan=True)


def test_several_labellings_at_once_are_the_same_as_each_alone(xy, every):
    x, y = xy
    both = compute(SCORES, x, torch.stack([y, y.flip(0)]), **QUIET)
    for name, one in both.items():
        assert one.values.shape == (2, 60)
        assert one.halves is None or one.halves.shape == (2, 2, 60)
        torch.testing.assert_close(one.values[0], every[name].values, equal_nan=True, rtol=1e-4, atol=1e-6, msg=name)


def test_pictures_are_standardized_by_channel(xy):
    x = torch.rand(20, 2, 4, 4) * torch.tensor([1.0, 9.0]).view(1, 2, 1, 1) + 3
    z = standardized(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.square().mean((0, 2, 3)), torch.ones(2))
    torch.testing.assert_close(standardized(x[3:5], x), z[3:5])
    assert compute(["EL2N", "CG"], x, torch.arange(20) % 2, **QUIET)["EL2N"].values.shape == (20,)


def test_a_store_gives_back_values_and_costs(xy, every, tmp_path):
    first = compute(["EL2N", "memorization"], *xy, store=Store(tmp_path), **QUIET)
    again = compute(["EL2N", "memorization"], *xy, store=Store(tmp_path), **QUIET)
    for name, one in first.items():
        torch.testing.assert_close(again[name].values, one.values, equal_nan=True)
        assert again[name].seconds == one.seconds and again[name].trainings == one.trainings
        torch.testing.assert_close(one.values, every[name].values, equal_nan=True)
    other = compute(["EL2N", "memorization"], *xy, store=Store(tmp_path), seed=1, **QUIET)
    assert not torch.equal(other["EL2N"].values, first["EL2N"].values)
    sees, seeds = subsets(60, 42, 12, 1), [10**6 + i for i in range(12)]  # a seed draws their weights, too
    net, data = models.by_name("mlp-8", shape=(5,), classes=3), (standardized(xy[0]), xy[1])
    trained = ensemble.train(net, data, trial_recipe(SMALL), seeds, sees=sees, run=Run(progress=False))
    literal = memorization(sees, trained.correct_train[:, -1]).value
    torch.testing.assert_close(other["memorization"].values, literal, equal_nan=True)
    flat, pictures = (x.reshape(len(x), *shape) for x, shape in ((xy[0], (-1,)), (xy[0], (1, 1, -1))))  # the same bytes
    norms = lambda x, **store: compute(["input norm"], x, xy[1], **store, **QUIET)["input norm"].values
    by_store = [norms(x, store=Store(tmp_path)) for x in (flat, pictures)]
    assert torch.equal(by_store[1], norms(pictures)) and not torch.equal(*by_store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["CG", "el2n"]}, "names must be some of 'random'.*got 'el2n'"),
        ({"x": torch.ones(60)}, "x must be finite floats"),
        ({"x": torch.full((60, 5), torch.nan)}, "x must be finite floats"),
        ({"y": torch.zeros(59, dtype=torch.int64)}, r"y must be integer labels \(60,\)"),
        ({"y": torch.zeros(60, dtype=torch.int64)}, "at least 2 classes"),
        ({"classes": 2}, r"y must be labels 0…1 .*got 0…2"),
        ({"x_val": torch.ones(4, 3)}, r"x_val, y_val: expected examples \(5,\) and labels 0…2"),
        ({"x_val": torch.ones(4, 5), "y_val": torch.tensor([0, 1, 2, 3])}, r"examples \(5,\) and labels 0…2"),
        ({"settings": dataclasses.replace(SMALL, share=1.0)}, "0 < share < 1"),
        ({"settings": dataclasses.replace(SMALL, tangent_inputs=0)}, "tangent_inputs ≥ 1"),
        ({"settings": dataclasses.replace(SMALL, architecture="vgg99")}, "name must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(xy, change, message):
    arguments = {"names": ["EL2N"], "x": xy[0], "y": xy[1], **QUIET} | change
    with pytest.raises(ValueError, match=message):
        compute(arguments.pop("names"), arguments.pop("x"), arguments.pop("y"), **arguments)
