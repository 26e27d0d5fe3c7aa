"""Jobs in processes: what a notebook defines goes over, results come back in order, one core each."""

import os
import warnings

import pytest
import torch

from experiments.processes import each_in_a_process


def test_closures_go_over_and_results_come_back_in_order():
    before, offset = torch.get_num_threads(), torch.tensor([10])
    torch.set_num_threads(2)
    try:
        job = lambda a: (int(offset) + a, torch.get_num_threads(), os.getpid())
        found = each_in_a_process(job, [(a,) for a in range(4)])
        assert [value for value, *_ in found] == [10, 11, 12, 13] and {threads for _, threads, _ in found} == {1}
        assert os.getpid() not in {process for *_, process in found} and torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert each_in_a_process(job, [(1,), (2,)]) == [(11, 1, os.getpid()), (12, 1, os.getpid())]
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            each_in_a_process(lambda a: 1 / a, [(1,), (0,)])
    finally:
        torch.set_num_threads(before)


def test_children_warn_of_what_their_parent_warns_of():
    def told(a):
        with warnings.catch_warnings(record=True) as heard:
            warnings.warn("of this", stacklevel=1)
            warnings.warn("of that", stacklevel=1)
        return [str(one.message) for one in heard]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.filterwarnings("ignore", message="of this")
            assert each_in_a_process(told, [(1,), (2,)]) == [["of that"]] * 2
    finally:
        torch.set_num_threads(before)
