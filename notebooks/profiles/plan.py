"""What the profile ``paper`` would cost on a GPU, by ``rates.yaml`` beside this; ``./run_all.sh --plan`` calls it."""

import ast
import json
import operator
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from lib.study import notebooks
from lib.study.notebooks import REPO
from lib.study.runner import duration


def plan(todo: Mapping[str, Mapping], folder: Path = REPO / "notebooks") -> str:
    """What the notebooks would cost at the rates in ``profiles/rates.yaml``, a line each; these are no measurements.

    ``todo``: number of a notebook → its parameters that differ. One of the main line is charged with its appendix.
    """
    rates, lines, total = yaml.safe_load((folder / "profiles" / "rates.yaml").read_text("utf8")), [], 0.0
    for notebook in (n for n in notebooks.find(folder) if n.number in todo):
        values = todo[notebook.number]
        if notebook.appendix and f"0{notebook.number[1]}" in todo:
            continue
        appendix = [n for n in notebooks.find(folder) if n.appendix and n.number[1] == notebook.number[1]]
        known = {p.name: p.default for n in (*appendix, notebook) for p in notebooks.parameters(n).values()}
        known |= {name: v for n in appendix for name, v in notebooks.overrides(n, values["profile"]).items()} | values
        seconds = 60.0 * rates["other_minutes"].get(notebook.number, 1)
        for work in rates["trainings"].get(notebook.number, ()):
            network = known.get(work["network"], work["network"])
            pictures = _reckoned(ast.parse(work["pictures"], mode="eval").body, known)
            seconds += pictures / rates["pictures_a_second"][network]
        lines.append(f"  {notebook.name:<32} {duration(seconds):>12}")
        total += seconds
    return "\n".join([f"Reckoned, not run: {rates['source']}", *lines, f"  {'in all':<32} {duration(total):>12}"])


def _reckoned(node: ast.expr, known: Mapping) -> float:
    """The value of sums and products of numbers, parameters and the ``len`` of parameters."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return known[name]
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
            return len(known[name])
        case ast.BinOp(left=left, op=op, right=right):
            operations = {ast.Add: operator.add, ast.Mult: operator.mul, ast.Div: operator.truediv}
            return operations[type(op)](_reckoned(left, known), _reckoned(right, known))
    raise ValueError(f"rates.yaml: expected sums and products, got {ast.unparse(node)}")


if __name__ == "__main__":
    print(plan(json.loads(sys.argv[1])))
