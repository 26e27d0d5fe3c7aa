"""run_all.sh on projects of their own: which Python it goes on in, and when it makes .venv."""

import os
import shutil
import subprocess
import sys

import pytest
from workloads import PATIENCE

from lib.study.notebooks import REPO

BASH = shutil.which("bash")
#: A Python that makes environments like itself, and whose pip does what the file ``pip`` beside the project says.
FAKE = """#!{bash}
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "made by venv" ;;
  "-m pip "*) echo "pip $*"; . "{root}/pip" ;;
  "-m lib.study.runner"*) echo "went on in $0 with ${{*:3}}" ;;
  "-c"*"pins = "*) if [ -e "{root}/unmet" ]; then cat "{root}/unmet" >&2; exit 1; fi ;;
esac
"""


@pytest.fixture
def repo(tmp_path):
    """A project with a fake Python on the PATH that lacks its pins."""
    root = tmp_path / "study"
    (root / "lib/study").mkdir(parents=True)
    shutil.copy(REPO / "run_all.sh", root)
    shutil.copy(REPO / "lib/study/runner.py", root / "lib/study")
    (root / "requirements.txt").write_text("alpha==1.2\n")
    (root / "unmet").write_text("alpha==1.2 (1.1 there)")
    (root / "pip").write_text(":\n")
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname", "cmp", "sed", "rm", "mkdir", "cp", "tail", "cat"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    fake(tmp_path / "bin/python3", root)
    return root


def fake(path, root):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE.format(bash=BASH, root=root))
    path.chmod(0o755)
    return path


def call(repo, *argv, **environment):
    names = {"PATH": str(repo.parent / "bin"), "HOME": str(repo.parent)} | environment
    return subprocess.run(
        [BASH, repo / "run_all.sh", *argv], env=names, capture_output=True, text=True, timeout=PATIENCE
    )


def test_an_environment_is_made_once_and_used_then(repo):
    went = call(repo, "--only", "04")
    assert went.returncode == 0, went.stderr
    assert went.stdout == f"went on in {repo}/.venv/bin/python with --only 04\n"
    assert f"log: {repo}/.venv/install.log" in went.stderr
    log = (repo / ".venv/install.log").read_text()
    assert f"install -r {repo}/requirements.txt" in log and f"--no-deps -e {repo}" in log
    again = call(repo)
    assert "went on in" in again.stdout and again.stderr == ""
    (repo / "requirements.txt").write_text("alpha==1.3\n")
    assert "making .venv" in call(repo).stderr


def test_an_installation_that_fails_is_told_and_made_again(repo):
    (repo / "pip").write_text("echo no such package; exit 1\n")
    went = call(repo)
    assert went.returncode == 1 and went.stdout == ""
    assert "no such package" in went.stderr and "the whole log is" in went.stderr
    (repo / "pip").write_text(":\n")
    went = call(repo)
    assert went.returncode == 0 and "making .venv" in went.stderr


def test_an_installation_that_is_stopped_is_made_again(repo):
    (repo / "pip").write_text("kill -9 $PPID; exit 1\n")
    assert call(repo).returncode != 0
    (repo / "pip").write_text(":\n")
    went = call(repo)
    assert went.returncode == 0 and "making .venv" in went.stderr


def test_a_venv_of_somebody_else_is_left_alone(repo):
    (repo / ".venv").mkdir()
    (repo / ".venv/theirs").touch()
    went = call(repo)
    assert went.returncode == 1 and "run_all.sh did not make it: move it away" in went.stderr
    assert [path.name for path in (repo / ".venv").iterdir()] == ["theirs"]


@pytest.mark.parametrize("kind", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_is_used_where_it_meets_the_pins(repo, tmp_path, kind):
    python = fake(tmp_path / "active/bin/python", repo)
    went = call(repo, **{kind: str(tmp_path / "active")})
    assert "differs from requirements.txt: alpha==1.2 (1.1 there); using .venv" in went.stderr
    assert f"went on in {repo}/.venv" in went.stdout
    (repo / "unmet").unlink()
    went = call(repo, **{kind: str(tmp_path / "active")})
    assert went.stdout.startswith(f"went on in {python}") and went.stderr == ""


def test_a_venv_that_is_active_is_not_taken_away(repo):
    assert call(repo).returncode == 0
    (repo / "requirements.txt").write_text("alpha==1.3\n")
    went = call(repo, VIRTUAL_ENV=str(repo / ".venv"))
    assert went.returncode == 1 and "deactivate it and start again" in went.stderr
    assert (repo / ".venv/bin/python").exists()


def test_help_installs_nothing(repo):
    went = call(repo, "--help")
    assert went.returncode == 0 and "./run_all.sh --profile smoke" in went.stdout and "exit status: 0" in went.stdout
    assert not (repo / ".venv").exists()


def test_windows_line_ends_do_no_harm(repo):
    script = repo / "run_all.sh"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    names = {"PATH": str(repo.parent / "bin"), "HOME": str(repo.parent)}
    went = subprocess.run([script, "--only", "04"], env=names, capture_output=True, text=True, timeout=PATIENCE)
    assert went.stdout == f"went on in {repo}/.venv/bin/python with --only 04\n", went.stderr
    assert call(repo, "two words").stdout.endswith("with two words\n")


def test_without_a_python_it_says_what_to_install(repo):
    (repo.parent / "bin/python3").unlink()
    old = repo.parent / "bin/python3.11"  # one that is too old is passed over
    old.write_text(f"#!{BASH}\nexit 1\n")
    old.chmod(0o755)
    went = call(repo, VIRTUAL_ENV=str(repo / "no-such-environment"))
    assert went.returncode == 2
    assert "Python 3.11 or newer" in went.stderr and "environment.yml" in went.stderr


# The pins, read by the Python that runs these tests


def unmet(tmp_path, *lines):
    """What run_all.sh finds of a list of pins: its exit status and its words."""
    code = (REPO / "run_all.sh").read_text("utf8").split("unmet='")[1].split("'")[0]
    (tmp_path / "pins.txt").write_text("\n".join(lines))
    went = subprocess.run([sys.executable, "-c", code, tmp_path / "pins.txt"], capture_output=True, text=True)
    return went.returncode, went.stderr.strip()


def test_pins_met_missing_and_other(tmp_path):
    import packaging

    pin = f"packaging=={packaging.__version__}"
    others = ("# made by a command", "", "gamma==7 ; sys_platform == 'amiga'", "delta==2.0 ; python_version < '3'")
    assert unmet(tmp_path, pin, "    # via beta", *others) == (0, "")
    assert unmet(tmp_path, f"{pin}  # why", "no-such==1 ; python_version >= '3'") == (1, "no-such==1 (not there)")
    assert unmet(tmp_path, "packaging==1.0") == (1, f"packaging==1.0 ({packaging.__version__} there)")
    status, said = unmet(tmp_path, *(f"no-such-{i}==1" for i in range(7)))
    assert status == 1 and "no-such-4" in said and "no-such-5" not in said and said.endswith("and 2 more")


def test_a_build_of_the_pinned_version_meets_the_pin(tmp_path):
    """Such as torch 2.14.1+cu130."""
    import torch

    assert unmet(tmp_path, f"torch=={torch.__version__.partition('+')[0]}") == (0, "")


def test_this_environment_meets_the_pins(tmp_path):
    assert unmet(tmp_path, (REPO / "requirements.txt").read_text("utf8")) == (0, "")


def test_the_runner_starts(tmp_path):
    """With this environment active, from anywhere."""
    names = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "VIRTUAL_ENV": sys.prefix}
    command = [BASH, REPO / "run_all.sh", "--only", "99"]
    went = subprocess.run(command, env=names, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE)
    assert went.returncode == 2 and "there is no such notebook; there are 00_start_here" in went.stderr
