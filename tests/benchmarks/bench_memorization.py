"""Influence of every training example on every test example: one product of bits against a loop over examples.

    python tests/benchmarks/bench_memorization.py [networks] [training rows] [test rows]

The loop is Algorithm 1 as it is usually written: for each training example, mask the networks and take two means. Both
take the same bits and must agree; the loop is timed on some examples and scaled up.
"""

import sys
import time

import torch

from lib.scores import definitions
from lib.scores.memorization import influence_of_seeing, subsets


def compare(networks: int = 4000, rows: int = 2000, test_rows: int = 10_000, sample: int = 20):
    """Seconds of the loop over all examples and of the product, and the largest difference between the two."""
    sees = subsets(rows, round(0.7 * rows), networks, seed=0)
    right = torch.rand(networks, test_rows, generator=torch.Generator().manual_seed(0)) < 0.8
    start = time.perf_counter()
    slow = definitions.influence_of_seeing(sees[:, :sample], right)
    slow_seconds = (time.perf_counter() - start) * rows / sample
    start = time.perf_counter()
    fast = influence_of_seeing(sees, right)
    return slow_seconds, time.perf_counter() - start, float((slow - fast.value[:sample]).abs().max())


def main(networks: int = 4000, rows: int = 2000, test_rows: int = 10_000) -> None:
    slow, seconds, error = compare(networks, rows, test_rows)
    rate = 2 * networks * rows * test_rows / seconds / 1e9
    print(f"{networks:,} networks, {rows:,} × {test_rows:,} examples, {torch.get_num_threads()} threads")
    print(f"loop {slow:.1f} s (from some examples)   product {seconds:.2f} s with standard errors, "
          f"{rate:.0f} GFLOP/s   {slow / seconds:.0f} times   largest difference {error:.0e}")  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
