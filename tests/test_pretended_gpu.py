"""No tensor of a GPU is handed to numpy, none is mixed with one of the CPU, and results are those of the CPU.

The GPU is pretended (``pretend_gpu.py``), so that this is tested where there is none. Whatever takes a ``device`` is in
a table below, with arguments on the CPU, as notebooks have them.
"""

import importlib
import inspect
import pkgutil
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend_gpu import pretend_gpu
from torch import nn

import lib
from lib import catalogue, costs
from lib.networks import stacked
from lib.networks.models import mlp, small_cnn
from lib.numerics import objective
from lib.scores import complexity_gap, data_diet
from lib.scores.influence import influence, self_influence, trust
from lib.scores.tracin import tracin
from lib.training import Recipe, Record, Run, removals, retrain, train

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "notebooks"))
experiments = importlib.import_module("experiments")
dynamics, linearization = (importlib.import_module(f"experiments.{name}") for name in ("dynamics", "linearization"))

G = torch.Generator().manual_seed(0)
X, Y = torch.rand(24, 1, 8, 8, generator=G), torch.arange(24) % 3
XV, YV = torch.rand(6, 1, 8, 8, generator=G), torch.arange(6) % 3
MLP, CNN, TINY = mlp(64, (5,), 3), small_cnn(classes=3, width=3), mlp(64, (2,), 3)
ONE = mlp(64, (5,), 1)
SHORT = Recipe(lr=0.1, momentum=0.9, epochs=2, batch_size=8)
SEES = torch.rand(2, 24, generator=G) < 0.8


OWN = torch.rand(2, 24, generator=G)
STATES = {model: {name: torch.stack([v, 0.9 * v]) for name, v in model.state_dict().items()} for model in (MLP, CNN)}
LATER = {name: value + 0.1 for name, value in STATES[MLP].items()}
ADAM = Recipe(lr=0.01, epochs=2, batch_size=8, augment="crop_flip", optimizer="adam", weight_decay=0.1, decay_to="init")
FULL = Recipe(lr=0.1, epochs=2, batch_size=None)
SETTINGS = catalogue.Settings(networks=2, epochs=4, trials=6, trial_epochs=2, tangent_networks=1, batch_size=8)


def trained(model, device, recipe=SHORT, **options):
    record = Record("epoch", "epoch", errors_at=(1,), checkpoints_at=(1,), state=True)
    on = Run(device=device, progress=False)
    ends = train(model, (X, Y, XV, YV), recipe, (0, 1), **{"sees": SEES, "run": on, "record": record} | options)
    return ends.parameters, ends.correct_train, ends.correct_visits, ends.loss_test, ends.errors, ends.accuracy_test


def left_out(device):
    training, some = linearization.Training(ONE, X, Y % 2, XV, lr=0.1, steps=3), torch.tensor([0, 3])
    changes, net = linearization.retrained(training, some, device=device)
    how = {"damping": 10.0, "scale": 100.0, "depth": 3, "batch_size": 4, "solver": "lissa", "device": device}
    guess = linearization.influence_by_solver(training, net, some, **how)
    return linearization.pair({"guess": guess, "retrained": changes}, "guess", "weights")


def studied(device):
    training = linearization.Training(ONE, X, Y % 2, XV, lr=0.1, steps=3)
    found, *_ = linearization.study(
        training, linearization.kernels(training), torch.tensor([0, 3]), depth=3, device=device
    )
    return [linearization.pair(found, method, "weights") for method in found if method != "retrained"]


def every_score(device):
    options = {"x_val": XV, "y_val": YV, "device": device, "progress": False, "settings": SETTINGS}
    return [scored.values for scored in catalogue.compute(list(catalogue.ALL), X, Y, **options).values()]


ASKED = {
    "lib.networks.stacked.predict": lambda d: [stacked.predict(m, STATES[m], X, device=d) for m in (MLP, CNN)],
    "lib.networks.stacked.members": lambda d: next(stacked.members(MLP, STATES[MLP], device=d))["head.bias"].cpu(),
    "lib.networks.stacked.group": lambda d: stacked.group(CNN, 2, precision="float32", device=d).export(),
    "lib.networks.stacked.Flat": lambda d: stacked.Flat({"w": (2, 3)}, 2, dtype=torch.float32, device=d)["w"].cpu(),
    "experiments.dynamics.tangent_kernel": lambda d: dynamics.tangent_kernel(CNN, STATES[CNN], X, device=d),
    "lib.numerics.objective.objective": lambda d: float(objective.objective(MLP, X, Y, device=d).reference is None),
    "lib.scores.data_diet.grand": lambda d: [data_diet.grand(m, STATES[m], X, Y, device=d) for m in (MLP, CNN)],
    "lib.scores.tracin.tracin": lambda d: [
        tracin(CNN, {1: STATES[CNN]}, {1: 0.1}, X, Y, XV, YV, layers=which, device=d) for which in ("last", "all")
    ],
    "lib.scores.complexity_gap.cg_scores": lambda d: [
        [p for p in vars(complexity_gap.cg_scores(X, Y, device=d, **how)).values() if isinstance(p, torch.Tensor)]
        for how in ({}, {"negatives": 2, "runs": 2})
    ],
    "lib.scores.complexity_gap.cg_prime": lambda d: complexity_gap.cg_prime(X, Y, device=d),
    "lib.scores.complexity_gap.unit_rows": lambda d: complexity_gap.unit_rows(X, d).cpu(),
    "lib.scores.influence.inverse_hessian": lambda d: [
        influence(TINY, X, Y, XV, YV, damping=20.0, device=d, **how).on_loss
        for how in ({}, {"solver": "cg"}, {"solver": "ekfac"}, {"solver": "gauss_newton"}, {"examples": [0, 3]},
                    {"solver": "lissa", "scale": 100.0, "depth": 5, "batch_size": 4})
    ],
    "lib.scores.influence.self_influence": lambda d: self_influence(MLP, STATES[MLP], X, Y, device=d),
    "lib.scores.influence.trust": lambda d: trust(MLP, X, Y, device=d)[:2],
    "lib.catalogue.compute": every_score,
    "lib.training.recipe.Run": lambda d: [
        trained(MLP, d), trained(CNN, d), trained(CNN, d, FULL, masked=True), trained(MLP, d, ADAM),
        trained(CNN, d, sees=None, weights=OWN, labels=torch.stack([Y, 2 - Y]), record=Record(visits=True)),
        retrain(MLP, (X, Y), SHORT, [0], removed=removals([0], 24), run=Run(device=d, progress=False)).parameters,
    ],
    "experiments.dynamics.kernel_velocity": lambda d: dynamics.kernel_velocity(MLP, STATES[MLP], LATER, X, device=d),
    "experiments.dynamics.errors_on_segment": lambda d: dynamics.errors_on_segment(
        MLP, STATES[MLP], LATER, X, Y, device=d
    ),
    "experiments.linearization.retrained": left_out,
    "experiments.linearization.study": studied,
    "experiments.linearization.pretrain": lambda d: linearization.pretrain(
        CNN, SimpleNamespace(x_train=X, y_train=Y, x_test=XV, y_test=YV), epochs=1, device=d
    )[1],
}  # fmt: skip
#: They time and measure on a device, or are told where what they are given lies.
OTHERS = {
    *(f"lib.costs.{name}" for name in ("device_of", "free_bytes", "best_seconds", "matrix_product_rate")),
    "lib.costs.Phases", "lib.costs.measured",
    "lib.catalogue.Task", "lib.numerics.cholesky.factorize", "experiments.fragility.Setting",
    "lib.audit.audit", "lib.networks.stacked.Group", "lib.networks.stacked.side_by_side", "lib.training.loop.captures",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parameters_of(what) -> set[str]:
    try:
        return set(inspect.signature(what).parameters)
    except ValueError:  # an exception without arguments of its own
        return set()


def leaves(tree):
    if tree is None or isinstance(tree, str):
        return []
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [tree]


@pytest.mark.parametrize("name", ASKED)
def test_what_takes_a_device_brings_its_results_home(name):
    with pretend_gpu():
        there = [np.asarray(leaf) for leaf in leaves(ASKED[name]("cuda"))]
    here = [np.asarray(leaf) for leaf in leaves(ASKED[name]("cpu"))]
    assert len(there) == len(here)
    if name != "lib.catalogue.compute":  # in which networks of two values tie
        for one, other in zip(there, here, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_nothing_that_takes_a_device_is_left_out():
    found = set()
    for package in (lib, experiments):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for name, what in vars(importlib.import_module(module.name)).items():
                own = callable(what) and not name.startswith("_") and getattr(what, "__module__", "") == module.name
                if own and "device" in parameters_of(what):
                    found.add(f"{module.name}.{name}")
    assert found <= ASKED.keys() | OTHERS, f"give it a line in ASKED: {sorted(found - ASKED.keys() - OTHERS)}"


def test_the_pretended_one_refuses_what_a_real_one_refuses():
    with pretend_gpu():
        here, generator, layer = torch.arange(4.0), torch.Generator(), nn.Linear(4, 2)
        there = here.to("cuda")
        assert there.device.type == "cuda" and (there + 1).device == there.device and there.cpu().numpy()[3] == 3
        assert (
            torch.zeros_like(there).is_cuda
            and there.new_zeros(2).is_cuda
            and torch.ones(2, device=there.device).is_cuda
        )
        assert nn.functional.one_hot(there.long()).is_cuda and not torch.zeros(2).is_cuda and float(there[1]) == 1
        assert (there * torch.tensor(2.0)).is_cuda and there[torch.tensor([0, 1])].is_cuda
        for bad in (there.numpy, lambda: np.asarray(there), lambda: np.array(there)):
            with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
                bad()
        for bad in (lambda: here + there, lambda: torch.cat([here, there]), lambda: here[there.long()],
                    lambda: layer(there), lambda: torch.rand(2, device="cuda", generator=generator)):  # fmt: skip
            with pytest.raises(RuntimeError, match="same device|device type for generator"):
                bad()
        layer = nn.Linear(4, 2).to("cuda")
        layer(there).sum().backward()
        assert layer.weight.grad.is_cuda
    assert costs.free_bytes("cpu") > 0 and not torch.zeros(2).is_cuda
