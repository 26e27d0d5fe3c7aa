"""What one eigendecomposition saves: all leave-one-out changes of a linearized network, against three other ways.

usage: python tests/benchmarks/bench_linearized.py [n] [t]        (1,000 and 2,000 by default; about a minute)

All ways give the change of predictions on n validation examples by each of n training examples, after t steps of
gradient descent on the mean loss, from the same kernel (an MLP with 1,024 hidden units, two classes of Fashion-MNIST,
λ = 0), in one process, twice: with the paper's learning rate, .001, and with the fast n/λ_max. The ways:

- the authors' (Harutyunyan et al. 2021, section 5, appendix E): for each example the inverse of the kernel without it
  by a block update, and the matrix power (I − ηΘ₋ᵢ)ᵗ, float32. Timed on eight examples, the fastest of which is
  scaled up;
- the recurrence α ← α + η M∘(r − Θα) for all masks at once, t matrix products, float32. Timed on a sample of its steps
  and scaled up;
- a Chebyshev series of (1 − (1 − ηx)ᵗ)/x in the masked kernels, of degree about √t, one product a degree, float32;
- ours, from the kernel, in float64; and again from its eigendecomposition, as for another t, η, λ or labelling.

Then how ours grows with n, t and the number of outputs. Writes ``results/benchmarks/linearized.json``.
"""

import json
import math
import sys
import time

import numpy as np
import torch
from numpy.polynomial import chebyshev

from lib.costs import matrix_product_rate
from lib.data.datasets import load
from lib.networks.models import initialize, mlp
from lib.numerics.gradients import ntk
from lib.numerics.spectral_filter import spectral_filter
from lib.scores.unique_information import leave_one_out, spectrum
from lib.store import results_folder


def clock(work, *arguments, repeats=1, **options):
    """Result and the least seconds of some repeats."""
    best = math.inf
    for _ in range(repeats):
        begun = time.perf_counter()
        result = work(*arguments, **options)
        best = min(best, time.perf_counter() - begun)
    return result, best


def predict(kernel, inverse, cross, residual, *, lr, steps):
    """``Θ(X_val, X)Θ⁻¹(I − (I − ηΘ)ᵗ)r``, ``(m,)`` (eq. 11)."""
    power = torch.matrix_power(torch.eye(len(kernel), dtype=kernel.dtype) - lr * kernel, steps)
    return cross @ (inverse @ (residual - power @ residual))


def predict_without(i, kernel, inverse, cross, residual, *, lr, steps):
    """The same without example i, the inverse updated by eq. 30."""
    stay = torch.arange(len(kernel)) != i
    part, column = inverse[stay][:, stay], kernel[stay, i, None]
    left = part @ column
    updated = part - left @ left.T / (kernel[i, i] + column.T @ left)
    return predict(kernel[stay][:, stay], updated, cross[:, stay], residual[stay], lr=lr, steps=steps)


def authors(kernel, cross, residual, rows, *, lr, steps):
    """``f_w − f_{w₋ᵢ}`` for some rows, ``(rows, m)``, and the seconds of all rows: the fastest one, times n."""
    n = len(kernel)
    inverse, once = clock(torch.linalg.inv, kernel)
    whole, first = clock(predict, kernel, inverse, cross, residual, lr=lr / n, steps=steps)
    each = [clock(predict_without, i, kernel, inverse, cross, residual, lr=lr / (n - 1), steps=steps) for i in rows]
    changes = torch.stack([whole - without for without, _ in each])
    return changes, once + first + n * min(seconds for _, seconds in each)


def masked(kernel, residual):
    """The mask ``(n, n)``, column i without example i, and the masked residuals."""
    mask = 1 - torch.eye(len(kernel), dtype=kernel.dtype)
    return mask, mask * residual[:, None]


def recurrence(kernel, residual, *, lr, steps):
    """``α₋ᵢ``, ``(n, n)``, one matrix product a step."""
    mask, right = masked(kernel, residual)
    alpha, rate = torch.zeros_like(kernel), lr / (len(kernel) - 1)
    for _ in range(steps):
        alpha.add_(mask * (right - kernel @ alpha), alpha=rate)
    return alpha


def series_of_filter(top, *, lr, steps, tol):
    """Chebyshev coefficients of p_t on [0, top], cut where they fall below tol of the largest."""
    points = 8 * math.isqrt(steps) + 64
    to_x = lambda u: torch.from_numpy(top / 2 * (u + 1))
    series = chebyshev.chebinterpolate(lambda u: spectral_filter(to_x(u), lr=lr, steps=steps).numpy(), points)
    return series[: np.flatnonzero(abs(series) > tol * abs(series).max())[-1] + 1]


def chebyshev_series(kernel, residual, top, *, lr, steps, tol=1e-6):
    """``α₋ᵢ``, ``(n, n)``, and the degree: T_{j+1} = 2ÃT_j − T_{j−1} with Ã = 2MΘM/top − I."""
    mask, before = masked(kernel, residual)
    series = series_of_filter(top, lr=lr / (len(kernel) - 1), steps=steps, tol=tol)
    shifted = lambda t: (kernel @ t).mul_(mask).mul_(2 / top).sub_(t)
    now = shifted(before)
    alpha = series[0] * before + series[1] * now
    for c in series[2:]:
        before, now = now, shifted(now).mul_(2).sub_(before)
        alpha.add_(now, alpha=float(c))
    return alpha, len(series) - 1


def problem(n, *, hidden=1024, outputs=1, seed=0):
    """Kernel, cross-kernel and residual of the paper's MLP on two classes (or ten) of Fashion-MNIST."""
    classes = (0, 6) if outputs == 1 else None
    data = load("fashion-mnist", n_train=n, n_test=min(n, 2000), classes=classes, seed=seed)
    model = initialize(mlp(784, (hidden,), outputs), seed)
    targets = data.y_train[:, None] if outputs == 1 else torch.nn.functional.one_hot(data.y_train, outputs)
    with torch.no_grad():
        residual = targets - model(data.x_train)
    return ntk(model, data.x_train), ntk(model, data.x_train, data.x_test), residual


def compare(kernel, cross, residual, *, lr, steps, sample=8, some_steps=100):
    """Seconds of each way, with what was sampled; the largest difference of each from ours, over the largest change."""
    n = len(kernel)
    settings = {"lr": lr, "steps": steps, "loss": "mean", "cross_kernel": cross}
    changes, ours = clock(leave_one_out, kernel, residual, repeats=3, **settings)
    shared, eigen = clock(spectrum, kernel, repeats=3)
    _, again = clock(leave_one_out, shared, residual, repeats=3, **settings)
    seconds = {"ours": ours, "eigendecomposition": eigen, "ours from it": again}
    r = residual[:, 0]
    rows = torch.linspace(0, n - 1, sample).long()
    time_ = {"lr": lr, "steps": steps}
    theirs, seconds["the authors'"] = authors(kernel, cross, r, rows, **time_)
    gain = spectral_filter(shared.values, lr=lr / n, steps=steps)
    whole = shared.vectors @ (gain * (shared.vectors.T @ r.double()))
    (series, degree), seconds["Chebyshev series"] = clock(
        chebyshev_series, kernel, r, 1.001 * shared.values[-1].item(), **time_
    )
    few = min(steps, some_steps)
    stepped, spent = clock(recurrence, kernel, r, lr=lr, steps=few)
    seconds["recurrence"] = spent * steps / few
    far = lambda a, b: ((a - b).abs().max() / changes.predictions.abs().max()).item()
    from_alpha = lambda alpha: (whole[:, None] - alpha.double()).T @ cross.double().T
    differences = {
        "the authors'": far(theirs.double(), changes.predictions[rows, :, 0]),
        "Chebyshev series": far(from_alpha(series), changes.predictions[..., 0]),
    }
    if few == steps:
        differences["recurrence"] = far(from_alpha(stepped), changes.predictions[..., 0])
    return seconds, differences, {"authors' rows": sample, "recurrence's steps": few, "Chebyshev degree": degree}


def test_all_ways_agree():
    kernel, cross, residual = (t.double() for t in problem(24, hidden=32))
    seconds, differences, _ = compare(kernel, cross, residual, lr=0.01, steps=80, sample=24)
    assert differences["the authors'"] < 1e-8 and differences["recurrence"] < 1e-8
    assert differences["Chebyshev series"] < 1e-4 and min(seconds.values()) > 0


def growth():
    """Seconds of ours from the kernel by n, t and number of outputs, predictions on as many examples included."""
    rows = []
    for n, outputs, steps in (
        *((n, 1, 2000) for n in (250, 500, 1000, 2000, 4000)),
        *((1000, 1, t) for t in (10, 100, 10_000, 100_000, math.inf)),
        *((n, 10, 2000) for n in (100, 300)),
    ):
        kernel, cross, residual = problem(n, outputs=outputs)
        shared, eigen = clock(spectrum, kernel)
        settings = {"lr": 1e-3, "steps": steps, "loss": "mean", "cross_kernel": cross}
        _, rest = clock(leave_one_out, shared, residual, repeats=2, **settings)
        rows.append({"n": n, "outputs": outputs, "t": steps, "eigendecomposition": eigen, "rest": rest})
    return rows


def main(n=1000, steps=2000):
    kernel, cross, residual = problem(n)
    leave_one_out(kernel[:64, :64], residual[:64], lr=1e-3, steps=10, loss="mean")  # warm
    fast = n / spectrum(kernel).values[-1].item()
    runs = {
        name: compare(kernel, cross, residual, lr=lr, steps=steps) for name, lr in (("paper", 1e-3), ("fast", fast))
    }
    rates = {str(dtype)[6:]: matrix_product_rate(2000, dtype=dtype) for dtype in (torch.float32, torch.float64)}
    for name, (seconds, differences, sampled) in runs.items():
        print(f"n = {n:,} left out, t = {steps:,}, lr {name}, {torch.get_num_threads()} threads; {sampled}")
        for way, spent in seconds.items():
            apart = f"   differs by {differences[way]:.1e} of the largest change" if way in differences else ""
            print(f"  {way:20} {spent:9.3f} s   {spent / seconds['ours']:8.1f} ×{apart}")
    print(f"  the machine multiplies at {rates['float32']:.0f} (float32) and {rates['float64']:.0f} GFLOP/s (float64)")
    table = growth()
    for row in table:
        print("  n = {n:5,}, k = {outputs:2}, t = {t:7,}: {eigendecomposition:7.3f} + {rest:6.3f} s".format(**row))
    out = results_folder() / "benchmarks" / "linearized.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"n": n, "t": steps, "lr": {"paper": 1e-3, "fast": fast}, "growth": table}
    for name, (seconds, differences, sampled) in runs.items():
        ratio = {way: spent / seconds["ours"] for way, spent in seconds.items()}
        record[name] = {"seconds": seconds, "ratio_to_ours": ratio, "differences": differences, "sampled": sampled}
    record |= {"matrix_product_gflops": rates, "threads": torch.get_num_threads(), "torch": torch.__version__}
    out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
