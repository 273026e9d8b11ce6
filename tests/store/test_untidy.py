from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import clock, disk, process
from orchestrator.core.flaw import Close, Cut, Drop, Flaw, Own, Step
from orchestrator.core.names import iso
from orchestrator.core.observations import Asked
from orchestrator.core.state import State
from orchestrator.store import untidy
from orchestrator.store.asks import ANSWERS_KEPT, Petition
from orchestrator.store.heartbeat import Heartbeat
from orchestrator.store.lock import RUN, StateLock
from orchestrator.store.untidy import LONG, is_held, untidiness
from tests.core.given import NOW, Case
from tests.store.given import commit_all, opening, store_of

GONE = process.myself().replace(ticks=1)
NEVER_A_PID = 2**31


@pytest.fixture
def system(tmp_path: Path) -> Path:
    store = store_of(tmp_path / "system")
    commit_all(store, [opening()])
    store.close()
    return tmp_path / "system"


def file(path: Path, data: bytes = b"{}") -> Path:
    """As orch writes one."""
    disk.make_folder(path.parent)
    disk.replace(path, data, durable=False)
    return path


def folder(path: Path) -> Path:
    disk.make_folder(path)
    return path


def is_in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    disk.make_folder(path.parent)
    disk.drop(path)
    make(path)


def found(system: Path, *, is_live: bool = False) -> list[Flaw]:
    return untidiness(system, is_live=is_live)


def one(system: Path) -> tuple[str, str, Step]:
    """Where, what, and the step, of the only flaw."""
    (flaw,) = found(system)
    (step,) = flaw.steps
    return flaw.file, flaw.what, step


def test_what_orch_leaves_behind_is_in_order(system):
    me = process.myself()
    lock = StateLock(system)
    assert lock.acquire(RUN, me, "orch run", clock.now())
    lock.release()
    Heartbeat(system, me, 120.0).beat(State(), Case({1: ()}).moment)
    Petition(system, Asked("k1", "cancel", "ann", None), clock.now())
    os.mkfifo(system / "asks" / "bell", 0o600)
    (system / "README.md").write_text("the project's")
    (system / ".gitignore").write_text("*")
    assert found(system) == []


# ---- kinds


@pytest.mark.parametrize(
    ("inner", "make", "what"),
    [
        ("logs/heartbeat.json", folder, "a folder stands where a file should"),
        ("asks", file, "a file stands where a folder should"),
        ("asks/bell", file, "a file stands where a named pipe should"),
        ("asks/x.json", os.mkfifo, "a named pipe stands where a file should"),
        ("agents/a1/outcomes/1.1.json", folder, "a folder stands where a file should"),
        ("state.lock", folder, "a folder stands where a file should"),
        ("state.json", lambda path: path.symlink_to("nowhere"), "a symbolic link stands where a file should"),
        ("state.json", lambda path: path.symlink_to(path.name), "a symbolic link stands where a file should"),
        ("journal/000000000007.jsonl", lambda path: path.symlink_to("x"), "a symbolic link stands where a file should"),
    ],
)
def test_what_is_of_the_wrong_kind_is_in_the_way(system, inner, make, what):
    is_in_place_of(system / inner, make)
    os.chmod(system / inner, 0o700) if os.path.exists(system / inner) else None
    assert one(system) == (f"system/{inner}", what, Drop(inner))


@pytest.mark.parametrize("inner", ["state.json", "journal/000000000001.jsonl", "journal/000000000007.snapshot.json"])
def test_a_folder_in_the_place_of_a_copy_of_the_state_is_for_others_to_judge(system, inner):
    is_in_place_of(system / inner, folder)
    assert [flaw for flaw in found(system) if "lines" not in flaw.what] == []


def test_links_sockets_and_files_of_a_name_that_nobody_wants_are_left_alone(system):
    (system / "notes").symlink_to("nowhere")
    file(system / "my notes.txt")
    here = os.open(".", os.O_RDONLY)
    os.chdir(system)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("s")
    finally:
        os.fchdir(here)
        os.close(here)
    assert found(system) == []


def test_what_is_gone_between_two_looks_is_no_flaw(system, monkeypatch):
    real = os.walk

    def walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for where, folders, files in real(top):
            yield where, folders, [*files, "gone.json"]

    monkeypatch.setattr(os, "walk", walk)
    assert found(system) == []


def test_where_copies_are_kept_only_a_person_may_make_room(system):
    file(system / "backup")
    (flaw,) = found(system)
    assert (flaw.file, flaw.what) == ("system/backup", "a file stands where a folder should")
    assert flaw.is_hopeless and flaw.steps == () and "move it away" in flaw.why


# ---- modes and owners


@pytest.mark.parametrize(
    ("inner", "mode", "right"),
    [
        ("state.json", 0o644, 0o600), ("state.json", 0o620, 0o600), ("journal", 0o750, 0o700),
        ("journal/000000000001.jsonl", 0o666, 0o600), ("anything", 0o604, 0o600), ("logs/phases/1/1.log", 0o640, 0o600),
    ],
)  # fmt: skip
def test_what_others_may_read_is_closed(system, inner, mode, right):
    path = system / inner
    path.exists() or file(path)
    path.chmod(mode)
    assert one(system) == (f"system/{inner}", f"its mode is {mode:04o}, not {right:04o}", Close(inner, right))
    assert found(system)[0].why == "others may read or change what is orch's own"


@pytest.mark.parametrize(("inner", "mode", "right"), [("state.json", 0o400, 0o600), ("agents", 0o600, 0o700)])
def test_what_orch_itself_may_not_use_is_opened(system, inner, mode, right):
    path = system / inner
    path.exists() or folder(path)
    path.chmod(mode)
    assert one(system) == (f"system/{inner}", f"its mode is {mode:04o}, not {right:04o}", Close(inner, right))
    assert found(system)[0].why == "orch cannot use it"


def test_the_folder_itself_may_be_read_but_not_changed_by_others(system):
    system.chmod(0o755)
    assert found(system) == []
    system.chmod(0o775)
    assert one(system) == ("system/", "its mode is 0775, not 0755", Close("", 0o755))


def test_what_phases_write_has_the_mode_that_they_please(system):
    file(system / "agents" / "a1" / "work" / "3.1.json").chmod(0o666)
    folder(system / "agents" / "a1" / "work" / "own").chmod(0o777)
    assert found(system) == []


def test_the_backup_may_have_any_mode_and_name(system):
    file(system / "backup" / "fsck_1" / "state.json").chmod(0o644)
    file(system / "backup" / "fsck_1" / "journal" / "1.damaged")
    file(system / "backup" / "fsck_1" / f".x.{NEVER_A_PID}.new")
    assert found(system) == []


@pytest.fixture
def as_if_foreign(system: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The folder says that it belongs to somebody else than state.json in it: who that is."""
    real = os.stat
    user = os.stat(system).st_uid + 5

    def stat(path: Path, **how: bool) -> os.stat_result:
        told = real(path, **how)
        return os.stat_result([*told[:4], user, 77, *told[6:]]) if Path(path).name != "state.json" else told

    monkeypatch.setattr(untidy.os, "stat", stat)
    return user


def test_as_root_what_belongs_to_somebody_else_is_given_back(system, as_if_foreign, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    what = f"it belongs to user {os.getuid()}, system/ to user {as_if_foreign}"
    assert one(system) == ("system/state.json", what, Own("state.json", as_if_foreign, 77))


def test_as_anybody_else_it_is_said_what_root_would_have_to_do(system, as_if_foreign, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (flaw,) = found(system)
    assert flaw.is_hopeless and flaw.steps == () and flaw.why.endswith(f"as root, chown -R {as_if_foreign} {system}")


# ---- lock and heartbeat


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null", "\0\0\0"])
def test_a_lock_that_nobody_can_be_read_from_is_emptied(system, text):
    file(system / "state.lock", text.encode())
    assert one(system) == ("system/state.lock", "nobody can be read from it", Cut("state.lock", 0))
    assert not is_held(system)


def test_an_empty_lock_is_one_that_nobody_has_signed_yet(system):
    file(system / "state.lock", b"")
    assert found(system) == []


def test_a_lock_is_held_while_who_signed_it_lives(system):
    assert not is_held(system)
    for who, expected in ((process.myself(), True), (GONE, False), (GONE.replace(host="far/1"), True)):
        signed = {"identity": who.as_dict(), "purpose": RUN, "since": iso(NOW), "command": "orch run"}
        file(system / "state.lock", json.dumps(signed).encode())
        assert is_held(system) is expected, who


def test_a_heartbeat_that_cannot_be_read_is_none(system):
    file(system / "logs" / "heartbeat.json", b'{"state": "running"}')
    where, what, step = one(system)
    assert (where, what) == ("system/logs/heartbeat.json", "it cannot be read")
    assert step == Drop("logs/heartbeat.json")


# ---- asks


def age(path: Path, seconds: float) -> Path:
    at = clock.now() - seconds
    os.utime(path, (at, at))
    return path


def test_an_ask_that_nobody_waits_for_any_more_is_withdrawn(system):
    Petition(system, Asked("k1", "retry", "ann", 3), clock.now())
    assert found(system) == []
    age(system / "asks" / "k1.json", LONG + 60)
    where, what, step = one(system)
    assert (where, step) == ("system/asks/k1.json", Drop("asks/k1.json")) and found(system)[0].repair == "withdraw it"
    assert what == "`retry`, asked by ann, has been waiting for 1h 01m"
    assert found(system, is_live=True) == [], "a run that is active answers it"


def test_an_ask_that_was_answered_already_is_not_needed(system):
    Petition(system, Asked("k1", "retry", "ann", 3), clock.now())
    (system / "asks" / "k1.json").rename(system / "asks" / "k1.taken")
    assert found(system) == [], "it is about to be answered"
    file(system / "asks" / "k1.answer")
    assert one(system) == ("system/asks/k1.taken", "it is answered already", Drop("asks/k1.taken"))


@pytest.mark.parametrize("name", ["x.json", "x.taken"])
def test_an_ask_that_cannot_be_read_is_none(system, name):
    file(system / "asks" / name, b"[]")
    assert one(system) == (f"system/asks/{name}", "it cannot be read", Drop(f"asks/{name}"))


def test_what_is_hidden_or_is_no_ask_is_not_looked_at(system):
    for name in (".k1.json", "k1.answer", "notes"):
        file(system / "asks" / name, b"[]")
    assert found(system) == []


def test_of_many_answers_only_the_old_ones_are_too_many(system):
    for index in range(ANSWERS_KEPT + 2):
        age(file(system / "asks" / f"k{index:03d}.answer"), 60.0)
    assert found(system) == [], "whoever asked may still read them"
    age(system / "asks" / "k050.answer", LONG + 60)
    assert one(system) == ("system/asks/k050.answer", "an old answer", Drop("asks/k050.answer"))


# ---- left over


@pytest.fixture
def zombie() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


def test_a_draft_is_left_over_once_nobody_can_finish_it(system, zombie):
    living = os.fork()
    if living == 0:
        signal.pause()
    try:
        for pid in (living, os.getpid()):
            file(system / f".state.json.{pid}.new")
        assert found(system) == []
    finally:
        os.kill(living, signal.SIGKILL)
        os.waitpid(living, 0)
    dead = [living, NEVER_A_PID, zombie]
    for pid in dead:
        file(system / f".state.json.{pid}.new")
    drafts = {f".state.json.{pid}.new" for pid in dead}
    assert {flaw.steps for flaw in found(system)} == {(Drop(inner),) for inner in drafts}
    assert {flaw.what for flaw in found(system)} == {"a draft that nobody finished"}
    assert found(system, is_live=True) == [], "a run that is active takes them away itself"


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        (f"logs/.heartbeat.json.{NEVER_A_PID}.new", "a draft that nobody finished"),
        (f"backup/.fsck_1.{NEVER_A_PID}.new", "a draft that nobody finished"),
        ("journal/000000000001.damaged", "it was set aside"),
        ("asks/x.unreadable", "it was set aside"),
        ("asks/x.withdrawn", "it was set aside"),
        ("journal/000000000009.snapshot.json", "no lines follow this snapshot"),
    ],
)
def test_what_nobody_reads_any_more_is_moved_out_of_the_way(system, inner, what):
    file(system / inner)
    assert one(system) == (f"system/{inner}", what, Drop(inner))


def test_a_snapshot_that_lines_follow_is_needed(system):
    file(system / "journal" / "000000000009.snapshot.json")
    file(system / "journal" / "000000000009.jsonl", b"")
    assert found(system) == []
