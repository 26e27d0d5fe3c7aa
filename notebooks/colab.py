"""A notebook for Colab: its first cell clones the study and installs what it lacks. `README.md` has the call."""

import re
import subprocess
from pathlib import Path

from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_code_cell

FIRST = """# On Colab: the study, and the packages that are not there; torch is Colab's own. Some minutes.
!git clone --depth 1 {address} study
!grep -vE "^(torch|torchvision|triton|nvidia-.*|cuda-.*)==" study/requirements.txt > pins.txt
!pip install --quiet --no-deps -r pins.txt -e study
%cd study/notebooks{folder}
import sys
sys.path[:0] = ["{up}..", "{up}."]"""


def address() -> str:
    """That of `origin`, the one place that knows where this checkout came from, as anybody can clone it."""
    asked = ["git", "-C", str(Path(__file__).parent), "remote", "get-url", "origin"]
    there = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    if not there:
        raise SystemExit("colab.py: this checkout has no origin to clone from: git remote add origin ADDRESS")
    return re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", there)


class WithTheStudy(Preprocessor):
    def preprocess(self, nb, resources):
        appendix = re.match(r"# 1\d ", nb.cells[0].source)
        place = {"folder": "/appendix", "up": "../"} if appendix else {"folder": "", "up": ""}
        nb.cells.insert(0, new_code_cell(FIRST.format(address=address(), **place)))
        return nb, resources


c = get_config()  # noqa: F821  nbconvert's
c.NbConvertApp.export_format = "notebook"
c.Exporter.preprocessors = [WithTheStudy]
c.FilesWriter.build_directory = "results/colab"
