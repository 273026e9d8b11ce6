"""The project around the code: what make does and when, what git keeps, and that the papers agree with each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import orchestrator

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "system/README.md")

# Stands in for Python: notes what it was asked for, and "makes" an environment out of itself.
PYTHON = """#!/bin/sh
case "$*" in *"import ensurepip"*) exit {fit};; esac
echo "$*" >>"{log}"
case "$*" in
--version) echo Python 3.99;;
*"venv --clear"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python
    printf '#!/bin/sh\\necho "orch $*${{PYTHONDONTWRITEBYTECODE:+ without bytecode}}" >>"{log}"\\nexit ${{ORCH_EXIT:-0}}\\n' >.venv/bin/orch && chmod +x .venv/bin/orch;;
*pip*) exit ${{PIP_EXIT:-0}};;
esac
"""


class Checkout:
    """A copy of what make needs, with a Python that only takes notes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "a checkout", folder / "asked"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder / name)
        self.python = self._python(folder / "python", fit=0)
        self.old = self._python(folder / "old-python", fit=1)

    def _python(self, path: Path, fit: int) -> Path:
        path.write_text(PYTHON.format(fit=fit, log=self.log))
        path.chmod(0o755)
        return path

    def make(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            ["make", f"PYTHONS={self.old} {self.python}", *words],
            cwd=self.folder, env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    def asked(self) -> list[str]:
        """One word for each thing that was done."""
        found = []
        for line in self.log.read_text().splitlines():
            found += [word for word in ("venv", "pip", "compileall", "pytest", "ruff", "mypy", "orch") if word in line][
                :1
            ]
        return found


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_make_run_installs_and_the_second_only_runs(checkout: Checkout) -> None:
    first = checkout.make("run", PYTHONDONTWRITEBYTECODE="1")
    assert first.returncode == 0, first.stderr
    assert checkout.asked() == ["venv", "pip", "compileall", "orch"]
    assert "orch run --from -8 --to 15\n" in checkout.log.read_text()
    assert "[dev]" not in checkout.log.read_text()
    assert checkout.make("run").returncode == 0
    assert checkout.asked() == ["orch"]


def test_make_installs_again_when_the_packages_changed(checkout: Checkout) -> None:
    checkout.make("run")
    later = (checkout.folder / ".venv/ready-to-run").stat().st_mtime + 5
    subprocess.run(["touch", "-d", f"@{later}", checkout.folder / "pyproject.toml"], check=True)
    checkout.make("run")
    assert checkout.asked() == ["pip", "compileall", "orch"]


def test_make_begins_anew_where_the_folder_was_moved(checkout: Checkout) -> None:
    checkout.make("run")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    checkout.make("run")
    assert checkout.asked() == ["venv", "pip", "compileall", "orch"]


def test_make_begins_anew_where_its_python_is_gone(checkout: Checkout) -> None:
    checkout.make("run")
    (checkout.folder / ".venv/bin/python").unlink()
    checkout.make("run")
    assert checkout.asked() == ["venv", "pip", "compileall", "orch"]


def test_make_test_has_the_tools_and_passes_on_what_it_was_told(checkout: Checkout) -> None:
    assert checkout.make("test", "T=tests/core/test_retry.py", "K=backoff and cap").returncode == 0
    told = checkout.log.read_text()
    assert "--editable .[dev]" in told
    assert "-m pytest -n 0 --maxprocesses=6 --dist worksteal -k backoff and cap tests/core/test_retry.py\n" in told
    checkout.make("test")
    assert (
        f"-m pytest -n {len(os.sched_getaffinity(0)) * 3 // 2} --maxprocesses=6 --dist worksteal\n"
        in checkout.log.read_text()
    )
    checkout.make("run")
    assert checkout.asked() == ["orch"]
    checkout.make("core")
    assert checkout.log.read_text() == "-m pytest -n 0 tests/core\n"


def test_make_check_looks_at_everything(checkout: Checkout) -> None:
    checkout.make("test")
    assert checkout.make("check").returncode == 0
    assert checkout.asked() == ["ruff", "ruff", "mypy", "pytest"]


def test_make_clean_leaves_what_git_knows(checkout: Checkout) -> None:
    checkout.make("run")
    (checkout.folder / "x/__pycache__").mkdir(parents=True)
    assert checkout.make("clean").returncode == 0
    assert sorted(path.name for path in checkout.folder.iterdir()) == ["Makefile", "pyproject.toml", "x"]
    assert not (checkout.folder / "x/__pycache__").exists()


def test_without_a_fitting_python_make_says_what_to_do(checkout: Checkout) -> None:
    for none in (str(checkout.old), "no-such-python"):
        done = checkout.make("run", f"PYTHONS={none}")
        assert done.returncode == 2
        assert "needs Python 3.11 or newer" in done.stderr
        assert "apt install python3 python3-venv" in done.stderr
        assert not (checkout.folder / ".venv").exists()


def test_a_failed_installation_is_no_installation(checkout: Checkout) -> None:
    done = checkout.make("run", PIP_EXIT="1")
    assert done.returncode == 2
    assert "could not be installed" in done.stderr
    assert checkout.asked() == ["venv", "pip"]
    assert checkout.make("run").returncode == 0
    assert checkout.asked() == ["pip", "compileall", "orch"]


def test_a_pipeline_that_fails_fails_make(checkout: Checkout) -> None:
    done = checkout.make("run", ORCH_EXIT="3")
    assert done.returncode == 2
    assert "Error 3" in done.stderr


def test_what_orch_and_the_tools_write_is_nothing_to_git(tmp_path: Path) -> None:
    for name in (".gitignore", "system/.gitignore", "system/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in (
        ".venv/bin/orch", "orchestrator/__pycache__/x.pyc", ".hypothesis/x", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x",
        "system/state.json", "system/state.lock", "system/logs/phases/3/1.log", "system/agents/a/outcomes/x", "system/.x.new",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    seen = subprocess.run(
        ["git", "-C", tmp_path, "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True
    )
    assert sorted(seen.stdout.split()[1::2]) == [".gitignore", "system/.gitignore", "system/README.md"]


def test_the_command_leads_to_a_function() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["orch"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]
    assert "version" not in project
    assert re.fullmatch(r"\d+\.\d+\.\d+", orchestrator.__version__)


def test_every_package_that_is_needed_has_a_bound_and_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in project["dependencies"]:
        name, least, most = re.fullmatch(r"([a-z]+)>=([\d.]+),<([\d.]+)", needed).groups()  # type: ignore[union-attr]
        assert [int(part) for part in least.split(".")] < [int(part) for part in most.split(".")]
        assert find_spec(name), needed


def test_the_check_of_a_change_runs_the_command_that_the_readme_names() -> None:
    check = ROOT / ".ci/run"
    assert check.stat().st_mode & 0o111
    command = re.search(r"^(make test)\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command
    assert f"\n{command[1]}\n" in check.read_text()


def test_every_make_target_that_the_papers_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+)(?: [a-z-]+)*:", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for paper in PAPERS
        for code in re.findall(r"```.*?```|`[^`\n]+`", (ROOT / paper).read_text(), re.DOTALL)
        for word in re.findall(r"\bmake ([a-z]+)", code)
    }
    assert {"run", "test", "check"} <= named <= targets


@pytest.mark.parametrize("paper", PAPERS)
def test_every_link_of_the_papers_leads_somewhere(paper: str) -> None:
    text = (ROOT / paper).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / paper).parent.joinpath(link).exists()] == []


def test_whoever_upgrades_finds_what_is_new() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
