"""Every template runs at once, to the end, in seconds; what is there is not written over; the wheel has them all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.init import CHECKOUT, SHIPPED, TEMPLATES, files_of
from tests.driving import PACKAGE, Project

Projects = Callable[[str], Project]
SMALL = ("shell", "python", "agents")


@pytest.fixture
def empty(projects: Projects) -> Project:
    """A folder in which nothing is a project yet."""
    project = projects("project")
    shutil.rmtree(project.root)
    project.root.mkdir()
    return project


@pytest.mark.parametrize(
    ("template", "phases", "left"),
    [
        ("shell", 4, "day.tar.gz"),
        ("python", 5, "report.md"),
        ("agents", 6, "answers.json"),
    ],
)
def test_a_template_runs_at_once(template: str, phases: int, left: str, empty: Project) -> None:
    made = empty.orch("init", "--template", template)
    assert made.code == 0, made
    assert made.out.endswith("next: orch plan; orch run; orch status\n")
    ran = empty.orch("run")
    assert ran.code == 0, ran
    assert f"{phases} done" in ran.out
    assert (empty.root / left).stat().st_size > 0
    assert set(empty.statuses().values()) == {"completed"}
    empty.assert_nothing_left()


def test_the_shipped_pipeline_is_a_template_and_is_kept_once(empty: Project) -> None:
    """From a checkout the phases come from where the repository runs them."""
    assert empty.orch("init", "-t", "qualify").code == 0
    made = {path.name: path.read_bytes() for path in (empty.root / "phases").iterdir()}
    assert made == {path.name: path.read_bytes() for path in CHECKOUT.iterdir() if path.is_file()}
    assert not (SHIPPED / "qualify" / "phases").exists()
    ran = empty.orch("run", "--only", "-8")
    assert ran.code == 0, ran


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_uses_only_what_works_now(template: str, empty: Project) -> None:
    """A key or a setting that orch does not know would be refused."""
    assert empty.orch("init", "-t", template).code == 0
    planned = empty.orch("plan")
    assert (planned.code, planned.err) == (0, "")
    checked = empty.orch("config", "check")
    assert checked.code == 0, checked


def test_whoever_shares_a_group_may_not_write_a_phase(empty: Project) -> None:
    """With a umask that lets them, the project would be refused as soon as it is made."""
    made = empty.shell("umask 000; $ORCH init there")
    assert made.code == 0, made
    for path in [empty.root / "there" / "phases", *(empty.root / "there" / "phases").iterdir()]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022, path
    assert empty.orch("run", "--project", "there", "--only", "1").code == 0


def test_a_project_that_is_there_is_not_touched(project: Project) -> None:
    project.commands({"number": 1, "run": "true"})
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    refused = project.orch("init")
    assert refused.code == 2
    assert "phases exists already" in refused.err
    assert "add a file to it" in refused.err
    assert {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()} == before


def test_files_that_are_there_are_kept_and_named(empty: Project) -> None:
    empty.file("orch.toml", "jobs = 1\n")
    made = empty.orch("init")
    assert made.code == 0
    assert "kept as they were: orch.toml" in made.out
    assert (empty.root / "orch.toml").read_text() == "jobs = 1\n"


def test_a_template_that_does_not_exist_is_answered_with_the_nearest(empty: Project) -> None:
    refused = empty.orch("init", "-t", "pyhton")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "orch: there is no template pyhton\n  did you mean python? there are shell, python, agents, qualify\n"
    )
    assert list(empty.root.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(empty: Project) -> None:
    empty.file("here", "a file")
    refused = empty.orch("init", "here/there")
    assert refused.code == 2
    assert "choose a folder that can be written" in refused.err
    assert "Traceback" not in refused.text


def test_every_template_says_why(empty: Project) -> None:
    """A lesson has comments or docstrings in every file of phases."""
    for template in SMALL:
        for name, data in files_of(template).items():
            if name.startswith("phases/"):
                assert data.startswith((b"#", b'"""')), f"{template}: {name}"


# The wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """orch as pip installs it, in an environment of its own that has nothing of this folder."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install 'orch[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    here = Path(PACKAGE)
    source = folder / "source"
    source.mkdir()
    for name in ("orchestrator", "phases"):
        shutil.copytree(here / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(here / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(folder)])
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    python = folder / "venv/bin/python"
    [wheel] = folder.glob("*.whl")
    run([*pip, "--python", str(python), "install", "--no-deps", "--no-compile", str(wheel)])
    # What orch depends on is taken from where these tests have it: nothing is fetched.
    [site] = (folder / "venv/lib").glob("python*/site-packages")
    dependencies = Path(pytest.__file__).resolve().parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    return folder / "venv/bin/orch"


def run(argv: list[str]) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, env=environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)  # pip three times, on a machine that may be busy
def test_the_wheel_has_every_template(installed: Path, empty: Project) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(empty.scratch)}
    for template in TEMPLATES:
        argv = [str(installed), "init", template, "--template", template]
        done = subprocess.run(
            argv, cwd=empty.root, capture_output=True, text=True, timeout=30, env=environ, check=False
        )
        assert done.returncode == 0, done.stderr
        made = {str(path.relative_to(empty.root / template)) for path in (empty.root / template).rglob("*")}
        assert set(files_of(template)) <= made
    argv = [str(installed), "run", "--project", "qualify", "--only", "-8", "--quiet"]
    done = subprocess.run(argv, cwd=empty.root, capture_output=True, text=True, timeout=30, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout
