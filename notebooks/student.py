"""A notebook as a class gets it: an empty cell in place of a folded answer, no outputs. `TEACHING.md` has the call."""

import re

from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_code_cell, new_markdown_cell

ANSWER = r"\s*<details>.*?</details>\s*"


class Unanswered(Preprocessor):
    def preprocess(self, nb, resources):
        cells = [cell for cell in nb.cells if not re.fullmatch(ANSWER, cell.source, re.S)]  # an exercise has its cell
        nb.cells = []
        for cell in cells:
            cell.source, *rest = re.split(ANSWER, cell.source, flags=re.S)
            more = [new for text in rest for new in (new_code_cell("# your answer"), text and new_markdown_cell(text))]
            nb.cells += filter(None, (cell, *more))
        return nb, resources


c = get_config()  # noqa: F821  nbconvert's
c.NbConvertApp.export_format = "notebook"
c.Exporter.preprocessors = [Unanswered]
c.ClearOutputPreprocessor.enabled = True
c.FilesWriter.build_directory = "results/student"
