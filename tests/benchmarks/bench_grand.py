"""What ghost norms save: GraNd from the factors of the gradients against gradients written out, in one process.

usage: python tests/benchmarks/bench_grand.py [rows]        (500 by default; about a minute)

Both ways take the same rows of Fashion-MNIST, the same initial weights, float32, and as many rows at a time as keep
what they write within the same bytes. The written-out way is that of torch.func's tutorial, ``vmap(grad(loss))``.
For each network: the seconds of each way (the best of three runs, in turn), their ratio, and the largest relative
difference of the norms, in float32 and, on a few rows, in float64. Writes ``results/benchmarks/grand.json``.
"""

import copy
import json
import sys
import time

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lib.data.datasets import load
from lib.networks import models
from lib.numerics.objective import WORKING
from lib.scores.data_diet import grand
from lib.store import results_folder

NETWORKS = ("mlp-256", "lenet", "cnn_unique_information", "densenet_small")


def written_out(model, parameters, x, y):
    """``‖∇ℓ‖`` of each example from its gradient in full, for one run."""
    net, state = copy.deepcopy(model).eval(), {name: value[0] for name, value in parameters.items()}
    trained = {name: state.pop(name) for name, _ in model.named_parameters()}

    def loss(p, row, label):
        return nn.functional.cross_entropy(functional_call(net, {**state, **p}, (row[None],)), label[None])

    size = max(1, min(4096, WORKING // (4 * sum(value.numel() for value in trained.values()))))
    norms = []
    for rows, own in zip(x.split(size), y.split(size), strict=True):
        each = vmap(grad(loss), (None, 0, 0))(trained, rows, own)
        norms.append(sum(g.flatten(1).square().sum(1) for g in each.values()).sqrt())
    return torch.cat(norms)[None]


def initial(name, shape, dtype=torch.float32):
    """The architecture, and one run's weights at initialization."""
    model = models.initialize(models.by_name(name, shape=shape, classes=10), 0)
    stack = {key: value[None] for key, value in model.state_dict().items()}
    return model, {key: value.to(dtype) if value.is_floating_point() else value for key, value in stack.items()}


def difference(a, b):
    return float(((a - b).abs() / b).max())


def compare(name, x, y, repeats=3):
    """Seconds of both ways, their ratio, and how far the norms are apart."""
    model, parameters = initial(name, tuple(x.shape[1:]))
    ways = {"ghost norms": grand, "written out": written_out}
    seconds, norms = {way: float("inf") for way in ways}, {}
    for _ in range(repeats):
        for way, norm in ways.items():
            begun = time.perf_counter()
            norms[way] = norm(model, parameters, x, y)
            seconds[way] = min(seconds[way], time.perf_counter() - begun)
    result = {"seconds": seconds, "ratio": seconds["written out"] / seconds["ghost norms"]}
    result["difference_float32"] = difference(norms["ghost norms"], norms["written out"])
    model, parameters = initial(name, tuple(x.shape[1:]), torch.float64)
    few = x[:16].double(), y[:16]
    result["difference_float64"] = difference(grand(model, parameters, *few), written_out(model, parameters, *few))
    return result


def test_both_ways_agree():
    g = torch.Generator().manual_seed(0)
    result = compare("lenet", torch.rand(4, 1, 16, 16, generator=g), torch.arange(4), repeats=1)
    assert result["difference_float64"] < 1e-12 and result["difference_float32"] < 1e-4 and result["ratio"] > 0


def main(rows=500):
    data = load("fashion-mnist", n_train=rows)
    print(f"{rows:,} rows of Fashion-MNIST, float32, {torch.get_num_threads()} threads")
    results = {}
    for name in NETWORKS:
        results[name] = found = compare(name, data.x_train, data.y_train)
        ghost, written = found["seconds"].values()
        print(f"  {name:24} {ghost:7.2f} s against {written:7.2f} s, {found['ratio']:6.1f} ×; differ by", end=" ")
        print(f"{found['difference_float32']:.0e} (float32), {found['difference_float64']:.0e} (float64)")
    out = results_folder() / "benchmarks" / "grand.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"rows": rows, "networks": results, "threads": torch.get_num_threads(), "torch": torch.__version__}
    out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
