"""Do the tests of a module see a small mistake in it? Mutants of scores, numerics, statistics and ledger.

    python tests/mutants.py [--only lib/scores/tracin.py] [--seed 0] [--list]

A mutant is one change of one place: a comparison with its edge moved or turned round, another sign, a constant off by
one (a fraction doubled), a term or factor dropped. A fixed number is drawn from each module, the same for the same
seed. Each stands alone in a copy of the project, whose tests of that module, its docstrings' examples first, run until
one fails, in a process forked from one that has imported what is slow to import. One that takes ten times as long as
the tests of the unchanged module counts as seen. One processor core is used; an hour or less, so run it under ``nice``.

``SAME`` has the mutants that no test can see, each with the reason. The others that survive are printed, and are the
exit status.
"""

import argparse
import ast
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SCORES, NUMERICS, LEDGER = "tests/scores/test_", "tests/numerics/test_", "tests/ledger/test_"
#: Module: how many mutants, and the files of tests that are to see them.
MODULES = {  # those whose tests are quick first
    "lib/ledger/verdicts.py": (12, [f"{LEDGER}verdicts.py"]),
    "lib/statistics.py": (12, ["tests/test_statistics.py", "tests/test_auroc_difference.py"]),
    "lib/ledger/claims.py": (5, [f"{LEDGER}ledger.py", f"{LEDGER}verdicts.py"]),
    "lib/ledger/ledger.py": (6, [f"{LEDGER}ledger.py"]),
    "lib/ledger/tables.py": (4, [f"{LEDGER}ledger.py"]),
    "lib/scores/neighbours.py": (6, [f"{SCORES}neighbours.py"]),
    "lib/scores/data_diet.py": (8, [f"{SCORES}data_diet.py", f"{SCORES}definitions.py"]),
    "lib/scores/definitions.py": (10, [f"{SCORES}definitions.py"]),
    "lib/scores/tracin.py": (8, [f"{SCORES}tracin.py", f"{SCORES}definitions.py"]),
    "lib/scores/memorization.py": (9, [f"{SCORES}memorization.py", f"{SCORES}c_scores.py"]),
    "lib/numerics/objective.py": (6, [f"{NUMERICS}curvature.py", f"{SCORES}influence.py"]),
    "lib/numerics/curvature.py": (7, [f"{NUMERICS}curvature.py", f"{SCORES}influence.py"]),
    "lib/numerics/gradients.py": (8, [f"{NUMERICS}gradients.py", f"{NUMERICS}jacobians.py", f"{NUMERICS}curvature.py"]),
    "lib/numerics/spectral_filter.py": (7, [f"{SCORES}leave_one_out.py", f"{SCORES}linearized.py"]),
    "lib/numerics/inverse_hessian.py": (8, [f"{NUMERICS}curvature.py", f"{SCORES}influence.py"]),
    "lib/scores/influence.py": (9, [f"{SCORES}influence.py", f"{SCORES}self_influence.py"]),
    "lib/scores/unique_information.py": (
        10,
        [f"{SCORES}linearized.py", f"{SCORES}information.py", f"{SCORES}f_si.py", f"{SCORES}leave_one_out.py"],
    ),
    "lib/numerics/cholesky.py": (7, [f"{SCORES}complexity_gap.py"]),
    "lib/scores/complexity_gap.py": (10, [f"{SCORES}complexity_gap.py", f"{SCORES}definitions.py"]),
}
#: Mutants that change nothing which a test could see: ``module: line as mutated`` → why.
SAME: dict[str, str] = {
    "lib/statistics.py: if 1 - abs(value) <= 1e-12:": "no correlation is just there",
    "lib/numerics/gradients.py: if positions * (d + p) <= d * p:": "both ways cost the same there",
    "lib/numerics/gradients.py: size = WORKING // (like.element_size() * sum(p.numel() for p in state.values()))": (
        "more rows at a time, and the same gradients"
    ),
    "lib/scores/unique_information.py: fractions = poles(x[-2].item(), lr=lr, tol=tol, **time)": (
        "the poles keep their tolerance well beyond the largest eigenvalue"
    ),
    "lib/scores/data_diet.py: if rows := (~norms.isfinite()).nonzero()[:, 1].unique()[:5].tolist():": "of two columns",
    "lib/statistics.py: if len(a) < FEW:": "at 1,000 examples, where the two intervals agree",
    "lib/scores/definitions.py: gram, signs = relu_gram(x) + jitter * torch.eye(len(x)).double(), "
    "torch.where(y != y[:, None], 1.0, -1.0).double()": "complexity is quadratic in the signs",
    "lib/numerics/gradients.py: if not groups or need >= room:": "layers whose bytes just fit, a group later",
    "lib/numerics/spectral_filter.py: half = max(math.ceil((math.log(1 / tol) + 6) / 10 * steps), steps // 2 + 1)": (
        "a rule with a node or two more"
    ),
    "lib/numerics/spectral_filter.py: half = max(math.ceil((math.log(2 / tol) + 5) / 10 * steps), steps // 2 + 1)": (
        "the rule for half the tolerance"
    ),
    "lib/numerics/spectral_filter.py: half = max(math.ceil((math.log(1 / tol) + 5) / 11 * steps), steps // 2 + 1)": (
        "a rule with fewer nodes, which keeps its tolerance too"
    ),
    "lib/numerics/cholesky.py: bad = ~(chol.diagonal(dim1=-2, dim2=-1).square() >= "
    "16 * torch.finfo(chol.dtype).eps)": "a pivot that is the limit itself, to the bit",
}
EDGES = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
SIGNS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}


def mutants(source: str) -> list[tuple[str, int, str]]:
    """All mutants of a module: kind, line (from 1), the text of the whole module as mutated."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    raw, found = source.encode(), []
    begin = lambda node: starts[node.lineno - 1] + node.col_offset
    end = lambda node: starts[node.end_lineno - 1] + node.end_col_offset

    def add(kind, node, lo, hi, text):
        found.append((kind, node.lineno, (raw[:lo] + text.encode() + raw[hi:]).decode()))

    def between(node, left, right, text, kind):  # the operator, and nothing else, stands between two operands
        gap = raw[end(left) : begin(right)].decode()
        operator = gap.strip().strip("()").strip()
        if operator and gap.count(operator) == 1 and "\n" not in gap and "#" not in gap:
            lo = end(left) + gap.encode().index(operator.encode())
            add(kind, node, lo, lo + len(operator.encode()), text)

    def visit(node):
        if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("warn", "set_num_threads"):
            return
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in EDGES:
            between(node, node.left, node.comparators[0], EDGES[type(node.ops[0])], "comparison")
        if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
            between(node, node.left, node.right, SIGNS[type(node.op)], "sign")
            if not isinstance(node.op, ast.Div):
                add("term", node, end(node.left), end(node), "")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            add("sign", node, begin(node), begin(node.operand), "")
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            text = repr(node.value + 1) if type(node.value) is int else repr(2 * node.value or 1.0)
            add("constant", node, begin(node), end(node), text)
        for name, child in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for one in child if isinstance(child, list) else [child]:
                if isinstance(one, ast.AST):
                    visit(one)

    visit(ast.parse(source))
    return found


def drawn(module: str, count: int, seed: int, folder: Path = REPO) -> list[tuple[str, int, str, str]]:
    """So many mutants of a module, the four kinds in turn: kind, line, the line as mutated, the module as mutated."""
    source, rng, kinds = (folder / module).read_text("utf8"), random.Random(f"{module} {seed}"), {}
    for kind, line, text in mutants(source):
        kinds.setdefault(kind, []).append((kind, line, text))
    for some in kinds.values():
        rng.shuffle(some)
    chosen = []
    while len(chosen) < count and any(kinds.values()):
        for some in kinds.values():
            if some and len(chosen) < count:
                kind, line, text = some.pop()
                with contextlib.suppress(SyntaxError):
                    ast.parse(text)
                    chosen.append((kind, *where_it_differs(source, text), text))
    return chosen


def where_it_differs(source: str, text: str) -> tuple[int, str]:
    """The first line that is another, its number from 1 and its text."""
    pairs = zip(source.splitlines(), text.splitlines(), strict=False)
    return next((i, new.strip()) for i, (old, new) in enumerate(pairs, 1) if old != new)


def survives(tests: list[str], folder: Path, seconds: float) -> tuple[bool, float]:
    """Whether the tests pass in the folder, within the seconds; and how long they took."""
    begun, child = time.monotonic(), os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        import pytest

        sys.path[:0] = [str(folder), str(folder / "notebooks"), str(folder / "tests")]
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *tests])
        os._exit(int(status) and 1)
    try:
        while time.monotonic() - begun < seconds:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status == 0, time.monotonic() - begun
            time.sleep(0.05)
    except KeyboardInterrupt:
        os.killpg(child, signal.SIGKILL)
        raise
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, time.monotonic() - begun


def main() -> int:
    """The command; as many as survive and have no reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODULES, action="append", help="a module alone; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="draws the mutants")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run none")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["STUDY_RESULTS"] = tempfile.mkdtemp()
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (REPO, REPO / "tests")]
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    total, seen, same, left = 0, 0, 0, 0
    if not options.list:  # what each child would import anew; nothing of the project
        import curvlinops  # noqa: F401
        import pandas  # noqa: F401
        import pytest  # noqa: F401
        import torch  # noqa: F401
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        unneeded = shutil.ignore_patterns(".git", ".venv", "results", "__pycache__", ".*_cache", "*.ipynb", "figures")
        shutil.copytree(REPO, copy, ignore=unneeded)
        for module in options.only or MODULES:
            count, tests = MODULES[module]
            name = module.removesuffix(".py").replace("/", ".")
            tests = [f"tests/project/test_examples.py::test_docstrings[{name}]", *tests]
            chosen, whole = drawn(module, count, options.seed), (copy / module).read_text("utf8")
            if options.list:
                print(*[f"{module}:{line} ({kind}) {text}" for kind, line, text, _ in chosen], sep="\n")
                continue
            passes, took = survives(tests, copy, 1800)
            print(f"{module}: {len(chosen)} mutants; unchanged, its tests {'pass' if passes else 'FAIL'}", flush=True)
            for kind, line, text, changed in chosen:
                (copy / module).write_text(changed, "utf8")
                alive, _ = survives(tests, copy, 30 + 10 * took)
                why = SAME.get(f"{module}: {text}")
                total, seen, same, left = (
                    total + 1,
                    seen + (not alive),
                    same + (alive and bool(why)),
                    left + (alive and not why),
                )
                if alive:
                    print(f"  lives  {module}:{line} ({kind}) {text}" + (f"  [{why}]" if why else ""), flush=True)
            (copy / module).write_text(whole, "utf8")
    if not options.list:
        print(f"{total} mutants: {seen} seen, {same} that change nothing to be seen, {left} not seen")
    return min(left, 99)


if __name__ == "__main__":
    sys.exit(main())
