from __future__ import annotations

import os

import pytest

from orchestrator.core.spec import Limits, RetryRule, Spec
from orchestrator.load import Definitions, Fault
from orchestrator.load.cached import key, read, write

SPEC = Spec(
    1, "a", "phases/a.toml", 1, run=("a", "b"), needs=(2,), retry={"FAILED": RetryRule(2)}, limits=Limits(cpu=3)
)
KEPT = Definitions(
    (SPEC, Spec(2, "b", "phases/b.py", 3)),
    (Fault("phases/a.toml", 3, "x"),),
    {"phases/b.py": "y"},
    "d",
    {"phases/b.py": "e"},
)


def test_what_was_kept_comes_back_equal(tmp_path):
    write(tmp_path / "cache", tmp_path, "k", KEPT, set(), ())
    assert read(tmp_path / "cache", tmp_path, "k") == KEPT
    assert read(tmp_path / "cache", tmp_path, "other") is None
    assert os.stat(tmp_path / "cache/definitions/k.json").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("position", [0, 1, 40, 100, -2, -60])
def test_a_damaged_entry_is_not_believed(tmp_path, position):
    write(tmp_path, tmp_path, "k", KEPT, set(), ())
    path = tmp_path / "definitions/k.json"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert read(tmp_path, tmp_path, "k") is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null\n{}",
        b"\xff\xfe",
        b'{"recipe": 1}\n{}',
        b"[" * 100_000,
        b'{"recipe": 1, "name": "k", "digest": 3}',
    ],
)
def test_nonsense_is_not_believed(tmp_path, text):
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions/k.json").write_bytes(text)
    assert read(tmp_path, tmp_path, "k") is None


def test_an_entry_under_another_name_is_not_believed(tmp_path):
    write(tmp_path, tmp_path, "k", KEPT, set(), ())
    os.rename(tmp_path / "definitions/k.json", tmp_path / "definitions/l.json")
    assert read(tmp_path, tmp_path, "l") is None


def test_files_behind_it_by_bytes_and_by_look(tmp_path):
    for name in ("code.py", "data.csv"):
        (tmp_path / name).write_text("1")
    (tmp_path / "in").mkdir()

    def kept_after(change):
        write(tmp_path, tmp_path, "k", KEPT, {"code.py"}, ["data.csv", "in", "absent.cfg"])
        assert read(tmp_path, tmp_path, "k") == KEPT
        change()
        return read(tmp_path, tmp_path, "k") == KEPT

    assert kept_after(lambda: os.utime(tmp_path / "code.py", (5, 5)))
    assert not kept_after(lambda: (tmp_path / "code.py").write_text("2"))
    assert not kept_after(lambda: os.utime(tmp_path / "data.csv", (5, 5)))
    assert not kept_after(lambda: (tmp_path / "in/new").touch())
    assert not kept_after(lambda: (tmp_path / "absent.cfg").touch())
    assert not kept_after(lambda: (tmp_path / "code.py").unlink())


def test_the_key_follows_names_and_bytes():
    keys = [
        key({"phases/a.py": b"1"}),
        key({"phases/a.py": b"2"}),
        key({"phases/b.py": b"1"}),
        key({}),
        key({"phases/a.py": b"1", "phases/b.py": b""}),
    ]
    assert len(set(keys)) == 5 and key({"phases/a.py": b"1"}) == keys[0]


def test_only_the_newest_twenty_are_kept(tmp_path):
    for number in range(25):
        write(tmp_path, tmp_path, f"k{number}", KEPT, set(), ())
        os.utime(tmp_path / f"definitions/k{number}.json", (number, number))
    write(tmp_path, tmp_path, "last", KEPT, set(), ())
    names = {path.name for path in (tmp_path / "definitions").iterdir()}
    assert len(names) == 20 and {"last.json", "k24.json"} <= names and "k0.json" not in names


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path):
    (tmp_path / "cache").write_text("a file")
    write(tmp_path / "cache", tmp_path, "k", KEPT, set(), ())
    assert read(tmp_path / "cache", tmp_path, "k") is None
