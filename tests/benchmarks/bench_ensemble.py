"""Model-steps a second of the engine against a plain PyTorch loop on the same work, in one process, in turns.

usage: python tests/benchmarks/bench_ensemble.py [rounds]        (3 by default; five minutes on two cores)

The work: networks trained on 70% of 2,000 rows of Fashion-MNIST each, batches of 100, SGD with momentum .9. The plain
loop trains one network after another as everybody writes it (index, forward, ``backward``, ``torch.optim.SGD``), with
torch's default threads, on one thread, with its batches from a shuffling ``DataLoader``, as tutorials have it, and in
joblib's processes, one a core. ``vmap`` trains 16 side by side, as torch.func's tutorial has it. Each way is timed once
in every round and its best round counts. The machine's rate is that of a product of 3,000 × 3,000 float32 matrices,
the best of all rounds; a step's operations are those of its products and convolutions, so the fraction also pays for
batches, softmax, updates, initialization and the final evaluation.

All this is repeated beside one other busy process, since a machine is seldom one's own: threads that split a small
product wait for each other by spinning, which ruins the plain loop; the engine's groups keep to a core each.

What did not win, on two cores with AVX-512 and AMX: groups computed on both cores (1,900 to 2,000 steps a second for
the MLP against 2,700 with a group a core: batched products wait for each other); groups of one, or of 32 and more (out
of the second cache); buffers written once for every intermediate (the allocator gives the same memory back); weights
as (out, in) (the forward product is 10% slower than with (in, out)); one member at a time within a group, so that its
update finds its weights in the cache (the calls cost what the cache gains); for the CNN, ``vmap`` (31 steps a second
and core, against 38 one after another), ``torch.compile`` (37, and 40 s to compile), all convolutions as patches and
products (36; 30 and less in groups; those over few positions alone: 1.3 times as fast for VGG13, and on a processor
with AVX2 none of 16 networks gained more than 1.1 while others lost a quarter). The plain loop of the CNN already
reaches nearly half of the product rate on both cores, so a factor of two is not there. For the MLP a factor of ten
would be nearly three times the product rate: the loop reaches a quarter of it where nothing else runs. Beside a busy
process the factor is 6.

Writes ``results/benchmarks/ensemble.json``.
"""

import json
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from itertools import product

import torch
from joblib import Parallel, delayed
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lib.costs import matrix_product_rate
from lib.data.datasets import load
from lib.networks.models import cnn_unique_information, initialize, mlp
from lib.networks.stacked import predict
from lib.scores.memorization import subsets
from lib.store import results_folder
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Record, Run

BATCH, LR, MOMENTUM = 100, 0.05, 0.9
THREADS = torch.get_num_threads()
PAPER_STEPS = 4000 * 30 * 0.7 * 60_000 / BATCH  # Feldman and Zhang on MNIST: networks, epochs, rows


def plain_loop(model, x, y, order):
    """Train a copy of ``model`` on the batches ``order (steps, B)``."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for index in order:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()
    return model


def plain_rate(build, x, y, steps, threads):
    torch.set_num_threads(threads)
    model, order = initialize(build(), 0), torch.randint(0, len(x), (steps + 5, BATCH))
    plain_loop(model, x, y, order[:5])
    start = time.perf_counter()
    plain_loop(model, x, y, order[5:])
    seconds = time.perf_counter() - start
    torch.set_num_threads(THREADS)
    return steps / seconds


def loader_rate(build, x, y, steps):
    """The plain loop over a DataLoader of 70% of the rows, drawn anew each epoch."""
    rows = torch.randperm(len(x))[: round(0.7 * len(x))]
    batches = DataLoader(TensorDataset(x[rows], y[rows]), BATCH, shuffle=True, drop_last=True)
    model = initialize(build(), 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    done, start = 0, time.perf_counter()
    while done < steps:
        for inputs, labels in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        done += len(batches)
    return done / (time.perf_counter() - start)


@contextmanager
def busy_process():
    """Something else that computes, on one thread."""
    code = "import torch; torch.set_num_threads(1); a = torch.rand(1000, 1000)\nwhile True: a @ a"
    other = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(5)  # until it has imported torch
    try:
        yield
    finally:
        other.kill()
        other.wait()


def side_by_side(models, x, y, orders):
    """All networks as one by torch.func: a step of ``orders (steps, members, B)`` is one ``vmap(grad)``; weights."""
    stack, _ = stack_module_state(models)
    weights = {name: value.detach() for name, value in stack.items()}
    loss = lambda w, rows, labels: nn.functional.cross_entropy(functional_call(models[0], w, (rows,)), labels)
    step, velocity = vmap(grad(loss)), {name: torch.zeros_like(value) for name, value in weights.items()}
    for index in orders:
        for name, gradient in step(weights, x[index], y[index]).items():
            weights[name].sub_(velocity[name].mul_(MOMENTUM).add_(gradient), alpha=LR)
    return weights


def vmap_rate(build, x, y, members, steps):
    models = [initialize(build(), seed) for seed in range(members)]
    orders = torch.randint(0, len(x), (steps + 1, members, BATCH))
    side_by_side(models, x, y, orders[:1])
    start = time.perf_counter()
    side_by_side(models, x, y, orders[1:])
    return members * steps / (time.perf_counter() - start)


def alone(build, x, y, seed, steps):
    """One network on one thread, in a process of joblib's."""
    torch.set_num_threads(1)
    return len(list(plain_loop(initialize(build(), seed), x, y, torch.randint(0, len(x), (steps, BATCH))).parameters()))


def joblib_rate(build, x, y, members, steps):
    """A network a job, a job a core; the processes are there before the clock starts."""
    with Parallel(n_jobs=THREADS) as parallel:
        parallel(delayed(alone)(build, x, y, seed, 2) for seed in range(THREADS))
        start = time.perf_counter()
        parallel(delayed(alone)(build, x, y, seed, steps) for seed in range(members))
        return members * steps / (time.perf_counter() - start)


def our_rate(build, x, y, members, steps, **options):
    recipe = Recipe(lr=LR, momentum=MOMENTUM, batch_size=BATCH, iterations=steps)
    sees = subsets(len(x), round(0.7 * len(x)), members, seed=0)
    run, record = Run(progress=False, **options), Record(parameters=False)
    return train(build(), (x, y), recipe, range(members), sees=sees, record=record, run=run).steps_per_second


def gigaflops_a_step(build, x, y):
    """10⁹ operations of one step's products and convolutions, forward and backward."""
    model = build()
    with FlopCounterMode(display=False) as count:
        nn.functional.cross_entropy(model(x[:BATCH]), y[:BATCH]).backward()
    return count.get_total_flops() / 1e9


def compare(build, x, y, *, plain_steps, members, steps, rounds):
    """Best rate by way, each way once in every round; the rate of products; all rounds."""
    ways = {
        "plain loop": lambda: plain_rate(build, x, y, plain_steps, THREADS),
        "plain loop, one thread": lambda: plain_rate(build, x, y, plain_steps, 1),
        "plain loop, DataLoader": lambda: loader_rate(build, x, y, plain_steps),
        "plain loop, joblib": lambda: joblib_rate(build, x, y, 2 * THREADS, plain_steps),
        "vmap": lambda: vmap_rate(build, x, y, min(members, 16), max(2, steps // 10)),
        "engine": lambda: our_rate(build, x, y, members, steps),
    }
    rates, products = {way: [] for way in ways}, []
    for _ in range(rounds):
        for way, run in ways.items():
            rates[way].append(run())
        products.append(matrix_product_rate())
    return {way: max(values) for way, values in rates.items()}, max(products), rates


def agreement(build, seeds=(3, 4)):
    """Largest difference of two networks' outputs between the ways, after five steps in float64 on the same batches."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(60, 1, 28, 28, dtype=torch.float64, generator=g), torch.randint(0, 10, (60,), generator=g)
    recipe = Recipe(lr=LR, momentum=MOMENTUM, batch_size=None, iterations=5)
    ours = train(build(), (x, y), recipe, list(seeds), run=Run(precision="float64", progress=False)).parameters
    fresh = lambda: [initialize(build(), seed).double() for seed in seeds]
    stacked = side_by_side(fresh(), x, y, torch.arange(60).expand(5, len(seeds), 60))
    one, other = (predict(build(), weights, x) for weights in (ours, stacked))
    plain = torch.stack([plain_loop(m, x, y, torch.arange(60).expand(5, 60))(x).detach() for m in fresh()])
    return {"plain loop": float((one - plain).abs().max()), "vmap": float((one - other).abs().max())}


def test_all_ways_train_the_same_network():
    for build in (lambda: mlp(784), cnn_unique_information):
        assert max(agreement(build).values()) < 1e-9


def main(rounds=3):
    data = load("fashion-mnist", n_train=2000, seed=0)
    x, y = data.x_train, data.y_train
    works = {
        "MLP 784–256–10": (lambda: mlp(784), {"plain_steps": 400, "members": 64, "steps": 280}),
        "unique-information CNN": (cnn_unique_information, {"plain_steps": 60, "members": 4, "steps": 100}),
    }
    report = {"threads": THREADS, "torch": torch.__version__, "rounds": rounds}
    for (name, (build, size)), beside in product(works.items(), (nullcontext, busy_process)):
        name += ", beside a busy process" * (beside is busy_process)
        with beside():
            rates, flops, each = compare(build, x, y, rounds=rounds, **size)
        step = gigaflops_a_step(build, x, y)
        print(f"{name}: {1e3 * step:.0f} MFLOP a step; products at {flops:.0f} GFLOP/s, {THREADS} threads")
        best = max(rate for way, rate in rates.items() if way.startswith("plain"))
        for way, rate in rates.items():
            print(
                f"  {way:24} {rate:7.0f} model-steps/s   {rate / rates['plain loop']:6.1f} × plain   "
                f"{rate / best:5.1f} × its better   {rate * step / flops:4.0%} of the product rate   "
                f"{PAPER_STEPS / rate / 3600:6.0f} h at the paper's size"
            )
        report[name] = {
            "model_steps_per_second": rates, "all_rounds": each, "gigaflop_per_step": step,
            "matrix_product_gflops": flops, "ratio": {way: rate / rates["plain loop"] for way, rate in rates.items()},
            "hours_at_paper_size": {way: PAPER_STEPS / rate / 3600 for way, rate in rates.items()},
            "fraction_of_product_rate": {way: rate * step / flops for way, rate in rates.items()},
        }  # fmt: skip
    out = results_folder() / "benchmarks" / "ensemble.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
