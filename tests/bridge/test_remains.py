from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator import disk, process
from orchestrator.bridge import remains, survey
from orchestrator.core import events as ev
from orchestrator.core import formats
from orchestrator.core.flaw import Drop, Flaw, Put, Step
from orchestrator.core.names import Identity
from orchestrator.core.state import State
from orchestrator.errors import StateDamaged
from tests.core.given import FINE, Case, an

ME = process.myself()
GONE = ME.replace(ticks=1)


def agent(system: Path, name: str = "a1", identity: Identity | str | None = GONE, **outcomes: str) -> Path:
    folder = system / "agents" / name
    disk.make_folder(folder / "outcomes")
    if identity is not None:
        document = identity.encode() if isinstance(identity, str) else survey.identity_document(name, identity)
        disk.replace(folder / "identity.json", document, durable=False)
    for key, text in outcomes.items():
        disk.replace(folder / "outcomes" / f"{key.strip('_').replace('_', '.')}.json", text.encode(), durable=False)
    return folder


def outcome(number: int, attempt: int = 1, run: str = "r1") -> str:
    return json.dumps({"attempt": an(number, attempt, run).key, "outcome": FINE.as_dict()})


def state_of(*live: int, known: dict[str, Identity] | None = None) -> State:
    """Of run r1, with these phases in the hands of a1."""
    case = Case(dict.fromkeys((1, 2, 3), ())).live(*live)
    case.given(ev.AgentLeft("a1", "for the test"))
    return case.given(*(ev.AgentEngaged(name, who) for name, who in (known or {}).items())).state


def found(system: Path, state: State | None) -> list[tuple[str, tuple[Step, ...]]]:
    return [(flaw.file, flaw.steps) for flaw in remains.flaws(system, state)]


def flaw_of(system: Path, state: State | None) -> Flaw:
    (flaw,) = remains.flaws(system, state)
    return flaw


def test_where_no_agent_ever_was_nothing_is_wrong(tmp_path):
    assert remains.flaws(tmp_path, None) == remains.flaws(tmp_path, state_of()) == []
    disk.make_folder(tmp_path / "agents")
    (tmp_path / "agents" / "a file").write_text("")
    assert remains.flaws(tmp_path, state_of()) == []


# ---- identities


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}'])
def test_an_identity_that_cannot_be_read_is_written_anew_where_the_journal_knows_it(tmp_path, text):
    folder = agent(tmp_path, identity=text)
    flaw = flaw_of(tmp_path, state_of(1, known={"a1": GONE}))
    (step,) = flaw.steps
    assert isinstance(step, Put) and step.path == "agents/a1/identity.json" and flaw.repair == "write it anew"
    (folder / "identity.json").write_bytes(step.data)
    assert survey.read_identity(folder) == GONE
    assert remains.flaws(tmp_path, state_of(1, known={"a1": GONE})) == []


def test_an_identity_that_nobody_knows_is_moved_away(tmp_path):
    agent(tmp_path, identity="{")
    flaw = flaw_of(tmp_path, state_of(1))
    assert flaw.steps == (Drop("agents/a1/identity.json"),) and "it counts as gone" in flaw.why
    assert flaw_of(tmp_path, None) == flaw, "without a state nobody is known"


def test_one_whose_identity_is_missing_is_not_said_to_have_a_damaged_one(tmp_path):
    agent(tmp_path, identity=None)
    assert remains.flaws(tmp_path, state_of(1)) == []


# ---- outcomes


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"attempt": "r1/3.1", "outcome": {"kind": "evaporated"}}', outcome(9)]
)
def test_an_outcome_that_cannot_be_read_is_moved_away_and_what_follows_is_said(tmp_path, text):
    agent(tmp_path, _3_1=text)
    for state in (state_of(3), None):
        flaw = flaw_of(tmp_path, state)
        assert flaw.steps == (Drop("agents/a1/outcomes/3.1.json"),) and "runs it again" in flaw.why


def test_an_outcome_that_the_state_waits_for_is_left_where_it_is(tmp_path):
    agent(tmp_path, _3_1=outcome(3))
    assert remains.flaws(tmp_path, state_of(3)) == []


@pytest.mark.parametrize(
    ("text", "live"),
    [(outcome(3), 1), (outcome(3, run="r0"), 3), (outcome(3, attempt=7), 3)],
    ids=["the phase is not in progress", "of another run", "of another attempt"],
)
def test_an_outcome_that_nobody_waits_for_is_moved_away(tmp_path, text, live):
    key = json.loads(text)["attempt"].partition("/")[2]
    agent(tmp_path, **{f"_{key.replace('.', '_')}": text})
    flaw = flaw_of(tmp_path, state_of(live))
    assert flaw.steps == (Drop(f"agents/a1/outcomes/{key}.json"),)
    assert flaw.what == f"the outcome of attempt {key} is committed already, or belongs to an earlier run"
    assert remains.flaws(tmp_path, None) == [], "where nothing is proven nothing is settled"


def test_an_outcome_of_a_newer_format_is_refused_by_name(tmp_path):
    agent(tmp_path, _3_1=json.dumps({"version": formats.VERSION + 1}))
    with pytest.raises(StateDamaged, match=r"the outcome 3\.1\.json is of format"):
        remains.flaws(tmp_path, state_of(3))


# ---- folders


def test_the_folder_of_one_that_is_gone_takes_room(tmp_path):
    agent(tmp_path)
    flaw = flaw_of(tmp_path, state_of())
    assert flaw.steps == (Drop("agents/a1"),) and flaw.why == "it takes room"


def test_a_folder_is_kept_while_anybody_may_need_it(tmp_path):
    agent(tmp_path, "a1")
    assert remains.flaws(tmp_path, state_of(1)) == [], "an attempt is in its hands"
    assert remains.flaws(tmp_path, None) == [], "nobody knows whether one is"
    agent(tmp_path, "a1", _3_1=outcome(3))
    assert remains.flaws(tmp_path, state_of(3)) == [], "its outcome is waited for"


@pytest.mark.parametrize("who", [ME, ME.replace(host="far/1")], ids=["alive", "out of sight"])
def test_the_folder_of_one_that_is_not_dead_is_kept(tmp_path, who):
    agent(tmp_path, identity=who)
    assert remains.flaws(tmp_path, state_of()) == []
    agent(tmp_path, "a2", identity=None)
    assert remains.flaws(tmp_path, state_of(known={"a2": who})) == []


def test_a_folder_whose_identity_is_written_anew_is_not_moved_away_at_once(tmp_path):
    agent(tmp_path, identity="{")
    assert [type(step) for _, (step,) in found(tmp_path, state_of(known={"a1": GONE}))] == [Put]


def test_what_is_settled_goes_and_with_it_the_folder(tmp_path):
    agent(tmp_path, _3_1=outcome(3), _2_1="{")
    steps = [step for _, steps in found(tmp_path, state_of()) for step in steps]
    assert steps == [Drop("agents/a1/outcomes/2.1.json"), Drop("agents/a1/outcomes/3.1.json"), Drop("agents/a1")]
