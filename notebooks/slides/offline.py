"""The slides as one file that needs no network: figures, reveal.js and MathJax in it. `TEACHING.md` has the call."""

import base64
import re
from importlib.util import find_spec
from pathlib import Path

from nbconvert.preprocessors import Preprocessor

HERE = Path("notebooks/slides").resolve()
reveal, mathjax = find_spec("sphinx_revealjs"), find_spec("sphinx-mathjax-offline")
if not (reveal and mathjax):
    raise SystemExit("reveal.js and MathJax come with the extra: pip install -e '.[site]'")
dist = Path(reveal.origin).parent / "_static" / "revealjs" / "dist"


class Embedded(Preprocessor):
    def preprocess_cell(self, cell, resources, index):
        data = lambda path: base64.b64encode((HERE / path).read_bytes()).decode()
        cell.source = re.sub(r"\((\S+\.png)\)", lambda found: f"(data:image/png;base64,{data(found[1])})", cell.source)
        return cell, resources


c = get_config()  # noqa: F821  nbconvert's
c.NbConvertApp.export_format = "slides"
c.FilesWriter.build_directory = "results/slides"
c.Exporter.preprocessors = [Embedded]
c.TemplateExporter.extra_template_basedirs = [str(HERE)]
folders = dist, dist / "theme", Path(mathjax.origin).parent / "static" / "mathjax"
c.TemplateExporter.extra_template_paths = list(map(str, folders))
c.SlidesExporter.template_name = "offline"
