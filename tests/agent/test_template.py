"""Attempts of Python, through a real template; and what imports can do to it."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import process
from orchestrator.core.outcome import Outcome, failure_of
from orchestrator.core.spec import Limits
from orchestrator.core.wire import Order
from orchestrator.phasefile import import_phases
from orchestrator.process.groups import Groups
from tests.agent.driving import Driven, order, wait_for

FILE = "phases/p03.py"
HEAD = """
import os, sys, time
from orchestrator import phase
"""


class Scene:
    """A project with phase files, and an agent for it."""

    def __init__(self, make: Callable[..., Driven]) -> None:
        self.make = make
        self.files: dict[str, str] = {}
        self.agent: Driven

    def start(self, files: dict[str, str], **settings: Any) -> Driven:
        self.agent = self.make(greet=False)
        folder = self.agent.project / "phases"
        folder.mkdir(mode=0o700)
        for name, text in files.items():
            (folder / name).write_text(HEAD + textwrap.dedent(text))
        self.files = {f"phases/{name}": "" for name in files}
        self.agent.owner.hello(phase_files=self.files, **settings)
        self.agent.owner.wait("welcome")
        return self.agent

    def order(self, number: int = 1, phase: int = 3, file: str = FILE, **changes: Any) -> Order:
        digest = changes.pop("digest", None)
        if digest is None:
            digest = digest_of(self.agent, file)
        return order(number, None, phase, file=file, digest=digest, **changes)

    def run(self, number: int = 1, phase: int = 3, file: str = FILE, **changes: Any) -> Outcome:
        return self.agent.owner.run(self.order(number, phase, file, **changes))

    def template(self) -> int:
        def find() -> int | None:
            children = process.children_of(self.agent.pid)
            return next((pid for pid in children if "--control" in process.describe(pid, 2000)), None)

        return int(wait_for(find))


def digest_of(agent: Driven, file: str) -> str:
    """What phasefile says, in a process of its own, because imports are for good."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, import_phases(agent.project, file).digest.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as said:
        digest = said.read()
    os.waitpid(pid, 0)
    return digest


@pytest.fixture
def scene(agents: Callable[..., Driven]) -> Scene:
    return Scene(agents)


def test_a_function_with_all_that_it_is_given(scene: Scene) -> None:
    scene.start(
        {
            "p03.py": """
            @phase(3)
            def index(ctx):
                print("from", ctx.phase, "without newline", end="")
                return {"result": ctx.result(2)["x"], "run": ctx.run, "phase": ctx.phase, "attempt": ctx.attempt, "due": ctx.due,
                        "project": str(ctx.project), "path": str(ctx.path("a", "b")), "cwd": os.getcwd(), "sid": os.getsid(0) == os.getpid(),
                        "pgid": os.getpgid(0) == os.getpid(), "level": os.environ["LEVEL"], "phase_env": os.environ["ORCH_PHASE"], "pwd": os.environ["PWD"],
                        "none": ctx.result(1), "stdin": sys.stdin.read(), "umask": os.umask(0)}
            """
        }
    )
    project = str(scene.agent.project)
    (scene.agent.project / "sub").mkdir()
    outcome = scene.run(2, results={"2": {"x": [1, "é"]}, "1": None}, env={"LEVEL": "9"}, cwd="sub")
    assert outcome.succeeded, failure_of(outcome)
    assert outcome.result == {
        "result": [1, "é"], "run": "r1", "phase": 3, "attempt": 2, "due": "2026-01-02T03:04:05Z", "project": project, "path": f"{project}/a/b",
        "cwd": f"{project}/sub", "sid": True, "pgid": True, "level": "9", "phase_env": "3", "pwd": f"{project}/sub", "none": None, "stdin": "", "umask": 0o022,
    }  # fmt: skip
    assert outcome.tail == ("from 3 without newline",)


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("body", "code", "kind", "words"),
    [
        ("raise FileNotFoundError(2, 'no', 'x.csv')", "NOT_FOUND", "FileNotFoundError", "x.csv"),
        ("raise Transient('later')", "TRANSIENT", "Transient", "later"),
        ("raise ValueError", "FAILED", "ValueError", "ValueError"),
        (
            "return {'files': [1, {'p': ctx.project}]}",
            "VALIDATION",
            "ValidationFault",
            "['files'][1]['p'] is a PosixPath",
        ),
        ("return {1: 2}", "VALIDATION", "ValidationFault", "keys of JSON are strings"),
        ("return float('nan')", "VALIDATION", "ValidationFault", "nan"),
        ("return 'x' * 2_000_000", "VALIDATION", "ValidationFault", "1048576"),
        (
            "return ctx.result(9)",
            "CONFIGURATION",
            "ConfigurationFault",
            "phase 3 does not need phase 9: add 9 to its needs",
        ),
        ("sys.exit(75)", "TRANSIENT", "", "exit status 75"),
        ("sys.exit('so it is')", "FAILED", "", "exit status 1"),
        ("os._exit(0)", "FAILED", "", "before the function returned"),
        ("os.kill(os.getpid(), 11)", "FAILED", "", "SIGSEGV"),
        ("bytearray(10**13)", "RESOURCE", "MemoryError", "MemoryError"),
    ],
)
def test_how_a_function_fails(scene: Scene, isolation: str, body: str, code: str, kind: str, words: str) -> None:
    scene.start({"p03.py": f"from orchestrator import Transient\n@phase(3)\ndef index(ctx):\n    {body}\n"})
    outcome = scene.run(isolation=isolation)
    failure = failure_of(outcome)
    assert (failure.code, failure.type) == (code, kind), failure
    assert words in failure.message


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_the_traceback_is_in_the_log_and_only_the_users(scene: Scene, isolation: str) -> None:
    scene.start(
        {
            "p03.py": "@phase(3)\ndef index(ctx):\n    print('before')\n    inner()\ndef inner():\n    raise KeyError('lost')\n"
        }
    )
    outcome = scene.run(isolation=isolation)
    text = (scene.agent.project / outcome.log).read_text()
    assert text.startswith("before\nTraceback (most recent call last):\n")
    assert "in inner" in text
    assert "orchestrator/agent" not in text
    assert outcome.tail[-1] == "KeyError: 'lost'"


@pytest.mark.parametrize("body", ["sys.exit()", "sys.exit(0)", "return None", "pass"])
def test_ways_to_succeed_without_a_result(scene: Scene, body: str) -> None:
    scene.start({"p03.py": f"@phase(3)\ndef index(ctx):\n    {body}\n"})
    outcome = scene.run()
    assert outcome.succeeded
    assert outcome.result is None


def test_progress_and_beats_from_inside(scene: Scene) -> None:
    scene.start(
        {
            "p03.py": "@phase(3)\ndef index(ctx):\n    for i in ctx.track(range(200), text='files'): time.sleep(0.01)\n    time.sleep(1)\n"
        }
    )
    what = scene.order(heartbeat_timeout=5)
    scene.agent.owner.start(what)
    steps: list[float] = []

    def seen() -> bool:
        scene.agent.owner.listen(0.1)
        for message in scene.agent.owner.heard:
            if (
                message["kind"] == "beat"
                and (mine := message["attempts"].get(what.attempt.key))
                and mine["done"] is not None
            ):
                steps.append(mine["done"])
                assert (mine["total"], mine["text"]) == (200, "files")
        scene.agent.owner.heard = [message for message in scene.agent.owner.heard if message["kind"] != "beat"]
        return bool(steps) and steps[-1] == 200

    wait_for(seen)
    assert any(0 < step < 200 for step in steps)
    assert scene.agent.owner.outcome(what).succeeded


def test_silence_of_a_function_that_promised_progress(scene: Scene) -> None:
    scene.start(
        {
            "p03.py": "@phase(3)\ndef index(ctx):\n    for _ in range(5): ctx.beat(); time.sleep(0.2)\n    time.sleep(100)\n"
        }
    )
    outcome = scene.run(heartbeat_timeout=0.7)
    assert outcome.kind == "hung"
    assert outcome.duration_seconds > 1.4


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_deadline_and_whole_tree(scene: Scene, isolation: str) -> None:
    scene.start(
        {
            "p03.py": """
            @phase(3)
            def index(ctx):
                import signal, subprocess
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(1000)
                subprocess.Popen(["setsid", "sleep", "1000.25"])
                time.sleep(1000)
            """
        }
    )
    began = time.monotonic()
    outcome = scene.run(timeout=0.8, kill_grace=0.3, isolation=isolation)
    assert outcome.kind == "timed_out"
    assert outcome.insisted
    assert time.monotonic() - began < 6
    left = [process.describe(pid) for pid in process.descendants(scene.agent.pid)]
    assert all("--control" in process.describe(pid, 2000) for pid in process.descendants(scene.agent.pid)), left


@pytest.mark.skipif(not Groups().are_used, reason="no control groups of version 2 that we may make")
def test_each_attempt_has_a_control_group_and_it_is_removed(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    return open('/proc/self/cgroup').read()\n"})
    for number, isolation in enumerate(("fork", "spawn"), 1):
        assert f"/orch-{scene.agent.pid}-" in scene.run(number, isolation=isolation).result
    outcome = scene.agent.owner.run(order(1, "grep ^0:: /proc/self/cgroup", phase=9))
    assert f"/orch-{scene.agent.pid}-" in outcome.tail[0]
    scene.agent.owner.close()
    scene.agent.await_end()
    assert not [
        names
        for _, names, _ in os.walk("/sys/fs/cgroup")
        if any(name.startswith(f"orch-{scene.agent.pid}-") for name in names)
    ]


def test_limits_hold_inside(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    return len(bytearray(10**9))\n"})
    assert failure_of(scene.run(limits=Limits(memory=600_000_000))).code == "RESOURCE"
    assert scene.run(2).result == 10**9


def test_each_attempt_is_a_process_of_its_own(scene: Scene) -> None:
    scene.start(
        {
            "p03.py": "import random\nseen = []\n@phase(3)\ndef index(ctx):\n    seen.append(1)\n    return [len(seen), os.getpid(), random.random()]\n"
        }
    )
    results = [scene.run(number).result for number in range(1, 6)]
    assert [result[0] for result in results] == [1] * 5
    assert len({result[1] for result in results}) == 5
    assert len({result[2] for result in results}) == 5


def test_the_attempt_is_found_by_its_environment(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    time.sleep(100)\n"})
    what = scene.order()
    scene.agent.owner.start(what)
    pid = scene.agent.owner.wait("started", what)["pid"]
    assert pid in [who.pid for who in process.find_tagged(scene.agent.project, [scene.agent.agent])]
    entry = process.entry_of(pid)
    assert entry is not None
    assert (entry.parent, entry.session) == (scene.agent.pid, pid)
    os.kill(scene.agent.pid, signal.SIGKILL)
    wait_for(lambda: process.entry_of(pid) is None or process.entry_of(pid).is_over)  # type: ignore[union-attr]


def test_a_file_that_changed_since_is_refused(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx): pass\n"})
    outcome = scene.run(digest="another")
    assert outcome.kind == "never_started"
    assert "changed after this run was planned" in failure_of(outcome).message


GOOD = "@phase(3)\ndef index(ctx):\n    return 'good'\n"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("time.sleep(1000)", "did not finish within 1.00s"),
        ("os.kill(os.getpid(), 11)", "died by SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "died by SIGKILL"),
        ("os._exit(3)", "ended the process with exit status 3"),
        ("sys.exit(4)", "raised SystemExit: 4"),
        ("import no_such_module", "raised ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "raised SyntaxError"),
        ("os.closerange(3, 100); time.sleep(1000)", "closed descriptors that it had not opened"),
        (
            "import signal; signal.signal(15, signal.SIG_IGN)\nif os.fork() == 0: os.setsid()\ntime.sleep(1000.25)",
            "did not finish within 1.00s",
        ),
    ],
)
def test_an_import_harms_only_its_own_file(scene: Scene, bad: str, words: str) -> None:
    agent = scene.start({"a_bad.py": bad, "p03.py": GOOD, "z_bad.py": bad}, load_timeout=1)
    for number, file in enumerate(("phases/a_bad.py", "phases/z_bad.py"), 1):
        failure = failure_of(scene.run(number, 8, file, digest="any"))
        assert failure.code == "CONFIGURATION"
        assert f"{file}: its import {words}" in failure.message
    assert scene.run().result == "good"
    assert scene.run(2).result == "good"
    names = [process.describe(pid, 2000) for pid in process.descendants(agent.pid)]
    assert len(names) <= 1, names


def test_imports_that_start_threads_get_a_python_of_their_own(scene: Scene) -> None:
    threads = "import threading\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    scene.start(
        {"a_threads.py": threads + "@phase(4)\ndef a(ctx):\n    return threading.active_count()\n", "p03.py": GOOD}
    )
    assert scene.run(1, 4, "phases/a_threads.py").result == 2
    assert scene.run().result == "good"
    assert "its import starts threads" in scene.agent.log()
    assert len(os.listdir(f"/proc/{scene.template()}/task")) == 1


def test_what_imports_print_is_kept_apart(scene: Scene) -> None:
    scene.start({"p03.py": "print('while importing')\n" + GOOD})
    outcome = scene.run()
    assert outcome.tail == ()
    wait_for(lambda: (scene.agent.folder / "import.log").read_text() == "while importing\n")


def test_a_template_that_is_killed_is_made_again(scene: Scene) -> None:
    scene.start({"p03.py": GOOD})
    assert scene.run().result == "good"
    for number in range(2, 7):
        os.kill(scene.template(), signal.SIGKILL)
        assert scene.run(number).result == "good"


def test_attempts_outlive_their_template(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    time.sleep(0.7)\n    return 'alive'\n"})
    what = scene.order()
    scene.agent.owner.start(what)
    scene.agent.owner.wait("started", what)
    os.kill(scene.template(), signal.SIGKILL)
    assert scene.agent.owner.outcome(what).result == "alive"


def test_a_template_that_dies_while_it_forks_is_tried_once_more(scene: Scene) -> None:
    scene.start({"p03.py": "os.register_at_fork(before=lambda: os.kill(os.getpid(), 9))\n" + GOOD})
    outcome = scene.run(digest=None)
    assert outcome.kind == "never_started"
    assert failure_of(outcome).code == "INTERNAL"


def test_a_stopped_template_does_not_hold_up_a_stop(scene: Scene) -> None:
    scene.start({"p03.py": GOOD}, load_timeout=30)
    assert scene.run().succeeded
    template = scene.template()
    os.kill(template, signal.SIGSTOP)
    what = scene.order(2)
    scene.agent.owner.start(what)
    time.sleep(0.3)
    scene.agent.owner.stop(what)
    assert scene.agent.owner.outcome(what, seconds=5).kind == "stopped"
    os.kill(template, signal.SIGCONT)
    assert scene.run(3).result == "good"


def test_a_python_that_does_not_exist(scene: Scene) -> None:
    scene.start({"p03.py": GOOD}, python="/no/such/python")
    outcome = scene.run()
    assert failure_of(outcome).code == "CONFIGURATION"
    assert "/no/such/python" in failure_of(outcome).message


def test_a_python_that_is_none(scene: Scene) -> None:
    scene.start({"p03.py": GOOD}, python="/bin/false")
    outcome = scene.run()
    assert failure_of(outcome).code == "CONFIGURATION"
    assert "import.log" in failure_of(outcome).message


def test_many_forks_at_once(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    return ctx.attempt\n"})
    digest = digest_of(scene.agent, FILE)
    orders = [scene.order(number, digest=digest) for number in range(1, 31)]
    for what in orders:
        scene.agent.owner.start(what)
    assert [scene.agent.owner.outcome(what, seconds=50).result for what in orders] == list(range(1, 31))


def test_forks_survive_the_ends_of_their_neighbours(scene: Scene) -> None:
    """An attempt that has just been forked must not be taken for the leftover of one that is ending."""
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    return ctx.attempt\n"})
    digest = digest_of(scene.agent, FILE)
    waves = [
        [order(number, "setsid sleep 1000.25 & exit 0", phase=5), scene.order(number, digest=digest)]
        for number in range(1, 16)
    ]
    for wave in waves:
        for what in wave:
            scene.agent.owner.start(what)
    for wave in waves:
        for what in wave:
            assert scene.agent.owner.outcome(what, seconds=50).succeeded


def test_a_large_order_and_a_large_result(scene: Scene) -> None:
    scene.start({"p03.py": "@phase(3)\ndef index(ctx):\n    return ctx.result(1)[:1000000]\n"})
    outcome = scene.run(results={"1": "x" * 3_000_000})
    assert outcome.succeeded
    assert len(outcome.result) == 1_000_000


def test_the_template_leaves_with_the_agent(scene: Scene) -> None:
    scene.start({"p03.py": GOOD})
    assert scene.run().succeeded
    template = scene.template()
    scene.agent.owner.close()
    scene.agent.await_end()
    assert process.entry_of(template) is None
    assert not scene.agent.folder.exists()


def test_the_template_dies_with_a_killed_agent(scene: Scene) -> None:
    scene.start({"p03.py": GOOD})
    who = process.identity(scene.template())
    assert who is not None
    os.kill(scene.agent.pid, signal.SIGKILL)
    assert process.await_end(who, 5)
