"""What the engine and two closed forms do on a GPU: rate, what was aimed at, what the machine's products allow.

usage: python tests/benchmarks/bench_gpu.py [--device cuda] [--small] [--only NAME,NAME] [--cifar10 FILE] [--out FILE]

Under four minutes on an H100 (``--seconds``); ``--device cpu --small`` runs every row at tiny size. Each row has a
process of its own and a minute (``--limit``): one that fails, hangs or runs out of memory is named in the table, and
the others go on. Networks are trained on random pictures of the right shape, ``members`` at once, twice, once three
times as long: the rate is that of the steps between, without capture, evaluation and start.

``floor``  the row's operations at the rate of the machine's matrix products, in the precision of the row (those of
           convolutions in float32 are TF32, as torch has it, and may be faster); ``ratio``, how much of that is reached
``apart``  ‖Δ − Δ_cpu‖ / ‖Δ_cpu‖, where Δ is what some steps (or the closed form, on fewer rows) make of the weights and
           Δ_cpu the same on the CPU in float64. Some 1e-6 in float32, 1e-3 in TF32, 1e-2 and more in bfloat16

The last row trains ResNet-9 by its recipe on CIFAR-10, if that lies in ``data/downloads`` or is given (an ``.npz``),
and says in how many seconds, capture included, and to which test accuracy. Writes ``results/benchmarks/gpu.json``.
"""

import argparse
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from lib.costs import best_seconds, matrix_product_rate
from lib.data.datasets import DATA, load
from lib.networks.models import by_name
from lib.scores.complexity_gap import cg_scores, relu_kernel, unit_rows
from lib.scores.unique_information import leave_one_out
from lib.store import results_folder
from lib.training import Recipe, Run, train
from lib.training.loop import fresh
from lib.training.parallel import step_operations
from lib.training.recipe import Data, Work

sys.path.insert(0, str(Path(__file__).parent))
from gpu_run import machine

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
HALF = {"precision": "bfloat16"}
RESNET9 = Recipe(
    lr=0.4, epochs=16, batch_size=512, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup=0.2,
    schedule="warmup_linear", augment="crop_flip",
)  # fmt: skip


LATE = "no time was left"


class Skipped(Exception):
    """What the row needs is not here."""


def peak(dtype, device, small):
    """Operations a second of the machine's products."""
    return 1e9 * matrix_product_rate(256 if small else 8192, dtype=dtype, device=device)


def training(name, shape, *, members, steps, batch=100, precision="float32", device, small, pictures=False):
    """Steps (or pictures) a second; the floor; how far apart the weights are from those of the CPU."""
    if small:
        members, steps, batch, name = min(members, 2), 2, 20, f"{name}-4" if name.startswith("resnet") else name
    if torch.device(device).type == "cpu":
        precision = "float32"  # the engine has bfloat16 on a GPU alone
    g = torch.Generator().manual_seed(0)
    n = 5 * batch if small else 10_000
    x, y = torch.rand(n, *shape, generator=g), torch.randint(0, 10, (n,), generator=g)
    model, on = by_name(name, shape=shape, classes=10), Run(device=device, precision=precision, progress=False)
    recipe = Recipe(lr=0.01, momentum=0.9, batch_size=batch, iterations=steps)
    go = lambda recipe: train(model, (x, y), recipe, range(members), run=on)
    timed = lambda iterations: best_seconds(lambda: go(replace(recipe, iterations=iterations)), device=device)
    once, thrice = timed(steps), timed(3 * steps)
    between = thrice - once if thrice > once else thrice
    rate = members * (2 if thrice > once else 3) * steps / between
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    floor = peak(dtype, device, small) / step_operations(Work(model, Data(x, y), recipe))
    each = batch if pictures else 1
    few = replace(recipe, iterations=2 if pictures else 10, batch_size=min(batch, 32))
    apart = apart_from_cpu(model, (x[:128], y[:128]), few, on)
    return {"value": rate * each, "floor": floor * each, "apart": apart, "start": once - steps * members / rate}


def apart_from_cpu(model, data, recipe, run):
    ours, exact = run, Run(precision="float64", progress=False)
    start, (here, there) = (
        fresh(model, 0),
        (train(model, data, recipe, [0], run=how).parameters for how in (ours, exact)),
    )
    vector = lambda state: torch.cat([(state[k][0] - start[k]).double().flatten() for k in start if start[k].ndim])
    return relative(vector(here), vector(there))


def relative(here, there):
    return float((here.cpu().double() - there.cpu().double()).norm() / there.cpu().double().norm())


def cg(*, device, small):
    """All exact scores, in float64."""
    n, few = (200, 100) if small else (50_000, 1_000)
    x, y = torch.rand(n, *COLOUR, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10
    score = lambda n, device: cg_scores(x[:n], y[:n], dtype=torch.float64, device=device).score
    apart = relative(score(few, device), score(few, "cpu"))  # which also warms up
    found = []
    seconds = best_seconds(lambda: found.append(score(n, device)), device=device)
    floor = 2 * n**3 / 3 / peak(torch.float64, device, small)
    return {"value": seconds, "floor": floor, "apart": apart, "finite": bool(found[0].isfinite().all())}


def left_out(*, device, small):
    """The changes of 1,000 predictions by each of n examples after 2,000 steps, from a kernel on the device."""
    n, few, m = (200, 100, 20) if small else (4_000, 500, 1_000)
    x = torch.rand(n + m, *GREY, generator=torch.Generator().manual_seed(0))
    y = torch.where(torch.arange(n) % 2 == 1, 1.0, -1.0).double()

    def changes(n, device):
        rows = unit_rows(x, device)
        kernel, cross = relu_kernel(rows[:n], rows[:n]), relu_kernel(rows[-m:], rows[:n])
        return leave_one_out(kernel, y[:n], lr=0.5 / n, steps=2000, cross_kernel=cross).predictions

    apart = relative(changes(few, device), changes(few, "cpu"))
    seconds = best_seconds(lambda: changes(n, device), repeats=2, device=device)
    return {"value": seconds, "floor": 11 * n**3 / peak(torch.float64, device, small), "apart": apart}


def to_93(*, device, small, cifar10):
    """Seconds of one training of ResNet-9 by its recipe, from the pictures in memory to the test accuracy."""
    if small:
        data, name = load("fashion-mnist", n_train=60, n_test=40), "resnet9-4"
        recipe = replace(RESNET9, epochs=1, batch_size=30)
    elif cifar10 or (DATA / "downloads" / "cifar10").exists():
        data, recipe, name = load(cifar10 or "cifar10"), RESNET9, "resnet9"
    else:
        raise Skipped("no CIFAR-10 in data/downloads, and none given")
    channel = {"dim": (0, 2, 3), "keepdim": True}
    mean, spread = data.x_train.mean(**channel), data.x_train.std(**channel)
    parts = (data.x_train - mean) / spread, data.y_train, (data.x_test - mean) / spread, data.y_test
    on = Run(device=device, precision="float32" if device == "cpu" else "bfloat16", progress=False)
    model = by_name(name, shape=tuple(data.x_train.shape[1:]), classes=len(data.classes))
    train(model, parts, replace(recipe, epochs=None, iterations=2), [1], run=on)  # what libraries load, they load now
    ends = []
    seconds = best_seconds(lambda: ends.append(train(model, parts, recipe, [0], run=on)), device=device)
    dtype = torch.bfloat16 if on.precision == "bfloat16" else torch.float32
    steps = recipe.epochs * -(-len(parts[0]) // recipe.batch_size)
    floor = steps * step_operations(Work(model, Data(*parts), recipe)) / peak(dtype, device, small)
    accuracy = float(ends[0].accuracy_test[0])
    return {
        "value": seconds,
        "floor": floor,
        "note": f"{data.name}: test accuracy {accuracy:.2%}",
        "accuracy": accuracy,
    }


STEPS, PICTURES, SECONDS = "model-steps/s", "pictures/s", "s"
MANY, LARGE = {"members": 32, "steps": 300}, {"members": 1, "steps": 40, "batch": 512, "pictures": True} | HALF
ROWS = {  # name: title, unit, what is aimed at, the work, its arguments
    "lenet": ("LeNet, batch 100", STEPS, 20_000, training, ("lenet", GREY), MANY),
    "cnn": ("unique-information CNN, batch 100", STEPS, 10_000, training, ("cnn_unique_information", GREY), MANY),
    "cnn-half": ("the same, bfloat16", STEPS, 10_000, training, ("cnn_unique_information", GREY), MANY | HALF),
    "small-cnn": ("small CNN, batch 100", STEPS, 20_000, training, ("small_cnn", GREY), MANY),
    "resnet18": ("ResNet-18, 32×32, batch 512, bfloat16", PICTURES, 40_000, training, ("resnet18", COLOUR), LARGE),
    "resnet9": ("ResNet-9, the same", PICTURES, None, training, ("resnet9", COLOUR), LARGE),
    "mlps": ("256 MLPs 784–256–10, batch 100", STEPS, 140_000, training, ("mlp", GREY), MANY | {"members": 256}),
    "cg-score": ("exact CG-score, 50,000 rows, float64", SECONDS, 3, cg, (), {}),
    "leave-one-out": ("leave-one-out, linearized, n = 4,000", SECONDS, 1, left_out, (), {}),
    "93%": ("ResNet-9 by its recipe to 93% of CIFAR-10", SECONDS, 12, to_93, (), {}),
}


def measure(name, device, small, cifar10, answers):
    """In a process of its own: the row's figures, or why there are none, into the pipe."""
    _, unit, target, work, arguments, options = ROWS[name]
    if os.environ.get("BENCH_GPU_FAIL") == name:  # for the test
        os._exit(3)
    try:
        options |= {"cifar10": cifar10} if work is to_93 else {}
        found = work(*arguments, device=device, small=small, **options)
        found["ratio"] = found["floor"] / found["value"] if unit == SECONDS else found["value"] / found["floor"]
        reached = target is None or (found["value"] <= target if unit == SECONDS else found["value"] >= target)
        found["reached"] = None if small or target is None else bool(reached and found.get("accuracy", 1) >= 0.93)
    except Skipped as why:
        found = {"skipped": str(why)}
    except Exception as error:  # out of memory, say
        found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    answers.send(found)


def _tell(device, answers):
    answers.send(machine(device))


def in_a_process(work, *arguments, seconds):
    """What ``work`` sends, or how it ended without."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=work, args=(*arguments, there), daemon=False)
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(seconds) else {"failed": f"no answer within {seconds:.0f} s"}
    except EOFError:
        process.join()
        return {"failed": f"the process ended with status {process.exitcode}"}
    finally:
        process.join(2)
        process.kill()
        process.join()


def shown(name, found):
    """A line of the table."""
    title, unit, target, *_ = ROWS[name]
    if not {"value", "ratio"} <= found.keys():
        return f"{title:42} {'; '.join(f'{what}: {why}' for what, why in found.items() if what != 'device')}"
    number = lambda value: "–" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
    apart = f"{found['apart']:.0e}" if "apart" in found else "–"
    words = {None: "", True: "reached ", False: "not reached "}[found["reached"]] + found.get("note", "")
    cells = [
        f"{number(found['value']):>10}",
        f"{number(None if found['reached'] is None else target):>9}",
        f"{number(found['floor']):>13}",
    ]
    return f"{title:42}{' '.join(cells)} {found['ratio']:7.1%} {apart:>6}  {unit}  {words}".rstrip()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--rest", action="store_true", help="only rows that FILE has no figures of, beside those there")
    parser.add_argument("--cifar10")
    parser.add_argument("--limit", type=float, default=60, help="seconds of a row, at most")
    parser.add_argument("--seconds", type=float, default=235, help="of all: rows that have no time left are not begun")
    parser.add_argument("--out", type=Path, default=results_folder() / "benchmarks" / "gpu.json")
    asked = parser.parse_args(argv)
    if unknown := [name for name in asked.only.split(",") if name not in ROWS]:
        parser.error(f"--only takes {', '.join(ROWS)}; got {', '.join(unknown)}")
    if torch.device(asked.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU is visible here; --device cpu --small runs every row at tiny size")
    begun, there = time.monotonic(), asked.out.exists() and asked.rest
    rows = json.loads(asked.out.read_text())["rows"] if there else {}
    rows = {name: found for name, found in rows.items() if found.get("skipped") != LATE}
    told = in_a_process(_tell, asked.device, seconds=asked.limit)
    print(f"{told}{', tiny sizes: no figures' if asked.small else ''}")
    print(f"{'':42}{'value':>10} {'aimed at':>9} {'floor':>13} {'ratio':>7} {'apart':>6}")
    for name in [name for name in asked.only.split(",") if name not in rows]:
        left = asked.seconds - (time.monotonic() - begun)
        work = (measure, name, asked.device, asked.small, asked.cifar10)
        found = in_a_process(*work, seconds=min(asked.limit, left)) if left > 10 else {"skipped": LATE}
        found["device"] = told.get("device", "unknown")
        rows[name] = {
            key: value for key, value in found.items() if not isinstance(value, float) or math.isfinite(value)
        }
        print(shown(name, rows[name]), flush=True)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"machine": told, "small": asked.small, "seconds": round(time.monotonic() - begun, 1), "rows": rows}
        asked.out.write_text(json.dumps(record, indent=1, ensure_ascii=False))
    print(f"{time.monotonic() - begun:.0f} s; {asked.out}")
    return 130 if any(found.get("skipped") == LATE for found in rows.values()) else 0


CONTEXT = multiprocessing.get_context("forkserver")


class Answers(list):
    send = list.append


def test_every_row_at_tiny_size():
    for name in ROWS:
        measure(name, "cpu", True, None, answers := Answers())
        (found,) = answers
        assert found.get("value", 0) > 0 and found["ratio"] > 0 and found.get("apart", 0) < 1e-3, (name, found)
        assert ROWS[name][0] in shown(name, found)


def test_a_row_that_dies_or_fails_stops_no_other(tmp_path, monkeypatch, capsys):
    fork = multiprocessing.get_context("fork")  # at once, where the other starts from nothing; neither row computes
    monkeypatch.setattr(sys.modules[__name__], "CONTEXT", fork)
    monkeypatch.setenv("BENCH_GPU_FAIL", "small-cnn")
    monkeypatch.setenv("COMMIT", "abc")
    out = tmp_path / "gpu.json"
    monkeypatch.setitem(ROWS, "lenet", (*ROWS["lenet"][:4], ("none such", GREY), MANY))
    main(["--device", "cpu", "--small", "--out", str(out), "--only", "small-cnn,lenet"])
    record, said = json.loads(out.read_text()), capsys.readouterr().out
    assert record["rows"]["small-cnn"]["failed"] == "the process ended with status 3"
    assert record["rows"]["lenet"]["failed"].startswith("ValueError: name must be one of linear")
    how = ["--device", "cpu", "--small", "--out", str(out), "--only", "small-cnn,lenet,mlps", "--rest", "--seconds"]
    assert [main([*how, "9"]), main([*how, "9"])] == [130, 130]  # 10 s are the least that a row is begun with
    rows = json.loads(out.read_text())["rows"]
    assert rows["mlps"]["skipped"] == LATE and {n: rows[n] for n in ("lenet", "small-cnn")} == record["rows"]
    assert record["machine"]["commit"] == "abc" and "ended with status 3" in said and "ValueError" in said


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    CONTEXT.set_forkserver_preload([name for name in sys.modules if name.startswith("lib.")])  # once for all rows
    sys.exit(main())
