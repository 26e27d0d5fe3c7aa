"""Does the profile smoke find a bug? Five are planted, each in a copy of the project, and the test has to name it: a
claim that is no longer what it was, or the cell whose own check fails.

    python tests/planted_bugs.py [--only sign]

takes two to four minutes each, as the test has to find nothing without the bug. What a bug replaces is looked for in
all of ``lib``, wherever it stands.

Smoke does not find every bug. Weight decay left out of the linearized training (``curvatures``) moves three values of
notebook 01, each by less than two seeds differ, as networks so small and trained for so short hardly feel it; of the
unit tests of linearized networks 55 fail.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
#: By name: the notebook that has to find it, what stands in ``lib``, and what is put there.
BUGS = {
    "sign": (  # of the influence of an example on a test loss
        "06",
        "change = along(o, x, y, solved).T / o.n",
        "change = -along(o, x, y, solved).T / o.n",
    ),
    "transposed mask": (  # who was trained on what, in memorization
        "03",
        "(member_sees & correct_train).sum(0)",
        "(member_sees.T.reshape(member_sees.shape) & correct_train).sum(0)",
    ),
    "missing term": (  # the label, in softmax minus one-hot label
        "05",
        "(softmax(f) if f.shape[-1] > 1 else f) - target).float()",
        "(softmax(f) if f.shape[-1] > 1 else f)).float()",
    ),
    "epoch off by one": (  # the learning rate falls an epoch late
        "05",
        "sum(t >= m * per_epoch for",
        "sum(t >= (m + 1) * per_epoch for",
    ),
    "labels not flipped": (  # the noise says which it flipped, and flips none
        "04",
        "% k).to(y.dtype)\n    return noisy, noisy != y",
        "% k).to(y.dtype)\n    return y.clone(), noisy != y",
    ),
}


def found(name: str, *, planted: bool = True) -> list[str]:
    """What the notebook's smoke test says, with the bug in place or without."""
    number, right, wrong = BUGS[name]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        unneeded = shutil.ignore_patterns(".git", ".venv", "results", "__pycache__", ".*_cache")
        shutil.copytree(REPO, copy, ignore=unneeded)
        (file,) = (path for path in (copy / "lib").rglob("*.py") if right in path.read_text("utf8"))
        text = file.read_text("utf8")
        assert text.count(right) == 1, f"{name}: {right!r} is there {text.count(right)} times"
        file.write_text(text.replace(right, wrong) if planted else text, "utf8")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/study/test_notebooks.py"]
        run = subprocess.run(
            [*command, "-k", f"test_smoke and {number}_"],
            cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert run.returncode in (0, 1), run.stdout + run.stderr
    named = r"^E +(?:AssertionError: |Failed: )?((?:[a-z]+\.[a-z_.0-9]+(?: at .*)?:|\d\d_\w+:) .*)$"
    return re.findall(named, run.stdout, re.M)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=BUGS)
    missed = []
    for name in [asked] if (asked := parser.parse_args().only) else BUGS:
        if lines := found(name, planted=False):
            print(f"notebook {BUGS[name][0]} fails without a bug:", *lines, sep="\n    ")
            missed += [name]
            continue
        lines = found(name)
        print(f"{name} (notebook {BUGS[name][0]}): {len(lines)} found", *lines, sep="\n    ", flush=True)
        missed += [name] * (not lines)
    sys.exit(f"not found: {', '.join(missed)}" if missed else 0)
