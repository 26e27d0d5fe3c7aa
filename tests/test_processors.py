"""Some of the tests that train, and that compare what was computed in two ways, as on another processor.

All of them: ``pytest -m "not notebooks" --as plain`` and the same with ``--as rounding`` (see ``conftest.py``), some
ten minutes each.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import rounding

TESTS = Path(__file__).parent
SOME = ("influence_cases", "neighbours", "retraining")


def test_some_tests_hold_on_another_processor(request):
    if request.config.getoption("processor"):
        pytest.skip("on another processor already")
    by_name = {name: [str(path) for path in TESTS.rglob(f"test_{name}.py")] for name in SOME}
    assert all(by_name.values())
    files = [path for paths in by_name.values() for path in paths]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--as", "plain", "--as", "rounding", *files]
    run = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]


def test_rounding_moves_what_is_rounded_and_that_alone():
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(30, 30, generator=draw, dtype=torch.float64) for _ in range(2))
    whole = (a > 0).double()
    weight = torch.randn(30, requires_grad=True, generator=draw, dtype=torch.float64)
    slope = lambda: torch.autograd.grad((a @ weight).exp().sum(), weight)[0]
    before = a @ b, slope()
    with rounding():
        after, again = (a @ b, slope()), (a @ b, slope())
        assert (whole @ whole == whole.int() @ whole.int()).all() and (a + b == b + a).all()
    for one, other, third in zip(before, after, again, strict=True):
        assert (one != other).double().mean() > 0.5 and (other == third).all()
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
