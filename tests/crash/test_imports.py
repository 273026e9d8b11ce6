"""Phase files whose import hangs, crashes or starts threads harm only themselves."""

from __future__ import annotations

from tests.driving import FAST, Project

HEAD = "from orchestrator import phase\n"
BODY = "\n@phase({number}, needs={needs})\ndef p{number}(ctx):\n    open('ran', 'a').write('{number}\\n')\n"
HARMFUL = {
    3: ("hangs", "import time\ntime.sleep(1000)\n"),
    4: ("exits", "import os\nos._exit(3)\n"),
    5: ("segfault", "import ctypes, faulthandler\nfaulthandler.disable()\nctypes.string_at(0)\n"),
    6: ("raises", "import nothing_of_that_name\n"),
    7: ("threads", "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"),
    8: ("hides", "import os, signal, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\n"),
    9: ("rises", "raise SystemExit('no')\n"),
}
SAID = {
    3: "phases/p3_hangs.py: its import did not finish within 1",
    4: "phases/p4_exits.py: its import ended the process with exit status 3",
    5: "phases/p5_segfault.py: its import died by SIGSEGV",
    6: "phases/p6_raises.py: its import raised ModuleNotFoundError: No module named 'nothing_of_that_name'",
    9: "phases/p9_rises.py: its import raised SystemExit: no",
}


def harmful(project: Project) -> None:
    project.settings('load_timeout = "1s"\n' + FAST)
    project.commands({"number": 1, "name": "command", "run": "echo 1 >> ran", "needs": []})
    project.file("phases/p2_calm.py", HEAD + BODY.format(number=2, needs=[]))
    for number, (name, top) in HARMFUL.items():
        project.file(f"phases/p{number}_{name}.py", HEAD + top + BODY.format(number=number, needs=[]))
    project.file("phases/p10_after.py", HEAD + BODY.format(number=10, needs=[7]))
    project.file("phases/p11_blocked.py", HEAD + BODY.format(number=11, needs=[4]))


def test_only_their_own_phases_are_harmed(project: Project) -> None:
    harmful(project)
    run = project.orch("run", seconds=60)
    assert run.code == 1, run
    assert sorted(map(int, project.lines("ran"))) == [1, 2, 7, 8, 10]
    errors = project.errors()
    assert set(errors) == set(SAID)
    for number, sentence in SAID.items():
        assert errors[number]["code"] == "CONFIGURATION"
        assert sentence in errors[number]["message"]
        assert sentence in run.out
    assert project.statuses()[11] == "pending"
    project.assert_nothing_left()


def test_the_plan_names_them_and_ends(project: Project) -> None:
    harmful(project)
    plan = project.orch("plan", seconds=60)
    assert plan.code == 0, plan
    for sentence in SAID.values():
        assert sentence in plan.text
    project.assert_nothing_left()


def test_a_file_whose_numbers_cannot_be_told_is_refused_before_anything_runs(project: Project) -> None:
    project.commands({"number": 1, "name": "command", "run": "echo 1 >> ran", "needs": []})
    project.file(
        "phases/loop.py",
        "from orchestrator import phase\nimport os\nos._exit(3)\nfor n in range(2, 9):\n    phase(n)(print)\n",
    )
    run = project.orch("run")
    assert run.code == 2
    assert "phases/loop.py" in run.err
    assert "its import ended the process with exit status 3" in run.err
    assert project.lines("ran") == []


def test_a_phase_that_crashes_harms_only_itself(project: Project) -> None:
    """After its import: the template is alive, and the others run."""
    project.file(
        "phases/p1.py", HEAD + "import ctypes\n\n@phase(1, needs=[])\ndef crash(ctx):\n    ctypes.string_at(0)\n"
    )
    project.file("phases/p2.py", HEAD + "import os\n\n@phase(2, needs=[])\ndef leave(ctx):\n    os._exit(0)\n")
    project.file("phases/p3.py", HEAD + BODY.format(number=3, needs=[]))
    run = project.orch("run")
    assert run.code == 1
    assert project.statuses() == {1: "failed", 2: "failed", 3: "completed"}
    assert "SIGSEGV" in project.errors()[1]["message"]
    assert "before the function returned" in project.errors()[2]["message"]
    assert "a fault of orch" not in run.text
