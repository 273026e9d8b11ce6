"""The real command line and its real agents, struck by strace at calls on system/; kills and errors."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator import holding
from orchestrator.store.reading import read_state
from orchestrator.store.store import JournalStore
from tests.crash.injecting import command
from tests.crash.scenes import Seen, a_while_later, check_in_order
from tests.crash.striking import AGENT, ORCHESTRATOR, Call, Strike, Striker, strace
from tests.driving import TIMES, Project, seeded, times, wait_for

KILLS = {ORCHESTRATOR: times(1, 1000), AGENT: times(1, 1000)}  # of each scene
ERRORS = times(1, 40)
KINDS = ("EIO", "ENOSPC", "EROFS", "EDQUOT", "EMFILE", "EINTR")
SETTINGS = 'kill_grace = "0.3s"\n[retry.FAILED]\ntries = 0\n'
RETRIED = 'kill_grace = "0.3s"\n[retry.FAILED]\ntries = 2\ndelay = 0\n'
ROTATED = SETTINGS + "[logs]\nstructured_bytes = 1000\n"
ONCE_BAD = "echo {0} >> began; test -e bad{0} || {{ touch bad{0}; exit 1; }}; echo {0} >> ran"
WAITS = "echo {0} >> began; while ! test -e go; do sleep 0.02; done; echo {0} >> ran"
WORKS = "echo {0} >> ran"
Make = Callable[[Project], None]


def phases(*lines: str) -> Make:
    def make(project: Project) -> None:
        project.commands(
            *({"number": n, "name": f"p{n}", "run": line.format(n)} for n, line in enumerate(lines, 1))
        )  # fmt: skip

    return make


def _runs(*words: tuple[int, str]) -> Make:
    def make(project: Project) -> None:
        for code, line in words:
            done = command(project.root, *line.split())
            assert done.code == code, done

    return make


def _is_killed(project: Project, *, all_of_it: bool) -> None:
    """In the middle of its work; its agent goes on, or not."""
    run = project.start("run")
    run.until(lambda: project.lines("began"))
    run.until(lambda: "in_progress" in project.statuses().values())
    if all_of_it:
        project.end_all()
    else:
        run.kill()
    run.wait()
    if all_of_it:
        wait_for(lambda: not project.processes())
    project.file("go", "")


def _small_segments() -> None:
    holding.JournalStore = partial(JournalStore, segment_bytes=1)  # type: ignore[misc, assignment]


def _nothing(project: Project) -> None: ...


class Scene(NamedTuple):
    name: str
    line: str
    make: Make = phases(WORKS, WORKS)
    before: Make = _nothing
    settings: str = SETTINGS
    stage: Callable[[], None] = lambda: None
    has_agents: bool = True


SCENES = (
    Scene("serial run", "run --jobs 1"),
    Scene("parallel run", "run --jobs 3", phases(WORKS, WORKS, WORKS)),
    Scene("run --json", "run --json"),
    Scene("failure and retry", "run", phases(ONCE_BAD, WORKS), settings=RETRIED),
    Scene("cancel", "cancel 1", phases(ONCE_BAD, WORKS), _runs((1, "run")), has_agents=False),
    Scene("cancel of work that outlived its run", "cancel", phases(WAITS, WORKS), partial(_is_killed, all_of_it=False), has_agents=False),
    Scene("retry", "retry 1", phases(ONCE_BAD, WORKS), _runs((1, "run")), has_agents=False),
    Scene("second run", "run --new", before=_runs((0, "run"))),
    Scene("compaction", "run --new", before=_runs((0, "run"), (0, "run --new"), (0, "run --new")), stage=_small_segments),
    Scene("log rotation", "run --new", before=_runs((0, "run"), (0, "run --new")), settings=ROTATED),
    Scene("recovery", "run", phases(WAITS, WORKS), partial(_is_killed, all_of_it=True)),
    Scene("take-over", "run", phases(WAITS, WORKS), partial(_is_killed, all_of_it=False)),
)  # fmt: skip


class Struck:
    """A project for each strike, and what must hold after it."""

    def __init__(self, scene: Scene, project: Project, striker: Striker) -> None:
        self.scene, self.project, self.root, self._striker = scene, project, project.root, striker
        project.settings(scene.settings)
        scene.make(project)
        scene.before(project)

    def play(self, strike: Strike | None = None) -> tuple[int, str, list[Call], list[Call]]:
        struck = self._striker.play(self.root, *self.scene.line.split(), strike=strike, stage=self.scene.stage)
        assert "Traceback" not in struck.done.text, struck
        return struck.done.code, struck.done.text, struck.calls, struck.hit

    def check(self) -> None:
        """A reader works; the next run ends well; nothing that was finished is done again; all is in order."""
        state = read_state(self.root / "system", verify=True).state
        done = {number for number in state.phases if state.phase(number).is_done}
        run, ran = state.run.id, self._ran()
        a_while_later(self.root)
        shown = command(self.root, "status", "--json")
        assert shown.code == 0, shown
        ended = command(self.root, "run", stage=self.scene.stage)
        assert ended.code in (0, 1), ended.text
        left = read_state(self.root / "system").state
        for number in {int(found) for found in re.findall("`orch retry ([0-9]+)`", ended.text)}:
            if not left.phase(number).is_done:  # one that was struck again and again
                assert command(self.root, "retry", str(number)).code == 0
        if ended.code == 1:  # a phase that fails once has now
            ended = command(self.root, "run", stage=self.scene.stage)
        assert ended.code == 0, ended.text
        wait_for(lambda: not [*(self.root / "system" / "agents").glob("*")], why="agents' folders are left")
        self.project.assert_nothing_left()
        now = Seen(self.root, kept_ran=False)
        check_in_order(self.root, now)
        assert {phase.status for phase in now.state.phases.values()} == {"completed"}
        if run == now.state.run.id:
            again = self._ran() - ran
            assert not {number for number in done if again[number]}, (done, again)

    def _ran(self) -> Counter[int]:
        return Counter(int(line) for line in self.project.lines("ran"))


def _fresh(scene: Scene, projects: Callable[[str], Project], striker: Striker, number: int) -> Struck:
    return Struck(scene, projects(f"p{number}"), striker)


@pytest.mark.timeout(300 + 60 * TIMES)
@pytest.mark.parametrize("side", [ORCHESTRATOR, AGENT])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_killed(
    scene: Scene, side: str, strace: str, projects: Callable[[str], Project], tmp_path: Path
) -> None:  # fmt: skip
    if side == AGENT and not scene.has_agents:
        pytest.skip("it starts no agent")
    chance, striker = seeded(), Striker(strace, tmp_path / "records", side)
    first = _fresh(scene, projects, striker, 0)
    calls = first.play()[2]
    first.check()
    fired, tried = Counter[str](), 0
    for tried, call in enumerate(chance.sample(calls, len(calls)), 1):
        if sum(fired.values()) >= KILLS[side]:
            break
        struck = _fresh(scene, projects, striker, tried)
        hit = struck.play(Strike(call.name, call.number, "signal=KILL"))[3]
        fired.update(one.name for one in hit[:1])
        print(f"killed at {[f'{one.name} {one.told[:120]}' for one in hit]}")
        struck.check()
        shutil.rmtree(struck.root)
    print(f"{scene.name}, {side}: {len(calls)} calls, {tried} tried, {sum(fired.values())} fired {dict(fired)}")
    assert sum(fired.values()) >= min(KILLS[side], len(calls) // 3)


@pytest.mark.timeout(300 + 60 * TIMES)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_refused(scene: Scene, strace: str, projects: Callable[[str], Project], tmp_path: Path) -> None:
    """Errors from the system itself. EINTR is Python's to deal with, where the system may give it."""
    chance, striker = seeded(), Striker(strace, tmp_path / "records", ORCHESTRATOR)
    plain, _, calls, _ = _fresh(scene, projects, striker, 0).play()
    fired, codes = 0, Counter[int]()
    for tried in range(1, 20 * ERRORS):
        if fired >= ERRORS:
            break
        call = chance.choice(calls)
        kind = _kind(chance, call)
        struck = _fresh(scene, projects, striker, tried)
        code, text, _, hit = struck.play(Strike(call.name, call.number, f"error={kind}"))
        if hit:
            fired += 1
            codes[code] += 1
            print(f"{kind} for {hit[0].name} {hit[0].told[:120]}: {code}")
            no_agent = kind == "EMFILE" and code == 70 and "no agent could be started: [Errno 24]" in text
            assert code in (plain, 74) or no_agent, text
            assert code == plain or no_agent or (kind != "EINTR" and "the state could not be written: /" in text), text
        struck.check()
        shutil.rmtree(struck.root)
    print(f"{scene.name}: {fired} fired, ended with {dict(codes)}")
    assert fired >= ERRORS


def _kind(chance: random.Random, call: Call) -> str:
    kinds = [kind for kind in KINDS if kind != "EMFILE" or call.name == "openat"]
    waits = call.name in ("openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate")
    return chance.choice([kind for kind in kinds if waits or kind != "EINTR"])


__all__ = ["strace"]
