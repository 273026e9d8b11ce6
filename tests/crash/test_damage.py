"""Damage to every file that orch reads: seen, or without effect; never a wrong state taken as good, never a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator import fsck
from orchestrator.cli.main import main
from orchestrator.core import events as ev
from orchestrator.errors import StateDamaged
from orchestrator.store.reading import read_state
from tests.core.given import completed, failed, intended
from tests.driving import TIMES, Ended, Project, seeded, times
from tests.store.given import commit_all, decision, opening, seen, store_of, turns

FLIPS = times(1000, 50_000)
KINDS = times(200, 10_000)  # of the other kinds of damage
REPAIRED_EVERY = 25
PHASES = 4


# ---- ways to damage a file


def flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def delete(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randint(1, 8) :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def garbage(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.randint(1, 64)) + data[at + 32 :]


def insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(1) + data[at:]


def zeros(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes(len(data) - at)


def twice(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def swap(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    chance.shuffle(lines)
    return b"".join(lines)


def emptied(data: bytes, chance: random.Random) -> bytes:
    return b""


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    delete, truncate, garbage, insert, zeros, twice, swap, emptied,
)  # fmt: skip


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def as_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def as_endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


REPLACED: tuple[Callable[[Path], None], ...] = (as_folder, as_pipe, as_link_to_nowhere, as_endless_device, Path.unlink)


# ---- in process: journal and snapshots


class Kept(NamedTuple):
    """A project's system/ at rest: its files, and the state that is true."""

    files: dict[str, bytes]
    behind: bytes  # state.json as it was some lines before
    truth: tuple[object, ...]
    done: dict[int, int]  # phase -> the attempt that completed it

    def with_state(self, how: str) -> dict[str, bytes]:
        """`exact` at rest; `behind` or `none` as after a kill."""
        if how == "none":
            return {name: data for name, data in self.files.items() if name != "state.json"}
        return self.files if how == "exact" else {**self.files, "state.json": self.behind}

    def lay(self, system: Path, how: str = "exact") -> None:
        shutil.rmtree(system, ignore_errors=True)
        (system / "journal").mkdir(parents=True, mode=0o700)
        for name, data in self.with_state(how).items():
            path = system / name
            path.write_bytes(data)
            path.chmod(0o600)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where there is such a file system: every case lays the files down anew."""
    made = tmp_path_factory.mktemp("damage")
    place = Path("/dev/shm") / f"orch-damage-{os.getpid()}" if os.access("/dev/shm", os.W_OK) else made
    place.mkdir(exist_ok=True)
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def kept(place: Path) -> Kept:
    """Several segments; failures, retries, a second run, phases done and not."""
    system = place / "made" / "system"
    store, attempt = store_of(system, segment_bytes=1000), 0
    commit_all(store, [opening(PHASES), *turns(1, 1), *turns(2, 1), decision(intended(3)), decision(failed(3))])
    commit_all(store, [decision(ev.PhaseReset(3, "again"), intended(3, 2)), decision(completed(3, 2))])
    commit_all(store, [opening(PHASES), decision(intended(1, 2)), decision(completed(1, 2), intended(2, 2))])
    commit_all(
        store, [decision(completed(2, 2), intended(3, 3)), decision(failed(3, 3)), decision(ev.PhaseReset(3, "x"))]
    )
    commit_all(store, [decision(ev.AskAnswered(f"ask{n}", "retry", "me", True, "yes")) for n in range(2)])
    while store.position.segment == 1:
        attempt += 1
        commit_all(store, turns(4, attempt))
    behind = (system / "state.json").read_bytes()
    commit_all(store, [decision(intended(3, 4)), decision(completed(3, 4)), *turns(4, attempt + 1)[:2]])
    store.close()
    files = {str(path.relative_to(system)): path.read_bytes() for path in system.rglob("*") if path.is_file()}
    assert sum(name.endswith(".snapshot.json") for name in files) >= 1
    assert sum(name.endswith(".jsonl") for name in files) == 2
    state = read_state(system).state
    done = {number: phase.attempt for number, phase in state.phases.items() if phase.is_done}
    return Kept(files, behind, seen(state), done)


@pytest.fixture
def root(place: Path) -> Path:
    return place / "project"


def look(kept: Kept, root: Path, counts: Counter[str]) -> None:
    """As a reader and as a writer would: the true state, or a sentence that names a file."""
    for verify in (False, True):
        try:
            loaded = read_state(root / "system", verify=verify)
        except StateDamaged as error:
            counts["refused"] += 1
            assert error.exit_code == 4 and error.remedy and ("json" in error.message or "journal" in error.message)
        else:
            counts["true"] += 1
            assert seen(loaded.state) == kept.truth, "a wrong state was taken as good"


def found_by_fsck(root: Path) -> fsck.Report | None:
    try:
        return fsck.examine(root)
    except StateDamaged as error:  # a format, or an event, that this orch does not know
        assert "format" in error.message or "cannot follow" in error.message, error.message
        return None


def repaired(kept: Kept, root: Path, counts: Counter[str], *, copies: int) -> None:
    """Repaired, nothing is found any more; and no phase is called done that was not."""
    report = fsck.repair(root)
    counts["repaired"] += 1
    assert not report.left, [fsck.words(flaw) for flaw in report.left]
    if report.exit_code == 4:
        counts["hopeless"] += 1
        assert copies > 1, [fsck.words(flaw) for flaw in report.flaws]
        return
    before = {path: path.read_bytes() for path in (root / "system").rglob("*") if path.is_file()}
    again = fsck.repair(root)
    assert not again.flaws, [fsck.words(flaw) for flaw in again.flaws]
    after = {path: path.read_bytes() for path in (root / "system").rglob("*") if path.is_file()}
    assert before == after, "the second repair changed something"
    state = read_state(root / "system", verify=True).state
    if copies == 1:
        assert seen(state) == kept.truth, "something is lost that another copy proved"
    for number, phase in state.phases.items():
        assert not phase.is_done or number in kept.done
    store_of(root / "system").close()


@pytest.mark.timeout(60 + 20 * TIMES)
@pytest.mark.parametrize("how", ["exact", "behind", "none"])
def test_any_changed_bit_is_seen_and_the_state_stays_true_or_is_refused(kept: Kept, root: Path, how: str) -> None:
    chance, counts, files = seeded(), Counter[str](), kept.with_state(how)
    names = [name for name in sorted(files) for _ in range(3 if "snapshot" not in name else 1)]
    kept.lay(root / "system", how)
    for number in range(FLIPS // 3 + 1):
        name = chance.choice(names)
        path = root / "system" / name
        path.write_bytes(flip(files[name], chance))
        counts[name] += 1
        look(kept, root, counts)
        if number % REPAIRED_EVERY == 0:
            report = found_by_fsck(root)
            if report is not None:
                assert any(flaw.file == f"system/{name}" for flaw in report.flaws), (name, report.flaws)
                repaired(kept, root, counts, copies=1 if how == "exact" else 2)
            kept.lay(root / "system", how)
        path.write_bytes(files[name])
    print(f"flips {FLIPS // 3 + 1}, {dict(counts)}")
    assert counts["true"] and (counts["refused"] or how == "exact")
    assert counts["repaired"] >= FLIPS // 3 // REPAIRED_EVERY * 0.9 and not counts["hopeless"]
    assert all(counts[name] for name in files)


@pytest.mark.timeout(60 + 20 * TIMES)
def test_every_other_kind_of_damage_to_one_file(kept: Kept, root: Path) -> None:
    chance, counts = seeded(), Counter[str]()
    for number in range(KINDS):
        kept.lay(root / "system")
        name = chance.choice(sorted(kept.files))
        path = root / "system" / name
        if number % 8 == 0:
            how = chance.choice(REPLACED)
            how(path)
        else:
            change = chance.choice(CHANGES)
            changed = change(kept.files[name], chance)
            counts["without effect"] += changed == kept.files[name]
            path.write_bytes(changed)
            how = change
        counts[how.__name__] += 1
        look(kept, root, counts)
        if number % 5 == 0:
            found_by_fsck(root)
            repaired(kept, root, counts, copies=1)
    print(f"damages {KINDS}, {dict(counts)}")
    assert all(counts[how.__name__] for how in (*CHANGES, *REPLACED))


@pytest.mark.timeout(60 + 20 * TIMES)
def test_damage_to_several_copies_is_never_a_wrong_state(kept: Kept, root: Path) -> None:
    """Both copies of something: then it is refused, and the repair goes back to what can be proven, and says so."""
    chance, counts = seeded(), Counter[str]()
    for number in range(KINDS):
        kept.lay(root / "system")
        names = chance.sample(sorted(kept.files), chance.randint(2, len(kept.files)))
        for name in names:
            path = root / "system" / name
            if chance.random() < 0.1:
                path.unlink()
            else:
                path.write_bytes(chance.choice((flip, *CHANGES))(kept.files[name], chance))
        for verify in (False, True):
            try:
                loaded = read_state(root / "system", verify=verify)
            except StateDamaged:
                counts["refused"] += 1
            else:
                _is_no_invention(kept, loaded.position.seq, counts, names)
        if number % 5 == 0 and found_by_fsck(root) is not None:
            repaired(kept, root, counts, copies=len(names))
    print(f"damages {KINDS}, {dict(counts)}")
    assert counts["refused"] > KINDS and counts["repaired"] and counts["hopeless"] < counts["repaired"]


def _is_no_invention(kept: Kept, seq: int, counts: Counter[str], names: list[str]) -> None:
    """What is read is at most what was written, and never nothing."""
    counts["read"] += 1
    assert seq > 0 or "state.json" in names


# ---- the commands, over everything that a real project has on disk


@pytest.fixture
def used(project: Project) -> Project:
    """Runs that failed and completed, an ask that nobody answered, and agents that died with work in hand."""
    project.commands(
        {"number": 1, "name": "one", "run": "echo one; echo 1 >> ran", "needs": []},
        {"number": 2, "name": "two", "run": "echo 2 >> ran; test -e there", "needs": [1]},
        {"number": 3, "name": "three", "run": "echo 3 >> ran; test -e there || sleep 1000", "needs": [1]},
    )
    run = project.start("run")
    run.until(lambda: len(project.lines("ran")) == 3 and project.statuses().get(2) == "failed")
    project.end_all()
    run.wait()
    answer = project.file("system/asks/a1.answer", json.dumps({"accepted": True, "text": "yes"}))
    answer.chmod(0o600)
    project.file("there", "")
    project.end()
    return project


READERS = ("status", "status --json", "status --all", "plan", "logs 1", "story 1", "history", "fsck", "fsck --json")


def spoken(words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ended:
    monkeypatch.setattr(sys, "argv", ["orch", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    return Ended(int(ended.value.code or 0), *capfd.readouterr())


def files_of(system: Path) -> list[str]:
    found = [path for path in sorted(system.rglob("*")) if path.is_file()]
    return [str(path.relative_to(system)) for path in found if "backup" not in path.parts]


def copy_of(system: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(system, to, symlinks=True, ignore=lambda _, names: [n for n in names if n in ("bell", "s", "sock")])


CASES = times(40, 1500)


@pytest.mark.timeout(60 + CASES)
def test_no_reader_shows_a_traceback_whatever_is_damaged(
    used: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every file once replaced by what it should not be, then changed; all that look, in this process."""
    monkeypatch.chdir(used.root)
    chance, counts, intact = seeded(), Counter[str](), tmp_path / "intact"
    copy_of(used.system, intact)
    names = files_of(used.system)
    cases = [(name, how) for name in names for how in REPLACED]
    chance.shuffle(cases)
    for number in range(CASES):
        copy_of(intact, used.system)
        name, how = cases[number % len(cases)]
        path = used.system / name
        data = path.read_bytes()
        if number % 2 and data:
            path.write_bytes(chance.choice((flip, *CHANGES))(data, chance))
        else:
            how(path)
        for words in READERS:
            ended = spoken(words, monkeypatch, capfd)
            counts[f"exit {ended.code}"] += 1
            assert ended.code in (0, 1, 2, 4), (name, how.__name__, words, ended)
            assert "Traceback" not in ended.text and "a fault of orch" not in ended.text, (name, words, ended)
            if ended.code == 4 and not words.startswith("fsck"):
                assert "orch fsck" in ended.err, ended
            if words == "status --json" and ended.code == 0:
                told = {phase["number"]: phase["status"] for phase in json.loads(ended.out)["phases"]}
                assert told == {1: "completed", 2: "failed", 3: "failed"}, (name, how.__name__, told, ended.err)
    copy_of(intact, used.system)
    print(f"files {len(names)}, cases {CASES}, {dict(counts)}")
    assert counts["exit 0"] and counts["exit 4"] and counts["exit 1"]


WRITTEN = times(4, 200)


@pytest.mark.timeout(60 + 10 * WRITTEN)
def test_after_a_repair_the_next_run_ends_well(used: Project, tmp_path: Path) -> None:
    """The real command line: recover, run, fsck --repair, run; whatever was damaged, all is done in the end."""
    chance, counts, intact = seeded(), Counter[str](), tmp_path / "intact"
    copy_of(used.system, intact)
    ran = used.lines("ran")
    names = files_of(used.system)
    important = [name for name in names if "/" not in name or name.startswith(("journal", "agents"))]
    for number in range(WRITTEN):
        copy_of(intact, used.system)
        used.file("ran", "".join(f"{line}\n" for line in ran))
        several = [*important] if number % 4 == 3 else [chance.choice(important if number % 2 else names)]
        for name in several:
            path = used.system / name
            data = path.read_bytes()
            if data and number % 4:
                path.write_bytes(chance.choice((flip, flip, *CHANGES))(data, chance))
            else:
                chance.choice(REPLACED)(path)
        first = used.orch("run" if number % 2 else "recover")
        counts[f"first {first.code}"] += 1
        assert first.code in (0, 4, 74), (several, first)
        mended = used.orch("fsck", "--repair")
        counts[f"fsck {mended.code}"] += 1
        assert mended.code in (0, 1, 4), (several, mended)
        assert "Traceback" not in first.text + mended.text
        if mended.code == 4:
            assert len(several) > 1 and "beyond repair" in used.orch("fsck").out, (several, first, mended)
            continue
        again = used.orch("fsck")
        assert again.code == 0, (several, mended, again)
        last = used.orch("run")
        assert last.code == 0, (several, first, mended, last)
        assert set(used.statuses().values()) == {"completed"}
        if len(several) == 1:
            assert used.lines("ran").count("1") == 1, (several, first, mended, last)
    print(f"repairs {WRITTEN}, {dict(counts)}")
    used.assert_nothing_left()
