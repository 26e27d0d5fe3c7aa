"""What a teacher is promised: sections that exist, few words, slides and a student's version that can be made."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import exercises
import nbformat
import pytest
from browser import CHROMIUM, Browser

from lib.study import notebooks
from lib.study.notebooks import REPO

FOLDER = REPO / "notebooks"
TEXT = (FOLDER / "TEACHING.md").read_text("utf8")
BIN = Path(sys.executable).parent


def command(start: str) -> list[list[str]]:
    """The command of the text that starts so, as its parts between pipes."""
    (line,) = re.findall(rf"^    ({start} .*)$", TEXT, re.M)
    return [shlex.split(part) for part in line.split("|")]


def test_the_sections_are_there():
    named = re.findall(r"\[(\d\d) · ([^]]+)\]\((\S+)\.ipynb#(\S+)\)", TEXT)
    assert len(named) >= 15
    for number, section, name, anchor in named:
        assert anchor == re.sub(r"[^\w -]", "", section.lower()).replace(" ", "-")
        headings = re.findall(r"^# ##+ (.+)$", (FOLDER / f"{name}.py").read_text("utf8"), re.M)
        assert name.startswith(number) and section in headings, (name, section)


def test_it_is_short():
    assert len(re.sub(r"<!--.*?-->|\]\(\S+\)", "", TEXT).split()) <= 1200


def test_the_questions_of_the_lesson_are_answered():
    asked = {int(n) for row in re.findall(r"^\| \d+ \|.*\| ([\d, ]+) \|$", TEXT, re.M) for n in row.split(",")}
    assert asked == {int(n) for n in re.findall(r"^(\d+)\. \*[^*]+\?\* ", TEXT, re.M)}
    assert "–<!-- -->" not in TEXT  # each quotation has its record


def test_what_it_says_of_08_stands_there():
    pattern = r"08 flags (\d+) and estimates (.+?) wrong labels; .* it flags (.+?])\."
    flagged, estimated, found = re.search(pattern, TEXT).groups()
    (path,) = FOLDER.glob("08_*.ipynb")
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert f"labels that look wrong: {flagged}," in printed and f"as estimated: {estimated} (too many where" in printed
    assert f"{found} were flagged" in printed


def test_a_student_has_no_answers_and_no_outputs(tmp_path):
    ((program, *words),) = command("jupyter nbconvert --config")
    subprocess.run([BIN / program, *words, "--output-dir", tmp_path], cwd=REPO, check=True, capture_output=True)
    (path,) = tmp_path.iterdir()
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    assert not [cell.source for cell in made.cells if "<details>" in cell.source or cell.get("outputs")]
    (whole,) = [notebook for notebook in notebooks.find(FOLDER) if notebook.name == path.stem]
    asked = exercises.answers(whole)
    assert sum(cell.source == exercises.EMPTY for cell in made.cells) > len(asked)  # each guess has a cell, too
    (start,) = [i for i, cell in enumerate(made.cells) if "## Exercises" in cell.source]
    last = made.cells[start:]
    assert len(last) == 2 * len(asked) and {cell.source for cell in last[1::2]} == {exercises.EMPTY}
    assert max(len(cell.source) for cell in last) < 400


SEEN = """new Promise(done => { const look = () => {
    if (!window.Reveal || !Reveal.isReady()) return setTimeout(look, 100)
    const tall = []
    for (let i = 0; i < 60; i++, Reveal.next()) {
        const slide = Reveal.getCurrentSlide()
        if (slide.scrollHeight > 700 || slide.scrollWidth > 960) tall.push(slide.textContent.trim().slice(0, 40))
        if (Reveal.isLastSlide()) break
    }
    done({ slides: Reveal.getTotalSlides(), broken: [...document.images].filter(one => !one.naturalWidth).length, tall,
           pictures: document.images.length, formulas: document.querySelectorAll("mjx-container svg").length })
}; look() })"""


@pytest.mark.parametrize("kind", ["slide", "fragment"])
def test_the_deck_has(kind):
    assert (FOLDER / "slides/lesson.md").read_text("utf8").count(f'"{kind}"') >= 4


def test_the_slides_are_built(tmp_path):
    first, second = command("jupytext --to ipynb -o -")
    notebook = subprocess.run([BIN / first[0], *first[1:]], cwd=REPO, check=True, capture_output=True).stdout
    made = [BIN / second[0], *second[1:], "--output-dir", tmp_path]
    subprocess.run(made, cwd=REPO, check=True, input=notebook, capture_output=True)
    deck = (FOLDER / "slides/lesson.md").read_text("utf8")
    slides = len(re.findall(r'"(?:sub)?slide"', deck))
    figures = re.findall(r"(\S+?/figures/[^)]+)", deck)
    assert len(figures) > 4 and all((FOLDER / "slides" / figure.split("(")[-1]).exists() for figure in figures)
    if CHROMIUM:
        with Browser(tmp_path / "browser") as browser:
            browser.resize(1280, 800)
            browser.open((tmp_path / "lesson.slides.html").as_uri())
            found = browser.run(SEEN)
            assert found == {"slides": slides, "broken": 0, "pictures": len(figures), "formulas": 3, "tall": []}
            assert not [address for address in browser.asked_for if not re.match("file:|data:|about:", address)]
