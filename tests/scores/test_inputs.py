"""What public functions take: labels of any width, arrays, tables; numbers at the edge, right or refused by name."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch import nn

from lib import scores, statistics
from lib.catalogue import Settings, compute
from lib.networks.models import mlp
from lib.scores import cg_scores, data_diet, influence
from lib.scores.influence import trust
from lib.scores.memorization import held_out_accuracy
from lib.scores.tracin import tracin_mean, tracin_self
from lib.scores.unique_information import coefficients, tangent
from lib.training import Recipe, Run, train
from lib.training.retraining import losses_on

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 3, generator=G), torch.arange(40) % 2
NET = mlp(3, (4,), classes=2)
WEIGHTS = {name: value.detach()[None] for name, value in NET.named_parameters()}
TANGENT, ONE = (tangent(model, X, X[:2]) for model in (NET, nn.Linear(3, 1)))
CG, NORM = cg_scores(X, Y).score, compute(["input norm"], X, Y)["input norm"].hardness.float()
FEW = Settings(networks=2, epochs=2, early=1, batch_size=20)


OF_OUTPUTS = [  # whose labels name an output of a network
    lambda y: data_diet.grand(NET, WEIGHTS, X, y),
    lambda y: data_diet.grand(NET, WEIGHTS, X, y, layers="last"),
    lambda y: data_diet.margin(X[None, :, :2], y),
    lambda y: tracin_mean(NET, {1: WEIGHTS}, {1: 0.1}, X, y, X, Y),
    lambda y: tracin_self(NET, {1: WEIGHTS}, {1: 0.1}, X, y, layers="all"),
    lambda y: scores.self_influence(NET, WEIGHTS, X, y),
    lambda y: scores.f_si(TANGENT, y, lr=0.1, steps=3),
    lambda y: losses_on(NET, WEIGHTS, X, y),
]
OF_CLASSES = [
    lambda y: cg_scores(X, y).score,
    lambda y: influence(NET, X, y, X[:2], y[:2], damping=9.0).on_loss,
    lambda y: scores.f_si_by_class(ONE, y, classes=2, lr=0.1, steps=3),
    lambda y: scores.knn_agreement(X, y),
]


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8, torch.bool])
@pytest.mark.parametrize("score", [*OF_OUTPUTS, *OF_CLASSES])
@pytest.mark.filterwarnings("ignore:the weights are no optimum")
def test_labels_of_any_width(score, kind):
    assert score(Y.to(kind)).equal(score(Y))


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x.numpy(), lambda x: pd.DataFrame(x.numpy()), lambda x: x.tolist(), lambda x: x.numpy().astype(">f4"),
        lambda x: nn.Identity()(x.clone().requires_grad_() * 1), lambda x: scipy.sparse.csr_array(x.numpy()),
    ],
)  # fmt: skip
def test_features_as_people_have_them(of):
    for y in (Y.numpy().astype("u1"), pd.Series(Y.numpy(), index=range(100, 140))):
        torch.testing.assert_close(cg_scores(of(X), y).score.float(), CG, rtol=1e-4, atol=1e-3)
        norm = compute(["input norm"], of(X), y, settings=FEW)["input norm"]
        torch.testing.assert_close(norm.hardness.float(), NORM)


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("score", OF_OUTPUTS)
def test_labels_that_are_no_output_are_refused(score, shift):
    with pytest.raises(
        ValueError, match=rf"y(_train)? must be integer labels from 0 to 1 .* got torch.int64 {shift} to {shift + 1}"
    ):
        score(Y + shift)


@pytest.mark.parametrize(
    "score",
    [
        lambda x, y: data_diet.input_norm(x),
        lambda x, y: data_diet.grand(NET, WEIGHTS, x, y),
        lambda x, y: tracin_self(NET, {1: WEIGHTS}, {1: 0.1}, x, y),
        lambda x, y: tracin_mean(NET, {1: WEIGHTS}, {1: 0.1}, X, Y, x, y),
        lambda x, y: influence(NET, x, y, X[:2], Y[:2], damping=9.0),
        lambda x, y: scores.self_influence(NET, WEIGHTS, x, y),
        lambda x, y: cg_scores(x, y),
        lambda x, y: scores.knn_agreement(x, y),
        lambda x, y: tangent(NET, x, X[:2]),
        lambda x, y: losses_on(NET, WEIGHTS, x, y),
        lambda x, y: train(NET, (x, y), Recipe(lr=0.1, epochs=1), [0], run=Run(progress=False)),
    ],
)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], r"x.*\(0, 3\)"),
        (X[:, :0], r"x.*\(40, 0\)"),
        (X.clone().index_fill_(0, torch.tensor([3]), math.nan), r"x.*rows \[?3"),
        (X.clone().index_fill_(0, torch.tensor([3]), -math.inf), "x.*NaN or infinity"),
        (X.to(torch.complex64), "x.*: expected real numbers"),
        (X.numpy().astype(complex), "x.*: expected numbers, got complex128"),
        (X.to_sparse(), "x.*: expected real numbers in a dense tensor"),
        (X.to_sparse_csr(), "x.*: expected real numbers in a dense tensor"),
        (np.ma.masked_greater(X.numpy(), 1), "x.*: expected a number in each place, got masked ones"),
    ],
    ids=["no rows", "no columns", "NaN", "infinity", "complex", "complex array", "sparse", "rows", "masked"],
)  # fmt: skip
def test_examples_that_are_none_or_no_numbers_are_refused(score, x, message):
    with pytest.raises(ValueError, match=message):
        score(x, Y[: len(x)])


def test_accuracies_need_a_prediction_each():
    with pytest.raises(ValueError, match=r"must have the shape of member_sees, \(5, 4\), got \(5, 1\)"):
        held_out_accuracy(SEES[:5, :4], RIGHT[:5, :1])


def test_a_warning_names_the_line_of_the_caller():
    for call in (
        lambda: influence(nn.Linear(3, 2), X, Y, X[:2], Y[:2], damping=1.0),
        lambda: trust(nn.Linear(3, 2), X, Y),
    ):
        with pytest.warns(UserWarning, match="the weights are no optimum") as told:
            call()
        assert {str(one.filename) for one in told} == {__file__}


SEES, RIGHT = torch.rand(20, 6, generator=G) > 0.3, torch.rand(20, 6, generator=G) > 0.3
ERRORS = torch.rand(2, 40, 3, generator=G)


@pytest.mark.filterwarnings("ignore:the weights are no optimum")
@pytest.mark.parametrize(
    ("score", "arrays"),
    [
        (data_diet.el2n, [ERRORS]),
        (data_diet.margin, [ERRORS, Y]),
        (data_diet.forgetting, [ERRORS > 0.5]),
        (data_diet.input_norm, [X]),
        (lambda x, y: data_diet.grand(NET, WEIGHTS, x, y), [X, Y]),
        (scores.memorization, [SEES, RIGHT]),
        (scores.influence_of_seeing, [SEES, RIGHT[:, :4]]),
        (lambda sees, hit: scores.datamodel(sees, hit, ridge=1.0), [SEES, RIGHT]),
        (scores.c_scores, [SEES, RIGHT]),
        (lambda kernel, r: coefficients(kernel, r, lr=1e-3, steps=5), [X @ X.T, Y.float()]),
        (scores.knn_agreement, [X, Y]),
        (scores.knn_shapley, [X, Y, X[:5], Y[:5]]),
        (lambda x, y, a, b: tracin_mean(NET, {1: WEIGHTS}, {1: 0.1}, x, y, a, b), [X, Y, X[:5], Y[:5]]),
        (lambda x, y: influence(nn.Linear(3, 2), x, y, x[:2], y[:2], damping=1.0).on_loss.shape, [X, Y]),
        (lambda x, y: compute(["input norm"], x, y)["input norm"].hardness, [(9 * X).int(), Y]),
    ],
)
def test_every_score_takes_arrays(score, arrays):
    wanted, got = score(*arrays), score(*(array.numpy() for array in arrays))
    torch.testing.assert_close(got, wanted, equal_nan=True)
    if all(array.ndim < 3 for array in arrays):
        torch.testing.assert_close(
            score(*(pd.DataFrame(a) if a.ndim == 2 else a for a in arrays)), wanted, equal_nan=True
        )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_no_unit_changes_a_score(scale):
    found, names = X.double(), ["EL2N", "CG", "input norm", "GraNd", "kNN agreement"]
    how = {"settings": FEW, "progress": False}
    wanted, got = compute(names, found, Y, **how), compute(names, scale * found, Y, **how)
    for name in names:
        torch.testing.assert_close(got[name].values, wanted[name].values, rtol=1e-4, atol=1e-5)


def test_validation_data_and_settings_that_cannot_work_are_named():
    for message, options in [
        ("y_val: expected numbers, got <U1", {"y_val": np.array(["a"] * 5)}),
        ("x_val, y_val: expected examples .* all finite", {"x_val": X[:5] * math.nan}),
        ("x_val, y_val: expected examples .* all finite", {"y_val": Y[:5, None]}),
        ("settings need epochs ≥ 1", {"settings": Settings(epochs=0)}),
    ]:
        with pytest.raises(ValueError, match=message):
            compute(["KNN-Shapley"], X, Y, **{"x_val": X[:5], "y_val": Y[:5]} | options)
    with pytest.raises(ValueError, match=r"x: expected a label for each example, got \(40, 3\) and \(39,\)"):
        scores.knn_agreement(X, Y[1:])


def test_what_is_no_number_or_no_second_class_is_refused():
    with pytest.raises(ValueError, match="y: expected numbers, got <U1"):
        cg_scores(X, np.array(["a", "b"])[Y])
    with pytest.raises(ValueError, match="at least 2 classes"):
        compute(["EL2N"], X, torch.ones(40, dtype=torch.int64))
    with pytest.raises(ValueError, match="x_val must be finite numbers .* at least one example"):
        tracin_mean(NET, {1: WEIGHTS}, {1: 0.1}, X, Y, X[:0], Y[:0])
    with pytest.raises(ValueError, match="residual must be finite"):
        coefficients(torch.eye(2), torch.tensor([math.nan, 1.0]), lr=0.1, steps=5)
    with pytest.raises(ValueError, match=r"x_train must be finite numbers .*in rows \[7\]"):
        influence(nn.Linear(3, 2), X.clone().index_fill_(0, torch.tensor([7]), math.nan), Y, X[:2], Y[:2])
    still = {"head.weight": torch.zeros(1, 2, 3), "head.bias": torch.zeros(1, 2)}  # p = (½, ½)
    with pytest.raises(ValueError, match=r"rows \[3\] overflow"):
        data_diet.grand(mlp(3, (), classes=2), still, X.clone().index_fill_(0, torch.tensor([3]), 3e38), Y)


@pytest.mark.filterwarnings("ignore:the weights are no optimum")
@pytest.mark.parametrize("solver", ["exact", "gauss_newton", "cg", "ekfac"])
def test_a_perfect_fit_has_no_influence_whatever_the_decay(solver):
    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    values = X.sum(1)
    change = influence(model, X, values, X[:3], values[:3], loss="mse", solver=solver, weight_decay=0.1).on_loss
    assert change.abs().max() < 1e-6
    whole = torch.eye(3).repeat(2, 1)  # sums without rounding: the fit is perfect to the last bit
    assert trust(model, whole, whole.sum(1), loss="mse").gradient == 0
    assert trust(model, whole, whole.sum(1), loss="mse", weight_decay=0.1).gradient == math.inf


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-100, 1.0, 1e100, 1e170, 1e300])
def test_correlations_and_standardization_at_any_scale(scale):
    a, b = np.array([1.0, 2.0, 3.0, 4.5, 5.0, 7.0]), np.array([1.0, 3.0, 2.0, 4.0, 6.0, 5.0])
    assert statistics.pearson(a * scale, b)[0] == pytest.approx(statistics.pearson(a, b)[0])
    torch.testing.assert_close(statistics.standardized(X.double() * scale), statistics.standardized(X.double()))
    many, more = (np.random.default_rng(seed).normal(size=1_001) for seed in (0, 1))  # beyond the bootstrap
    assert statistics.pearson(many * scale, more)[1] == pytest.approx(statistics.pearson(many, more)[1])


def test_a_kernel_reckoned_in_float32_is_symmetric_enough():
    root = torch.randn(30, 30, generator=G)
    kernel = (root @ root.T).double()
    rounded = kernel + 1e-7 * kernel.max() * torch.randn(30, 30, generator=G)
    exact, near = (coefficients(k, torch.ones(30), lr=1e-3, steps=5) for k in (kernel, rounded))
    torch.testing.assert_close(exact, near, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="kernel must be symmetric"):
        coefficients(kernel + torch.eye(30).roll(1, 0), torch.ones(30), lr=1e-3, steps=5)
