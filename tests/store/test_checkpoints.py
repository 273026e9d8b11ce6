from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.core.state import State
from orchestrator.errors import Conflict, StateDamaged, UsageError
from orchestrator.store import sealed
from orchestrator.store.checkpoints import FILES, NAME, Vault
from tests.core.given import NOW, completed, intended, run_started
from tests.store.given import end_of

PATTERNS = {1: ["out"], 2: ["res/*.csv"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "out/a", "one")
    write(tmp_path, "res/b.csv", "two")
    return tmp_path


@pytest.fixture
def vault(root: Path) -> Vault:
    return Vault(root)


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def state_of(*events: ev.Event) -> State:
    state = State()
    for event in (run_started(), ev.PlanAdopted("digest", {"1": ["p1", ""], "2": ["p2", ""]}), *events):
        state.apply(event, NOW)
    return state


def make(vault: Vault, number: int = 2, at: float = NOW, state: State | None = None, patterns=PATTERNS):
    return end_of(vault.make(number, "a test", state or state_of(intended(1), completed(1)), patterns, at))


def names(vault: Vault) -> list[str]:
    return sorted(os.listdir(vault.folder))


def test_what_is_made_can_be_read(vault, root):
    made = make(vault)
    assert made.id == "phase_2_20270115_080000" and vault.ids() == [made.id] and vault.read(made.id) == made
    assert {path: entry.size for path, entry in made.entries.items()} == {"out/a": 3, "res/b.csv": 3}
    assert made.folders == {"1": ("out",), "2": ("res",)} and made.patterns == {"1": ["out"], "2": ["res/*.csv"]}
    assert made.context == {"results": {"1": {"result": {"n": 1}}}} and made.state["run"]["id"] == "r1"
    digest = made.entries["out/a"].digest
    assert vault.blob(made.id, digest).read_text() == "one"


def test_it_is_a_folder_with_all_that_the_design_says(vault):
    made = make(vault)
    body = json.loads((vault.folder / made.id / NAME).read_text())["body"]
    assert {"phase", "timestamp", "state", "context"} <= body.keys()
    assert (body["phase"], body["timestamp"]) == (2, "2027-01-15T08:00:00.000Z")


def test_only_who_owns_it_may_read_it(vault):
    made = make(vault)
    for folder, folders, files in os.walk(vault.folder):
        assert {os.stat(f"{folder}/{name}").st_mode & 0o777 for name in folders} <= {0o700}
        assert {os.stat(f"{folder}/{name}").st_mode & 0o777 for name in files} <= {0o600}
    assert made.entries["out/a"].mode == 0o644


def test_two_in_the_same_second_have_names_of_their_own(vault):
    assert [make(vault).id, make(vault).id] == ["phase_2_20270115_080000", "phase_2_20270115_080000_2"]


def test_what_is_written_to_later_does_not_change_in_it(vault, root):
    made = make(vault)
    with open(root / "out" / "a", "r+") as file:
        file.write("XXX")
    assert vault.blob(made.id, made.entries["out/a"].digest).read_text() == "one"
    assert vault.flaws() == []


def test_what_two_have_in_common_is_there_once_and_not_read_again(vault, root, monkeypatch):
    first = make(vault)
    write(root, "res/b.csv", "changed")
    write(root, "res/c.csv", "one")  # other name, same content
    copied = []
    right = disk.copy
    monkeypatch.setattr(disk, "copy", lambda source, target: copied.append(source.name) or right(source, target))
    second = make(vault, at=NOW + 1)
    assert copied == ["b.csv", "c.csv"]
    one = first.entries["out/a"].digest
    assert second.entries["res/c.csv"].digest == one
    assert os.path.samefile(vault.blob(first.id, one), vault.blob(second.id, one))
    assert len(os.listdir(vault.folder / second.id / FILES)) == 2


def test_where_there_are_no_links_it_is_copied(vault, monkeypatch):
    first = make(vault)

    def no_links(*_: object) -> None:
        raise PermissionError(1, "this file system knows no links")

    monkeypatch.setattr(os, "link", no_links)
    second = make(vault, at=NOW + 1)
    one = first.entries["out/a"].digest
    assert not os.path.samefile(vault.blob(first.id, one), vault.blob(second.id, one))
    assert vault.flaws() == []


def test_the_same_size_and_time_are_not_the_same_file(vault, root):
    first = make(vault)
    path = root / "out" / "a"
    times = os.stat(path)
    path.write_text("ONE")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = make(vault, at=NOW + 1)
    assert first.entries["out/a"].digest != second.entries["out/a"].digest


def test_links_are_kept_as_links(vault, root):
    os.symlink("a", root / "out" / "link")
    entry = make(vault).entries["out/link"]
    assert (entry.kind, entry.leads, entry.digest) == ("link", "a", "")


def test_what_is_in_progress_is_left_out_but_for_the_phase_itself(vault):
    state = state_of(intended(1), intended(2))
    made = make(vault, 2, state=state)
    assert made.left_out == (1,) and list(made.files) == ["2"] and list(made.patterns) == ["2"]


def test_so_is_what_begins_while_it_is_made(vault):
    state = state_of()
    pieces = vault.make(2, "a test", state, PATTERNS, NOW)
    next(pieces)
    state.apply(intended(1), NOW)
    made = end_of(pieces)
    assert made.left_out == (1,) and list(made.files) == ["2"]
    assert made.phases()["1"].get("status", "pending") == "pending"


def test_a_file_that_does_not_keep_still_is_named(vault, root, monkeypatch):
    right, count = disk.copy, iter(range(99))

    def copy(source, target):
        write(root, "out/a", f"{next(count)}" * 9)
        return right(source, target)

    monkeypatch.setattr(disk, "copy", copy)
    with pytest.raises(Conflict, match="out/a changes while it is copied"):
        make(vault)
    assert names(vault) == []


def test_where_there_is_no_room_nothing_is_left_of_it(vault, monkeypatch):
    right, count = os.write, iter(range(99))

    def full(fd, data):
        if next(count) > 1:
            raise OSError(28, "No space left on device")
        return right(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        make(vault)
    monkeypatch.undo()
    assert names(vault) == []


def test_what_a_killed_maker_left_is_cleared_by_whoever_takes_the_lock(vault):
    vault.clear_drafts()
    made = make(vault)
    disk.make_folder(vault.folder / ".phase_1_x.4711.new" / FILES)
    vault.clear_drafts()
    assert names(vault) == [made.id]


@pytest.mark.parametrize(
    ("name", "near"), [("phase_2_20270115_0800", "phase_2_20270115_080000"), ("xyz", "phase_2_20270115_080000")]
)
def test_a_wrong_name_names_the_nearest(vault, name, near):
    make(vault)
    with pytest.raises(UsageError, match=f"there is no checkpoint {name}") as error:
        vault.read(name)
    assert near in error.value.remedy


def test_where_there_is_none_it_says_how_to_make_one(vault):
    with pytest.raises(UsageError, match="none was made yet"):
        vault.read("phase_2_20270115_080000")
    assert vault.ids() == [] and vault.flaws() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"phase":2', b'"phase":3')),
        lambda path: path.write_bytes(b'{"version":1,"sum":"","body":[]}'),
    ],
)
def test_one_that_is_damaged_is_refused_named_by_fsck_and_nobodys_hindrance(vault, damage):
    made = make(vault)
    damage(vault.folder / made.id / NAME)
    with pytest.raises(StateDamaged, match=made.id):
        vault.read(made.id)
    (flaw,) = vault.flaws()
    assert made.id in flaw.file and flaw.steps and not flaw.is_hopeless
    assert make(vault, at=NOW + 1).id in vault.ids()
    assert vault.retire([], 1, 1e9, NOW + 2) == [], "what cannot be read is for people to look at"


def test_one_of_a_newer_format_is_named(vault):
    made = make(vault)
    path = vault.folder / made.id / NAME
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9', 1))
    with pytest.raises(StateDamaged, match="is of format 9"):
        vault.read(made.id)


@pytest.mark.parametrize(
    ("path", "why"),
    [("/etc/passwd", "no place"), ("../x", "no place"), ("system/state.json", "no place")],
)
def test_one_that_would_lead_elsewhere_is_refused(vault, path, why):
    """Whoever can write it can also seal it."""
    made = make(vault)
    entry = made.entries["out/a"].replace(path=path)
    disk.replace(
        vault.folder / made.id / NAME, sealed.seal(made.replace(files={"1": (entry,)}).as_dict()), durable=False
    )
    with pytest.raises(StateDamaged, match=why):
        vault.read(made.id)


def test_what_several_have_in_common_is_checked_once(vault, monkeypatch):
    make(vault), make(vault, at=NOW + 1)
    right, read = disk.digest, []
    monkeypatch.setattr(disk, "digest", lambda path: read.append(path) or right(path))
    assert vault.flaws() == [] and len(read) == 2


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_copy_that_is_not_what_it_was_is_found_by_fsck(vault, damage):
    made = make(vault)
    blob = vault.blob(made.id, made.entries["res/b.csv"].digest)
    if damage == "missing":
        blob.unlink()
    else:
        blob.write_text("TWO")
    (flaw,) = vault.flaws()
    assert "its copy of res/b.csv is " + ("missing" if damage == "missing" else "damaged") in flaw.what


def test_the_oldest_go_and_what_is_needed_stays(vault):
    made = [make(vault, at=NOW + at).id for at in range(4)]
    assert vault.ids() == made[::-1]
    assert vault.retire([made[0]], 2, 1e9, NOW + 9) == [made[1]]
    assert vault.ids() == [made[3], made[2], made[0]]
    assert vault.retire([], 9, 7.5, NOW + 10) == [made[2], made[0]]
    assert names(vault) == [made[3]] and vault.flaws() == []


def test_the_newest_come_first_whatever_their_phase(vault):
    made = [make(vault, number, NOW + at).id for at, number in enumerate((10, -3, 2))]
    assert vault.ids() == made[::-1]
