"""A repair that is cut off anywhere, what it keeps of lines behind the damage, and formats older and newer than today's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import disk, fsck
from orchestrator.core import events as ev
from orchestrator.core import formats
from orchestrator.errors import StateDamaged
from orchestrator.store import asks
from orchestrator.store.reading import read_lines, read_state
from tests.core.given import NOW, completed, failed, intended, run_started
from tests.store.given import commit_all, decision, opening, seen, store_of

JOURNAL = "journal/000000000001.jsonl"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two phases done, one in progress: six lines, and state.json that holds them all."""
    store = store_of(tmp_path / "system")
    commit_all(store, [opening(3), decision(intended(1)), decision(completed(1), intended(2))])
    commit_all(store, [decision(ev.AttemptStarted(2, 1, 40, 4)), decision(completed(2), intended(3))])
    commit_all(store, [decision(ev.AttemptStarted(3, 1, 41, 4))])
    store.close()
    return tmp_path


def spoil(path: Path, line: int = 0) -> None:
    """One bit in the middle of the file, or of that line."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = sum(map(len, lines[: line - 1])) + len(lines[line - 1]) // 2 if line else sum(map(len, lines)) // 2
    data = bytearray(b"".join(lines))
    data[at] ^= 1
    path.write_bytes(data)


def statuses(root: Path) -> dict[int, str]:
    return {number: phase.status for number, phase in read_state(root / "system", verify=True).state.phases.items()}


# ---- what is kept of what stands behind the damage


def both(root: Path, line: int) -> None:
    spoil(root / "system" / JOURNAL, line)
    spoil(root / "system" / "state.json")


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (6, {1: "completed", 2: "completed", 3: "in_progress"}),
        (5, {1: "completed", 2: "in_progress", 3: "pending"}),
        (4, {1: "completed", 2: "completed", 3: "in_progress"}),
        (3, {1: "in_progress", 2: "completed", 3: "in_progress"}),
        (2, {1: "completed", 2: "completed", 3: "in_progress"}),
        (1, {1: "completed", 2: "completed", 3: "in_progress"}),
    ],
)
def test_whole_lines_behind_a_damaged_one_count(root: Path, line: int, left: dict[int, str]) -> None:
    both(root, line)
    with pytest.raises(StateDamaged):
        read_state(root / "system")
    report = fsck.repair(root)
    assert report.exit_code == 1 and not report.left
    (named,) = [flaw for flaw in report.flaws if flaw.line]
    assert (named.file, named.line) == (f"system/{JOURNAL}", line) and named.byte is not None
    assert "that decision is lost" in named.why
    assert statuses(root) == left
    assert read_state(root / "system").position.seq >= 6, "a number would be used twice"


def test_without_the_line_that_began_the_run_what_was_done_in_it_is_done(root: Path) -> None:
    both(root, 1)
    fsck.repair(root)
    assert read_state(root / "system").state.run.id


def test_of_a_damaged_newline_nothing_is_lost(root: Path) -> None:
    data = (root / "system" / JOURNAL).read_bytes()
    at = data.index(b"\n", len(data) // 2)
    (root / "system" / JOURNAL).write_bytes(data[:at] + b"\x0b" + data[at + 1 :])
    truth = seen(read_state(root / "system").state)
    (root / "system" / "state.json").unlink()
    assert fsck.repair(root).exit_code == 1
    assert seen(read_state(root / "system").state) == truth


def test_an_attempt_that_has_a_log_is_never_begun_again_under_its_number(root: Path) -> None:
    both(root, 6)
    log = root / "system" / "logs" / "phases" / "3" / "7.log"
    log.parent.mkdir(parents=True, mode=0o700)
    log.touch(0o600)
    fsck.repair(root)
    phase = read_state(root / "system").state.phase(3)
    assert (phase.status, phase.attempt) == ("failed", 7) and phase.errors[-1]["code"] == "INTERRUPTED"


def test_where_nothing_is_proven_nothing_is_touched(root: Path) -> None:
    (root / "system" / JOURNAL).write_bytes(b"")
    spoil(root / "system" / "state.json")
    before = contents(root)
    report = fsck.repair(root)
    assert report.exit_code == 4 and "put back a copy" in report.flaws[0].why
    assert contents(root) == before


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# ---- cut off anywhere


class CutOff(BaseException):
    """As kill -9 does: nobody tidies up."""


CALLS = ("open", "write", "fsync", "fdatasync", "rename", "unlink", "mkdir", "ftruncate", "chmod")


class Cutting:
    """The process ends at the n-th of its calls that change something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.calls, self.at = 0, at
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **keys: Any) -> Any:
            if name != "open" or (len(words) > 1 and words[1] & os.O_CREAT):
                self.calls += 1
                if self.calls >= self.at > 0:
                    raise CutOff
            return real(*words, **keys)

        return call


def _state_gone(root: Path) -> None:
    (root / "system" / "state.json").unlink()
    (root / "system" / "state.json").mkdir()


def _journal_gone(root: Path) -> None:
    shutil.rmtree(root / "system" / "journal")


def _old_line(root: Path) -> None:
    spoil(root / "system" / JOURNAL, 2)


def _both_copies(root: Path) -> None:
    both(root, 4)


def _several(root: Path) -> None:
    both(root, 3)
    (root / "system" / "asks").mkdir(mode=0o755)
    (root / "system" / "asks" / "x.json").write_text("[]")


@pytest.mark.parametrize("damage", [_state_gone, _journal_gone, _old_line, _both_copies, _several])
def test_a_repair_that_is_cut_off_anywhere_is_finished_by_the_next(
    root: Path, tmp_path_factory: pytest.TempPathFactory, damage: Callable[[Path], None]
) -> None:
    damage(root)
    whole = tmp_path_factory.mktemp("whole") / "p"
    shutil.copytree(root, whole)
    fsck.repair(whole)
    wanted, done = statuses(whole), 0
    for at in range(1, 1000):
        here = tmp_path_factory.mktemp("cut") / "p"
        shutil.copytree(root, here)
        with pytest.MonkeyPatch.context() as patch:
            cutting = Cutting(patch, at)
            try:
                fsck.repair(here)
            except CutOff:
                done += 1
        if cutting.calls < at:
            break
        again = fsck.repair(here)
        assert not again.left and again.exit_code in (0, 1), (at, [fsck.words(flaw) for flaw in again.left])
        assert fsck.examine(here).flaws == [], at
        assert statuses(here) == wanted, at
        assert _kept(here) >= {path.read_bytes() for path in _damaged(root)}, f"at {at} the damaged bytes are not kept"
        shutil.rmtree(here)
    print(f"cuts {done}")
    assert done > 20


def _damaged(root: Path) -> Iterator[Path]:
    yield from (path for path in (root / "system").glob("journal/*.jsonl"))
    yield from (path for path in (root / "system").glob("state.json") if path.is_file() and _journal_is_there(root))


def _journal_is_there(root: Path) -> bool:
    return (root / "system" / JOURNAL).exists()


def _kept(root: Path) -> set[bytes]:
    """All bytes that are still anywhere."""
    return {path.read_bytes() for path in (root / "system").rglob("*") if path.is_file()}


# ---- formats


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The next orch: it knows format 2, and one step to it. Returns of which kinds it took the step."""
    taken: list[str] = []

    def step(kind: str, document: dict[str, Any]) -> dict[str, Any]:
        taken.append(kind)
        if kind == formats.STATE:
            document["run"] = {**document["run"], "command": document["run"]["command"] + ", by tomorrow"}
        for event in document.get("events", ()):
            if event["event"] == "RunStarted":
                event["command"] += ", by tomorrow"
        return document

    monkeypatch.setattr(formats, "VERSION", 2)
    monkeypatch.setattr(formats, "STEPS", {1: step})
    return taken


def backups(root: Path) -> list[Path]:
    return sorted((root / "system" / "backup").glob("format_*"))


def test_a_reader_of_tomorrow_reads_what_today_wrote_and_writes_nothing(root: Path, tomorrow: list[str]) -> None:
    before = contents(root)
    state = read_state(root / "system").state
    assert state.run.command == "orch run, by tomorrow"
    assert [line.seq for line in read_lines(root / "system")] == [1, 2, 3, 4, 5, 6]
    assert set(tomorrow) == {formats.STATE, formats.LINE}
    assert contents(root) == before and not backups(root)


def test_the_next_writer_keeps_a_copy_and_goes_on_in_its_own_format(root: Path, tomorrow: list[str]) -> None:
    before = {name.removeprefix("system/"): data for name, data in contents(root).items()}
    store = store_of(root / "system")
    assert any("was of format 1 and is of format 2 now" in notice for notice in store.notices)
    (kept,) = backups(root)
    copies = {name: data for name, data in contents(kept).items() if "README" not in name}
    assert copies == before
    commit_all(store, [decision(completed(3))])
    store.close()
    assert json.loads((root / "system" / "state.json").read_text())["version"] == 2
    assert [
        json.loads(line)["v"] for line in (root / "system/journal/000000000007.jsonl").read_text().splitlines()
    ] == [2]
    truth = seen(read_state(root / "system").state)
    again = store_of(root / "system")
    assert again.notices == [] and backups(root) == [kept], "upgraded twice"
    again.close()
    assert [line.seq for line in read_lines(root / "system")] == [1, 2, 3, 4, 5, 6, 7], "old lines are still told"
    (root / "system" / "state.json").unlink()
    assert seen(read_state(root / "system").state) == truth
    assert fsck.repair(root).exit_code == 1 and fsck.examine(root).flaws == []


def test_an_upgrade_that_is_cut_off_anywhere_is_made_by_the_next(
    root: Path, tomorrow: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    done = 0
    for at in range(1, 1000):
        here = tmp_path_factory.mktemp("cut") / "p"
        shutil.copytree(root, here)
        with pytest.MonkeyPatch.context() as patch:
            cutting = Cutting(patch, at)
            try:
                store_of(here / "system").close()
            except CutOff:
                done += 1
        if cutting.calls < at:
            break
        store_of(here / "system").close()
        assert json.loads((here / "system" / "state.json").read_text())["version"] == 2
        assert statuses(here) == {1: "completed", 2: "completed", 3: "in_progress"}
        assert backups(here), at
        shutil.rmtree(here)
    print(f"cuts {done}")
    assert done > 10


def test_today_refuses_by_name_what_tomorrow_wrote(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "VERSION", 2)
        patch.setattr(formats, "STEPS", {1: lambda kind, document: document})
        store = store_of(root / "system")
        commit_all(store, [decision(completed(3))])
        store.close()
    before = contents(root)
    looks: tuple[Callable[[], object], ...] = (
        lambda: read_state(root / "system"), lambda: store_of(root / "system"), lambda: fsck.repair(root),
    )  # fmt: skip
    for look in looks:
        with pytest.raises(StateDamaged, match="is of format 2; this orch knows format 1") as caught:
            look()
        assert str(root) in caught.value.message and caught.value.exit_code == 4
    (root / "system" / "state.json").unlink()
    with pytest.raises(StateDamaged, match=r"000000000007\.(snapshot\.json|jsonl)"):
        store_of(root / "system")
    assert {name: data for name, data in contents(root).items() if "state.json" not in name} == {
        name: data for name, data in before.items() if "state.json" not in name
    }


def test_an_ask_of_tomorrow_is_answered_by_name_and_one_of_yesterday_is_understood(tmp_path: Path) -> None:
    document = {"ask": "a", "verb": "cancel", "number": None, "by": "me", "at": "2026-11-20T01:02:03Z"}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    yesterday = asks.parse(path)
    assert yesterday is not None and yesterday.verb == "cancel"
    path.write_text(json.dumps({**document, "version": 2}))
    tomorrow = asks.parse(path)
    assert tomorrow is not None and tomorrow.verb == "of format 2 (cancel); this run knows format 1"


def test_a_file_is_read_only_if_it_is_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a named pipe"), ("zero", "a device"), (".", "a folder")):
        with pytest.raises(OSError, match=f"{kind} stands where a file should"):
            disk.read(tmp_path / name)
    assert disk.kind_of(os.stat(tmp_path).st_mode) == disk.FOLDER


def test_a_second_failure_behind_the_damage_is_not_guessed_at(root: Path) -> None:
    """An event that cannot follow from what is known leaves its phase where it was proven last, and names it."""
    store = store_of(root / "system")
    commit_all(
        store, [decision(failed(3)), decision(ev.PhaseReset(3, "again"), intended(3, 2)), decision(failed(3, 2))]
    )
    store.close()
    both(root, 8)
    report = fsck.repair(root)
    phase = read_state(root / "system").state.phase(3)
    assert (phase.status, phase.attempt) == ("failed", 2)
    assert any("phases that it concerns, 3 is failed" in flaw.repair for flaw in report.flaws)


def test_a_run_that_began_behind_the_damage_begins_anew(root: Path) -> None:
    store = store_of(root / "system")
    commit_all(store, [decision(completed(3), ev.RunEnded("completed", 0)), decision(run_started(run="r2"))])
    commit_all(store, [decision(intended(1, 2))])
    store.close()
    both(root, 7)
    fsck.repair(root)
    state = read_state(root / "system").state
    assert state.run.id == "r2" and state.phase(1).attempt == 2 and state.phase(2).status == "pending"
    assert NOW > 0
