import importlib.metadata
import sys

import pytest

from lib.study import runner
from lib.study.runner import MARK, REPO, interpreter, unmet_pins


def installed(**versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    return version


def test_pins_met_missing_and_other():
    requirements = """# made by a command
alpha==1.2
    # via beta
beta==0.3 ; python_full_version >= '3.11'
gamma==7 ; sys_platform == 'amiga'
delta==2.0 ; python_full_version < '3'
-e .
"""
    assert unmet_pins(requirements, installed(alpha="1.2", beta="0.3")) == []
    assert unmet_pins(requirements, installed(alpha="1.2.1")) == ["alpha 1.2 (found 1.2.1)", "beta 0.3 (not there)"]


def test_a_build_of_the_pinned_version_meets_the_pin():
    assert unmet_pins("torch==2.14.1", installed(torch="2.14.1+cu130")) == []
    assert unmet_pins("torch==2.14.1", installed(torch="2.14.0+cu130")) == ["torch 2.14.1 (found 2.14.0+cu130)"]


def test_the_pins_can_be_read_whole():
    assert len(unmet_pins((REPO / "requirements.txt").read_text(), installed())) > 50


@pytest.fixture
def repo(tmp_path):
    """A project of its own whose one pin nothing meets."""
    (tmp_path / "requirements.txt").write_text("./no-such-file.whl\n")
    return tmp_path


@pytest.fixture
def unmet(monkeypatch):
    monkeypatch.setattr(runner, "unmet_pins", lambda text: [f"p{i} 1 (not there)" for i in range(7)])


def test_an_environment_that_meets_the_pins_is_used(repo, monkeypatch):
    said = []
    monkeypatch.setattr(runner, "unmet_pins", lambda text: [])
    assert str(interpreter(repo, said.append)) == sys.executable
    assert "which meets the pins" in said[0] and not (repo / ".venv").exists()


def test_a_venv_of_somebody_else_is_left_alone(repo, unmet):
    (repo / ".venv").mkdir()
    (repo / ".venv" / "theirs").touch()
    with pytest.raises(RuntimeError, match="run_all.sh did not make it"):
        interpreter(repo, lambda text: None)
    assert (repo / ".venv" / "theirs").exists()


def test_a_venv_made_for_other_pins_is_made_again(repo, unmet, monkeypatch):
    said, made = [], []
    monkeypatch.setattr(runner, "_make", lambda venv, *more: made.append(venv))
    (repo / ".venv/bin").mkdir(parents=True)
    (repo / ".venv/bin/python").touch()
    (repo / ".venv" / MARK).write_text("incomplete\n")
    interpreter(repo, said.append)
    assert made == [repo / ".venv"]
    if sys.prefix != sys.base_prefix:  # the suite runs in an environment, so what it lacks is named
        assert "p0 1 (not there)" in said[0] and "p5" not in said[0] and "and 2 more" in said[0]


def test_a_venv_with_the_same_pins_is_used_at_once(repo, unmet, monkeypatch):
    import hashlib

    monkeypatch.setattr(runner, "_make", lambda *args: pytest.fail("made again"))
    (repo / ".venv/bin").mkdir(parents=True)
    (repo / ".venv/bin/python").touch()
    (repo / ".venv" / MARK).write_text(hashlib.sha256((repo / "requirements.txt").read_bytes()).hexdigest() + "\n")
    assert interpreter(repo, lambda text: None) == repo / ".venv/bin/python"


def test_an_installation_that_fails_is_told_and_not_taken_for_done(repo, unmet):
    with pytest.raises(RuntimeError, match=r"(?s)installing failed at `.*pip.*requirements.txt`:.*no-such-file"):
        interpreter(repo, lambda text: None)
    assert (repo / ".venv" / MARK).read_text() == "incomplete\n"
