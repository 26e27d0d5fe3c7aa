"""Which sections of a notebook need which others: the names that their code uses and does not define."""

import ast
import builtins
import re
import symtable
from dataclasses import dataclass, field

import jupytext

from lib.study.notebooks import Notebook

PROVIDED = {*dir(builtins), "display", "get_ipython"}  # by Python and by the kernel
REST = ("Where we deviate, and why", "Claims", "Exercises")  # sections that are no experiment


@dataclass
class Code:
    """What code uses before it defines it, and what it defines."""

    needs: set[str] = field(default_factory=set)
    defines: set[str] = field(default_factory=set)

    def read(self, cell: str) -> "Code":
        later = set()  # what a function reads is there when it is called
        for statement in ast.parse(cell).body:
            reads, binds = _statement(statement)
            if isinstance(statement, ast.FunctionDef):
                later |= reads
            else:
                self.needs |= reads - self.defines
            self.defines |= binds
        self.needs |= later - self.defines
        self.needs -= PROVIDED
        return self


def _statement(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The names of the module that one statement reads, and those that it binds."""
    table = symtable.symtable(ast.unparse(statement), "cell", "exec")
    symbols = table.get_symbols()
    binds = {one.get_name() for one in symbols if one.is_assigned() or one.is_imported() or one.is_namespace()}
    reads = {one.get_name() for one in symbols if one.is_referenced()} | _inner(table)
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        reads.add(statement.target.id)
    if not isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr):
        return reads - binds, binds
    return reads - {node.target.id for node in ast.walk(statement) if isinstance(node, ast.NamedExpr)}, binds


def _inner(table: symtable.SymbolTable) -> set[str]:
    """Names of the module that functions, lambdas and comprehensions read."""
    found = set()
    for child in table.get_children():
        found |= {one.get_name() for one in child.get_symbols() if one.is_global() and one.is_referenced()}
        found |= _inner(child)
    return found


def code(notebook: Notebook) -> dict[str, Code]:
    """The code of each ``##`` section by its heading; what stands before the first is the section ``""``."""
    found, section = {"": Code()}, ""
    for cell in jupytext.read(notebook.py).cells:
        if cell.cell_type == "code":
            found.setdefault(section, Code()).read(cell.source)
        else:
            section = (re.findall(r"^## (.+)$", cell.source, re.M) or [section])[-1]
    return found


def parts(notebook: Notebook) -> tuple[str, list[str]]:
    """What the head of a notebook says: where its set-up ends, and which sections then run alone."""
    head = jupytext.read(notebook.py).cells[0].source
    ((end, alone),) = re.findall(r"^To run a part, run the cells to the end of \*(.+?)\*, then (.+)\.$", head, re.M)
    return end, re.findall(r"\*(.+?)\*", alone)
