"""Sphinx makes the web pages with this; `pages.py` lays out what it reads. No page loads from a network."""

import os
from importlib.util import find_spec
from pathlib import Path

project = html_title = "What is a training example worth?"
extensions = ["myst_nb"]
exclude_patterns = ["README.md"]  # the start page includes it

nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
mathjax_path = "tex-svg-full.js"  # draws formulas without fonts
html_static_path = ["style.css", str(mathjax / mathjax_path)]
html_css_files = ["style.css"]
html_theme = "sphinx_book_theme"
html_theme_options = {
    "navbar_persistent": [],  # the side bar has a search already
    "footer_content_items": [],
    "show_toc_level": 1,
    "use_download_button": False,
}
html_copy_source = html_show_sourcelink = html_use_index = False

if "GITHUB_REPOSITORY" in os.environ:  # in a workflow, which knows the address: buttons to the repository and to Binder
    html_theme_options |= {
        "repository_url": f"https://github.com/{os.environ['GITHUB_REPOSITORY']}",
        "repository_branch": os.environ.get("GITHUB_REF_NAME", "main"),
        "use_repository_button": True,
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    }
