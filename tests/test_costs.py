import time

import pytest
import torch

from lib.costs import measured


def test_seconds_and_memory_of_the_work_alone():
    held = torch.ones(20_000_000)  # 80 MB that were there before

    def work():
        ones = torch.ones(10_000_000)
        twos = ones + 1
        time.sleep(0.2)  # as long as it takes to be seen, whatever else runs
        return twos.sum()

    result, seconds, peak = measured(work)
    assert result == 2e7 and 0.2 <= seconds < 2
    assert 60e6 < peak < 250e6  # 40 MB and their sum with one, 40 MB again
    assert len(held) == 20_000_000


def test_memory_that_was_freed_before_counts_again():
    many = [torch.ones(10_000) for _ in range(3_000)]  # 120 MB in small pieces, which the allocator keeps when freed
    del many
    work = lambda: [torch.ones(10_000) for _ in range(2_000)]
    assert measured(work).peak_bytes > 60e6


def test_what_fails_fails():
    with pytest.raises(ValueError, match="no"):
        measured(lambda: (_ for _ in ()).throw(ValueError("no")))
