from __future__ import annotations

from orchestrator.process import groups
from orchestrator.process.groups import Group, Groups

EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"


def test_a_group_that_counts_says_how_many_were_ended_for_lack_of_memory(tmp_path):
    group = Group(str(tmp_path))
    assert group.oom_kills() is None
    (tmp_path / "memory.events").write_text(EVENTS)
    assert group.oom_kills() == 2
    (tmp_path / "memory.events").write_text("oom_kill many\n")
    assert group.oom_kills() is None


def counting(tmp_path, monkeypatch, kills) -> Groups:
    """An agent whose own group counts."""
    monkeypatch.setattr(groups, "_own_folder", lambda: str(tmp_path))
    monkeypatch.setenv("ORCH_NO_CGROUP", "1")
    (tmp_path / "memory.events").write_text(f"oom_kill {kills}\n")
    return Groups()


def test_the_groups_own_count_decides(tmp_path, monkeypatch):
    own, outer = tmp_path / "own", tmp_path / "outer"
    own.mkdir(), outer.mkdir()
    found = counting(outer, monkeypatch, 0)
    for kills, told in ((0, False), (1, True)):
        (own / "memory.events").write_text(f"oom_kill {kills}\n")
        (outer / "memory.events").write_text("oom_kill 7\n")
        assert found.ran_out_of_memory(Group(str(own))) is told


def test_where_many_are_counted_together_only_that_it_was_none_is_sure(tmp_path, monkeypatch):
    found = counting(tmp_path, monkeypatch, 4)
    assert found.ran_out_of_memory(None) is False
    (tmp_path / "memory.events").write_text("oom_kill 5\n")
    assert found.ran_out_of_memory(None) is None
    assert found.ran_out_of_memory(None) is None, "who asks next must not be told that it was none"


def test_where_nobody_counts_it_is_a_guess(tmp_path, monkeypatch):
    monkeypatch.setattr(groups, "_count", lambda path, name: None)
    assert Groups().ran_out_of_memory(None) is None
