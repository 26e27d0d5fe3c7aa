"""The influence matrix (all train × m test) of one network: ours against dattri, kronfluence and a loop, in one run.

usage: python tests/benchmarks/bench_influence.py [n] [m]              (500 and 20 by default; about two minutes)

Two answers are asked for, of an MLP 784–256–10 trained on Fashion-MNIST (0.2 million parameters), float32:

    H⁻¹      the Hessian with penalty and damping: ours by conjugate gradient from one space for all test points, within
             the span of the inputs; dattri 0.3.0 (IFAttributorCG with all examples in one batch, which is its fastest;
             its tolerance is absolute, so it gets ours times the median norm of the test gradients); a loop over test
             points, each with its own products by two backward passes and an example's gradient at a time, as
             libraries that take one test point do
    EK-FAC   ours; kronfluence 1.0.1 with the network's own label distribution taken exactly, as we do (k pseudo-
             examples for each), and as it does by itself (one sampled label each: another, noisy answer)

and of an MLP 64–16–10 on digits (1,210 parameters), float64, the exact inverse: ours against dattri's
(IFAttributorExplicit). Each is timed whole, from network and data to the matrix; ours twice, the better time.
Agreement is the largest difference over the largest entry, to ours at a tolerance of 10⁻⁶. What our products reach of
the rate of a square float32 product on the same threads is said too. Writes ``results/benchmarks/influence.json``.

Found on two quiet cores, n = 500, m = 20 (seconds): H⁻¹ ours 0.78, dattri 35, the loop 6.4 (23 beside other work);
agreement of ours 9·10⁻⁶, of dattri 2·10⁻⁶, of the loop 10⁻⁴. EK-FAC ours 0.23, kronfluence 18 (exact labels; agreement
9·10⁻⁷) and 3.6 (sampled). Exact inverse ours 0.18, dattri 0.50 (3·10⁻⁸). Our products take a fifth of our time at the
machine's rate; the rest are the orthogonal bases of the block, and memory.

Tried and lost, on one core: curvlinops 3.0.1's Hessian operator for our products (1.1 to 1.8 times the time: it holds
vectors as columns); products with an MLP's Hessian written out, without automatic differentiation (no faster: both run
at the rate of the matrix products); each test point by its own steps (43 against 9 at n = 200; with EK-FAC before it
54, with the Gauss–Newton matrix by its kernel 8, at twice the work a step); the Hessian of an MLP by products with unit
vectors (15 times the closed form of ``lib.numerics.curvature``).
"""

import contextlib
import io
import json
import sys
import tempfile
import time
import warnings

import torch
from torch.func import functional_call
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


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def clock(work, *arguments, **options):
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = work(*arguments, **options)
    return result, time.perf_counter() - begun


def product_rate(n, p, side=2048):
    """Operations a second of a square float32 product, and seconds that a Hessian-vector product would take at it."""
    a = torch.rand(side, side)
    spent = min(clock(torch.mm, a, a)[1] for _ in range(3))
    return 2 * side**3 / spent, 4 * n * p / (2 * side**3 / spent)  # Wx and its transpose, 2np operations each


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
    assert (
        difference(clock(ours, *arguments, weight_decay=0.1, damping=1.0, solver="cg", tol=1e-12)[0], expected) < 1e-10
    )


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


def main(n=500, m=20):
    decay, seconds, apart = 1e-3, {}, {}
    data = load("fashion-mnist", n_train=n, n_test=m)
    model = trained(models.mlp(784, (256,)), data, epochs=60)
    arguments = (data.x_train, data.y_train, data.x_test, data.y_test)
    damping = 1.5 * max(0.0, -eigenvalue_range(model, *arguments[:2], weight_decay=decay)[0]) + 1e-3
    fresh = lambda: models.mlp(784, (256,))  # libraries may change the model they are given

    def again():
        copy = fresh()
        copy.load_state_dict(model.state_dict())
        return copy.eval()

    set_up = {"weight_decay": decay, "damping": damping}
    shift, tol = decay + damping, 1e-4
    exact, _ = clock(ours, model, *arguments, solver="cg", tol=1e-6, **set_up)
    for kind, options in (("cg", {"tol": tol}), ("ekfac", {})):  # the better of two
        tries = [clock(ours, model, *arguments, solver=kind, **options, **set_up) for _ in range(2)]
        seconds[f"ours, {kind}"] = min(spent for _, spent in tries)
        if kind == "cg":
            apart["ours, cg"] = difference(tries[0][0], exact)
        expected = tries[0][0]
    steps = clock(influence, model, *arguments, solver="cg", tol=tol, **set_up)[0].iterations
    rate, each = product_rate(n, 256 * (min(n, 784) + 1) + 2570)
    share = steps * m * each / seconds["ours, cg"]
    rough, seconds["ours, gauss_newton"] = clock(ours, model, *arguments, solver="gauss_newton", **set_up)
    apart["ours, gauss_newton"] = difference(rough, exact)
    o = objective(model, *arguments[:2])
    norm = float(torch.cat(list(gradient_rows(o, *o.place(*arguments[2:])))).norm(dim=1).median())
    found, seconds["dattri, CG"] = clock(dattri_matrix, again(), *arguments, shift=shift, max_iter=200, tol=tol * norm)
    apart["dattri, CG"] = difference(found, exact)
    few = min(m, 5)
    found, spent = clock(loop_matrix, again(), *arguments[:2], *(a[:few] for a in arguments[2:]), shift=shift, tol=tol)
    seconds["a loop"], apart["a loop"] = spent * m / few, difference(found, exact[:few])  # scaled up
    found, seconds["kronfluence, exact labels"] = clock(kronfluence_matrix, again(), *arguments, shift=shift)
    apart["kronfluence, exact labels"] = difference(found, expected)
    found, seconds["kronfluence, sampled labels"] = clock(
        kronfluence_matrix, again(), *arguments, shift=shift, sampled=True
    )
    apart["kronfluence, sampled labels"] = difference(found, expected)

    digits = load("digits", n_train=500, n_test=m)
    net, flat = models.mlp(64, (16,)), lambda v: v.flatten(1).double()
    net = trained(net, digits, epochs=100).double()
    rows = (flat(digits.x_train), digits.y_train, flat(digits.x_test), digits.y_test)
    tries = [clock(ours, net, *rows, **set_up) for _ in range(2)]
    seconds["ours, exact"] = min(spent for _, spent in tries)
    found, seconds["dattri, explicit"] = clock(dattri_matrix, net, *rows, shift=shift, explicit=True)
    apart["dattri, explicit"] = difference(found, tries[0][0])

    print(f"{n:,} × {m} examples, {torch.get_num_threads()} threads, damping {damping:.3g}")
    print(f"  our cg: {steps} steps, whose products would take {share:.0%} of the time at {rate / 1e9:.0f} GFLOP/s")
    rivals = {"CG": "ours, cg", "loop": "ours, cg", "labels": "ours, ekfac", "explicit": "ours, exact"}
    for way, spent in seconds.items():
        base = next((name for word, name in rivals.items() if word in way), way)
        gap = f"differs by {apart[way]:.1e}" if way in apart else ""
        print(f"  {way:28} {spent:8.2f} s {spent / seconds[base]:8.1f} × {base:14} {gap}")
    out = results_folder() / "benchmarks" / "influence.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "n": n,
        "m": m,
        "damping": damping,
        "steps": steps,
        "share_of_rate": share,
        "seconds": seconds,
        "largest_difference": apart,
    }
    out.write_text(json.dumps(record | {"threads": torch.get_num_threads(), "torch": torch.__version__}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
