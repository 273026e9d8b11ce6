"""Phases that do all they can to stay: every descendant is gone in time, by its deadline and by `orch cancel`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator.core.names import epoch
from tests.driving import PATIENCE, Project, Started, times

GRACE, PROMISED = 0.3, 0.3  # seconds; what is promised on a machine that does nothing else
MARGIN = 10.0  # for a machine that does other things as well: 1,800 processes at once keep two cores busy by themselves
ROUNDS = times(1, 50)  # of the cancellations, each with a cgroup where there may be one, and without
CALLED = f"t{os.urandom(2).hex()}-"  # the names of ours; others may run the same test
TREES = times(5, 100)  # of each kind, by their deadline; the same twice over
AT_ONCE = 9
KINDS = {  # and the deadline that they do not keep, in seconds
    "deaf": 0.8, "setsid": 0.8, "daemon": 0.8, "many": 0.8, "chain": 0.5, "stopped": 0.8, "closed": 0.8, "held": 0.8,
    "flood": 0.5,
}  # fmt: skip

NINE = r'''
"""`number kind`: one of the nine. Whoever belongs to it has a name that says so, whatever else it does."""
import os, signal, sys, time

CALLED = "@CALLED@"


def tree(number, kind):
    open("/proc/self/comm", "w").write(f"{CALLED}{number}")
    note(number, "began")
    signal.signal(signal.SIGTERM, lambda *_: note(number, "asked"))
    globals()[kind](number)
    while True:
        time.sleep(1000)


def note(number, what):
    fd = os.open(f"{what}-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, repr(time.time()).encode() + b"\n")
    os.close(fd)


def child(what):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        what()
        while True:
            time.sleep(1000)


def away(what):
    """Twice forked, in a session of its own: nobody's child, in nobody's group."""
    def again():
        os.setsid()
        child(what)
        os._exit(0)

    child(again)


def deaf(number):
    child(lambda: None)


def setsid(number):
    child(os.setsid)


def daemon(number):
    """Without environment, folder, descriptors."""
    def leave():
        os.chdir("/")
        os.closerange(0, 256)
        os.execve(f"{here}/{CALLED}{number}", ["sleep", "1000.75"], {})

    here = os.getcwd()
    os.symlink("/bin/sleep", f"{CALLED}{number}")
    away(leave)


def many(number):
    for _ in range(200):
        child(lambda: None)


def chain(number):
    """Each lives a moment, and is always replaced."""
    def on():
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.001)

    away(on)


def stopped(number):
    child(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    os.kill(os.getpid(), signal.SIGSTOP)


def closed(number):
    child(lambda: None)
    os.closerange(0, 256)


def held(number):
    """Ends when it is asked; who holds its pipe does not."""
    away(lambda: None)
    signal.signal(signal.SIGTERM, lambda *_: (note(number, "asked"), os._exit(0)))


def flood(number):
    for _ in range(2**14):
        os.write(1, b"x" * 2**16)


if __name__ == "__main__":
    tree(int(sys.argv[1]), sys.argv[2])
'''
NINE_AS_PHASES = """
import runpy
from orchestrator import phase

def make(number, kind, timeout):
    @phase(number, needs=[], name=f"{{kind}}{{number}}", timeout=timeout)
    def work(ctx):
        runpy.run_path("nine.py")["tree"](number, kind)

for number, kind, timeout in {made}:
    make(number, kind, timeout)
"""


class Stay(NamedTuple):
    """One that was to be gone: `late` are the seconds after its deadline, and after the grace after that."""

    kind: str
    asked_late: float | None
    gone_late: float


def nine(project: Project, trees: int) -> dict[int, str]:
    """So many of each kind; every other one is Python, forked from the template."""
    project.settings(f'kill_grace = "{GRACE}s"\n')
    project.file("nine.py", NINE.replace("@CALLED@", CALLED))
    kinds = dict(enumerate((kind for _ in range(trees) for kind in KINDS), 1))
    commands = {number: kind for number, kind in kinds.items() if (number - 1) // len(KINDS) % 2 == 0}
    project.commands(
        *({"number": number, "name": f"{kind}{number}", "timeout": KINDS[kind], "needs": [],
           "run": f"exec python3 -I -S nine.py {number} {kind}"} for number, kind in commands.items())
    )  # fmt: skip
    made = [(number, kind, KINDS[kind]) for number, kind in kinds.items() if number not in commands]
    project.file("phases/python.py", NINE_AS_PHASES.format(made=made))
    return kinds


class Watch:
    """Looks who is there until the run is over, and notes when it last saw somebody of each tree."""

    def __init__(self, run: Started) -> None:
        self.last: dict[int, float] = {}
        self.most: dict[int, int] = {}
        self.overslept = 0.0
        while not run.is_over:
            self._look()
            began = time.monotonic()
            time.sleep(0.05)
            self.overslept = max(self.overslept, time.monotonic() - began - 0.05)
        self._look()

    def _look(self) -> None:
        now, seen = time.time(), list(_trees())
        for number in {*seen}:
            self.last[number] = now
            self.most[number] = max(self.most.get(number, 0), seen.count(number))


def _trees() -> Iterator[int]:
    """The number of each that lives, by its name."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                head, _, rest = Path(f"/proc/{name}/stat").read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            number = head.partition(f"({CALLED}")[2]
            if number and rest.split()[0] not in "ZX":
                yield int(number)


@pytest.mark.timeout(60 + 10 * TREES)
@pytest.mark.parametrize("no_cgroup", ["", "1"], ids=["cgroup", "no-cgroup"])
def test_nine_kinds_are_gone_by_their_deadline(project: Project, no_cgroup: str) -> None:
    kinds = nine(project, TREES)
    run = project.start("run", "--jobs", str(AT_ONCE), env={"ORCH_NO_CGROUP": no_cgroup})
    watch = Watch(run)
    ended = run.wait(PATIENCE)
    assert ended.code == 1, ended
    assert not [*_trees()], "somebody outlived the run"
    phases = project.state()["phases"]
    for number in kinds:
        phase = phases[str(number)]
        assert (phase["status"], phase["errors"][-1]["code"]) == ("failed", "TIMEOUT"), (kinds[number], phase)
        assert watch.last.get(number, 0.0) <= epoch(phase["finished_at"]) + 0.5, (kinds[number], phase)
    stays = [_stay(project, number, kind, phases[str(number)]) for number, kind in kinds.items()]
    stood = [number for number, kind in kinds.items() if watch.most.get(number, 0) > (100 if kind == "many" else 0)]
    print(f"{len(stood)} of {len(kinds)} trees were seen to stand before their deadline")
    assert {kinds[number] for number in stood} == {*KINDS}, "a kind never stood: the test proves nothing of it"
    assert len(stood) > len(kinds) / 2, "trees were hardly ever there: the test proves nothing"
    _tell(stays, watch)
    late = max(max(stay.asked_late or 0.0, stay.gone_late) for stay in stays)
    assert late < PROMISED + 4 * watch.overslept + MARGIN
    project.assert_nothing_left()


def _stay(project: Project, number: int, kind: str, phase: dict[str, Any]) -> Stay:
    """When it was asked by its own note."""
    asked = project.lines(f"asked-{number}")
    gone = phase["duration_seconds"]
    began = epoch(phase["finished_at"]) - gone
    return Stay(kind, float(asked[0]) - began - KINDS[kind] if asked else None, gone - KINDS[kind] - GRACE)


def _tell(stays: list[Stay], watch: Watch) -> None:
    for kind in KINDS:
        asked = sorted(stay.asked_late for stay in stays if stay.kind == kind and stay.asked_late is not None)
        gone = sorted(stay.gone_late for stay in stays if stay.kind == kind)
        told = f"SIGTERM {asked[len(asked) // 2]:+.3f} s, at most {asked[-1]:+.3f}" if asked else "heard no SIGTERM"
        print(f"{kind:8} {len(gone):3}: {told}; gone {gone[len(gone) // 2]:+.3f} s, at most {gone[-1]:+.3f}")
    print(f"{AT_ONCE} at once; whoever slept 0.05 s meanwhile overslept at most {watch.overslept:.3f} s")


STUBBORN = r'''
"""Daemonizes, leaves its session with an empty environment, ignores SIGTERM, stops itself, keeps forking."""
import os, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)


def away(what):
    """Twice forked, in a session of its own: nobody's child and in nobody's group."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for fd in range(256):
        try:
            os.close(fd)
        except OSError:
            pass
    what()
    os._exit(0)


def nameless():
    os.execve("/bin/sleep", ["sleep", "1000.75"], {})


def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def chain():
    """Each lives a moment, and is always replaced."""
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()


def bush():
    while True:
        if os.fork() == 0:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(1000)
        time.sleep(0.05)


for what in (nameless, stopped, chain, bush):
    away(what)
with open("began", "w") as file:
    file.write(repr(time.time()))
os.kill(os.getpid(), signal.SIGSTOP)
while True:
    time.sleep(1000)
'''
AS_PHASE = """
import runpy
from orchestrator import phase

@phase(2, needs=[])
def python(ctx):
    runpy.run_path("stubborn.py")
"""
CGROUP = pytest.mark.parametrize("no_cgroup", ["", "1"], ids=["cgroup", "no-cgroup"])
KIND = pytest.mark.parametrize("number", [1, 2], ids=["command", "python"])


def stubborn(project: Project, timeout: float, grace: float = GRACE) -> None:
    project.settings(f'kill_grace = "{grace}s"\ntimeout = "{timeout}s"\n')
    project.file("stubborn.py", STUBBORN)
    project.commands({"number": 1, "name": "command", "run": "exec python3 -I -S stubborn.py", "needs": []})
    project.file("phases/p2.py", AS_PHASE)


def survivors(project: Project) -> list[int]:
    """Whoever is not orch; one that forks all the time may be between two pids at a look, so there are several."""
    found: set[int] = set()
    for _ in range(5):
        found |= set(project.workers())
    return sorted(found)


@pytest.mark.timeout(60 + 10 * ROUNDS)
@CGROUP
@KIND
def test_cancel_returns_when_all_are_gone(project: Project, number: int, no_cgroup: str) -> None:
    stubborn(project, 600, grace=4.0)  # who does not wait for the end is back long before it
    for turn in range(number, number + ROUNDS):
        (project.root / "began").unlink(missing_ok=True)
        run = project.start("run", "--only", str(number), "--force", env={"ORCH_NO_CGROUP": no_cgroup})
        run.until(lambda: project.lines("began"))
        assert len(survivors(project)) >= 4
        words = ["cancel", str(number)] if turn % 2 else ["cancel"]
        cancelled = project.orch(*words)
        left = survivors(project)
        assert (cancelled.code, left) == (int("had to be killed" in cancelled.err), []), cancelled
        assert cancelled.out.rstrip().endswith("; gone")
        assert run.wait().code == 1
        assert project.statuses()[number] == "cancelled"
        project.assert_nothing_left()


@CGROUP
def test_cancel_without_an_orchestrator_ends_what_its_agent_works_on(project: Project, no_cgroup: str) -> None:
    stubborn(project, 600)
    run = project.start("run", "--only", "1", env={"ORCH_NO_CGROUP": no_cgroup})
    run.until(lambda: project.lines("began"))
    run.kill()
    assert project.status()["run"]["state"] == "detached"
    cancelled = project.orch("cancel")
    left = survivors(project)
    assert (cancelled.code, left) == (1, []), cancelled
    assert "phase 1: did not heed SIGTERM, and had to be killed" in cancelled.err
    assert project.statuses()[1] == "cancelled"
    project.assert_nothing_left()


def test_a_killed_agent_takes_the_work_with_it_at_once(project: Project) -> None:
    """`kill -9` of the agent: its orchestrator is alive, ends what is left, and runs the phase again."""
    stubborn(project, 600)
    project.settings(f'kill_grace = "{GRACE}s"\n')
    run = project.start("run", "--only", "1")
    run.until(lambda: project.lines("began"))
    first = survivors(project)
    (project.root / "stubborn.py").write_text("open('again', 'w').write('1')\n")
    (agent,) = project.agents()
    os.kill(agent, signal.SIGKILL)
    ended = run.wait()
    assert ended.code == 0, ended
    assert "INTERRUPTED" in ended.out
    assert project.lines("again")
    assert len(first) >= 4
    assert not survivors(project)
    project.assert_nothing_left()
