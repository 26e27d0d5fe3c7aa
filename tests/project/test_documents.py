"""The files around the code, held to the code and to one another."""

import ast
import html
import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from lib.ledger.claims import digest, load_claims
from lib.ledger.ledger import VERDICTS, judged, read_records
from lib.ledger.tables import in_sign, in_words
from lib.study import notebooks
from lib.study.notebooks import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf8"))
README = (REPO / "README.md").read_text("utf8")

#: Import name where it is not the distribution's.
DISTRIBUTION = {
    "PIL": "pillow",
    "curvlinops": "curvlinops-for-pytorch",
    "jupyter_client": "jupyter-client",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
PEERS = {"cleanlab", "opendataval", "pydvl"}  # that benchmarks compare with where they are installed
#: Direct dependencies that nothing imports, and what they are for.
TOOLS = {
    "axe-core-python": "axe.min.js, which looks over the web pages",
    "ipykernel": "notebooks run in it",
    "jinja2": "pandas.Styler",
    "jupyterlab": "reading and editing the notebooks",
    "myst-nb": "notebooks/site/conf.py names it",
    "pre-commit": "the hooks",
    "pytest-xdist": "the tests on all cores",
    "ruff": "the hooks",
    "sphinx-book-theme": "notebooks/site/conf.py names it",
    "sphinx-mathjax-offline": "notebooks/site/conf.py takes MathJax from it",
    "sphinx-revealjs": "notebooks/slides/offline.py takes reveal.js from it",
}


def name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


DIRECT = {name(line) for line in PROJECT["project"]["dependencies"]}
TEST = {name(line) for line in PROJECT["project"]["optional-dependencies"]["test"]}
SITE = {name(line) for line in PROJECT["project"]["optional-dependencies"]["site"]}


def pins() -> list[Requirement]:
    lines = (REPO / "requirements.txt").read_text("utf8").splitlines()
    return [Requirement(line) for line in lines if line and not line.lstrip().startswith("#")]


def tracked() -> list:
    """The files that are in git (all of them where this is not a checkout, but what .gitignore names)."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True).stdout.decode()
        return [REPO / file for file in listing.split("\0") if file and (REPO / file).exists()]
    except (OSError, subprocess.CalledProcessError):
        hidden = {".git", ".venv", "results", "__pycache__", ".pytest_cache", ".ruff_cache", "downloads"}
        return [path for path in REPO.rglob("*") if path.is_file() and not hidden & set(path.relative_to(REPO).parts)]


def imported(files) -> set[str]:
    """Distributions whose packages the files import, at any depth."""
    found = set()
    for file in files:
        text = re.sub(r"^\s*[%!].*$", "", file.read_text("utf8"), flags=re.M)  # a notebook's magics
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {module.split(".")[0] for module in names}
    ours = (
        {"lib", "experiments"}
        | {file.stem for file in (REPO / "tests").rglob("*.py")}
        | {file.stem for file in (REPO / "data").glob("*.py")}
    )
    return {DISTRIBUTION.get(module, module) for module in found - set(sys.stdlib_module_names) - ours}


# --- dependencies ----------------------------------------------------------------------------------------------------


def test_what_is_imported_is_a_direct_dependency():
    files = [file for room in ("lib", "notebooks", "data") for file in (REPO / room).rglob("*.py")]
    assert imported(files) - DIRECT - SITE == set()
    assert imported((REPO / "tests").rglob("*.py")) - DIRECT - TEST - SITE == PEERS


def test_a_direct_dependency_is_imported_or_has_a_reason():
    files = [file for file in tracked() if file.suffix == ".py"]
    assert (DIRECT | TEST | SITE) - imported(files) == set(TOOLS)


def test_direct_dependencies_are_pinned():
    pinned = {name(str(pin)) for pin in pins()}
    assert DIRECT | TEST | SITE <= pinned
    assert all(str(pin.specifier).startswith("==") for pin in pins())


def test_the_pins_were_made_from_pyproject():
    """Each direct dependency, and nothing else, is said to be asked for by the project."""
    text = (REPO / "requirements.txt").read_text("utf8")
    asked = set()
    for package, why in re.findall(r"^([\w.-]+)==.*\n((?:    #.*\n)*)", text, re.M):
        if PROJECT["project"]["name"] in why:
            asked.add(name(package))
    assert asked == DIRECT | TEST | SITE
    command = re.search(r"^#    (uv pip compile .*)$", text, re.M)[1]
    assert command in (REPO / "CONTRIBUTING.md").read_text("utf8")


def test_pins_hold_on_each_platform():
    """For every platform one version of a package, and no CUDA library but on Linux."""
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")):
        for python in ("3.11", "3.12", "3.13"):
            here = {
                "sys_platform": system, "platform_machine": machine, "python_version": python,
                "python_full_version": f"{python}.4", "implementation_name": "cpython",
                "platform_python_implementation": "CPython", "os_name": "nt" if system == "win32" else "posix",
                "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
            }  # fmt: skip
            chosen = [name(str(pin)) for pin in pins() if not pin.marker or pin.marker.evaluate(here)]
            assert len(chosen) == len(set(chosen))
            assert set(chosen) >= DIRECT
            cuda = [package for package in chosen if package.startswith(("nvidia-", "triton"))]
            assert not cuda or system == "linux"


def test_conda_environment():
    conda = yaml.safe_load((REPO / "environment.yml").read_text("utf8"))
    assert conda["name"] == PROJECT["project"]["name"]
    assert conda["channels"][0] == "conda-forge"
    (pip,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.txt", "-e ."]
    (python,) = [entry for entry in conda["dependencies"] if str(entry).startswith("python=")]
    compiled = re.search(r"--python-version (\S+)", (REPO / "requirements.txt").read_text("utf8"))[1]
    assert python == f"python={compiled}"


def test_versions_of_python_agree():
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in (REPO / "run_all.sh").read_text("utf8")
    assert f"Python {oldest} or newer" in README
    assert sys.version_info >= Version(oldest).release


# --- README, citation, hooks -----------------------------------------------------------------------------------------


def commands(text: str) -> list[str]:
    """The indented lines of a document that start with a program, without their comments."""
    lines = re.findall(r"^  (?:  )?((?:\./|papermill|python|ruff|uv|jupytext)\S*.*)$", text, re.M)
    return [re.split(r" {2,}", line)[0].strip() for line in lines]


def test_the_two_commands_come_first():
    assert commands(README)[:2] == ["./run_all.sh", "./run_all.sh --test"]


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "notebooks/README.md", "notebooks/TEACHING.md", "lib/study/runner.py"]
)
def test_the_commands_exist(document):
    """What the documents tell to type is accepted (run_all.sh), or names files that there are."""
    import shlex

    from lib.study.runner import options

    seen = 0
    for command in commands((REPO / document).read_text("utf8")):
        program, *words = shlex.split(command)
        for word in words:
            path = word.rstrip("/")
            if re.fullmatch(r"(notebooks|tests|data|lib|figures)/[\w./]+\.(py|ipynb|yaml|json)", path):
                assert (REPO / path).exists(), command
        if program == "./run_all.sh":
            seen += 1
            if "--help" not in words:
                options(words, REPO / "notebooks")
    assert seen


def test_links_of_the_documents_lead_somewhere():
    rooms = (
        "lib/README.md",
        "data/README.md",
        *(f"notebooks/{name}.md" for name in ("README", "GLOSSARY", "TEACHING", "slides/lesson")),
    )
    for document in ("README.md", "RESULTS.md", "CONTRIBUTING.md", "REPRODUCIBILITY.md", *rooms):
        path = REPO / document
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text("utf8")):
            assert (path.parent / target).exists(), f"{document}: {target}"


def test_the_glossary_names_every_score_and_what_there_is():
    from lib.catalogue import SCORES

    text = (REPO / "notebooks" / "GLOSSARY.md").read_text("utf8")
    scores = text.split("\n## Scores\n")[1].split("\n## ")[0]
    first = " ".join(re.findall(r"^- \*\*(.+?)\.\*\*", scores, re.M))
    known_as = {
        "forgetting, epochs": "forgetting",
        "TracIn": "TracIn's self-influence",
        "influence": "influence on itself",
    }
    assert not [name for name in SCORES if known_as.get(name, name) not in first]
    for module in re.findall(r"`(lib(?:[./]\w+)+?)(?:\.py)?`", text):
        path = REPO / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), module


def test_the_readme_lists_the_notebooks():
    for notebook in notebooks.find(REPO / "notebooks"):
        assert notebook.appendix or f"(notebooks/{notebook.name}.ipynb)" in README


def test_the_pages_are_made_from_the_verdicts():
    from lib.study.publish import pages_of_verdicts

    stale = [path.name for path, text in pages_of_verdicts().items() if path.read_text("utf8") != text]
    assert not stale, "python -m lib.study.publish brings them up to date"


def test_the_report_says_what_was_found():
    """Its verdicts by paragraph, and no failure left out."""
    text, claims = (REPO / "REPRODUCIBILITY.md").read_text("utf8"), load_claims()
    found = {name: record["verdict"] for name, record in read_records(VERDICTS / "laptop").items()}
    assert "–<!-- -->" not in text + README
    said = {"Held": ("reproduced", "holds"), "Partly": ("partly",), "Did not hold": ("not reproduced", "fails"),
            "Not decided": ("not decided here",), "Measured": ("measured",)}  # fmt: skip
    named = {}
    for heading, paragraph in re.findall(r"^\*\*(.+?)\.\*\* (.*)$", text, re.M):
        if heading in said:
            named |= dict.fromkeys(re.findall(r"`(\w+\.[\w.]+)`", paragraph), said[heading])
    assert not {claim: found[claim] for claim in named if found[claim] not in named[claim]}
    failed = {claim for claim, verdict in found.items() if verdict in ("not reproduced", "not decided here")}
    assert {claim for claim in failed if claims[claim].paper != "this study"} <= set(named)


def test_the_report_names_what_another_seed_changes():
    here, there = (read_records(VERDICTS / name) for name in ("laptop", "seed-1000"))
    text, claims = (REPO / "REPRODUCIBILITY.md").read_text("utf8"), load_claims()
    (said,) = re.findall(r"^\*\*Another seed\.\*\* (.*)$", text, re.M)
    both = [name for name in there if claims[name].rule not in ("identity", "cost") and there[name]["interval"]]
    other = {name for name in both if there[name]["verdict"] != here[name]["verdict"]}
    assert set(re.findall(r"`(\w+\.[\w.]+)`", said)) == other
    assert f"Of {len(both)} claims " in said and f", {len(both) - len(other)} came to the same verdict" in said
    assert f"With another seed {len(both) - len(other)} of {len(both)} verdicts were the same" in README
    numbers = re.findall(r"\d\d", said.partition(" ran once more")[0])
    assert {claims[name].notebook for name in there} <= {f"{n:02}" for n in range(1, 8)} | set(numbers)


@pytest.mark.parametrize("run", ["laptop", "seed-1000"])
def test_a_committed_verdict_is_that_of_the_present_criterion(run):
    """A criterion that changed after its run is judged anew, or the record is stale; and it says why it is not us."""
    claims = load_claims()
    for name, record in read_records(VERDICTS / run).items():
        assert record["criterion"] == digest(claims[name]), f"{name}: its criterion has changed since it was judged"
        again = judged(claims[name], record)
        assert {key: again[key] for key in ("verdict", "word", "findings", "reasons")} == {
            key: record[key] for key in ("verdict", "word", "findings", "reasons")
        }, name


def test_what_is_not_plainly_reproduced_says_where_we_depart():
    claims = load_claims()
    lacking = [
        name
        for name, record in read_records(VERDICTS / "laptop").items()
        if record["verdict"] in ("partly", "not reproduced", "not decided here")
        and not (claims[name].departs or claims[name].waits or claims[name].paper == "this study")
    ]
    assert not lacking


def test_what_is_not_plainly_reproduced_was_moved_towards_the_published_setting():
    claims = load_claims()
    lacking = [
        name
        for name, record in read_records(VERDICTS / "laptop").items()
        if record["verdict"] in ("partly", "not reproduced")
        if not record["moved"] and claims[name].paper != "this study"
    ]
    assert not lacking


def test_the_verdicts_are_those_of_the_committed_notebooks():
    """Each verdict, with its values, stands in the outputs of the notebook."""
    claims, outputs = load_claims(), {}
    pairs = {notebook.number: notebook for notebook in notebooks.find(REPO / "notebooks")}
    for claim, record in read_records(VERDICTS / "laptop").items():
        path = pairs[claims[claim].notebook].ipynb
        if path not in outputs:
            data = [
                o.get("data", {}) for c in json.loads(path.read_text("utf8"))["cells"] for o in c.get("outputs", [])
            ]
            tables = ["".join(one.get("text/html", "")) for one in data]
            outputs[path] = next(table for table in tables if "T_claims" in table)
        (row,) = [row for row in outputs[path].split("<tr>") if f"<code>{claim}</code>" in row]
        assert f"{in_sign(record)}</td>" in row, claim
        for part in in_words(claims[claim], record, judged_only=True):
            assert html.escape(re.sub(r" \(n = [\d,]+\)$", "", part)) in row, claim


def test_the_map_of_the_library_names_every_module():
    named = re.findall(r"^\| `(\w+)\.py` \|", (REPO / "lib" / "README.md").read_text("utf8"), re.M)
    there = [path.stem for path in tracked() if re.fullmatch(r"(lib|experiments)(/\w+)?/\w+\.py", room_of(path))]
    assert sorted(named) == sorted(stem for stem in there if stem != "__init__")


def room_of(path) -> str:
    return path.relative_to(REPO).as_posix().removeprefix("notebooks/")


def test_citation():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text("utf8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"] == "MIT"
    assert len(citation["references"]) == 5
    for paper in citation["references"]:
        assert paper["authors"] and paper["title"] and paper["year"] in range(2020, 2024)
        assert paper["url"].rpartition("/")[2] == paper["identifiers"][0]["value"].removeprefix("arXiv:")
        assert paper["url"] in README


def test_hooks_are_local():
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text("utf8"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert all(hook["language"] == "system" for hook in hooks["repos"][0]["hooks"])


@pytest.mark.parametrize("how", [["check"], ["format", "--check", "--exclude", "notebooks"]], ids=["check", "format"])
def test_ruff(how):
    went = subprocess.run([sys.executable, "-m", "ruff", *how, "."], cwd=REPO, capture_output=True, text=True)
    assert went.returncode == 0, went.stdout


# --- what is in git --------------------------------------------------------------------------------------------------


def test_no_paths_of_a_machine_in_tracked_files():
    machine = re.compile(rb"/(?:[h]ome|[r]oot|[t]mp|[w]ork|[U]sers|[p]rivate)/[A-Za-z]|[A-Z]:\\\\[A-Za-z]")
    texts = (".py", ".md", ".txt", ".toml", ".yml", ".yaml", ".sh", ".cff", ".json", ".ipynb", "")
    found = []
    for path in tracked():
        if path.suffix in texts and (hit := machine.search(path.read_bytes())):
            found.append(f"{path.relative_to(REPO)}: {hit[0].decode()}…")
    assert not found


def test_sizes_in_git():
    assert not [path.name for path in tracked() if path.suffix == ".ipynb" and path.stat().st_size > 3_000_000]
    assert not [path.name for path in (REPO / "figures").glob("*.png") if path.stat().st_size > 300_000]
    assert not [path.name for path in tracked() if path.stat().st_size > 30_000_000]


@pytest.mark.parametrize("script", ["run_all.sh", ".ci/run"])
def test_scripts_are_sound(script):
    import os

    path = REPO / script
    assert os.access(path, os.X_OK)
    assert path.read_text("utf8").startswith(("#!/usr/bin/env bash\n", "#!/usr/bin/env -S bash\n"))
    assert "set -euo pipefail" in path.read_text("utf8")
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
