"""What holds for every small problem, drawn by hypothesis: ties, copies, constant columns, rare classes among them."""

import math
import warnings

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.craig import craig
from lib.data import load
from lib.ledger import verdicts
from lib.networks import models
from lib.networks.stacked import LOSSES
from lib.scores import definitions
from lib.scores.complexity_gap import cg_prime, cg_scores
from lib.scores.data_diet import LAYERS, el2n, forgetting, grand, margin
from lib.scores.influence import influence
from lib.scores.memorization import c_scores, influence_of_seeing, memorization
from lib.scores.neighbours import knn_agreement, knn_shapley
from lib.scores.tracin import tracin, tracin_mean, tracin_self
from lib.scores.unique_information import coefficients, f_si, leave_one_out, tangent

often = settings(max_examples=20, deadline=None, derandomize=True, database=None)
whole = st.integers(-2, 2)


@st.composite
def problems(draw, least: int = 5, most: int = 12, each: int = 1):
    """Features of few values, the first of them constant, and labels with ``each`` of every class at least."""
    n, d, k = draw(st.integers(least, most)), draw(st.integers(1, 3)), draw(st.integers(2, 3))
    assume(n >= each * k)
    x = torch.tensor(draw(st.lists(st.lists(whole, min_size=d, max_size=d), min_size=n, max_size=n)))
    rest = draw(st.lists(st.integers(0, k - 1), min_size=n - each * k, max_size=n - each * k))
    return torch.cat([torch.ones(n, 1), x], 1).double(), torch.tensor([*range(k)] * each + rest), k


@st.composite
def networks(draw, count: int = 2):
    """A small problem, an architecture for it, and the random weights of some such networks, stacked."""
    x, y, k = draw(problems())
    hidden, activation = draw(st.sampled_from([(), (3,), (2, 2)])), draw(st.sampled_from(["tanh", "relu"]))
    model = models.mlp(x.shape[1], hidden, k, activation).double()
    chance = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    alike = lambda p: 0.5 * torch.randn(count, *p.shape, dtype=p.dtype, generator=chance)
    stack = {name: alike(value) for name, value in model.state_dict().items()}
    model.load_state_dict({name: value[0] for name, value in stack.items()})
    return x, y, model, stack


def truths(*shape):
    size = math.prod(shape)
    return st.lists(st.booleans(), min_size=size, max_size=size).map(lambda flat: torch.tensor(flat).view(*shape))


def close(found, wanted, rtol=1e-9):
    atol = rtol * float(wanted.nan_to_num().abs().max().clamp_min(1))
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol, equal_nan=True, check_dtype=False)


# --- scores ----------------------------------------------------------------------------------------------------------


@often
@given(truths(2, 4, 6), st.sampled_from(["most", "none"]))
def test_forgetting(correct, never):
    close(forgetting(correct, never_learned=never), definitions.forgetting(correct, never_learned=never))


@often
@given(truths(6, 5), truths(6, 5), truths(6, 3))
def test_what_seeing_does(sees, right, right_test):
    """Examples that all or none of the networks saw included."""
    close(c_scores(sees, right), definitions.c_scores(sees, right))
    close(memorization(sees, right).value, definitions.memorization(sees, right))
    close(influence_of_seeing(sees, right_test).value, definitions.influence_of_seeing(sees, right_test))


@often
@given(problems(each=2))
def test_complexity_gap(problem):
    x, y, _ = problem
    close(cg_prime(x, y), definitions.cg_prime(x, y))
    close(cg_scores(x, y, jitter=0.05).score, definitions.cg_scores(x, y, jitter=0.05), rtol=1e-7)
    assert (cg_scores(x, y, jitter=0.05).score > -1e-9).all()


@often
@given(problems(), st.sampled_from([1, 4, 300, math.inf]))
def test_leaving_out_copies_and_all(problem, steps):
    x, y, _ = problem
    kernel, residual = x @ x.T, y.double() - 1
    training = {"lr": 0.5 / float(torch.linalg.matrix_norm(kernel, 2)), "steps": steps, "weight_decay": 0.5}
    alpha = definitions.coefficients(kernel, residual, **training)
    close(coefficients(kernel, residual, **training), alpha, rtol=1e-8)
    found = leave_one_out(kernel, residual, cross_kernel=kernel, tol=1e-11, **training)
    close(found.coefficients, definitions.leave_one_out(kernel, residual, **training), rtol=1e-8)


@often
@given(problems(), st.sampled_from([0.2, 0.5, 1.0]))
def test_craig(problem, keep):
    """Which of two that are as good is chosen is free: what is left over decides, and the weights stand for all."""
    x, _, _ = problem
    found, wanted = craig(x[None], keep, epsilon=0).weights[0], definitions.craig(x[None], keep)[0]
    left = lambda weights: torch.cdist(x, x)[:, weights > 0].amin(1).sum()
    assert int((found > 0).sum()) == int((wanted > 0).sum()) and float(found.sum()) == len(x)
    first = lambda weights: float(left(weights)) if keep < 0.5 else 0.0
    assert math.isclose(first(found), first(wanted), rel_tol=1e-9, abs_tol=1e-9) or left(found) <= 1.5 * left(wanted)


@often
@given(problems(), st.integers(1, 4))
def test_neighbours(problem, k):
    """Shapley values add up to the accuracy of the k nearest; agreement is a number of k-ths."""
    x, y, classes = problem
    assert ((knn_agreement(x, y, k=k) * k) % 1 == 0).all()
    apart = x + 1e-3 * torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    nearest = torch.cdist(apart, apart).argsort(1)[:, :k]
    accuracy = (y[nearest] == y[:, None]).double().mean()
    close(knn_shapley(apart, y, apart, y, k=k).sum(), accuracy)
    assert classes > 1


@often
@given(networks(), st.sampled_from(LOSSES), st.sampled_from(LAYERS), st.booleans())
def test_gradients(problem, loss, layers, own):
    """GraNd and TracIn, with labels of all networks or each network's own, examples that are among both sets."""
    x, y, model, stack = problem
    if own:
        y = torch.stack([y, y.flip(0)])
    options = {"layers": layers, "loss": loss}
    close(grand(model, stack, x, y, **options), definitions.grand(model, stack, x, y, **options))
    at = {1: stack, 3: {name: -2 * value for name, value in stack.items()}}, {1: 0.5, 3: 0.125}
    wanted = definitions.tracin(model, *at, x, y, x, y, **options)
    close(tracin(model, *at, x, y, x, y, **options), wanted)
    close(tracin_mean(model, *at, x, y, x, y, **options), wanted.mean(2))
    close(tracin_self(model, *at, x, y, **options), wanted.diagonal(dim1=1, dim2=2))


@often
@given(networks())
def test_outputs(problem):
    """EL2N and margin, where outputs may be equal."""
    x, y, model, stack = problem
    f = torch.stack([torch.func.functional_call(model, {k: v[e].round() for k, v in stack.items()}, x) for e in (0, 1)])
    errors = f.detach().softmax(2) - torch.nn.functional.one_hot(y, f.shape[2])
    close(el2n(errors), definitions.el2n(errors))
    close(margin(f.detach(), y), definitions.margin(f.detach(), y))


@often
@given(
    networks(), st.sampled_from(LOSSES), st.sampled_from(["exact", "cg", "gauss_newton"]), st.sampled_from([0.0, 0.25])
)
def test_influence(problem, loss, solver, decay):
    """Far from an optimum, on test examples that are among the others; copies of a row have the same influence."""
    x, y, model, _ = problem
    rows = (torch.cat([x, x[:1]]), torch.cat([y, y[:1]]), x[:4], y[:4])
    known = {"loss": loss, "weight_decay": decay}
    lowest = float(torch.linalg.eigvalsh(definitions.hessian(model, *rows[:2], **known))[0])
    known["damping"] = 0.5 + max(0.0, -lowest)
    wanted = definitions.influence(model, *rows, gauss_newton=solver == "gauss_newton", **known)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the weights are no optimum")
        found = influence(model, *rows, solver=solver, **known, **({"tol": 1e-12} if solver == "cg" else {})).on_loss
    close(found, wanted, rtol=1e-8)
    close(found[:, 0], found[:, -1], rtol=1e-8)


@often
@given(networks(), st.sampled_from([1, 7, 40]), st.sampled_from([0.0, 0.1]))
def test_functional_information(problem, steps, decay):
    x, y, model, _ = problem
    net = tangent(model, x, x[::2])
    training = {"lr": len(x) / float(torch.linalg.matrix_norm(net.kernel, 2)), "steps": steps, "weight_decay": decay}
    found = f_si(net, y, sigma=0.5, **training)
    close(found, definitions.f_si(model, x, y, x[::2], sigma=0.5, **training), rtol=1e-8)
    assert (found >= 0).all()


# --- the loader ------------------------------------------------------------------------------------------------------


@often
@given(problems(least=12, most=40, each=4), st.integers(0, 5), st.sampled_from(["text", "gaps", "bool"]))
def test_loading(problem, seed, kind):
    """Rows keep their number, their features and the name of their label; parts are disjoint, whole, stratified."""
    x, y, k = problem
    names = {"text": np.array(["b", "a", "ä"])[y], "gaps": 10 * y.numpy() - 7, "bool": y.numpy() > 0}[kind]
    data = load((x.numpy(), names), seed=seed)
    rows = torch.cat([data.rows_train, data.rows_test])
    assert rows.sort()[0].equal(torch.arange(len(y)))
    for part in ("train", "test"):
        own = getattr(data, f"rows_{part}")
        assert getattr(data, f"x_{part}").equal(x[own])
        labels = [data.classes[c] for c in getattr(data, f"y_{part}").tolist()]
        assert labels == [str(name) for name in names[own.numpy()].tolist()]
        assert len(set(labels)) == len(data.classes)
    few = load((x.numpy(), names), seed=seed, n_train=k + 1)
    assert len(few.y_train) == k + 1 and set(few.rows_train.tolist()) <= set(data.rows_train.tolist())
    assert len(few.y_train.unique()) == len(data.classes) and few.rows_train.equal(few.rows_train.sort()[0])
    again = load((x.numpy(), names), seed=seed)
    assert again.sha256 == data.sha256


# --- verdicts --------------------------------------------------------------------------------------------------------

number = st.integers(-8, 8).map(lambda i: i / 4)
interval = st.tuples(number, number).map(lambda ends: (min(ends), max(ends)))
ORDER = ("not reproduced", "not decided here", "partly", "reproduced")
findings = st.lists(st.sampled_from(verdicts.FINDINGS), min_size=1, max_size=6)


@often
@given(number, interval, interval, st.one_of(st.none(), number), st.one_of(st.none(), number), st.sampled_from([1, -1]))
def test_a_finding_does_not_depend_on_sign_or_unit(value, ends, band, size, effect, side):
    turned = lambda pair, by: tuple(sorted(by * end for end in pair))
    known = verdicts.find(value, ends, side=side, size=size, effect=effect, band=band)
    for by in (-1, 4, -0.5):
        scaled = {"size": size and by * size, "effect": effect and by * effect, "band": turned(band, by)}
        sign = side if by > 0 else -side
        assert verdicts.find(by * value, turned(ends, by), side=sign, **scaled) == known
    assert known in verdicts.FINDINGS
    if ends[0] <= band[0] <= ends[1]:
        assert known in ("absent", "open")  # chance lies within: nothing is claimed
    assert (known == "reversed") == (turned(ends, side)[1] < turned(band, side)[0])


@often
@given(number, interval, st.integers(1, 8))
def test_a_small_effect_is_small_within_its_margin_alone(value, ends, quarters):
    size = quarters / 4
    known = verdicts.find(value, ends, side=0, size=size)
    inside, outside = max(map(abs, ends)) < size, ends[0] > size or ends[1] < -size
    assert known == ("as published" if inside else "reversed" if outside else "open")


@often
@given(findings, st.randoms(use_true_random=False), st.booleans())
def test_a_verdict_knows_no_order_and_grows_with_its_findings(found, chance, every):
    verdict = verdicts.combine(found, every=every)
    mixed = list(found)
    chance.shuffle(mixed)
    assert verdicts.combine(mixed, every=every) == verdict
    for i in range(len(found)):
        better = [*found[:i], "as published", *found[i + 1 :]]
        assert ORDER.index(verdicts.combine(better, every=every)) >= ORDER.index(verdict)
        worse = [*found[:i], "reversed", *found[i + 1 :]]
        assert ORDER.index(verdicts.combine(worse, every=every)) <= ORDER.index(verdict)
    assert verdict != "reproduced" or "reversed" not in found
    assert verdicts.combine(found * 3, every=every) == verdict


@often
@given(findings, st.booleans(), st.booleans(), st.lists(st.sampled_from(verdicts.COVERS), max_size=2))
def test_a_verdict_is_only_ever_qualified_downwards_or_left_open(found, asked, reached, lacks):
    verdict = verdicts.combine(found)
    said, reason = verdicts.qualify(verdict, lacks, asked, reached)
    assert (said == verdict) == (not reason)
    assert said == verdict or (verdict, said) in [("reproduced", "partly"), ("not reproduced", "not decided here")]


@often
@given(st.lists(st.integers(-40, 40), min_size=3, max_size=6, unique=True))
def test_a_sweep_without_noise_is_its_ranks(values):
    rho, ends, change = verdicts.sweep(values, [(v, v) for v in values])
    turned, *_ = verdicts.sweep([-v for v in values], [(-v, -v) for v in values])
    assert math.isclose(rho, -turned, abs_tol=1e-12) and change == (values[-1] - values[0],) * 2
    assert np.allclose(ends, rho) and (rho > 1 - 1e-12) == (values == sorted(values))
