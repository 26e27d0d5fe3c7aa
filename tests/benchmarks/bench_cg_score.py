"""What one factorization saves: our CG-scores against the paper's procedure, one dense inverse, and the machine.

usage: python tests/benchmarks/bench_cg_score.py [n] [larger n]        (2,000 and 12,000 by default; about a minute)

The procedure re-implemented is that of Ki et al. 2023, section 3.2 and appendix A: for each class the Gram matrix and
its inverse, and for each example of the class the reduced inverse by the Schur complement (eq. 4), from which its
score is the difference of the two complexities (eq. 2). Its per-example part is timed on a sample and scaled up, as is
that of the definition itself (delete the row, invert again). All in float32, on the same rows, in one process. Writes
``results/benchmarks/cg_score.json``.
"""

import json
import sys
import time

import torch

from lib.costs import matrix_product_rate
from lib.data.datasets import load
from lib.scores import definitions
from lib.scores.complexity_gap import cg_scores, relu_gram
from lib.store import results_folder


def by_schur(gram, inverse, i):
    """``(H₋ᵢ)⁻¹ = (H⁻¹)₋ᵢ − hᵢhᵢᵀ/dᵢ`` (eq. 4)."""
    rest = torch.arange(len(inverse)) != i
    h = inverse[rest, i]
    return inverse[rest][:, rest] - torch.outer(h, h) / inverse[i, i]


def by_inverting(gram, inverse, i):
    """The same from its definition."""
    rest = torch.arange(len(gram)) != i
    return torch.linalg.inv(gram[rest][:, rest])


def gap(signs, gram, inverse, i, reduce):
    """``yᵀH⁻¹y − y₋ᵢᵀ(H₋ᵢ)⁻¹y₋ᵢ`` (eq. 2)."""
    rest = torch.arange(len(signs)) != i
    return signs @ inverse @ signs - signs[rest] @ reduce(gram, inverse, i) @ signs[rest]


def gram_and_inverse(x):
    gram = relu_gram(x)
    return gram, torch.linalg.inv(gram)


def clock(work, *arguments):
    begun = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - begun


def paper(x, y, rows, *, reduce):
    """Scores of some rows the paper's way, and the seconds that it would take for all rows."""
    scores, once, each = torch.empty(len(rows), dtype=x.dtype), 0.0, 0.0
    for label in y.unique():
        signs = torch.where(y == label, 1.0, -1.0).to(x.dtype)
        (gram, inverse), seconds = clock(gram_and_inverse, x)
        once += seconds
        for place in (y[rows] == label).nonzero()[:, 0]:
            scores[place], seconds = clock(gap, signs, gram, inverse, rows[place], reduce)
            each += seconds
    return scores, once + each / len(rows) * len(y)


def dense(x, y):
    """All scores from one ``torch.linalg.inv``."""
    inverse = torch.linalg.inv(relu_gram(x))
    v = torch.stack([inverse @ torch.where(y == label, 1.0, -1.0).to(x.dtype) for label in y.unique()])
    return v.gather(0, y.unique(return_inverse=True)[1][None])[0] ** 2 / inverse.diagonal()


def compare(x, y, *, sample=50, inversions=5):
    """Seconds of each way to all scores, and the largest difference between them on a sample of rows."""
    rows = torch.linspace(0, len(y) - 1, min(len(y), sample)).long()
    few = rows[:: max(1, len(rows) // inversions)]
    ours, ours_s = min((clock(lambda: cg_scores(x, y).score) for _ in range(5)), key=lambda timed: timed[1])
    one, one_s = min((clock(dense, x, y) for _ in range(5)), key=lambda timed: timed[1])
    some, schur_s = paper(x, y, rows, reduce=by_schur)
    other, inverting_s = paper(x, y, few, reduce=by_inverting)
    seconds = {"ours": ours_s, "one dense inverse": one_s, "the paper's": schur_s, "delete and invert": inverting_s}
    pairs = ((ours, one), (ours[rows], some), (ours[few], other))
    return seconds, max(float((a - b).abs().max() / a.median()) for a, b in pairs)


def test_all_ways_agree():
    x = torch.randn(48, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(48) % 3
    seconds, difference = compare(x, y, sample=48, inversions=48)
    assert difference < 1e-9 and min(seconds.values()) > 0
    torch.testing.assert_close(paper(x, y, torch.arange(48), reduce=by_schur)[0], definitions.cg_scores(x, y))


def main(n=2000, larger=12000):
    data = load("fashion-mnist", n_train=n)
    cg_scores(data.x_train, data.y_train)  # warm
    seconds, difference = compare(data.x_train, data.y_train)
    print(f"{n:,} rows of Fashion-MNIST, float32, {torch.get_num_threads()} threads")
    for way, spent in seconds.items():
        print(f"  {way:20} {spent:9.2f} s   {spent / seconds['ours']:8.1f} ×")
    print(f"  largest difference, in median scores: {difference:.1e}")
    data, rate = load("fashion-mnist", n_train=larger), matrix_product_rate()
    result = min((cg_scores(data.x_train, data.y_train) for _ in range(2)), key=lambda r: sum(r.seconds.values()))
    rate = max(rate, matrix_product_rate())
    share = {phase: gflops / rate for phase, gflops in result.gflops.items()}
    print(f"{larger:,} rows: {sum(result.seconds.values()):.1f} s; float32 products run at {rate:.0f} GFLOP/s")
    for phase in result.gflops:  # gram and solve work mostly in float64
        print(f"  {phase:20} {result.seconds[phase]:9.2f} s   {result.gflops[phase]:6.0f} GFLOP/s = {share[phase]:.0%}")
    out = results_folder() / "benchmarks" / "cg_score.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"n": n, "seconds": seconds, "ratio_to_ours": {k: s / seconds["ours"] for k, s in seconds.items()}}
    record |= {"largest_difference_in_median_scores": difference, "sampled_rows": {"the paper's": 50, "invert": 5}}
    record |= {"larger_n": larger, "phases": result.seconds, "gflops": result.gflops, "matrix_product_gflops": rate}
    out.write_text(json.dumps(record | {"threads": torch.get_num_threads(), "torch": torch.__version__}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
