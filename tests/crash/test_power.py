"""Power loss: whatever a cut could leave of what was recorded, every acknowledged decision is there, and only whole ones."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.core.events import Event
from orchestrator.core.names import Identity, epoch
from orchestrator.core.state import State as Folded
from orchestrator.errors import OrchError
from orchestrator.store import journal
from orchestrator.store.reading import read_state
from orchestrator.store.store import JournalStore
from tests.core.given import NOW
from tests.crash.platter import Op, Platter, Recorder, State, lay, recorded
from tests.crash.tracing import operations, strace
from tests.driving import FAST, ORCH, TIMES, Project, times
from tests.store.given import decision, opening, seen, still_mine, turns

STATES = times(8_000, 200_000)
SEGMENT = 1500  # a compaction every few decisions
MOST_EACH = 150 if not TIMES else 10_000  # of the states after one operation: all of them in the long form

Truth = dict[int, tuple[object, ...]]  # sequence number -> the state after that decision


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a place: a sync costs nothing there."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def a_day(folder: Path, count: int) -> tuple[Recorder, Truth]:
    """A store is made, filled, compacted, closed, opened again by a successor; recorded from the first mkdir."""
    truth: Truth = {}
    with recorded(folder) as recorder:
        for decisions in (life(count), life(count, first=100)):
            store = JournalStore(folder / "system", still_mine, segment_bytes=SEGMENT)
            truth[store.position.seq] = seen(store.state)
            for number, one in enumerate(decisions):
                store.commit(one, NOW + number)
                recorder.ack(str(store.position.seq))
                truth[store.position.seq] = _copied(store)
                store.settle(NOW + number)
            store.close()
    return recorder, truth


def life(count: int, first: int = 1) -> list:
    named = ev.AgentEngaged("agent", Identity(5, 6, "boot", "host"))
    begin = [opening(3)] if first == 1 else []
    return [
        *begin,
        decision(named),
        *chain.from_iterable(turns(1 + number % 3, first + number) for number in range(count)),
    ]


def _copied(store: JournalStore) -> tuple[object, ...]:
    return seen(store.state)


def states_of(ops: list[Op], most: int) -> Iterator[tuple[int, int, State]]:
    """(operations done, acknowledged by then, what is left), after each operation but for those that change nothing."""
    platter, acknowledged = Platter(), 0
    for done, op in enumerate(ops, start=1):
        if op.kind == "ack":
            acknowledged = int(op.path)
            continue
        platter.feed(op)
        for number, state in enumerate(platter.states(every_byte=most > 1000)):
            if number >= most:
                break
            yield done, acknowledged, state


class Checked:
    """Lays each state down, opens it as the next run would, and counts."""

    def __init__(self, folder: Path, truth: Truth, every: int) -> None:
        self._every = every  # so many states are only read before one is opened by a writer, too
        self.count, self.faults = 0, list[str]()
        self._folder, self._truth = folder, truth
        self._laid: State | None = None

    def check(self, done: int, acknowledged: int, state: State) -> None:
        self.count += 1
        self._lay(state)
        try:
            if fault := self._read(acknowledged) or (self._opened() if self.count % self._every == 0 else ""):
                self._complain(done, state, fault)
        except (OrchError, OSError, ValueError, KeyError) as error:
            self._complain(done, state, f"{type(error).__name__}: {error}")

    def _lay(self, state: State) -> None:
        if self._laid is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        lay(self._folder, state, self._laid)
        self._laid = state if self.count % self._every else None  # a writer has changed it

    def _read(self, acknowledged: int) -> str:
        """As somebody who only looks: whole decisions, all that were acknowledged, one more at most."""
        read = read_state(self._folder / "system", verify=True)
        seq = read.position.seq
        if not acknowledged <= seq <= acknowledged + 1:
            return f"decision {acknowledged} was acknowledged, and {seq} is the last that is there"
        return "" if seen(read.state) == self._truth[seq] else f"what is read is not the state after decision {seq}"

    def _opened(self) -> str:
        """As the next run: it goes on from what a reader sees."""
        read = read_state(self._folder / "system")
        store = JournalStore(self._folder / "system", still_mine)
        store.close()
        if seen(store.state) != seen(read.state):
            return "a writer goes on from something else than a reader sees"
        return self._again()

    def _again(self) -> str:
        """Opened twice is opened once: the same bytes; and snapshot + journal give what the journal gives."""
        before = _bytes(self._folder)
        store = JournalStore(self._folder / "system", still_mine)
        told = seen(store.state)
        store.close()
        if _bytes(self._folder) != before:
            return "opened again, other bytes"
        (self._folder / "system" / "state.json").unlink(missing_ok=True)
        if store.position.seq and seen(read_state(self._folder / "system").state) != told:
            return "the journal alone gives another state"
        return ""

    def _complain(self, done: int, state: State, fault: str) -> None:
        sizes = {path: len(data) for path, data in state.items()}
        self.faults.append(f"after operation {done}: {fault} {sizes}")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def faults_of(folder: Path, count: int, most: int, *, until: int = 10**9, every: int = 1) -> Checked:
    """Everything at once, for whoever plants a fault."""
    (folder / "real").mkdir()
    recorder, truth = a_day(folder / "real", count)
    checked = Checked(folder / "left", truth, every)
    for done, acknowledged, state in states_of(recorder.ops, most):
        checked.check(done, acknowledged, state)
        if checked.count >= until or len(checked.faults) > 5:
            break
    return checked


@pytest.mark.timeout(120 + STATES // 50)
def test_whatever_a_power_cut_leaves_of_a_store_is_gone_on_from(fast: Path) -> None:
    checked = faults_of(fast, times(14, 60), MOST_EACH, until=STATES, every=20)
    print(f"{checked.count} states")
    assert checked.faults == []
    assert checked.count > 0.7 * STATES


# ---- real runs


def in_short(project: Project) -> None:
    """Side by side, a failure and its retry, a result, another run."""
    project.settings(f'{FAST}[retry.TRANSIENT]\ntries = 1\ndelay = "0.05s"\n')
    project.commands(
        {"number": 1, "run": "true", "needs": []},
        {"number": 2, "run": 'test "$ORCH_ATTEMPT" -gt 1 || exit 75', "needs": []},
        {"number": 3, "run": "echo '[1]' > $ORCH_RESULT", "needs": [1]},
    )


def a_run(project: Project, before: tuple[str, ...]) -> None:
    assert project.orch("run", "--quiet", before=before).code == 0


def a_run_that_is_killed_and_recovered(project: Project, before: tuple[str, ...]) -> None:
    """With all that it began: recovery finds nobody, and writes."""
    project.commands({"number": 1, "run": "true"}, {"number": 2, "run": "while ! test -e go; do sleep 0.05; done"})
    run = project.start("run", "--quiet", argv=(*before, *ORCH))
    run.until(lambda: project.phases().get(2, {}).get("step") == "running")
    project.end_all(but=[run.pid])
    run.wait()
    project.file("go", "")
    record = Path(before[-1])
    later = (*before[:-1], f"{record}-2")
    assert project.orch("recover", before=later).code == 0
    assert project.orch("run", "--quiet", before=(*before[:-1], f"{record}-3")).code == 0


def a_run_that_is_cancelled(project: Project, before: tuple[str, ...]) -> None:
    project.commands({"number": 1, "run": "true"}, {"number": 2, "run": "sleep 100"})
    run = project.start("run", "--quiet", argv=(*before, *ORCH))
    run.until(lambda: project.phases().get(2, {}).get("step") == "running")
    assert project.orch("cancel").code == 0
    assert run.wait().code == 1


def told_by(ops: list[Op]) -> tuple[list[Op], Truth]:
    """With what was acknowledged: a line of the journal, when its file was synced; and the state after each line."""
    found, truth, state = list[Op](), {0: seen(Folded())}, Folded()
    written, acknowledged = 0, 0
    for op in ops:
        found.append(op)
        if not op.path.startswith("system/journal/") or not op.path.endswith(".jsonl"):
            continue
        if op.kind == "write":
            for line in op.data.splitlines():
                document = json.loads(line)
                if document["seq"] == written + 1:
                    for event in document["events"]:
                        state.apply(Event.from_dict(event), epoch(document["at"]))
                    written += 1
                    truth[written] = seen(copy.deepcopy(state))
        elif op.kind == "sync" and written > acknowledged:
            acknowledged = written
            found.append(Op("ack", str(acknowledged)))
    return found, truth


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("scene", [a_run, a_run_that_is_killed_and_recovered, a_run_that_is_cancelled])
def test_whatever_a_power_cut_leaves_of_a_real_run_is_gone_on_from(
    project: Project, fast: Path, scene: Callable[[Project, tuple[str, ...]], None]
) -> None:
    in_short(project)
    record = project.scratch / "record"
    scene(project, strace(record))
    text = "".join(path.read_text() for path in sorted(project.scratch.glob("record*")))
    if "ptrace" in text or not record.exists():
        pytest.skip("strace may not trace here")
    record.write_text(text)
    ops, truth = told_by(operations(record, project.system))
    checked = Checked(fast, truth, every=10)
    for done, acknowledged, state in states_of(ops, times(25, 2000)):
        checked.check(done, acknowledged, state)
    print(f"{scene.__name__}: {len(ops)} operations, {len(truth) - 1} decisions, {checked.count} states")
    assert checked.faults == []
    assert len(truth) > 5 and checked.count > 200


# ---- replacing


@pytest.mark.parametrize("had", [b"", b"the old bytes"])
def test_a_file_that_is_replaced_durably_is_the_old_or_the_new(fast: Path, had: bytes) -> None:
    assert broken_replaces(fast, had) == []


def broken_replaces(folder: Path, had: bytes) -> list[bytes]:
    """What else than old or new a cut can leave of a file that is replaced."""
    path = folder / "some.json"
    start: State = {}
    if had:
        path.write_bytes(had)
        start = {"some.json": had}
    new = json.dumps({"new": ["bytes"] * 40}).encode()
    with recorded(folder) as recorder:
        disk.replace(path, new, durable=True)
    platter, found = Platter(start), set[bytes]()
    for op in recorder.ops:
        platter.feed(op)
        found |= {state.get("some.json", b"") for state in platter.states()}
    after = {state.get("some.json", b"") for state in platter.states()}
    assert after == {new}, "it has returned, and a cut still takes it back"
    return sorted(found - {had, new})


def test_the_platter_takes_back_what_was_not_synced_and_nothing_else() -> None:
    platter = Platter({"kept": b"kept"})
    for op in (
        Op("create", "a"), Op("write", "a", data=b"safe"), Op("sync", "a"), Op("sync_folder", "."),
        Op("write", "a", data=b"XY", offset=4), Op("create", "b"), Op("rename", "b", to="c"), Op("unlink", "kept"),
    ):  # fmt: skip
        platter.feed(op)
    states = list(platter.states())
    assert {state.get("a") for state in states} >= {b"safe", b"safeX", b"safeXY", b"safe\0\0", b"safeX\0"}
    assert all(state["a"].startswith(b"safe") for state in states)
    assert {frozenset(state) for state in states} >= {
        frozenset({"a", "kept"}), frozenset({"a", "c"}), frozenset({"a", "b"}), frozenset({"a", "c", "kept"}), frozenset({"a"}),
    }  # fmt: skip
    platter.feed(Op("sync", "a"))
    platter.feed(Op("sync_folder", "."))
    assert [*platter.states()] == [{"a": b"safeXY", "c": b""}]


def test_the_day_that_is_recorded_has_everything_in_it(fast: Path) -> None:
    """Else the states prove less than they seem to: compactions, renames, removals, folders that were made."""
    recorder, truth = a_day(fast, 14)
    kinds = [op.kind for op in recorder.ops]
    assert kinds.count("ack") == len(truth) - 1 > 50
    assert kinds.count("unlink") > 2 and kinds.count("mkdir") >= 1 and kinds.count("rename") > 50
    assert len(journal.segments(fast / "system" / "journal")) == 2
