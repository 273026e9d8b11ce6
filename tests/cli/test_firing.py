"""orch cron fire, as cron starts it: each instant has one record, whatever runs, waits, hangs or is killed meanwhile."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.asking import ask
from orchestrator.cli.firing import Firing
from orchestrator.config import settings
from orchestrator.core.events import InstantSettled
from orchestrator.core.names import epoch, iso
from orchestrator.core.schedule import Schedule
from orchestrator.core.state import INSTANTS_KEPT, State
from orchestrator.store import schedules
from orchestrator.store.queue import Queue
from tests.driving import FAST, Project, Started, wait_for
from tests.services.listening import Server

GATE = 'echo $ORCH_DUE >> dues; until [ -e "go" ]; do sleep 0.02; done'
PLAIN = "echo $ORCH_DUE >> dues"
EACH = 'echo $ORCH_DUE >> dues; n=$(wc -l < dues); until [ -e "go$n" ]; do sleep 0.02; done'


class Calendar:
    """A schedule whose instants are full minutes of the last few, added when the test wants one more to have come."""

    def __init__(self, project: Project, **policy: Any) -> None:
        self.project, self._policy = project, policy
        self.base = int(time.time()) // 60 * 60 - 8 * 60
        self.instants: list[float] = []

    def comes(self, *minutes: int) -> list[str]:
        """These minutes after the base are due now, too."""
        added = [float(self.base + 60 * minute) for minute in minutes]
        self.instants = sorted({*self.instants, *added})
        times = [datetime.fromtimestamp(instant, UTC) for instant in self.instants]
        at = f"{_listed(time.minute for time in times)} {_listed(time.hour for time in times)} * * *"
        fields = {"tz": "UTC", "since": iso(self.base - 30), **self._policy}
        schedules.write(self.project.system, Schedule("nightly", at, **fields))
        return [iso(instant) for instant in added]

    def start(self) -> Started:
        return self.project.start("cron", "fire", "nightly")

    def runs(self, minute: int) -> tuple[list[str], Started]:
        """The instant of that minute has come, and its run goes on."""
        many, due, started = len(dues(self.project)), self.comes(minute), self.start()
        is_running(self.project, many + 1)
        return due, started

    def waits(self, minute: int) -> tuple[list[str], Started]:
        """The same, where its run waits for its turn."""
        due, started = self.comes(minute), self.start()
        wait_for(lambda: Queue(self.project.system, "nightly").waiting() == epoch(due[0]))
        return due, started

    def fire(self) -> int:
        ended = self.start().wait()
        assert "Traceback" not in ended.text and "fault of orch" not in ended.text, ended
        return ended.code

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.project.state().get("schedules", {}).get("nightly", [])
        return found

    def told(self) -> list[tuple[str, str]]:
        """Instant by instant, each once; `why` of what was skipped."""
        found = []
        for record in self.records():
            first, last = epoch(record["due"]), epoch(record["last"] or record["due"])
            of = [instant for instant in self.instants if first <= instant <= last]
            assert len(of) == record["count"], record
            found += [(iso(instant), record["how"]) for instant in of]
        assert len({due for due, _ in found}) == len(found), found
        return sorted(found)


def _listed(numbers: Any) -> str:
    return ",".join(map(str, sorted(set(numbers))))


@pytest.fixture
def busy(project: Project) -> Project:
    project.settings(FAST)
    project.commands({"number": 1, "name": "work", "run": GATE})
    (project.root / "system").mkdir(exist_ok=True)
    return project


def dues(project: Project) -> list[str]:
    return project.lines("dues")


def go(project: Project) -> Path:
    return project.file("go", "")


def is_running(project: Project, many: int = 1) -> None:
    wait_for(lambda: len(dues(project)) == many)


def test_an_instant_is_run_once_and_the_run_knows_it(busy: Project) -> None:
    go(busy)
    calendar = Calendar(busy)
    assert calendar.start().wait().code == 2, "there is no such schedule yet"
    (due,) = calendar.comes(6)
    for _ in range(2):
        ended = calendar.start().wait()
        assert ended == (0, "", ""), "silent, and the second time there is nothing to do"
    assert dues(busy) == [due] and calendar.told() == [(due, "ran")]
    assert calendar.records()[0]["run"] == busy.state()["run"]["id"]
    (second,) = calendar.comes(7)
    assert calendar.fire() == 0
    assert dues(busy) == [due, second], "each instant begins a run of its own"


def test_a_failure_is_said_and_has_the_exit_code_of_the_run(busy: Project) -> None:
    busy.commands({"number": 1, "name": "work", "run": "echo broken; exit 3", "retries": 0})
    calendar = Calendar(busy)
    calendar.comes(7)
    ended = calendar.start().wait()
    assert ended.code == 1 and "FAILED" in ended.text and "broken" in ended.text
    assert calendar.fire() == 0, "it is settled: nothing is due"


def test_skip_leaves_a_record_of_the_run_that_was_going_on(busy: Project) -> None:
    calendar = Calendar(busy)
    first, running = calendar.runs(5)
    skipped = calendar.comes(6, 7)
    ended = calendar.start().wait()
    assert ended == (75, "", "")
    assert calendar.fire() == 0
    go(busy)
    assert running.wait().code == 0
    assert dues(busy) == first
    assert calendar.told() == [(first[0], "ran"), (skipped[0], "skipped"), (skipped[1], "skipped")]
    assert f"run {busy.state()['run']['id']} was still going on" in json.dumps(calendar.records())


def test_queue_lets_one_wait_and_no_second(busy: Project) -> None:
    calendar = Calendar(busy, overlap="queue")
    first, running = calendar.runs(3)
    second, waiting = calendar.waits(4)
    third = calendar.comes(5)
    assert calendar.fire() == 75
    assert "waiting for its turn already" in json.dumps(calendar.records())
    go(busy)
    assert running.wait().code == 0 and waiting.wait().code == 0
    assert dues(busy) == [*first, *second]
    assert calendar.told() == [(first[0], "ran"), (second[0], "ran"), (third[0], "skipped")]


def test_a_waiting_one_that_is_killed_leaves_the_place_and_its_instant_is_missed(busy: Project) -> None:
    calendar = Calendar(busy, overlap="queue")
    first, running = calendar.runs(3)
    second, waiting = calendar.waits(4)
    waiting.kill()
    third, other = calendar.waits(5)
    go(busy)
    assert running.wait().code == 0 and other.wait().code == 0
    assert calendar.told() == [(first[0], "ran"), (second[0], "skipped"), (third[0], "ran")]


def test_replace_ends_the_run_that_goes_on(busy: Project) -> None:
    calendar = Calendar(busy, overlap="replace")
    first, running = calendar.runs(4)
    second = calendar.comes(5)
    replacing = calendar.start()
    assert running.wait().code == 1
    is_running(busy, 2)
    go(busy)
    assert replacing.wait().code == 0
    assert dues(busy) == [*first, *second] and calendar.told() == [(first[0], "ran"), (second[0], "ran")]
    assert [run["verdict"] for run in busy.state()["runs"]] == ["cancelled", "completed"]


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_after_kill_9_the_next_instant_meets_the_work_that_goes_on(busy: Project, overlap: str) -> None:
    calendar = Calendar(busy, overlap=overlap)
    first, running = calendar.runs(4)
    running.kill()
    second = calendar.comes(5)
    other = calendar.start()
    if overlap == "skip":
        assert other.wait().code == 75
        go(busy)
    else:
        if overlap == "replace":
            is_running(busy, 2)
        go(busy)
        assert other.wait().code == 0
    assert calendar.told() == [(first[0], "ran"), (second[0], "skipped" if overlap == "skip" else "ran")]
    busy.orch("recover")


def test_a_hand_is_an_overlap_like_any_other_and_what_was_missed_is_said(busy: Project) -> None:
    run = busy.start("run", "--quiet")
    is_running(busy)
    calendar = Calendar(busy)
    missed = calendar.comes(2, 3)
    late = calendar.comes(7)
    assert calendar.fire() == 75
    go(busy)
    assert run.wait().code == 0
    assert [how for _, how in calendar.told()] == ["skipped"] * 3
    assert [(record["missed"], record["count"]) for record in calendar.records()] == [(True, 2), (False, 1)]
    assert calendar.records()[1]["due"] == late[0] and calendar.records()[0]["due"] == missed[0]


def test_what_was_missed_is_caught_up_in_its_turn_or_only_the_newest(busy: Project) -> None:
    go(busy)
    calendar = Calendar(busy, overlap="queue", catch_up=3600.0, catch_up_all=True)
    came = calendar.comes(1, 2, 7)
    assert calendar.fire() == 0
    assert dues(busy) == came
    assert calendar.told() == [(came[0], "caught_up"), (came[1], "caught_up"), (came[2], "ran")]
    busy.file("dues", "")
    newest = Calendar(busy, catch_up=3600.0)
    schedules.remove(busy.system, "nightly")
    (busy.system / "state.json").unlink()
    for path in sorted((busy.system / "journal").iterdir()):
        path.unlink()
    came = newest.comes(1, 2, 7)
    assert newest.fire() == 0
    assert dues(busy) == [came[2]]
    assert newest.told() == [(came[0], "skipped"), (came[1], "skipped"), (came[2], "ran")]


def test_what_cannot_begin_says_why_and_has_its_record(busy: Project) -> None:
    busy.file("phases/bad.toml", "[[phase]]\nnumber = 1\n")
    calendar = Calendar(busy)
    (due,) = calendar.comes(7)
    ended = calendar.start().wait()
    assert ended.code == 2 and "bad.toml" in ended.err
    assert calendar.told() == [(due, "skipped")]
    assert "it could not begin: the phases have" in calendar.records()[0]["why"]
    assert calendar.records()[0]["missed"], "somebody is to hear of it"
    assert "it could not begin" in busy.orch("health").out
    assert calendar.fire() == 0


def test_what_kept_it_from_beginning_is_said_also_where_it_cannot_be_noted(busy: Project) -> None:
    busy.file("phases/bad.toml", "[[phase]]\nnumber = 1\n")
    calendar = Calendar(busy)
    calendar.comes(7)
    (busy.system / "asks").write_text("in the way")
    ended = calendar.start().wait()
    assert ended.code == 2 and "bad.toml" in ended.err and "the instant has no record yet" in ended.err


def test_settings_that_are_wrong_are_told_to_those_whom_they_name(busy: Project, server: Server) -> None:
    (busy.root / "orch.toml").write_text(f'jbos = 3\n[notify.ops]\nurl = "{server.url()}"\n')
    calendar = Calendar(busy)
    (due,) = calendar.comes(6)
    ended = calendar.start().wait()
    assert ended.code == 2 and "jbos is not a setting" in ended.err
    assert calendar.told() == [(due, "skipped")] and "jbos" in calendar.records()[0]["why"]
    wait_for(lambda: server.taken)
    assert server.taken[0].document["event"] == "missed" and "jbos is not a setting" in server.taken[0].document["text"]
    (busy.root / "orch.toml").write_text("jobs = [")
    calendar.comes(7)
    assert calendar.fire() == 2
    assert len(calendar.records()) == 1, "whom to tell cannot be read either; it has its record when that can be"
    go(busy)
    busy.settings(FAST)
    assert calendar.fire() == 0 and len(calendar.told()) == 2


def test_one_that_goes_on_takes_over_what_was_left(busy: Project) -> None:
    busy.commands(
        {"number": 1, "name": "work", "run": PLAIN}, {"number": 2, "name": "more", "run": "test -e go", "retries": 0}
    )
    calendar = Calendar(busy, anew=False)
    first = calendar.comes(5)
    assert calendar.fire() == 1
    go(busy)
    calendar.comes(6)
    assert calendar.fire() == 0
    assert dues(busy) == first, "what was done is done"
    calendar.comes(7)
    assert calendar.fire() == 0
    assert [how for _, how in calendar.told()] == ["ran"] * 3
    assert len(busy.state()["runs"]) == 1


def test_many_at_once_settle_an_instant_once(busy: Project) -> None:
    go(busy)
    calendar = Calendar(busy, overlap="queue")
    (due,) = calendar.comes(7)
    started = [calendar.start() for _ in range(6)]
    codes = sorted(one.wait().code for one in started)
    assert codes[0] == 0 and set(codes) <= {0, 75}
    assert dues(busy) == [due] and calendar.told() == [(due, "ran")]


def test_killed_at_any_moment_no_instant_has_two_records_and_none_is_lost(busy: Project) -> None:
    busy.commands({"number": 1, "name": "work", "run": PLAIN})
    calendar = Calendar(busy)
    minutes = list(range(2, 8))
    for place, minute in enumerate(minutes):
        calendar.comes(minute)
        started = calendar.start()
        time.sleep(0.05 * place)
        started.popen.send_signal(signal.SIGKILL)
        started.popen.wait(30)
    wait_for(lambda: calendar.fire() == 0)
    told = calendar.told()
    assert [due for due, _ in told] == [iso(instant) for instant in calendar.instants]
    assert len(dues(busy)) == len(set(dues(busy))), "none was begun twice"


def test_whoever_watches_knows_by_when_to_look(busy: Project) -> None:
    go(busy)
    calendar = Calendar(busy, watch=900.0)
    calendar.comes(7)
    assert calendar.fire() == 0
    by = schedules.read_next(busy.system, "nightly")
    assert by is not None and by > time.time() + 900
    assert calendar.fire() == 0
    assert schedules.read_next(busy.system, "nightly") == by


def test_what_was_only_missed_is_noted_at_once_while_another_run_goes_on(busy: Project) -> None:
    run = busy.start("run", "--quiet")
    is_running(busy)
    calendar = Calendar(busy, overlap="queue", since=iso(time.time() - 3600))
    (missed,) = calendar.comes(-10)
    assert calendar.fire() == 75, "it does not go round and round until the run is over"
    assert not run.is_over and calendar.told() == [(missed, "skipped")]
    go(busy)
    assert run.wait().code == 0


@pytest.mark.parametrize("overlap", ["queue", "replace"])
def test_the_place_is_free_as_soon_as_what_waited_has_begun(busy: Project, overlap: str) -> None:
    busy.commands({"number": 1, "name": "work", "run": EACH})
    calendar = Calendar(busy, overlap=overlap)
    started, came = [], []
    for many, minute in enumerate((3, 4, 5), 1):
        came += calendar.comes(minute)
        started.append(calendar.start())
        if overlap == "queue" and many > 1:
            wait_for(lambda due=came[-1]: Queue(busy.system, "nightly").waiting() == epoch(due))
            busy.file(f"go{many - 1}", "")
        is_running(busy, many)
    busy.file("go3", "")
    codes = [one.wait().code for one in started]
    assert codes == ([0, 0, 0] if overlap == "queue" else [1, 1, 0])
    assert dues(busy) == came and [how for _, how in calendar.told()] == ["ran"] * 3


def test_all_that_is_caught_up_keeps_its_turn_while_cron_asks_again_and_again(busy: Project) -> None:
    busy.commands({"number": 1, "name": "work", "run": EACH})
    calendar = Calendar(busy, overlap="queue", catch_up=3600.0, catch_up_all=True)
    came = calendar.comes(1, 2, 3, 4)
    started = [calendar.start()]
    is_running(busy)
    started.append(calendar.start())
    wait_for(lambda: Queue(busy.system, "nightly").waiting() == epoch(came[1]))
    assert calendar.fire() == 0, "a third has nothing to do: the second goes on with the rest"
    for number in range(1, 5):
        busy.file(f"go{number}", "")
    assert [one.wait().code for one in started] == [0, 0]
    assert dues(busy) == came and {how for _, how in calendar.told()} <= {"caught_up", "ran"}


@pytest.mark.parametrize("again", [False, True])
def test_what_waits_begins_nothing_after_its_schedule_was_removed(busy: Project, again: bool) -> None:
    calendar = Calendar(busy, overlap="queue")
    first, running = calendar.runs(3)
    _, waiting = calendar.waits(4)
    assert schedules.remove(busy.system, "nightly")
    if again:
        schedules.write(busy.system, Schedule("nightly", "* * * * *", overlap="queue", since=iso(time.time() + 3600)))
    assert waiting.wait() == (0, "", ""), "at once"
    assert not running.is_over
    go(busy)
    assert running.wait().code == 0 and dues(busy) == first
    assert schedules.names(busy.system) == ["nightly"][:again]


def test_what_waits_has_its_turn_however_many_were_left_out_meanwhile(busy: Project) -> None:
    calendar = Calendar(busy, overlap="queue")
    calendar.comes(3)
    running = calendar.start()
    is_running(busy)
    (second,) = calendar.comes(4)
    waiting = calendar.start()
    wait_for(lambda: Queue(busy.system, "nightly").waiting() == epoch(second))
    later = (iso(epoch(second) + many) for many in range(1, INSTANTS_KEPT + 1))
    left_out = [json.dumps(InstantSettled("nightly", due, "skipped").as_dict()) for due in later]
    ask(busy.root, settings(busy.root, {}, {}), "settle", None, options=left_out)
    go(busy)
    assert running.wait().code == 0 and waiting.wait().code == 0
    assert dues(busy)[1:] == [second]


def test_where_nobody_else_is_started_the_late_one_has_its_turn_after_our_own_run(busy: Project) -> None:
    now = time.time()
    minute = datetime.fromtimestamp(now - 1200, UTC).minute
    hourly = Schedule("nightly", f"{minute} * * * *", tz="UTC", overlap="queue", systemd=True, since=iso(now - 20_000))
    schedules.write(busy.system, hourly)
    firing = Firing(busy.root, settings(busy.root, {}, {}), hourly, {})
    assert firing._meet(State()).chosen is None, "whoever begins now makes up for nothing"
    firing._began = now - 3 * 3600
    met = firing._meet(State())
    assert met.chosen is not None and now - epoch(met.chosen.due) < 1320, "of those that came the latest"
    assert [one.how for one in (*met.settled, met.chosen)] == ["skipped", "ran"]


def test_a_night_that_was_cut_off_stays_in_the_history(busy: Project) -> None:
    calendar = Calendar(busy, overlap="replace")
    calendar.comes(4)
    running = calendar.start()
    is_running(busy)
    cut = busy.state()["run"]["id"]
    running.kill()
    go(busy)
    calendar.comes(5)
    assert calendar.fire() == 0
    told = [(run["id"] == cut, run["verdict"]) for run in busy.state()["runs"]]
    assert told == [(True, "interrupted"), (False, "completed")]
    assert f"run {cut}  interrupted" in busy.orch("history").out
