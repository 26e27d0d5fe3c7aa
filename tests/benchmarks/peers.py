"""Beside the ways that others use: one table, what is agreed first, then how long each takes.

    python tests/benchmarks/peers.py [--only cg] [--rows 60000] [--write]
    # with PYTHONPATH a folder of the libraries in peers.txt, for all of it; within fifteen minutes alone on two cores
    python tests/benchmarks/peers.py --study results/laptop [--write]      # minutes of each notebook of a finished run

Each part takes a ``bench_….py`` of this folder. A row has the difference between the two answers (over the largest
entry, where nothing else is said), and a ratio only where they agree as far as they should; a library that is not
installed has its name and no number. ``--rows`` adds exact CG-scores of so many (60,000: ten minutes more and 8 GB);
without it, 60,000 rows have what was recorded when ``data/scores`` was made. ``--write`` puts the table into this
folder's README.md; else it is printed. Exit status: rows that disagree.
"""

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import bench_audit
import bench_cg_score
import bench_ensemble
import bench_grand
import bench_influence
import bench_linearized
import bench_memorization
import bench_value
import nbformat
import torch

from lib.data import load
from lib.data.score_files import provenance
from lib.scores.complexity_gap import cg_scores

HERE = Path(__file__).resolve().parent
README, PEERS, STUDY, END = HERE / "README.md", "<!-- peers -->", "<!-- study -->", "<!-- to here -->"
LIBRARIES = "cleanlab pyDVL opendataval dattri kronfluence curvlinops-for-pytorch joblib numpy scikit-learn".split()


class Row(NamedTuple):
    """A line of the table; seconds (or rates) are None where there is nothing to compare."""

    what: str
    beside: str
    apart: float | str | None
    within: float  # the largest difference that counts as agreement
    ours: float | None
    theirs: float | None
    note: str = ""

    @property
    def agrees(self) -> bool:
        return not isinstance(self.apart, float) or self.apart <= self.within

    def cells(self) -> list[str]:
        apart = "–" if self.apart is None else self.apart if isinstance(self.apart, str) else f"{self.apart:.0e}"
        seconds = [("–" if s is None else f"{s:.3g}") for s in (self.ours, self.theirs)]
        known = None not in (self.ours, self.theirs) and self.agrees
        ratio = f"{self.theirs / self.ours:.2g}" if known else "–" if self.agrees else "**disagree**"
        return [self.what, self.beside, apart, *seconds, ratio, self.note]


def missing(what: str, name: str) -> Row:
    return Row(what, name, None, 0, None, None, "not installed")


def cg(more: int | None = None):
    """Exact CG-scores; others are timed on a sample of rows and scaled up, and grow as n³."""
    data, ways = load("fashion-mnist", n_train=500), ("one dense inverse", "the paper's", "delete and invert")
    cg_scores(data.x_train, data.y_train)  # warm
    _, apart = bench_cg_score.compare(data.x_train.double(), data.y_train, sample=20, inversions=3)
    for n in (1000, 2000, 4000):
        data = load("fashion-mnist", n_train=n)
        seconds, _ = bench_cg_score.compare(data.x_train, data.y_train, sample=20, inversions=3)
        for way in ways:  # they agree in float64; in float32 their inverses are the worse ones
            note = "apart: 500 rows in float64"
            yield Row(f"exact CG-scores, {n:,} rows", way, apart, 1e-6, seconds["ours"], seconds[way], note)
    last = seconds["the paper's"]
    for rows in (16_000, 30_000, *([more] if more else [])):
        data = load("fashion-mnist", n_train=rows)
        _, seconds = bench_cg_score.clock(cg_scores, data.x_train, data.y_train)
        guess = last * (rows / n) ** 3  # a copy of n² numbers for each of n rows
        yield Row(
            f"exact CG-scores, {rows:,} rows", "the paper's", None, 0, seconds, guess, f"theirs from {n:,}, as n³"
        )
    if not more:
        yield recorded()


def recorded() -> Row:
    """What ``data/make_scores.py`` noted of all rows."""
    made = provenance(HERE.parents[1] / "data" / "scores" / "fashion-mnist.parquet")["cg"]
    note = f"not timed here: noted in `data/scores`, of four labellings at once, {made['processor']}"
    return Row(f"exact CG-scores, {made['n']:,} rows", "–", None, 0, made["seconds"]["all"], None, note)


def leave_one_out():
    kernel, cross, residual = bench_linearized.problem(1000)
    bench_linearized.leave_one_out(kernel[:64, :64], residual[:64], lr=1e-3, steps=10, loss="mean")  # warm
    training = {"lr": 1e-3, "steps": 2000}
    few = (part.double() for part in bench_linearized.problem(200))
    _, apart, _ = bench_linearized.compare(*few, **training, some_steps=2000)
    seconds, rounded, _ = bench_linearized.compare(kernel, cross, residual, **training)
    for way in ("the authors'", "recurrence", "Chebyshev series"):
        note = f"apart: 200 rows in float64; here {rounded[way]:.0e}" if way in rounded else "100 steps, scaled up"
        what = "leave-one-out, 1,000 rows, t = 2,000"
        yield Row(what, way, apart[way], 1e-3, seconds["ours"], seconds[way], note)


def ensembles():
    name, build = "100 steps of an MLP at batch 100", lambda: bench_ensemble.mlp(784)
    data, apart = load("fashion-mnist", n_train=2000), bench_ensemble.agreement(build)
    size = {"plain_steps": 400, "members": 64, "steps": 280}
    rates, _, _ = bench_ensemble.compare(build, data.x_train, data.y_train, rounds=2, **size)
    ours = 100 / rates.pop("engine")
    for way, rate in rates.items():
        yield Row(name, way, apart["vmap" if way == "vmap" else "plain loop"], 1e-9, ours, 100 / rate, "in float64")


def gradients():
    data = load("fashion-mnist", n_train=500)
    for name in ("mlp-256", "lenet", "cnn_unique_information"):
        found = bench_grand.compare(name, data.x_train, data.y_train)
        ours, theirs = found["seconds"].values()
        yield Row(f"GraNd, 500 rows, {name}", "vmap(grad)", found["difference_float32"], 1e-3, ours, theirs)


def influence():
    wide = {"kronfluence, sampled labels": float("inf")}
    for what, name, apart, ours, theirs, note in bench_influence.compare():
        within = wide.get(name, 1e-3 if what == "EK-FAC" else bench_influence.TARGET)
        never = theirs is None and note.startswith("never")
        yield Row(f"influence, 500 × 20, {what}", name, None if never else apart, within, ours, theirs, note)


def memorization():
    slow, fast, apart = bench_memorization.compare()
    yield Row("influence of 2,000 on 10,000, 4,000 networks", "masked averages", apart, 1e-5, fast, slow,
              "absolute; from 20 examples")  # fmt: skip


def wrong_labels():
    for kind, rate in bench_audit.NOISE:
        what = f"wrong labels, 3,000 rows, {kind} {rate:.0%}"
        try:
            (_, ours), (name, theirs) = bench_audit.compare(kind, rate).items()
        except ImportError:
            yield missing(what, "cleanlab")
            continue
        marks = f"AUROC {ours[0]:.3f} / {theirs[0]:.3f}"
        note = (
            f"precision at the noise rate {ours[1]:.2f} / {theirs[1]:.2f}, F1 of flags {ours[2]:.2f} / {theirs[2]:.2f}"
        )
        yield Row(what, name, marks, 0, ours[3], theirs[3], note)


def value():
    for name in bench_value.OTHERS:
        try:
            apart, ours, theirs = bench_value.compare(name)
        except (ImportError, AttributeError):  # of a library that opendataval needs in another version
            yield missing("KNN-Shapley, 1,000 × 300", name)
        else:
            yield Row("KNN-Shapley, 1,000 × 300", name, apart, bench_value.WITHIN[name], ours, theirs)


PARTS = {
    "cg": cg, "leave-one-out": leave_one_out, "ensembles": ensembles, "grand": gradients, "influence": influence,
    "memorization": memorization, "labels": wrong_labels, "value": value,
}  # fmt: skip


def machine(load_before: float) -> str:
    """What it ran on, and whether alone."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    have = []
    for name in LIBRARIES:
        try:
            have.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            have.append(f"{name} not installed")
    busy = "" if load_before < 0.5 else f" **Beside other work: a load of {load_before:.1f} before it began.**"
    processor = names[0] if names else platform.processor() or platform.machine()
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{processor}, {cores}; torch {torch.__version__}, {', '.join(have)}.{busy}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def table(rows: list[Row], head: str) -> str:
    titles = ["what", "beside", "apart", "ours, s", "theirs, s", "theirs / ours", ""]
    lines = [titles, ["---"] * len(titles), *(row.cells() for row in rows)]
    return "\n".join([head, "", *("| " + " | ".join(line) + " |" for line in lines), ""])


def study(folder: Path) -> str:
    """Minutes of each notebook in a results folder, as papermill noted them; and was it in one go, from an empty store?

    Raises:
        ValueError: if no notebook in it was executed to its end.
    """
    books = [path for path in sorted((folder / "notebooks").glob("*.ipynb")) if "." not in path.stem]
    runs = {path.stem: nbformat.read(path, as_version=4).metadata.papermill for path in books}
    if not runs:
        raise ValueError(f"{folder} has no executed notebook; a folder such as results/laptop is meant")
    begun, ended = ([datetime.fromisoformat(run[key]) for run in runs.values()] for key in ("start_time", "end_time"))
    pauses = [(start - end).total_seconds() for start, end in zip(begun[1:], ended[:-1], strict=True)]
    first, shards = min(begun).timestamp(), (folder / "cache").glob("*.npz")
    how = "one after the other" if all(0 <= pause < 60 for pause in pauses) else "**not in one go**"
    how += ", **some from shards of earlier runs**" if any(s.stat().st_mtime < first for s in shards) else ""
    spent = {name: run.duration / 60 for name, run in runs.items()}
    lines = [["notebook", "minutes"], ["---", "---"], *([name, f"{minutes:.1f}"] for name, minutes in spent.items())]
    lines.append([f"{len(runs)} notebooks, {how}", f"{sum(spent.values()):.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part alone; may be repeated")
    parser.add_argument("--rows", type=int, help="exact CG-scores of so many rows too")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--study", type=Path, metavar="FOLDER", help="this alone: minutes of the notebooks run there")
    options = parser.parse_args()
    if options.study:
        put(study(options.study), STUDY, options.write)
        return 0
    if options.only and options.write:
        parser.error("--write is of the whole table")
    before, begun, rows = os.getloadavg()[0], time.perf_counter(), []
    for name in options.only or PARTS:
        start = time.perf_counter()
        for row in PARTS[name](options.rows) if name == "cg" else PARTS[name]():
            rows.append(row)
            print(" | ".join(row.cells()), file=sys.stderr, flush=True)
        print(f"  {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    minutes = (time.perf_counter() - begun) / 60
    text = table(rows, f"`python tests/benchmarks/peers.py`, {minutes:.0f} minutes: {machine(before)}")
    put(text, PEERS, options.write)
    return min(99, sum(not row.agrees for row in rows))


def put(text: str, begin: str, write: bool) -> None:
    """Print it, or write it between its marks in README.md."""
    print(text)
    if write:
        start, _, rest = README.read_text("utf8").partition(begin)
        README.write_text(f"{start}{begin}\n\n{text}\n{END}{rest.partition(END)[2]}", "utf8")


if __name__ == "__main__":
    sys.exit(main())
