from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.events import Event
from orchestrator.core.outcome import Failure, Outcome
from orchestrator.watch.plain import NEVER, JsonLines, PlainLines
from tests.core.given import FINE, NOW, Case, an, failing, intended, retrying, run_asked


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    @property
    def plainly(self) -> list[str]:
        """Without the time of day, which is that of the reader."""
        return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in self.lines]


BROKEN = Outcome("exited", 1, failure=Failure("NOT_FOUND", "no data"), log="2.log", tail=("reading", "no such file"))


def told(watcher: PlainLines | JsonLines) -> Case:
    """Two phases start; one ends well, the other fails for good, and the run with it."""
    case = Case({1: (), 2: ()})
    for batch in ([obs.Tick()], [obs.Ended(an(1), FINE)], [obs.Ended(an(2), BROKEN)]):
        decision = case.step(*batch)
        watcher.tell(batch, decision, case.state, case.agenda, case.plan, case.moment)
    return case


def test_a_line_for_each_start_and_end_and_the_evidence_of_a_failure_at_once():
    said = Said()
    told(PlainLines(said))
    starts = [line for line in said.plainly if line.startswith("start ")]
    assert [line.split()[1:3] for line in starts] == [["1", "p1"], ["2", "p2"]]
    assert any(line.startswith("completed") and "1 p1" in line for line in said.plainly)
    failed = next(index for index, line in enumerate(said.plainly) if line.startswith("FAILED"))
    assert "2 p2" in said.plainly[failed] and "NOT_FOUND: no data" in said.plainly[failed]
    evidence = "\n".join(said.lines[failed + 1 : failed + 5])
    assert "| reading" in evidence and "| no such file" in evidence and "log: 2.log" in evidence
    assert any("run r1 failed" in line for line in said.plainly)


def test_quiet_says_only_what_failed():
    said = Said()
    told(PlainLines(said, quiet=True))
    assert said.plainly[0].startswith("FAILED") and not any(
        "completed" in line or "start" in line for line in said.plainly
    )


def test_starts_are_left_out_where_they_are_seen_anyway():
    said = Said()
    told(PlainLines(said, starts=False))
    assert not any(line.startswith("start ") for line in said.plainly) and any(
        line.startswith("completed") for line in said.plainly
    )


def test_a_retry_says_when_and_how_to_have_it_now():
    case, said = Case({1: ()}).live(1), Said()
    batch = [obs.Ended(an(1), failing())]
    PlainLines(said).tell(batch, case.step(*batch), case.state, case.agenda, case.plan, case.moment)
    assert (
        said.plainly[0].startswith("RETRY")
        and "TRANSIENT: no" in said.plainly[0]
        and "`orch retry 1`" in said.plainly[0]
    )


@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_is_said_of_nothing(quiet):
    said = Said()
    watcher = PlainLines(said, quiet=quiet)
    assert watcher.tend() == NEVER and said.lines == []


def test_json_is_every_event_as_it_is_in_the_journal():
    said = Said()
    case = told(JsonLines(said))
    documents = [json.loads(line) for line in said.lines]
    assert [document["event"] for document in documents] == [
        "AttemptIntended", "AttemptIntended", "PhaseCompleted", "PhaseFailed", "RunEnded",
    ]  # fmt: skip
    for document in documents:
        assert document.pop("at").startswith("2027-01-15T08:00:00")
        assert Event.from_dict(document).kind == document["event"]
    assert case.state.run.verdict == "failed" and JsonLines(said).tend() == NEVER


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_that_goes_on_with_nothing_but_a_retry_that_is_due_later_says_until_when(quiet):
    case, said = Case({1: (), 2: (1,)}).given(intended(1), retrying(1), ev.RunEnded("waiting", 3)), Said()
    batch = [run_asked()]
    PlainLines(said, quiet=quiet).tell(batch, case.step(*batch), case.state, case.agenda, case.plan, case.moment)
    due = datetime.fromtimestamp(NOW + 60).astimezone().strftime("%H:%M:%S")
    waits = [line for line in said.plainly if line.startswith("waits ")]
    assert waits == ([] if quiet else [f"waits       1 p1  until its retry is due at {due}; now: `orch retry 1`"])
