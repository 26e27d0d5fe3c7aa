"""All scores of every training row of a data set by original row, with standard errors, and CG-scores under noise.

usage: python data/make_scores.py [--data NAME] [--only el2n,grand,…] [--rows N] [--out FILE]

Writes data/scores/NAME.parquet, fashion-mnist by default, column by column (what the file holds already stays), and
its line in SHA256SUMS. For 60,000 rows `cg` takes 10 minutes and 9 GB of memory on two cores; on one, all the others
together take 15 minutes. A run that was killed goes on where it was. Columns, one row a training example:

    row                    original row, 0 … 59,999
    label                  class, 0 … 9
    cg                     CG-score (Ki et al. 2023, eq. 2), = the sum of its three terms (eq. 6):
    cg_quadratic, cg_partial, cg_diagonal
    label_noiseNN          label after NN% uniform noise, `lib.data.noise.uniform_noise(label, NN/100, k=10, seed=0)`
    cg_noiseNN, cg_partial_noiseNN    score and middle term under those labels (cg_diagonal does not depend on labels)
    cg_prime               CG′, the kernel in place of its inverse (section 3.2; large = learnt fast)
    input_norm             and the scores that `lib.catalogue` computes, each with its standard error, NAME_stderr:
    grand, grand_early, el2n, margin, forgetting, forgetting_epochs, loss, tracin      means over 10 networks
    influence                                                                          over 4 of them
    memorization, c_score                                        from 200 networks, each on 70% of the rows
    f_si                   mean over 2 networks, for the 4,000 rows `load("fashion-mnist", n_train=4000)` alone, among
                           themselves: all rows need the eigenvectors of a kernel of 60,000 rows (29 GB, a day); NaN
"""

import argparse
import importlib.metadata
import os
import platform
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pandas import DataFrame

from experiments.published import published_c_scores
from lib.catalogue import Settings, compute
from lib.costs import matrix_product_rate
from lib.data.datasets import DATA, Dataset, load
from lib.data.noise import uniform_noise
from lib.data.score_files import merge_scores
from lib.scores.complexity_gap import cg_prime, cg_scores
from lib.statistics import spearman
from lib.store import Store

NOISE, SEED = (20, 50, 80), 0
SCORES = DATA / "scores"
SETTINGS = Settings(epochs=10, early=2, trial_epochs=10)  # the other defaults are those of notebook 07
F_SI_ROWS = 4000
COLUMNS = {
    "input_norm": "input norm", "grand": "GraNd", "grand_early": "GraNd early", "el2n": "EL2N", "margin": "margin",
    "forgetting": "forgetting", "forgetting_epochs": "forgetting, epochs", "loss": "loss", "tracin": "TracIn",
    "influence": "influence", "f_si": "F-SI", "memorization": "memorization", "c_score": "C-score",
}  # fmt: skip
TOGETHER = (  # what is computed in one call and written at once, under the first one's name in the provenance
    ("input_norm",),
    ("f_si",),
    ("grand", "grand_early", "el2n", "margin", "forgetting", "forgetting_epochs", "loss", "tracin", "influence"),
    ("memorization", "c_score"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["cg", "cg_prime", *COLUMNS]
    parser.add_argument(
        "--data", default="fashion-mnist", help="what lib.data.datasets.load takes: a name, or the path of an .npz"
    )
    parser.add_argument("--only", default=",".join(known), help="columns, by commas; default all of them")
    parser.add_argument("--rows", type=int, help="a stratified subset of so many rows (needs --out)")
    parser.add_argument("--out", type=Path, help="default data/scores/NAME.parquet")
    parser.add_argument(
        "--c-scores", help="published C-scores to set beside CG and CG′: a file of experiments.published.FILES"
    )
    parser.add_argument("--c-scores-folder", type=Path, help="where they lie, or are to be kept")
    parser.add_argument("--note", default="", help="what a reader must know of the data, for the provenance")
    options = parser.parse_args()
    if options.rows and (not options.out or options.out.resolve().parent == SCORES.resolve()):
        parser.error("--rows needs --out elsewhere: the committed files hold all rows")
    wanted = options.only.split(",")
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"--only takes {', '.join(known)}; got {', '.join(unknown)}")

    data = load(options.data, n_train=options.rows)
    out = options.out or SCORES / f"{data.name}.parquet"
    note = {"dataset_sha256": data.sha256} | ({"note": options.note} if options.note else {})
    if "cg" in wanted:
        add_cg_scores(data, out, note)
    if "cg_prime" in wanted:
        published = {"file": options.c_scores, "folder": options.c_scores_folder} if options.c_scores else {}
        add_cg_prime(data, out, note, published)
    for group in TOGETHER:
        if names := [name for name in group if name in wanted]:
            part = load(options.data, n_train=min(F_SI_ROWS, len(data.y_train))) if names == ["f_si"] else data
            add_scores(names, part, out, note)


def add_scores(names: list[str], data: Dataset, out: Path, note: dict) -> None:
    """Compute scores of one group with `lib.catalogue` and merge them into the file."""
    before, begun, store = matrix_product_rate(), time.perf_counter(), Store()
    scored = compute(
        [COLUMNS[name] for name in names], data.x_train, data.y_train, x_val=data.x_test, seed=SEED,
        settings=SETTINGS, store=store, shards=store,
    )  # fmt: skip
    columns = {}
    for name in names:
        one = scored[COLUMNS[name]]
        columns[name] = one.values.float()  # noqa: PD011 - a tensor
        if one.stderr is not None:
            columns[f"{name}_stderr"] = one.stderr.float()
    made = note | {
        "what": f"by data/make_scores.py with lib.catalogue: {', '.join(scored)}",
        "settings": {**asdict(SETTINGS), "seed": SEED},
        "seconds": {name: round(scored[COLUMNS[name]].seconds, 2) for name in names},
        "seconds_all": time.perf_counter() - begun,
        "trainings": {name: scored[COLUMNS[name]].trainings for name in names},
        "matrix_product_gflops": {"before": before, "after": matrix_product_rate()},
    }
    if names == ["f_si"]:
        made["rows"] = (
            f"{len(data.y_train)} rows, load('{data.name}', n_train={F_SI_ROWS}), among themselves; the others are "
            "NaN: the eigenvectors of a kernel of 60,000 rows in float64 take 29 GB and about 2·10¹⁵ operations, "
            "which only a larger machine can fill"
        )
    write(out, columns, data, names[0], made)
    print(f"{out.name}: {', '.join(names)} of {len(data.y_train)} rows in {made['seconds_all']:.0f} s", flush=True)


def add_cg_scores(data: Dataset, out: Path, note: dict) -> None:
    """Exact CG-scores under the file's four labellings, from one factorization."""
    x, y = data.x_train, data.y_train
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
    made = note | {
        "what": "exact CG-scores (Ki, Choi and Chung 2023), one class against the rest, by data/make_scores.py",
        "settings": {"dtype": "float32, refined once in float64", "jitter": 0.0, "noise": NOISE, "noise_seed": SEED},
        "seconds": {**result.seconds, "all": wall},
        "gflops": result.gflops,
        "matrix_product_gflops": {"before": before, "after": after},
        "planned_bytes": result.planned_bytes,
        "largest_residual": result.residual,
        "largest_relative_error_of_diagonal": result.diagonal_error,
    }
    write(out, columns, data, "cg", made)
    print(f"{out.name}: {len(y)} rows in {wall:.0f} s, peak {_peak_bytes() / 1e9:.1f} GB")
    for phase, seconds in result.seconds.items():
        print(f"  {phase:8} {seconds:7.1f} s  {result.gflops[phase]:5.0f} GFLOP/s")
    print(f"  matrix product before {before:.0f}, after {after:.0f} GFLOP/s; residual {result.residual:.1e}, ", end="")
    print(f"relative error of the diagonal {result.diagonal_error:.1e}")


def add_cg_prime(data: Dataset, out: Path, note: dict, published: dict) -> None:
    """CG′; and, where C-scores are published, how it and the file's CG-scores rank beside them (Table 1 of the paper).

    The published scores themselves are not copied: only their correlations go into the provenance.
    """
    begun = time.perf_counter()
    columns = {"cg_prime": cg_prime(data.x_train, data.y_train)}
    made = note | {
        "what": "CG′, the kernel in place of its inverse (Ki et al. 2023, section 3.2), by data/make_scores.py",
        "settings": {"dtype": "float32"},
        "seconds": {"all": time.perf_counter() - begun},
    }
    table = write(out, columns, data, "cg_prime", made)
    if published:
        if "cg" not in table:
            raise SystemExit(f"--c-scores compares with cg, which {out.name} lacks: --only cg first")
        c = published_c_scores(published["file"], data.rows_train, data.y_train, folder=published["folder"])
        found = {name: spearman(table[name].to_numpy(), -c.numpy(), seed=SEED) for name in ("cg", "cg_prime")}
        made["published_c_scores"] = {
            "file": published["file"],
            "spearman": {name: {"value": value, "interval": interval} for name, (value, interval) in found.items()},
            "sign": "C-scores turned: high = irregular",
        }
        write(out, columns, data, "cg_prime", made)
    print(f"{out.name}: CG′ of {len(data.y_train)} rows in {made['seconds']['all']:.0f} s")


def write(out: Path, columns: dict, data: Dataset, group: str, made: dict) -> DataFrame:
    """Merge columns into the file, with what is the same for all of them in the provenance."""
    made |= {
        "dataset": data.name,
        "n": len(data.y_train),
        "peak_bytes": _peak_bytes(),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "pyarrow")},
    }
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return merge_scores(out, arrays, rows=data.rows_train.numpy(), group=group, made=made)


def _peak_bytes() -> int:
    """The most memory that this process has held so far (resident set)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
