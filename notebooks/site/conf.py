"""Sphinx makes the web pages with this; `lib/study/pages.py` lays out what it reads. No page loads from a network."""

import re
from importlib.util import find_spec
from pathlib import Path

project = html_title = "What is a training example worth?"
extensions = ["myst_nb"]
exclude_patterns = ["README.md"]  # the start page includes it

nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_code_prompt_show, nb_code_prompt_hide = "Show the {type}", "Hide the {type}"
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


def claims(app, name: str, source: list[str]) -> None:
    """RESULTS.md with a heading for each claim in place of a row, to link to and for phones."""
    if name == "RESULTS":
        text = re.sub(r"^\| id \|.*\n.*\n", "", source[0], flags=re.M)
        source[0] = re.sub(r"^\| (\w+\.\S+ \| .*) \|$", claim, text, flags=re.M)


def claim(row: re.Match) -> str:
    name, statement, published, ours, verdict, link = row[1].split(" | ")
    slug = lambda title: re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")  # as myst_heading_anchors
    link = re.sub(r"\[(.+)\]\((.+)\)", lambda m: f"[{m[1]}]({m[2]}#{slug(m[1])})", link)
    facts = f"- Published: {published}\n- Ours: {ours.replace('; ', '<br>')}\n- Evidence: {link}\n"
    return f"### {name}\n\n**{verdict}**: {statement}\n\n{facts}"


def setup(app) -> None:
    app.connect("source-read", claims)
