"""The answers of a notebook's exercises, which its smoke test runs."""

import re

import jupytext

from lib.study.notebooks import Notebook


def answers(notebook: Notebook) -> dict[int, list[str]]:
    """The code in the folded answer of each exercise, by the exercise's number; empty where an answer is words alone.

    Raises:
        ValueError: if the exercises are not numbered from 1, or one has not one ``<details>``.
    """
    prose = "\n\n".join(cell.source for cell in jupytext.read(notebook.py).cells if cell.cell_type == "markdown")
    section = re.split(r"^## ", prose.partition("\n## Exercises\n")[2], flags=re.M)[0]
    found = {}
    for exercise in re.split(r"^(?=\d+\. )", section, flags=re.M)[1:]:
        number, folded = int(exercise.split(".")[0]), re.findall(r"<details>.*?</details>", exercise, re.S)
        if number != len(found) + 1 or len(folded) != 1:
            got = f"exercise {number} with {len(folded)} <details>"
            raise ValueError(f"{notebook.name}: expected exercise {len(found) + 1} with one <details>, got {got}")
        found[number] = re.findall(r"^```python\n(.*?)^```", folded[0], re.M | re.S)
    return found


def cells(notebook: Notebook) -> list[str]:
    """The answers as code cells, each of which starts with ``# exercise 2``."""
    return [f"# exercise {number}\n{block}" for number, blocks in answers(notebook).items() for block in blocks]
