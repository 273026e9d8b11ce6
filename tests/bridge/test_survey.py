from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.bridge.survey import (
    clear,
    identity_document,
    is_dead,
    outcome_files,
    outcomes,
    read_identity,
    survey,
    take,
)
from orchestrator.core import formats
from orchestrator.core.names import Identity
from orchestrator.core.reconcile import ALIVE, DEAD, UNKNOWABLE, Finding
from orchestrator.errors import StateDamaged
from tests.core.given import FINE, an

ME = process.myself()
GONE = ME.replace(ticks=1)


def agent(system: Path, name: str, identity: Identity | None = ME, **outcomes: object) -> Path:
    """A folder as an agent leaves it; an outcome that is no text is written as JSON."""
    folder = system / "agents" / name
    (folder / "outcomes").mkdir(parents=True)
    if identity is not None:
        (folder / "identity.json").write_text(json.dumps(identity.as_dict()))
    for key, document in outcomes.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / "outcomes" / f"{key.strip('_').replace('_', '.')}.json").write_text(text)
    return folder


def outcome(number: int) -> dict[str, object]:
    return {"attempt": an(number).key, "outcome": FINE.as_dict()}


def test_nobody_is_there(tmp_path):
    assert survey(tmp_path, {}) == []


def test_each_agent_with_a_folder_is_looked_at_and_its_outcomes_with_it(tmp_path):
    far = ME.replace(host="far/1")
    agent(tmp_path, "a1")
    agent(tmp_path, "a2", GONE, _3_1=outcome(3))
    agent(tmp_path, "a3", far)
    agent(tmp_path, "a4", None)
    (tmp_path / "agents" / "a file").write_text("")
    assert survey(tmp_path, {}) == [
        Finding("a1", ALIVE, ME), Finding("a2", DEAD, GONE, None, {an(3): FINE}), Finding("a3", UNKNOWABLE, far),
        Finding("a4", DEAD),
    ]  # fmt: skip


def test_a_stopped_agent_is_alive(tmp_path):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    identity = process.identity(pid)
    try:
        agent(tmp_path, "a1", identity)
        assert survey(tmp_path, {}) == [Finding("a1", ALIVE, identity)]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert survey(tmp_path, {}) == [Finding("a1", DEAD, identity)]


def test_an_agent_that_lives_although_its_folder_is_gone_is_found_and_a_dead_one_is_not(tmp_path):
    agent(tmp_path, "a1")
    assert survey(tmp_path, {"a1": GONE, "a2": ME, "a3": GONE}) == [Finding("a1", ALIVE, ME), Finding("a2", ALIVE, ME)]


def test_an_identity_that_is_damaged_into_one_of_another_host_hides_nobody_whom_the_journal_knows(tmp_path):
    agent(tmp_path, "a1", GONE.replace(host="elsewhere/1"))
    assert survey(tmp_path, {"a1": GONE}) == [Finding("a1", DEAD, GONE)]
    assert survey(tmp_path, {}) == [Finding("a1", UNKNOWABLE, GONE.replace(host="elsewhere/1"))]


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"pid": "x"}'])
def test_an_identity_that_cannot_be_read_is_nobodys(tmp_path, text):
    folder = agent(tmp_path, "a1", None)
    (folder / "identity.json").write_text(text)
    assert read_identity(folder) is None and survey(tmp_path, {}) == [Finding("a1", DEAD)]


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "{}", '{"attempt": 3, "outcome": {}}', '{"attempt": "r1/x.1", "outcome": {}}',
     '{"attempt": "r1/3.1", "outcome": {"kind": "evaporated"}}', '{"attempt": "r1/3.1", "outcome": {"kind": "lost", "x": 1}}',
     '{"attempt": "r1/3.1", "outcome": [1]}'],
)  # fmt: skip
def test_an_outcome_that_cannot_be_read_is_left_where_it_is(tmp_path, text):
    folder = agent(tmp_path, "a1", GONE, _3_1=text, _4_1=outcome(4))
    assert [attempt for attempt, _, _ in outcomes(folder)] == [an(4)]
    take(folder, an(4))
    clear(folder)
    assert (folder / "outcomes" / "3.1.json").read_text() == text


def test_a_taken_outcome_is_gone_and_with_the_last_one_the_folder(tmp_path):
    folder = agent(tmp_path, "a1", GONE, _3_1=outcome(3), _4_1=outcome(4))
    take(folder, an(3))
    take(folder, an(3))
    clear(folder)
    assert [attempt for attempt, _, _ in outcomes(folder)] == [an(4)]
    take(folder, an(4))
    clear(folder)
    assert not folder.exists()


def test_an_identity_is_read_back_as_it_is_written(tmp_path):
    (tmp_path / "identity.json").write_bytes(identity_document("a1", ME))
    assert read_identity(tmp_path) == ME and json.loads(identity_document("a1", ME))["agent"] == "a1"


def test_an_outcome_of_a_newer_format_waits_and_is_named(tmp_path):
    folder = agent(tmp_path, "a1", GONE, _3_1={**outcome(3), "version": formats.VERSION + 1})
    for look in (lambda: outcomes(folder), lambda: survey(tmp_path, {})):
        with pytest.raises(StateDamaged, match=r"the outcome 3\.1\.json is of format 2"):
            look()
    assert (folder / "outcomes" / "3.1.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_seconds": "1"}, {"duration_seconds": True}, {"started_at": 1e13}, {"exit_status": 1.5}, {"out_of_memory": 1},
        {"signal": "9"}, {"log": 5}, {"leftovers": [1]}, {"tail": [None]}, {"failure": {"code": "BAD", "message": ""}},
        {"failure": {"code": "FAILED", "message": 3}},
    ],
)  # fmt: skip
def test_an_outcome_with_something_else_in_a_field_is_none(tmp_path, changes):
    whole = {"attempt": an(3).key, "outcome": {**FINE.as_dict(), **changes}}
    assert outcomes(agent(tmp_path, "a1", GONE, _3_1=whole)) == []


def test_an_outcome_under_the_name_of_another_is_none(tmp_path):
    assert outcomes(agent(tmp_path, "a1", GONE, _3_1=outcome(4))) == []


def test_a_folder_that_goes_while_we_look_holds_nothing(tmp_path):
    assert outcome_files(tmp_path / "gone") == [] and outcomes(tmp_path / "gone") == [] and is_dead(tmp_path / "gone")
