"""What state.json and the journal prove together, and what becomes of a system in which they do not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import fsck
from orchestrator.core import events as ev
from orchestrator.core.flaw import Cut, Drop, Put
from orchestrator.core.names import iso
from orchestrator.core.state import State
from orchestrator.store import journal, snapshot
from orchestrator.store.lines import encode
from orchestrator.store.mending import BY_HAND, LISTED, Verdict, attempts_in_logs, judge
from orchestrator.store.proof import Evidence
from orchestrator.store.reading import read_state
from orchestrator.store.snapshot import Encoder, Position
from tests.core.given import NOW, completed, failed, intended, run_started
from tests.store.given import commit_all, decision, opening, read, seen, store_of, turns

FIRST = "000000000001"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """One segment of four lines: the first of three phases done, the second in progress."""
    store = store_of(tmp_path / "system")
    commit_all(store, [opening(3), decision(intended(1)), decision(completed(1)), decision(intended(2))])
    store.close()
    return tmp_path / "system"


@pytest.fixture(scope="module")
def of_two_segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    system = tmp_path_factory.mktemp("compacted") / "system"
    store, attempt = store_of(system, segment_bytes=600), 0
    while len(bases(system)) < 2:
        attempt += 1
        commit_all(store, [*([opening(3)] if attempt == 1 else []), *turns(1, attempt)])
    commit_all(store, [decision(intended(1, attempt + 1)), decision(completed(1, attempt + 1))])
    store.close()
    assert len(segments(system)) == 2
    return system


@pytest.fixture
def compacted(of_two_segments: Path, tmp_path: Path) -> Path:
    """Two segments, each with the snapshot that it begins from; phase 1 is done."""
    return Path(shutil.copytree(of_two_segments, tmp_path / "system"))


def segments(system: Path) -> list[Path]:
    return sorted((system / "journal").glob("*.jsonl"))


def bases(system: Path) -> list[Path]:
    return sorted((system / "journal").glob("*.snapshot.json"))


def judged(system: Path, *, is_live: bool = False) -> Verdict:
    return judge(system, is_live=is_live)


def told(verdict: Verdict) -> list[tuple[str, str]]:
    return [(flaw.file.removeprefix("system/"), flaw.what) for flaw in verdict.flaws]


def spoil(path: Path, line: int, share: float = 0.5) -> None:
    """One bit in that line, by default in its middle."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = sum(map(len, lines[: line - 1])) + int(len(lines[line - 1]) * share)
    data = bytearray(b"".join(lines))
    data[at] ^= 1
    path.write_bytes(data)


def add(system: Path, *events: ev.Event, seq: int = 0) -> None:
    """A whole line behind the last one, whatever it says."""
    last = Evidence(system).from_journal[-1]
    document = {
        "v": 1, "seq": seq or last.seq + 1, "at": iso(NOW), "events": [event.as_dict() for event in events],
        "because": ["a test"] * len(events),
    }  # fmt: skip
    with open(segments(system)[-1], "ab") as file:
        file.write(encode(document, last.position.chain)[0])


def rewrite(path: Path, change: Callable[[State], object]) -> None:
    """A snapshot whose sum fits, and that says something else."""
    found = snapshot.load(path)
    assert isinstance(found, tuple)
    state, position = found
    change(state)
    path.write_bytes(Encoder().encode(state, position))


def forget_what_ran(state: State) -> None:
    state.phases[1] = state.phase(1).replace(outputs={"result": "something else"})


def repaired(system: Path) -> State:
    """As it is read after the repair, from both copies alike, with nothing left to find."""
    report = fsck.repair(system.parent)
    assert report.left == [] and report.kept
    assert judged(system).flaws == []
    state = read_state(system, verify=True).state
    whole = (system / "state.json").read_bytes()
    (system / "state.json").unlink()
    assert read(system) == seen(state)
    (system / "state.json").write_bytes(whole)
    return state


# ---- in order


def test_where_nothing_was_written_nothing_is_wrong(tmp_path):
    for folder in (tmp_path / "gone", tmp_path):
        verdict = judged(folder)
        assert (verdict.flaws, verdict.decisions, verdict.segments) == ([], 0, 0) and seen(verdict.state) == seen(
            State()
        )


def test_before_the_first_decision_nothing_is_wrong(tmp_path):
    store_of(tmp_path / "system").close()
    verdict = judged(tmp_path / "system")
    assert (verdict.flaws, verdict.decisions, verdict.segments) == ([], 0, 1)


def test_what_is_in_order_is_counted(compacted):
    verdict = judged(compacted)
    assert (verdict.flaws, verdict.segments) == ([], 2) and verdict.decisions == read_state(compacted).position.seq
    assert seen(verdict.state) == read(compacted)


def test_a_snapshot_that_is_behind_the_journal_is_no_flaw(system):
    whole = (system / "state.json").read_bytes()
    store = store_of(system)
    commit_all(store, [decision(completed(2))])
    store.close()
    (system / "state.json").write_bytes(whole)
    assert judged(system).flaws == [] and judged(system).decisions == 5


# ---- half a line


def test_half_a_line_is_cut_off_unless_somebody_may_be_writing_it(system):
    path = segments(system)[0]
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b'{"v":1,"seq":')
    (flaw,) = judged(system).flaws
    assert flaw.steps == (Cut(f"journal/{FIRST}.jsonl", size),) and (flaw.line, flaw.byte) == (5, size)
    assert judged(system, is_live=True).flaws == []


def test_half_a_line_in_a_segment_that_is_left_behind_needs_no_repair_of_its_own(compacted):
    spoil(segments(compacted)[0], 1)
    with open(segments(compacted)[1], "ab") as file:
        file.write(b'{"v":1,"seq":')
    truth = read(compacted)
    assert [what for _, what in told(judged(compacted))] == ["its checksum does not fit"]
    assert seen(repaired(compacted)) == truth


def test_half_a_line_in_a_segment_that_others_follow_is_damage(compacted):
    truth, (first, _) = read(compacted), segments(compacted)
    os.truncate(first, first.stat().st_size - 5)
    (flaw,) = judged(compacted).flaws
    assert flaw.what == "it is cut off, and others follow it" and flaw.byte is not None
    assert "nothing that is known is lost" in flaw.why
    assert seen(repaired(compacted)) == truth


# ---- what other copies prove


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", [Path.unlink, lambda path: path.write_text("{")], ids=["gone", "damaged"])
def test_a_snapshot_of_the_journal_that_cannot_be_used_is_replaced_by_what_proves_it(compacted, which, how):
    truth, base = read(compacted), bases(compacted)[which]
    how(base)
    (flaw,) = judged(compacted).flaws
    assert flaw.file == f"system/journal/{base.name}" and flaw.repair == "begin a new segment from what is proven"
    assert seen(repaired(compacted)) == truth


def test_a_snapshot_of_the_journal_that_belongs_elsewhere_is_seen(compacted):
    truth, (_, newer) = read(compacted), bases(compacted)
    state, position = snapshot.load(newer)
    newer.write_bytes(Encoder().encode(state, Position(position.seq, position.chain ^ 1, *position[2:])))
    flaws = dict(told(judged(compacted)))
    assert flaws[f"journal/{newer.name}"] == "it says something else than the lines before it"
    assert seen(repaired(compacted)) == truth


def test_a_snapshot_of_the_journal_that_says_something_else_is_seen(compacted):
    truth, (_, newer) = read(compacted), bases(compacted)
    rewrite(newer, forget_what_ran)
    rewrite(newer, lambda state: state.phases.update({2: state.phase(2).replace(title="another")}))
    assert told(judged(compacted)) == [(f"journal/{newer.name}", "it says something else than the lines before it")]
    assert seen(repaired(compacted)) == truth


def test_state_json_that_says_something_else_is_written_anew_from_the_journal(system):
    truth = read(system)
    rewrite(system / "state.json", forget_what_ran)
    (flaw,) = judged(system).flaws
    assert (flaw.file, flaw.what) == ("system/state.json", "it says something else than the journal")
    assert flaw.why == "the journal proves decisions 1 to 4: nothing that is known is lost"
    assert [type(step) for step in flaw.steps] == [Put]
    assert seen(repaired(system)) == truth


def test_what_proves_a_state_that_was_compacted_is_named(compacted):
    (compacted / "state.json").write_text("{")
    (flaw,) = judged(compacted).flaws
    assert f"system/journal/{bases(compacted)[0].name} and the lines behind it prove decisions 1 to" in flaw.why
    assert flaw.repair == "write state.json anew from it"


def test_a_snapshot_alone_proves_what_it_says(compacted):
    """The lines of both segments are gone but for their names."""
    truth = read(compacted)
    for path in segments(compacted):
        path.write_bytes(b"")
    verdict = judged(compacted)
    ends = [
        flaw for flaw in verdict.flaws if flaw.what.startswith("it ends at byte 0, but state.json knows it up to byte")
    ]
    assert len(ends) == 1 and ends[0].line is ends[0].byte is None
    assert "system/state.json proves decisions 1 to" in ends[0].why
    assert seen(repaired(compacted)) == truth


def test_lines_that_state_json_knows_and_the_journal_does_not_have_are_proven_by_it(system):
    truth = read(system)
    path = segments(system)[0]
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:2]) + b"\n")
    (flaw,) = judged(system).flaws
    assert flaw.what.startswith("it ends at byte ") and flaw.repair == "begin a new segment from what is proven"
    assert seen(repaired(system)) == truth


def test_a_segment_that_is_missing_is_proven_by_the_snapshot_behind_it(compacted):
    truth = read(compacted)
    segments(compacted)[0].unlink()
    assert (judged(compacted).flaws, read(compacted)) == ([], truth)


def test_the_last_segment_that_is_missing_is_proven_by_state_json(compacted):
    truth, last = read(compacted), segments(compacted)[1]
    last.unlink()
    assert (f"journal/{last.name}", "it is missing") in told(judged(compacted))
    assert seen(repaired(compacted)) == truth


def test_a_folder_in_the_place_of_a_segment_is_damage_that_state_json_proves(system):
    truth = read(system)
    segments(system)[0].unlink()
    (system / "journal" / f"{FIRST}.jsonl").mkdir(0o700)
    (flaw,) = [flaw for flaw in judged(system).flaws if flaw.steps]
    assert "a folder stands where a file should" in flaw.what
    assert seen(repaired(system)) == truth


# ---- what no copy proves


def both(system: Path, line: int, which: int = 0, share: float = 0.5) -> None:
    spoil(segments(system)[which], line, share)
    (system / "state.json").write_text("{")


def test_lines_behind_the_damage_are_used_also_those_of_the_next_segment(compacted):
    """The snapshot behind the damage is gone too."""
    truth = read(compacted)
    bases(compacted)[1].unlink()
    lines = segments(compacted)[0].read_bytes().count(b"\n")
    both(compacted, lines)
    verdict = judged(compacted)
    (lost,) = [flaw for flaw in verdict.flaws if flaw.line]
    assert lost.line == lines and "that decision is lost; it seems to be about phase 1" in lost.why
    assert "whole lines behind the damage: of the phases that it concerns, 1 is" in lost.repair
    others = [flaw for flaw in verdict.flaws if not flaw.line]
    assert others and all("more is lost than need be" in flaw.why for flaw in others)
    found = repaired(compacted).phases
    # How long it took stood in the lost line, or not: where a segment ends depends on how long a snapshot is.
    assert {n: phase.replace(durations=()) for n, phase in found.items()} == {
        n: phase.replace(durations=())
        for n, phase in truth[1].items()  # type: ignore[attr-defined]
    }


def test_behind_a_segment_that_cannot_be_read_nothing_can_be_told_from_damage_until_a_line_has_a_neighbour(compacted):
    first, second = segments(compacted)
    count = second.read_bytes().count(b"\n")
    bases(compacted)[1].unlink()
    (compacted / "state.json").write_text("{")
    first.unlink()
    first.mkdir(0o700)
    evidence = Evidence(compacted)
    later = list(evidence.later(evidence.best))
    assert [one.number for one in later] == list(range(1, count + 1))
    assert [one.line is None for one in later] == [True] + [False] * (count - 1)
    flaws = judged(compacted).flaws
    assert "it cannot be told from damage, with the line before it damaged" in [flaw.what for flaw in flaws]
    assert repaired(compacted).phase(1).is_done


def test_two_lines_that_a_damaged_newline_made_one_are_two(system):
    path = segments(system)[0]
    truth, data = read(system), path.read_bytes()
    for at in (data.index(b"\n"), data.rindex(b"\n")):
        shutil.rmtree(system / "backup", ignore_errors=True)
        path.write_bytes(data[:at] + b"\x0b" + data[at + 1 :])
        (system / "state.json").unlink(missing_ok=True)
        evidence = Evidence(system)
        assert [one.line.seq for one in evidence.later(evidence.best)] == list(range(evidence.best.seq + 1, 5))
    assert seen(repaired(system)) == truth


def test_two_lines_made_one_of_which_the_first_is_damaged_too_are_one_that_is_lost(system):
    path = segments(system)[0]
    data = bytearray(path.read_bytes())
    first = data.index(b"\n")
    second = data.index(b"\n", first + 1)
    data[first + 40] ^= 1
    data[second] = 0x0B
    path.write_bytes(data)
    (system / "state.json").unlink()
    evidence = Evidence(system)
    later = list(evidence.later(evidence.best))
    assert [one.line and one.line.seq for one in later] == [None, 4] and later[0].byte == first + 1
    assert repaired(system).phase(2).place == "starting"


def test_a_line_without_a_seal_hides_what_stands_behind_it_until_a_seal_is_found(system):
    path = segments(system)[0]
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"", b"nothing", *lines[2:]]))
    (system / "state.json").unlink()
    evidence = Evidence(system)
    later = list(evidence.later(evidence.best))
    assert [one.raw for one in later[:2]] == [b"", b"nothing"]
    assert [one.line and one.line.seq for one in later] == [None, None, None, 4]


def test_of_very_many_damaged_lines_the_first_are_named(tmp_path):
    store = store_of(tmp_path / "system")
    commit_all(store, [opening(), *(one for attempt in range(1, 12) for one in turns(1, attempt))], settle=False)
    store.close()
    path = segments(tmp_path / "system")[0]
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], *(line[:30] + b"?" + line[31:] for line in lines[1:])]))
    (tmp_path / "system" / "state.json").unlink()
    named = [flaw for flaw in judged(tmp_path / "system").flaws if flaw.line]
    assert [flaw.line for flaw in named] == list(range(2, LISTED + 2))
    repaired(tmp_path / "system")


def test_a_damaged_line_that_names_several_phases_is_about_all_of_them(system):
    add(system, completed(2), intended(3))
    both(system, 5, share=0.05)  # what it says of its phases is spared
    named = [flaw for flaw in judged(system).flaws if flaw.line]
    assert "; it seems to be about phases 2, 3" in named[0].why


def test_a_damaged_line_that_names_no_phase_is_only_gone_back_before(system):
    data = segments(system)[0].read_bytes().split(b"\n")
    segments(system)[0].write_bytes(b"\n".join([*data[:3], b'{"v":1,"seq":4,"sum":"00000000"}', b""]))
    (system / "state.json").unlink()
    (lost,) = [flaw for flaw in judged(system).flaws if flaw.line]
    assert lost.repair == "go back to decision 3" and lost.why == "no other copy proves it: that decision is lost"
    assert repaired(system).phase(2).status == "pending"


def test_where_the_first_line_is_lost_and_nothing_behind_it_is_whole_a_person_decides(system):
    path = segments(system)[0]
    path.write_bytes(path.read_bytes().split(b"\n")[0][:-9] + b"\n" + b'{"v":1,"seq":2,"sum":"00000000"}\n')
    (system / "state.json").unlink()
    verdict = judged(system)
    assert verdict.flaws and all(flaw.is_hopeless and BY_HAND in flaw.why for flaw in verdict.flaws)
    assert not any(flaw.steps for flaw in verdict.flaws)


def test_where_nothing_is_proven_each_copy_is_named_with_what_is_wrong(system):
    path = segments(system)[0]
    path.write_bytes(b'{"v":1,"seq":1,"sum":"00000000"}\n')
    (system / "state.json").write_text("{")
    verdict = judged(system)
    assert verdict.state is None
    assert told(verdict) == [
        ("state.json", "it is not whole JSON (byte 1)"), (f"journal/{FIRST}.jsonl", "its checksum does not fit"),
    ]  # fmt: skip
    assert all(flaw.why == f"nothing proves the state any more; {BY_HAND}" for flaw in verdict.flaws)
    before = {path: path.read_bytes() for path in system.rglob("*") if path.is_file()}
    assert fsck.repair(system.parent).exit_code == 4
    assert {path: path.read_bytes() for path in system.rglob("*") if path.is_file()} == before


def test_an_empty_journal_beside_a_damaged_state_json_proves_nothing(system):
    segments(system)[0].write_bytes(b"")
    (system / "state.json").write_text("{")
    verdict = judged(system)
    assert verdict.state is None and [file for file, _ in told(verdict)] == ["state.json"]


def test_where_every_snapshot_to_begin_from_is_missing_that_is_said(compacted):
    for path in (compacted / "state.json", *bases(compacted)):
        path.unlink()
    verdict = judged(compacted)
    assert verdict.state is None
    assert told(verdict) == [("state.json", "it is missing, and so is every snapshot to begin from")]


# ---- lines that are whole, and cannot be true


def test_a_line_that_says_what_cannot_be_is_gone_back_before(system):
    truth = read(system)
    add(system, ev.AgentLeft("a1", "it went"), completed(3))
    (system / "state.json").unlink()
    (flaw,) = [flaw for flaw in judged(system).flaws if flaw.line]
    assert flaw.what.startswith("it says what cannot be: PhaseCompleted cannot happen to a phase that is pending")
    assert (flaw.line, flaw.byte) == (5, len(b"\n".join(segments(system)[0].read_bytes().split(b"\n")[:4])) + 1)
    assert flaw.why.endswith("that decision is lost; it seems to be about phase 3")
    assert flaw.repair.startswith("go back to decision 4: of the phases that it concerns, 3 is completed")
    state = repaired(system)
    assert state.phase(3).is_done, "it says by itself how that phase ended"
    assert seen(state)[1][2] == truth[1][2]


def test_a_line_that_says_what_cannot_be_behind_a_snapshot_is_gone_back_before_too(compacted):
    (compacted / "state.json").unlink()
    add(compacted, ev.AgentLeft("a1", "it went"), failed(2))
    (flaw,) = [flaw for flaw in judged(compacted).flaws if flaw.line]
    assert flaw.what.startswith("it says what cannot be: PhaseFailed")
    state = repaired(compacted)
    assert state.phase(1).is_done and (state.phase(2).status, state.phase(2).attempt) == ("pending", 1)


def test_where_a_segment_begins_with_a_line_that_cannot_be_all_before_it_is_proven(compacted):
    """And what stands behind it is used where it can be."""
    (compacted / "state.json").unlink()
    bases(compacted)[1].unlink()
    segments(compacted)[1].write_bytes(b"")
    proven = Evidence(compacted).best
    add(compacted, completed(3), seq=proven.seq + 1)
    data = segments(compacted)[1].read_bytes()
    chain = int(json.loads(data)["sum"], 16)
    document = {"v": 1, "seq": proven.seq + 2, "at": iso(NOW), "events": [intended(2).as_dict()], "because": [""]}
    segments(compacted)[1].write_bytes(data + encode(document, chain)[0])
    (lost,) = [flaw for flaw in judged(compacted).flaws if flaw.line]
    assert (lost.file, lost.line, lost.byte) == (f"system/journal/{segments(compacted)[1].name}", 1, 0)
    assert lost.repair.startswith(f"go back to decision {proven.seq}, with the 1 whole lines behind the damage")
    state = repaired(compacted)
    assert {number: state.phase(number).place for number in (2, 3)} == {2: "starting", 3: "completed"}


def test_behind_a_line_that_cannot_be_no_attempt_that_left_a_log_is_begun_again(system):
    add(system, failed(3, 4))
    (system / "state.json").unlink()
    log = system / "logs" / "phases" / "3" / "7.log"
    log.parent.mkdir(parents=True, mode=0o700)
    log.touch(0o600)
    phase = repaired(system).phase(3)
    assert (phase.status, phase.attempt) == ("pending", 7)


def test_a_line_that_cannot_be_behind_what_state_json_knows_is_found_at_its_byte(system):
    """Also where the journal before it is damaged: the lines are counted from where state.json ends."""
    size = segments(system)[0].stat().st_size
    add(system, completed(3))
    spoil(segments(system)[0], 2)
    lost = [flaw for flaw in judged(system).flaws if flaw.byte == size]
    assert [flaw.line for flaw in lost] == [5] and lost[0].what.startswith("it says what cannot be")
    assert repaired(system).phase(1).is_done


def test_of_a_first_line_that_cannot_be_what_can_be_counts_once(tmp_path):
    (tmp_path / "system" / "journal").mkdir(parents=True)
    os.chmod(tmp_path / "system", 0o755)
    started = run_started()
    again = ev.RunContinued(**{name: getattr(started, name) for name in ev.RunContinued._fields})
    document = {"v": 1, "seq": 1, "at": iso(NOW), "events": [again.as_dict(), failed(1).as_dict()], "because": ["", ""]}
    line, chain = encode(document, 0)
    second, _ = encode({**document, "seq": 2, "events": [intended(2).as_dict()], "because": [""]}, chain)
    (tmp_path / "system" / "journal" / f"{FIRST}.jsonl").write_bytes(line + second)
    state = repaired(tmp_path / "system")
    assert state.run.id == "r1" and state.run.calls == 1 and state.phase(2).place == "starting"


def test_a_line_of_a_kind_that_nobody_knows_is_refused_by_name(system):
    path, last = segments(system)[0], Evidence(system).from_journal[-1]
    event = {**intended(3).as_dict(), "event": "PhaseEvaporated"}
    document = {"v": 1, "seq": 5, "at": iso(NOW), "events": [event], "because": [""]}
    with open(path, "ab") as file:
        file.write(encode(document, last.position.chain)[0])
    with pytest.raises(Exception, match="line 5 says what this orch cannot follow"):
        judged(system)


def test_a_line_behind_the_damage_that_nobody_can_follow_counts_as_lost(system):
    path, last = segments(system)[0], Evidence(system).from_journal[-1]
    event = {**intended(3).as_dict(), "event": "PhaseEvaporated"}
    document = {"v": 1, "seq": 5, "at": iso(NOW), "events": [event], "because": [""]}
    with open(path, "ab") as file:
        file.write(encode(document, last.position.chain)[0])
    both(system, 3)
    evidence = Evidence(system)
    assert [one.line and one.line.seq for one in evidence.later(evidence.best)] == [None, 4, None]


# ---- what the logs tell


def test_the_highest_attempt_of_each_phase_that_has_a_log_is_told(tmp_path):
    assert attempts_in_logs(tmp_path) == {}
    for name in ("3/1.log", "3/12.log", "3/9.log", "4/2.log", "x/1.log", "4/x.log", "4/99.txt"):
        path = tmp_path / "logs" / "phases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert attempts_in_logs(tmp_path) == {3: 12, 4: 2}


def test_a_new_segment_takes_the_place_of_all_before_it(compacted):
    spoil(segments(compacted)[0], 1)
    old = [*segments(compacted), *bases(compacted)]
    last = read_state(compacted).position.seq
    (flaw,) = judged(compacted).flaws
    assert [step.path for step in flaw.steps if isinstance(step, Put)] == [
        f"journal/{last + 1:012d}.snapshot.json", f"journal/{last + 1:012d}.jsonl", "state.json",
    ]  # fmt: skip
    assert {step.path for step in flaw.steps if isinstance(step, Drop)} == {f"journal/{path.name}" for path in old}
    repaired(compacted)
    assert [path.name for path in segments(compacted)] == [f"{last + 1:012d}.jsonl"]
    assert journal.segments(compacted / "journal")[0].first == last + 1
    assert json.loads(bases(compacted)[0].read_text())["seq"] == last


def test_a_last_line_that_lost_its_newline_to_garbage_is_damage_where_state_json_has_it(system: Path) -> None:
    """Cut off at the end of what state.json knows, the line would stand there without its end."""
    store = store_of(system)
    commit_all(store, [opening(3), *turns(1, 1)])
    store.close()
    path = system / "journal" / "000000000001.jsonl"
    truth = seen(read_state(system).state)
    path.write_bytes(path.read_bytes()[:-1] + b"\xfe garbage")
    (flaw,) = fsck.repair(system.parent).flaws
    assert "it is cut off here, and state.json knows more" in flaw.what
    assert not fsck.examine(system.parent).flaws
    assert seen(read_state(system, verify=True).state) == truth
