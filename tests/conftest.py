"""Another processor, made here: ``pytest --as plain`` and ``pytest --as rounding`` (which may be given together).

Two processors agree on ``+ − × ÷`` and ``√`` of two numbers and on what is exact; they differ in the order in which
they add many, in fused multiply-adds and in the last bits of ``exp`` and its kind. So:

``plain``     one thread and no vector instructions: torch, MKL, oneDNN and OpenBLAS take the code that they have for
              a processor of twenty years ago. Another order of every sum, whatever computes it, children included.
``rounding``  what adds many or is not algebraic (products of matrices, convolutions, sums, decompositions, ``exp``, …)
              comes out of torch up to two units in the last place off, forwards and backwards. By how many depends on
              the result's own bits alone: computed twice in the same way it is the same twice, as on any one machine,
              and computed in two ways that agree up to rounding it differs. Whole numbers, what a few bits hold (a
              half) and sums of one number are exact everywhere, and stay.

Each passes for a processor on which every test must hold; ``test_processors.py`` says how some always do.
"""

import os
import sys

import pytest

PLAIN = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_NUM_THREADS": "1",
}
ULPS = 2
ROUNDED = {
    *("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "convolution", "convolution_backward"),
    *("sum", "mean", "var", "std", "cumsum", "logsumexp", "linalg_vector_norm", "norm", "prod", "logcumsumexp"),
    *("exp", "expm1", "log", "log1p", "log2", "sin", "cos", "tanh", "sigmoid", "softplus", "gelu", "erf", "lgamma"),
    *("pow", "_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data"),
    *("nll_loss_backward", "native_batch_norm", "native_batch_norm_backward", "native_layer_norm", "avg_pool2d"),
    *("linalg_cholesky_ex", "cholesky_solve", "linalg_solve_triangular", "linalg_inv_ex", "_linalg_solve_ex"),
    *("linalg_lstsq", "linalg_lu_factor_ex", "linalg_lu_solve"),
}


def pytest_addoption(parser):
    parser.addoption(
        "--as", action="append", default=[], choices=["plain", "rounding"], dest="processor",
        help="run as another processor would: see tests/conftest.py",
    )  # fmt: skip
    parser.addoption("--full", action="store_true", help="ten kills for three (faults/), whole sizes (benchmarks/)")


def pytest_configure(config):
    # Threads that wait for one another give the core away: where others use the cores too, those that spin instead make
    # small tests ten times as slow. Notebooks and other children inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "PYTEST_XDIST_WORKER" in os.environ:  # a core each
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "plain" in config.getoption("processor"):
        assert "torch" not in sys.modules and "numpy" not in sys.modules, "they read the environment when imported"
        os.environ.update(PLAIN)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Round the whole test, its fixtures of wider scope included."""
    if "rounding" in item.config.getoption("processor"):
        with rounding():
            yield
    else:
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What draws from torch's own generator draws the same in any order of the tests."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(54321)  # which no test seeds its own with


@pytest.fixture(scope="session")
def moments(pytestconfig) -> int:
    """At how many random moments a run is killed."""
    return 10 if pytestconfig.getoption("full") else 3


def rounding():
    """A context in which what torch rounds is rounded otherwise."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    bits = {torch.float32: torch.int32, torch.float64: torch.int64}

    def nudge(result) -> None:
        if isinstance(result, tuple | list):
            for part in result:
                nudge(part)
        elif isinstance(result, torch.Tensor) and result.dtype in bits and result.numel():
            word, whole = result.view(bits[result.dtype]), result == result.round()
            by = ((word * 0x5BD1E995) >> 13) % (2 * ULPS + 1) - ULPS
            word += by * ((word & 0xFF) != 0) * ~whole

    class Rounding(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            alone = name in ("sum", "mean") and result.numel() == args[0].numel()
            if name in ROUNDED and "out" not in func._overloadname and not alone:
                nudge(result)
            return result

    return Rounding()
