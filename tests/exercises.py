"""The answers of a notebook's exercises, which its smoke test runs."""

import re

import jupytext

from lib.study.notebooks import Notebook

EMPTY = "# your answer"


def answers(notebook: Notebook) -> dict[int, list[str]]:
    """The code in the folded answer of each exercise, by the exercise's number; empty where an answer is words alone.

    Raises:
        ValueError: if an exercise is not three cells (a question, numbered from 1; ``EMPTY``; ``<details>`` alone).
    """
    cells, found = jupytext.read(notebook.py).cells, {}
    heading = [i for i, cell in enumerate(cells) if re.search(r"^## Exercises$", cell.source, re.M)]
    for i in range(heading[0], len(cells), 3) if heading else ():
        question, empty, answer = ([cell.source for cell in cells[i : i + 3]] + ["", ""])[:3]
        number = len(found) + 1
        asked = re.findall(r"^(\d+)\. ", question.partition("## Exercises")[2] if i == heading[0] else question, re.M)
        folded = re.fullmatch(r"<details><summary>Answer</summary>\n(.*)</details>", answer, re.S)
        if asked != [str(number)] or empty != EMPTY or not folded or answer.count("<details>") > 1:
            wanted = f"{notebook.name}: expected exercise {number} as a question, a cell {EMPTY!r} and a folded answer"
            raise ValueError(f"{wanted}, got {question[:40]!r}, {empty[:40]!r}, {answer[:40]!r}")
        found[number] = re.findall(r"^```python\n(.*?)^```", folded[1], re.M | re.S)
    return found


def cells(notebook: Notebook) -> list[str]:
    """The answers as code cells, each of which starts with ``# exercise 2``."""
    return [f"# exercise {number}\n{block}" for number, blocks in answers(notebook).items() for block in blocks]
