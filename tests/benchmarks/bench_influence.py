"""The influence matrix (all train × m test) of one network at equal accuracy: ours beside libraries and a loop.

usage: python tests/benchmarks/bench_influence.py [n] [m]              (500 and 20 by default; about three minutes)

Three answers are asked for, the first two of an MLP 784–256–10 trained on Fashion-MNIST (0.2 million parameters),
float32, the last of an MLP 64–16–10 on digits (1,210 parameters), float64:

    H⁻¹      the Hessian with penalty and damping, by conjugate gradient. What a tolerance bounds differs (each
             residual, their mean, relative or absolute), so each way takes the loosest power of ten with which its
             answer is within 10⁻⁴ (of the largest entry) of ours in float64 at 10⁻¹⁰: ours from one space for all test
             points within the span of the inputs; pyDVL 0.10 solving for all of them simultaneously; curvlinops 3.0.1's
             Hessian and CG for all of them; dattri 0.3.0 with all examples in one batch, which is its fastest; a loop
             over test points, by two backward passes and an example's gradient at a time
    EK-FAC   ours; kronfluence 1.0.1 with the network's own label distribution taken exactly, as we do (k pseudo-
             examples for each), and as it does by itself (one sampled label each: another, noisy answer)
    exact    the inverse written out: ours, dattri's (IFAttributorExplicit), pyDVL's (DirectInfluence)

Each is timed whole, from network and data to the matrix; ours twice, the better time. A library that is not installed
is left out by name. Writes ``results/benchmarks/influence.json``.

Tried and lost, on one core: curvlinops 3.0.1's Hessian operator for our products (1.1 to 1.8 times the time: it holds
vectors as columns); products with an MLP's Hessian written out, without automatic differentiation (no faster: both run
at the rate of the matrix products); each test point by its own steps (43 against 9 at n = 200; with EK-FAC before it
54, with the Gauss–Newton matrix by its kernel 8, at twice the work a step); the Hessian of an MLP by products with unit
vectors (15 times the closed form of ``lib.numerics.curvature``).
"""

import contextlib
import copy
import io
import json
import sys
import tempfile
import time
import warnings

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lib.data.datasets import load
from lib.networks import models
from lib.numerics.gradients import curvature_root, gradient_rows
from lib.numerics.objective import objective
from lib.scores.influence import eigenvalue_range, influence
from lib.store import results_folder
from lib.training import ensemble
from lib.training.recipe import Recipe, Run

TARGET = 1e-4  # of the largest entry


def dattri_matrix(model, x, y, x_test, y_test, *, shift, explicit=False, **options):
    """``(m, n)``, 1/n included; ``shift`` is penalty and damping together."""
    from dattri.algorithm.influence_function import IFAttributorCG, IFAttributorExplicit
    from dattri.task import AttributionTask

    def loss(params, data):
        return F.cross_entropy(functional_call(model, params, data[0]), data[1])

    task = AttributionTask(loss, model, model.state_dict())
    kind = IFAttributorExplicit if explicit else IFAttributorCG
    attributor = kind(task, regularization=shift, **options)
    whole = lambda a, b: DataLoader(TensorDataset(a, b), batch_size=len(a))
    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():  # else it keeps the graph of every step: 24 GB
        attributor.cache(whole(x, y))
        return attributor.attribute(whole(x, y), whole(x_test, y_test)).detach().T / len(x)


def kronfluence_matrix(model, x, y, x_test, y_test, *, shift, sampled=False):
    """``(m, n)`` by EK-FAC, 1/n included; see the module for ``sampled``."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    outputs = model(x[:1]).shape[1]

    class Classification(Task):
        def compute_train_loss(self, batch, model, sample=False):
            f = model(batch[0])
            if not sample:
                return F.cross_entropy(f, batch[1], reduction="sum")
            if sampled:
                drawn = torch.multinomial(f.detach().softmax(1), 1)[:, 0]
                return F.cross_entropy(f, drawn, reduction="sum")
            root = curvature_root(f.detach(), "cross_entropy")
            return (root[torch.arange(len(f)), batch[1]] * f).sum()

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    many = 1 if sampled else outputs
    pseudo = torch.arange(outputs).repeat(len(x)) if not sampled else y
    task = Classification()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        analyzer = Analyzer(
            "bench", prepare_model(model, task), task, cpu=True, output_dir=folder, disable_tqdm=True, log_level=40
        )
        analyzer.fit_all_factors(
            "factors", TensorDataset(x.repeat_interleave(many, 0), pseudo), per_device_batch_size=500,
            factor_args=FactorArguments(strategy="ekfac"),
        )  # fmt: skip
        analyzer.compute_pairwise_scores(
            "scores", "factors", TensorDataset(x_test, y_test), TensorDataset(x, y), per_device_query_batch_size=50,
            per_device_train_batch_size=500, score_args=ScoreArguments(damping_factor=shift / many),
        )  # fmt: skip
        return analyzer.load_pairwise_scores("scores")["all_modules"] / len(x) / many


def loop_matrix(model, x, y, x_test, y_test, *, shift, tol=1e-4, iterations=200):
    """``(m, n)`` one test point at a time, by two backward passes and one gradient after another."""
    parameters = list(model.parameters())
    flat = lambda parts: torch.cat([part.flatten() for part in parts])
    gradient = lambda a, b: flat(torch.autograd.grad(F.cross_entropy(model(a[None]), b[None]), parameters))
    slope = flat(torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=True))
    rows = []
    for a, b in zip(x_test, y_test, strict=True):
        v = gradient(a, b)
        s, r, d = torch.zeros_like(v), v.clone(), v.clone()
        for _ in range(iterations):
            moved = flat(torch.autograd.grad(slope @ d, parameters, retain_graph=True)) + shift * d
            step = (r @ r) / (d @ moved)
            s, new = s + step * d, r - step * moved
            if new.norm() <= tol * v.norm():
                break
            d, r = new + (new @ new) / (r @ r) * d, new
        rows.append(torch.stack([gradient(c, e) @ s for c, e in zip(x, y, strict=True)]) / len(x))
    return torch.stack(rows)


def pydvl_matrix(model, x, y, x_test, y_test, *, shift, tol=None):
    """``(m, n)``, 1/n included, by simultaneous CG; without a tolerance from the Hessian written out."""
    from pydvl.influence.torch import CgInfluence, DirectInfluence

    if tol is None:
        way = DirectInfluence(model, F.cross_entropy, regularization=shift)
    else:
        way = CgInfluence(
            model, F.cross_entropy, regularization=shift, rtol=tol, atol=0.0, maxiter=200, solve_simultaneously=True
        )
    fitted = way.fit(DataLoader(TensorDataset(x, y), batch_size=len(x)))
    return fitted.influences(x_test, y_test, x, y).detach() / len(x)


def curvlinops_matrix(model, x, y, x_test, y_test, *, shift, tol):
    """``(m, n)``, 1/n included; gradients as torch.func's tutorial has them."""
    from curvlinops import CGInverseLinearOperator, HessianLinearOperator
    from curvlinops._torch_base import PyTorchLinearOperator

    class Identity(PyTorchLinearOperator):
        SELF_ADJOINT = True
        device, dtype = x.device, x.dtype

        def _matmat(self, m):
            return m

    names, weights = zip(*model.named_parameters(), strict=True)
    loss = lambda p, a, b: F.cross_entropy(functional_call(model, p, (a[None],)), b[None])
    state = {name: w.detach() for name, w in zip(names, weights, strict=True)}
    flat = lambda parts: torch.cat([parts[name].flatten(1) for name in names], 1)
    gradients = [flat(vmap(grad(loss), (None, 0, 0))(state, *rows)) for rows in ((x, y), (x_test, y_test))]
    h = HessianLinearOperator(model, torch.nn.CrossEntropyLoss(), list(weights), [(x, y)], check_deterministic=False)
    shapes = [tuple(w.shape) for w in weights]
    inverse = CGInverseLinearOperator(h + shift * Identity(shapes, shapes), tolerance=tol, eps=0.0, max_iter=200)
    return (gradients[0] @ (inverse @ gradients[1].T.contiguous())).T / len(x)


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def clock(work, *arguments, **options):
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = work(*arguments, **options)
    return result, time.perf_counter() - begun


def ours(*arguments, **options):
    return influence(*arguments, **options).on_loss


def small(seed=0, dtype=torch.float64):
    """A network far from an optimum, which formulas do not mind, and data."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(36, 6, generator=g, dtype=dtype), torch.randint(3, (36,), generator=g)
    model = models.initialize(models.mlp(6, (5,), 3, "tanh"), seed).to(dtype)
    return model, x[:30], y[:30], x[30:], y[30:]


def test_the_exact_inverse_agrees_with_dattri_and_the_loop():
    arguments = small()
    expected, _ = clock(ours, *arguments, weight_decay=0.1, damping=1.0)
    assert difference(dattri_matrix(*arguments, shift=1.1, explicit=True), expected) < 1e-6  # its result is float32
    assert difference(dattri_matrix(*arguments, shift=1.1, max_iter=60, tol=1e-10), expected) < 1e-6
    assert difference(loop_matrix(*arguments, shift=1.1, tol=1e-12), expected) < 1e-10
    assert difference(curvlinops_matrix(*arguments, shift=1.1, tol=1e-10), expected) < 1e-8
    found = clock(ours, *arguments, weight_decay=0.1, damping=1.0, solver="cg", tol=1e-12)[0]
    assert difference(found, expected) < 1e-10


def test_both_ways_agree_with_pydvl():
    pytest.importorskip("pydvl.influence.torch", reason="pyDVL is not installed: pip install pyDVL")
    expected, _ = clock(ours, *small(), weight_decay=0.1, damping=1.0)
    for tol in (None, 1e-12):
        assert difference(pydvl_matrix(*small(), shift=1.1, tol=tol), expected) < 1e-8


def test_the_loosest_tolerance_that_is_close_enough_counts():
    exact = torch.tensor([1.0, -2.0])
    tol, found, _ = loosest(lambda tol: exact + tol, exact, target=1e-3, start=1e-1)
    assert tol == 1e-3 and found == pytest.approx(5e-4, rel=1e-3)
    assert loosest(lambda tol: exact + 1, exact, target=1e-3)[0] is None


def test_ekfac_agrees_with_kronfluence():
    arguments = small(dtype=torch.float32)
    expected, _ = clock(ours, *arguments, damping=0.1, solver="ekfac")
    assert difference(kronfluence_matrix(*arguments, shift=0.1), expected) < 1e-4
    sampled = kronfluence_matrix(*small(dtype=torch.float32), shift=0.1, sampled=True)
    assert torch.corrcoef(torch.stack([sampled.flatten(), expected.flatten()]))[0, 1] > 0.9


def trained(model, data, epochs):
    recipe = Recipe(lr=3e-3, epochs=epochs, optimizer="adam", weight_decay=1e-3, schedule="cosine")
    run = ensemble.train(model, (data.x_train, data.y_train), recipe, [0], run=Run(progress=False))
    model.load_state_dict({name: value[0] for name, value in run.parameters.items()})
    return model.eval()


def loosest(way, exact, *, target=TARGET, start=1e-1, end=1e-7):
    """The loosest power of ten of ``way(tol)`` whose answer is close enough, how close, and its seconds."""
    tol = start
    while tol > end:
        found, spent = clock(way, tol)
        if (apart := difference(found.double(), exact)) <= target:
            return tol, apart, spent
        tol /= 10
    return None, apart, spent


def compare(n=500, m=20):
    """Rows: question, other way, difference between the two answers, our seconds, its seconds, note.

    The seconds are None, and the note says why, where a library is not installed or never close enough.
    """
    decay, rows = 1e-3, []
    data = load("fashion-mnist", n_train=n, n_test=m)
    model = trained(models.mlp(784, (256,)), data, epochs=60)
    arguments = (data.x_train, data.y_train, data.x_test, data.y_test)
    damping = 1.5 * max(0.0, -eigenvalue_range(model, *arguments[:2], weight_decay=decay)[0]) + 1e-3
    set_up, shift = {"weight_decay": decay, "damping": damping}, decay + damping
    o = objective(model, *arguments[:2])
    norm = float(torch.cat(list(gradient_rows(o, *o.place(*arguments[2:])))).norm(dim=1).median())

    def again():  # libraries may change the model they are given
        return copy.deepcopy(model)

    def beside(question, name, answer, base, *, note="", scale=1.0):
        try:
            apart, spent, said = answer()
        except ImportError as error:
            rows.append((question, name, None, base, None, f"not installed: {(error.name or '').partition('.')[0]}"))
        else:
            rows.append((question, name, apart, base, spent and spent * scale, "; ".join(filter(None, (note, said)))))

    def tolerant(way, exact, **options):
        tol, apart, spent = loosest(way, exact, **options)
        return apart, spent if tol else None, f"tolerance {tol:.0e}" if tol else f"never within {TARGET:.0e}"

    def once(way, exact, **options):
        found, spent = clock(way, again(), *arguments, shift=shift, **options)
        return difference(found, exact), spent, ""

    exact, _ = clock(ours, model, *arguments, solver="cg", tol=1e-10, dtype=torch.float64, **set_up)
    cg = lambda tol: ours(model, *arguments, solver="cg", tol=tol, **set_up)
    tol, apart, spent = loosest(cg, exact)
    base = min(spent, clock(cg, tol)[1])
    question, few = f"H⁻¹ by CG, both within {TARGET:.0e}", min(m, 5)
    head = (*arguments[:2], *(a[:few] for a in arguments[2:]))
    rows.append((question, "ours in float64", apart, base, None, f"tolerance {tol:.0e}"))
    pydvl = lambda tol: pydvl_matrix(again(), *arguments, shift=shift, tol=tol)
    beside(question, "pyDVL, simultaneous", lambda: tolerant(pydvl, exact), base)
    curvlinops = lambda tol: curvlinops_matrix(again(), *arguments, shift=shift, tol=tol)
    beside(question, "curvlinops", lambda: tolerant(curvlinops, exact), base)
    dattri = lambda tol: dattri_matrix(again(), *arguments, shift=shift, max_iter=200, tol=tol * norm)
    beside(question, "dattri", lambda: tolerant(dattri, exact, start=1e-2), base, note="of the median gradient")
    loop = lambda tol: loop_matrix(again(), *head, shift=shift, tol=tol)
    beside(question, "a loop", lambda: tolerant(loop, exact[:few], start=1e-2), base, scale=m / few)

    question = "EK-FAC"
    tries = [clock(ours, model, *arguments, solver="ekfac", **set_up) for _ in range(2)]
    found, base = tries[0][0], min(spent for _, spent in tries)
    beside(question, "kronfluence, exact labels", lambda: once(kronfluence_matrix, found), base)
    beside(question, "kronfluence, sampled labels", lambda: once(kronfluence_matrix, found, sampled=True), base,
           note="another answer")  # fmt: skip

    question, digits = "H⁻¹ written out, 1,210 parameters", load("digits", n_train=500, n_test=m)
    flat = lambda v: v.flatten(1).double()
    model = trained(models.mlp(64, (16,)), digits, epochs=100).double()
    arguments = (flat(digits.x_train), digits.y_train, flat(digits.x_test), digits.y_test)
    tries = [clock(ours, model, *arguments, **set_up) for _ in range(2)]
    found, base = tries[0][0], min(spent for _, spent in tries)
    beside(question, "dattri", lambda: once(dattri_matrix, found, explicit=True), base)
    beside(question, "pyDVL", lambda: once(pydvl_matrix, found), base)
    return rows


def main(n=500, m=20):
    rows = compare(n, m)
    print(f"{n:,} × {m} examples, {torch.get_num_threads()} threads")
    for question, name, apart, base, spent, note in rows:
        gap = "" if apart is None else f"differ by {apart:.1e}"
        times = f"{base:8.2f} s" + ("" if spent is None else f" against {spent:8.2f} s, {spent / base:6.1f} ×")
        print(f"  {question:34} {name:28} {times}; {'; '.join(filter(None, (gap, note)))}")
    out = results_folder() / "benchmarks" / "influence.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"n": n, "m": m, "rows": rows, "threads": torch.get_num_threads(), "torch": torch.__version__}
    out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
