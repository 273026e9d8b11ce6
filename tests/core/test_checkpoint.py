from __future__ import annotations

import json

import pytest

from orchestrator.core import checkpoint as cp
from orchestrator.core import events as ev
from orchestrator.core.checkpoint import Changes, Checkpoint, Entry, changes, differing, documents, expired, needed_by
from orchestrator.core.events import Event
from orchestrator.core.names import iso
from orchestrator.core.state import State
from tests.core.given import NOW, completed, failed, intended, retrying, run_started

A, B = Entry("out/a", size=1, digest="a" * 64), Entry("out/b", size=2, digest="b" * 64)


def state_of(*events: Event, at: float = NOW) -> State:
    state = State()
    for event in (run_started(), ev.PlanAdopted("digest", {str(n): [f"p{n}", ""] for n in (1, 2, 3)}), *events):
        state.apply(event, at)
    return state


def taken(state: State, **keys) -> Checkpoint:
    phases, results = cp.split(documents(state))
    told = {"run": cp.run_document(state.run), "phases": phases}
    fields = {"files": {}, "folders": {}, "patterns": {}, **keys}
    return Checkpoint("phase_2_x", 2, iso(NOW), "a test", told, {"results": results}, **fields)


def back(state: State, checkpoint: Checkpoint) -> State:
    phases = differing(checkpoint, state)
    state.apply(ev.RolledBack(checkpoint.id, "token", "ann", checkpoint.state["run"], phases), NOW + 9)
    return state


def test_all_phases_come_back_as_they_were_and_attempts_are_not_counted_anew():
    early = state_of(intended(1), completed(1))
    then = taken(early)
    late = state_of(intended(1), completed(1), intended(2, 7), failed(2, 7), intended(3), completed(3))
    back(late, then)
    assert [late.phase(n).status for n in (1, 2, 3)] == ["completed", "pending", "pending"]
    assert late.phase(1) == early.phase(1)
    assert (late.phase(2).errors, late.phase(2).attempts, late.phase(2).attempt) == ((), 0, 7)
    assert late.phase(3).outputs is None and late.phase(3).durations == (2.0,)
    assert late.run.rollback == "token" and differing(then, late) == {}


def test_results_come_back():
    then = taken(state_of(intended(1), completed(1)))
    assert then.context == {"results": {"1": {"result": {"n": 1}}}} and "outputs" not in then.state["phases"]["1"]
    late = state_of(ev.PhaseReset(1, "again"))
    assert late.phase(1).outputs is None
    assert back(late, then).phase(1).outputs == {"result": {"n": 1}}


def test_what_was_in_progress_has_to_begin_anew():
    then = taken(state_of(intended(1), ev.AttemptStarted(1, 1, 30, 3), intended(2)))
    assert [then.phases()[n].get("status", "pending") for n in "12"] == ["pending", "pending"]
    assert then.phases()["1"] == {"attempt": 1, "inputs_hash": "key"}
    late = back(state_of(intended(1), completed(1)), then)
    assert late.phase(1).status == "pending" and not late.live


def test_a_retry_that_was_due_is_due_again():
    then = taken(state_of(intended(1), retrying(1)))
    late = back(state_of(intended(1), failed(1)), then)
    assert late.phase(1).status == "retry_wait" and late.phase(1).retry_at == iso(NOW + 60)


def test_a_phase_that_was_not_there_has_never_run():
    then = taken(state_of())
    late = state_of(intended(9), completed(9))
    assert differing(then, late) == {"9": {}}
    assert back(late, then).phase(9).status == "pending"


def test_the_run_comes_back_and_whoever_owns_it_stays():
    then = taken(state_of())
    late = state_of()
    late.apply(run_started(run="r2", command="orch run --new"), NOW + 5)
    late.apply(ev.RunEnded("failed", 1), NOW + 6)
    back(late, then)
    assert (late.run.id, late.run.verdict, late.run.exit_code, late.run.plan) == ("r1", None, None, "digest")
    assert late.run.command == "orch run --new"


def test_it_survives_being_stored():
    then = taken(
        state_of(intended(1), completed(1)),
        files={"1": (A, B)},
        folders={"1": ("out",)},
        patterns={"1": ["out"]},
        left_out=(3,),
    )
    assert Checkpoint.from_dict(json.loads(json.dumps(then.as_dict()))) == then
    assert (then.size, list(then.entries)) == (3, ["out/a", "out/b"])
    assert then.only(2).files == {"2": ()} and then.only(1).patterns == {"1": ["out"]}


def test_its_name_says_of_which_phase_and_when():
    assert cp.name_for(-8, NOW) == "phase_-8_20270115_080000"


# ---- files


def of(*entries: Entry, folders: tuple[str, ...] = ("out",)) -> Checkpoint:
    return taken(state_of(), files={"1": entries}, folders={"1": folders})


def test_what_is_the_same_is_left_alone_whatever_its_inode():
    assert changes(of(A), {"out/a": A.replace(inode=5, ctime_ns=6)}, ["out"], {}).is_empty


@pytest.mark.parametrize(
    "now",
    [A.replace(digest="c" * 64), A.replace(mode=1), A.replace(mtime_ns=3), Entry("out/a", "link", leads="x"), None],
)
def test_what_differs_is_put_back(now):
    found = changes(of(A), {"out/a": now} if now else {}, ["out"], {})
    assert found == Changes(put=(A,)) and found.size == 1


def test_what_was_not_there_is_removed_with_the_folders_that_are_empty_then():
    found = changes(of(A), {"out/a": A, "out/x/y/b": B}, ["out", "out/x", "out/x/y"], {})
    assert found == Changes(remove=("out/x/y/b",), empty=("out/x/y", "out/x"))


def test_folders_that_are_missing_are_made_first_the_outer_ones():
    deep = A.replace(path="a/b/c")
    assert changes(of(deep, folders=("a", "a/e")), {}, [], {}).make == ("a", "a/b", "a/e")


def test_what_nobody_declares_is_in_the_way_and_named():
    assert "out is a file, and no phase declares it" in changes(of(A), {}, [], {"out": "a file"}).blocked
    assert changes(of(A), {}, ["out"], {"elsewhere": "a file"}).blocked == ""


# ---- which are kept


def test_the_oldest_go_by_number_and_by_age_but_none_that_is_needed():
    kept = {f"c{age}": iso(NOW - age) for age in (1, 2, 3, 4)}
    assert expired(kept, [], 2, 1000, NOW) == ["c3", "c4"]
    assert expired(kept, [], 9, 2.5, NOW) == ["c3", "c4"]
    assert expired(kept, ["c4"], 1, 2.5, NOW) == ["c2", "c3"]
    assert expired(kept, [], 9, 1000, NOW) == []


def test_needed_is_what_a_phase_may_still_go_back_to():
    state = state_of(
        intended(1), ev.CheckpointTaken(1, 1, "c1"), completed(1),
        intended(2), ev.CheckpointTaken(2, 1, "c2"), retrying(2),
        intended(3), ev.CheckpointTaken(3, 1, "c3"),
    )  # fmt: skip
    assert needed_by(state) == {"c2", "c3"}
