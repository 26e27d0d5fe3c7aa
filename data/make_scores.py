"""Exact CG-scores of every training row of Fashion-MNIST, with its own labels and with 20, 50 and 80% label noise.

usage: python data/make_scores.py [--rows N] [--out FILE]

One factorization in float32 serves all four labellings: about 10 minutes on 2 cores, 9 GB of memory. Writes
data/scores/fashion-mnist.parquet (scores of other kinds that the file holds stay) and its line in SHA256SUMS.
Columns, one row a training example:

    row                    original row, 0 … 59,999
    label                  class, 0 … 9
    cg                     CG-score (Ki et al. 2023, eq. 2), = the sum of its three terms (eq. 6):
    cg_quadratic, cg_partial, cg_diagonal
    label_noiseNN          label after NN% uniform noise, `lib.noise.uniform_noise(label, NN/100, k=10, seed=0)`
    cg_noiseNN, cg_partial_noiseNN    score and middle term under those labels (cg_diagonal does not depend on labels)
"""

import argparse
import importlib.metadata
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from lib.cg_score import cg_scores
from lib.costs import matrix_product_rate, peak_bytes
from lib.data import load
from lib.noise import uniform_noise
from lib.score_files import merge_scores

NOISE, SEED = (20, 50, 80), 0
OUT = Path(__file__).resolve().parent / "scores" / "fashion-mnist.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="a stratified subset of so many rows (needs --out)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.rows and options.out.resolve() == OUT:
        parser.error("--rows needs --out: the committed file holds all rows")

    data = load("fashion-mnist", n_train=options.rows)
    x, y, sha256, rows = data.x_train, data.y_train, data.sha256, data.rows_train.numpy()
    noisy = [uniform_noise(y, percent / 100, k=len(data.classes), seed=SEED)[0] for percent in NOISE]
    labellings = torch.stack([y, *noisy])
    before, begun = matrix_product_rate(), time.perf_counter()
    result = cg_scores(x, labellings, dtype=torch.float32, progress=True)
    wall, after = time.perf_counter() - begun, matrix_product_rate()

    columns = {"label": y.to(torch.int8), "cg": result.score[0]}
    columns |= {f"cg_{term}": getattr(result, term)[0] for term in ("quadratic", "partial", "diagonal")}
    for i, percent in enumerate(NOISE, start=1):
        columns |= {f"label_noise{percent}": labellings[i].to(torch.int8), f"cg_noise{percent}": result.score[i]}
        columns |= {f"cg_partial_noise{percent}": result.partial[i]}
    made = {
        "what": "exact CG-scores (Ki, Choi and Chung 2023), one class against the rest, by data/make_scores.py",
        "dataset": data.name,
        "dataset_sha256": sha256,
        "n": len(y),
        "settings": {"dtype": "float32, refined once in float64", "jitter": 0.0, "noise": NOISE, "noise_seed": SEED},
        "seconds": {**result.seconds, "all": wall},
        "gflops": result.gflops,
        "matrix_product_gflops": {"before": before, "after": after},
        "peak_bytes": peak_bytes(),
        "planned_bytes": result.planned_bytes,
        "largest_residual": result.residual,
        "largest_relative_error_of_diagonal": result.diagonal_error,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pyarrow")},
    }
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    merge_scores(options.out, arrays, rows=rows, group="cg", made=made)
    print(f"{options.out.name}: {len(y)} rows in {wall:.0f} s, peak {made['peak_bytes'] / 1e9:.1f} GB")
    for phase, seconds in result.seconds.items():
        print(f"  {phase:8} {seconds:7.1f} s  {result.gflops[phase]:5.0f} GFLOP/s")
    print(f"  matrix product before {before:.0f}, after {after:.0f} GFLOP/s; residual {result.residual:.1e}, ", end="")
    print(f"relative error of the diagonal {result.diagonal_error:.1e}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else []
    )
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
