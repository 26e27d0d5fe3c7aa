"""A notebook as a class gets it: an empty cell for each folded answer, and no outputs. `TEACHING.md` has the call."""

import re

from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_code_cell, new_markdown_cell


class Unanswered(Preprocessor):
    def preprocess(self, nb, resources):
        for cell in nb.cells[:]:
            first, *rest = re.split(r"\s*<details>.*?</details>\s*", cell.source, flags=re.S)
            more = [new for text in rest for new in (new_code_cell("# your answer"), text and new_markdown_cell(text))]
            where = nb.cells.index(cell) + 1
            nb.cells[where:where] = filter(None, more)
            cell.source = first
        return nb, resources


c = get_config()  # noqa: F821  nbconvert's
c.NbConvertApp.export_format = "notebook"
c.Exporter.preprocessors = [Unanswered]
c.ClearOutputPreprocessor.enabled = True
c.FilesWriter.build_directory = "results/student"
