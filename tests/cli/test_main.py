"""The way in: what the help shows, what a mistake is answered with, numbers below zero, and completion."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.completing import params
from orchestrator.cli.frame import guarded
from orchestrator.cli.main import main
from tests.driving import ORCH, Ended, Project

Typed = Callable[..., Ended]
NAMES = [name for listed in COMMANDS.values() for name in listed]


@pytest.fixture
def numbered(project: Project) -> Project:
    """Phases below and above zero, one of them with a name that a shell would take apart."""
    project.commands(
        {"number": -8, "name": "host", "needs": [], "run": "echo it is -8"},
        {"number": 0, "name": "gate $HOME 'a'", "needs": [], "run": "true"},
        {"number": 12, "name": "last", "needs": [], "run": "true"},
    )
    return project


@pytest.fixture
def ask(project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """The way in without a process of its own: what is asked here starts nothing."""
    monkeypatch.chdir(project.root)

    def call(*words: str, **environ: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["orch", *words])
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    return call


# Help


def test_the_help_groups_the_commands_and_has_an_example(ask: Typed) -> None:
    told = ask("--help")
    assert told.code == 0
    groups = [line.rstrip(":") for line in told.out.splitlines() if line.endswith(":") and line[0] != " "]
    assert [group for group in groups if group in COMMANDS] == ["Run", "Look", "Act", "Set up"]
    for name, about in (pair for listed in COMMANDS.values() for pair in listed.items()):
        assert f"  {name} " in told.out and about in told.out, name
    assert "Example: orch init" in told.out
    assert all(len(line) <= 80 for line in told.out.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help_with_an_example_that_it_takes(name: str, ask: Typed) -> None:
    told = ask(name, "--help")
    assert told.code == 0
    assert f"Example: orch {name}" in " ".join(told.out.split())


def test_the_help_of_a_group_cuts_no_sentence(ask: Typed) -> None:
    told = " ".join((ask("checkpoint", "--help").out + ask("config", "--help").out).split())
    assert told.count("...") == told.count("[ARGS]...") and "as they are now. list Every checkpoint" in told


def test_without_a_command_the_help_is_shown_as_a_mistake(ask: Typed) -> None:
    for words in ([], ["config"]):
        told = ask(*words)
        assert (told.code, told.out) == (2, "")
        assert told.err.startswith("Usage: orch")


# Mistakes


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("rnu", "orch: there is no command rnu\n  did you mean `orch run`? `orch --help` lists them all\n"),
        ("zzz", "orch: there is no command zzz\n  `orch --help` lists them all\n"),
        ("config shwo", "orch: there is no command shwo\n  did you mean `orch config show`? `orch config --help` lists them all\n"),
        ("run --form 3", "orch: `orch run` has no option --form\n  did you mean --from? `orch run --help` lists what it takes\n"),
        ("status --jsno", "orch: `orch status` has no option --jsno\n  did you mean --json? `orch status --help` lists what it takes\n"),
        ("--jobs 4 run", "orch: `orch` has no option --jobs\n  options of a command go after its name: `orch run --jobs 4`; `orch --help` lists what it takes\n"),
        ("run 3", "orch: `orch run` takes no numbers of phases like this\n  did you mean --only 3?\n"),
        ("run --new --set =3", "orch: --set =3: it has no name\n  write it like this: --set year=3\n"),
        ("cancel 3 later", "orch: `orch cancel`: later is more than it takes\n  `orch cancel --help` lists what it takes\n"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_what_was_meant(typed: str, said: str, ask: Typed) -> None:
    told = ask(*typed.split())
    assert (told.code, told.out, told.err) == (2, "", said)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("run --jobs many", "`orch run`: invalid value for '--jobs' / '-j' (it takes a whole number)"),
        (
            "logs three",
            "`orch logs`: invalid value for 'N': 'three' is no phase (it takes a whole number, or an item: 4[17])",
        ),
        ("logs", "`orch logs`: missing argument 'N'"),
        ("run --from", "`orch run`: option '--from' requires an argument"),
    ],
)
def test_a_value_that_is_none_is_named_with_an_example(typed: str, said: str, ask: Typed) -> None:
    told = ask(*typed.split())
    assert (told.code, told.out) == (2, "")
    assert said in told.err
    assert "Example: orch " in told.err


@pytest.mark.parametrize("typed", ["status", "status --json", "logs 1", "config show", "--help", "run --help"])
def test_a_disk_that_is_full_behind_standard_output_is_no_fault_of_orch(
    typed: str, ask: Typed, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.commands({"number": 1, "run": "true"})
    (project.system / "logs" / "phases" / "1").mkdir(parents=True)
    (project.system / "logs" / "phases" / "1" / "1.log").write_text("one\n" * 9999)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        told = ask(*typed.split())
    assert (told.code, told.err.splitlines()[0]) == (
        74, "orch: standard output cannot be written: No space left on device",
    )  # fmt: skip
    assert [path.name for path in (project.system / "logs").iterdir()] == ["phases"]


def test_the_story_of_a_fault_is_for_nobody_else(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.system / "logs").mkdir(parents=True)
    monkeypatch.chdir(project.root)
    assert guarded(lambda: 1 // 0) == 70
    (path,) = (project.system / "logs").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and "ZeroDivisionError" in path.read_text()


def test_a_number_that_does_not_exist_is_answered_with_the_nearest(numbered: Project) -> None:
    told = numbered.orch("run", "--only", "-7")
    assert told.code == 2
    assert told.err == "orch: there is no phase -7\n  the nearest is -8; `orch plan` lists them all\n"


# Numbers below zero


def test_a_number_below_zero_is_a_number_like_any_other(numbered: Project, ask: Typed) -> None:
    assert numbered.orch("run", "--from", "-8", "--to=-8", "--quiet").code == 0
    assert numbered.statuses() == {-8: "completed", 0: "pending", 12: "pending"}
    for words in (
        ["logs", "-8"],
        ["logs", "--", "-8"],
        ["logs", "-8", "--attempt", "1"],
        ["logs", "--attempt", "1", "-8"],
    ):
        assert ask(*words).out == "it is -8\n", words
    assert numbered.orch("run", "--only", "-8,0", "--force", "-q").code == 0
    refused = ask("retry", "-8")
    assert refused.code == 1
    assert "phase -8 is completed" in refused.err
    assert "phase 0 is completed already" in ask("cancel", "0").err


# Completion, as the scripts of the shells ask for it


def completed(ask: Typed, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    asked = {"COMP_WORDS": " ".join(["orch", *words]), "COMP_CWORD": str(len(words)), "_ORCH_COMPLETE": "complete_bash"}
    told = ask(**asked)
    assert (told.code, told.err) == (0, "")
    return told.out.split()


def test_completion_knows_commands_and_options(ask: Typed) -> None:
    assert completed(ask, "") == NAMES
    assert completed(ask, "re") == ["recover", "retry", "reject", "resume", "reset"]
    assert completed(ask, "run", "--fo") == ["--force"]
    assert completed(ask, "config", "s") == ["show"]
    assert completed(ask, "init", "--template", "") == ["shell", "python", "agents", "qualify"]


def test_completion_knows_the_numbers_of_phases_before_any_run(numbered: Project, ask: Typed) -> None:
    assert completed(ask, "logs", "") == ["-8", "0", "12"]
    assert completed(ask, "logs", "-8") == ["-8"]
    assert "-8" in completed(ask, "cancel", "-")
    assert completed(ask, "run", "--from", "-") == ["-8"]
    assert completed(ask, "run", "--only", "12,") == ["12,-8", "12,0"]
    assert "-8" not in completed(ask, "run", "-")
    assert not numbered.system.exists(), "who presses a key writes nothing"


def test_completion_says_names_where_the_shell_shows_them(numbered: Project, ask: Typed) -> None:
    assert numbered.orch("run", "-q").code == 0
    asked = {"_TYPER_COMPLETE_ARGS": "orch logs ", "_ORCH_COMPLETE": "complete_zsh"}
    told = ask(**asked)
    assert '"-8":"host"' in told.out
    assert "$HOME" not in told.out.replace("\\$HOME", ""), "zsh would fill it in"
    fish = {**asked, "_ORCH_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert ask(**fish).out.splitlines() == ["-8\thost", "0\tgate $HOME 'a'", "12\tlast"]


def test_completion_never_runs_a_phase_file(project: Project, ask: Typed) -> None:
    project.file(
        "phases/p03_bad.py",
        "import pathlib\npathlib.Path('ran').touch()\nraise SystemExit\n@phase(3)\ndef f(ctx): ...\n",
    )
    assert completed(ask, "logs", "") == ["3"]
    assert not (project.root / "ran").exists()


def test_completion_is_silent_where_there_is_nothing_to_say(project: Project, ask: Typed) -> None:
    project.file("system/state.json", "{ not JSON")
    assert completed(ask, "logs", "") == []
    told = project.orch(
        env={"COMP_WORDS": "orch logs ", "COMP_CWORD": "2", "_ORCH_COMPLETE": "complete_bash"}, cwd=project.scratch
    )
    assert (told.code, told.text.strip()) == (0, "")


def test_completion_loads_nothing_heavy(numbered: Project) -> None:
    """A key is pressed often: modules are counted. (pydantic is typer's own, for any option.)"""
    code = (
        "import os, sys\nfrom orchestrator.cli import main\ntry:\n    main()\nfinally:\n"
        "    print([name for name in ('rich', 'psutil', 'filelock', 'asyncio', 'orchestrator.app') if name in sys.modules], file=sys.stderr)\n"
    )  # fmt: skip
    asked = {"COMP_WORDS": "orch logs ", "COMP_CWORD": "2", "_ORCH_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=numbered.root, env=numbered.environ(**asked), capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip
    assert done.stdout.split() == ["-8", "0", "12"]
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_script_for_bash_works_in_bash(numbered: Project) -> None:
    """The real thing: the script is sourced, and asked as readline asks it."""
    numbered.file("bin/orch", f'#!/bin/sh\nexec {" ".join(ORCH)} "$@"\n').chmod(0o755)
    line = (
        "PATH=$PWD/bin:$PATH; script=$(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 orch --show-completion bash) || exit 9; "
        'eval "$script"; COMP_WORDS=(orch logs -); COMP_CWORD=2; _orch_completion orch; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", line], cwd=numbered.root, env=numbered.environ(), capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "-8" in done.stdout.split()


def test_completion_knows_the_parameters_of_a_run(project: Project) -> None:
    project.settings('[params]\nyear = 2024\nmode = "full"\n')
    asked = SimpleNamespace(params={"project": project.root})
    assert params(asked, "") == [("mode=", '"full"'), ("year=", "2024")]  # type: ignore[arg-type]
    assert params(asked, "y") == [("year=", "2024")]  # type: ignore[arg-type]
    project.settings("[params]\nyear = [[1]]\n")
    assert params(asked, "") == [], "who presses a key is not told of faults"  # type: ignore[arg-type]
