"""orch history: what is drawn from durations, what stands out among many phases, and the command itself."""

from __future__ import annotations

import json
import re
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestrator.cli.history import ASCII, MANY, UNICODE, Row, document, lines, rows_of, sparkline, trend
from orchestrator.cli.instants import instants_lines, record_line
from orchestrator.core.events import InstantSettled
from orchestrator.core.phase import PhaseState
from orchestrator.core.state import State
from tests.driving import Project, wait_for

RUN = {
    "id": "20261120T010000-abcd", "due": "2026-11-20T01:00:00.000Z", "started_at": "2026-11-20T01:00:00.100Z",
    "finished_at": "2026-11-20T01:03:05.100Z", "calls": 1, "verdict": "completed", "done": 3, "total": 3,
}  # fmt: skip


def state_of(phases: dict[int, tuple[float, ...]], runs: tuple[dict[str, Any], ...] = (RUN,)) -> State:
    state = State()
    state.runs = list(runs)
    for number, durations in phases.items():
        state._put(number, PhaseState("completed", name=f"p{number}", durations=durations))
    return state


def told(state: State, number: int | None = None, *, everything: bool = False, marks: Any = UNICODE) -> list[str]:
    return lines(state, rows_of(state, number), marks, number, everything=everything)


# ---- one phase


def test_a_sparkline_goes_from_the_least_to_the_most() -> None:
    assert sparkline((1, 2, 3, 4, 5, 6, 7, 8), UNICODE.levels) == "▁▂▃▄▅▆▇█"
    assert sparkline((8, 1, 8), UNICODE.levels) == "█▁█"
    assert sparkline((8, 1, 8), ASCII.levels) == "@.@"


@pytest.mark.parametrize("values", [(5.0,), (5.0, 5.0), (0.0, 0.0), (5.0, 5.05, 4.99)])
def test_noise_is_drawn_flat(values: tuple[float, ...]) -> None:
    assert sparkline(values, UNICODE.levels) == "▄" * len(values)


@pytest.mark.parametrize(
    ("durations", "unicode", "ascii_"),
    [
        ((10.0,), "the first", "the first"),
        ((10.0, 10.4), "→ as usual", "as usual"),
        ((10.0, 30.0, 20.0, 30.0), "↑ 50 % slower", "50 % slower"),
        ((10.0, 10.0, 7.0), "↓ 30 % faster", "30 % faster"),
        ((0.0, 1.0), "", ""),
    ],
)
def test_the_trend_holds_the_last_against_the_median_of_those_before(
    durations: tuple[float, ...], unicode: str, ascii_: str
) -> None:
    row = Row(1, "one", durations)
    assert (trend(row, UNICODE), trend(row, ASCII)) == (unicode, ascii_)
    assert trend(row, ASCII).isascii()


def test_one_phase_is_told_in_full() -> None:
    assert told(state_of({3: (10.0, 30.0, 20.0, 30.0)}), 3) == [
        "phase 3 p3  ▁█▄█".replace("▄", UNICODE.levels[round(0.5 * 7)]),
        "  last 30s, ↑ 50 % slower",
        "  median 25s, from 10s to 30s, in 4 attempts that succeeded",
        "  the newest last: 10s, 30s, 20s, 30s",
    ]
    never = told(state_of({3: ()}), 3)
    assert never == ["phase 3 p3 has never succeeded: `orch status` says where it stands, `orch story 3` why"]


# ---- all of them


def test_runs_then_phases() -> None:
    late = {**RUN, "started_at": "2026-11-20T01:02:00.000Z", "calls": 3, "verdict": "failed", "done": 2}
    shown = told(state_of({-8: (1.0, 1.0), 2: (90.0,)}, (RUN, late)))
    assert shown == [
        "run 20261120T010000-abcd  completed      3m 05s  3/3 done",
        "run 20261120T010000-abcd  failed         1m 05s  2/3 done, 3 calls, was due 2m 00s before it began",
        "",
        "phase  name  durations    median      last  trend",
        "   -8  p-8   ▄▄            1.00s     1.00s  → as usual",
        "    2  p2    ▄            1m 30s    1m 30s  the first",
    ]


def test_what_became_of_instants_is_told_by_schedule() -> None:
    state = state_of({})
    state.apply(InstantSettled("nightly", "2026-11-19T02:00:00.000Z", "caught_up", run="r0"), 1_795_060_800.0)
    why = "nobody began it in time"
    several = {"last": "2026-11-20T04:00:00.000Z", "count": 3}
    state.apply(InstantSettled("nightly", "2026-11-20T02:00:00.000Z", "skipped", why, **several), 1_795_140_000.0)
    state.apply(InstantSettled("nightly", "2026-11-21T02:00:00.000Z", "ran", run="r1"), 1_795_226_401.0)
    assert instants_lines(state.schedules, UTC, 2) == [
        "schedule nightly",
        "  (1 earlier: `orch history --all` shows them)",
        "  Fri 2026-11-20 02:00 UTC to Fri 2026-11-20 04:00 UTC: 3  skipped    nobody began it in time",
        "  Sat 2026-11-21 02:00 UTC  ran        run r1",
        "",
    ]
    berlin = ZoneInfo("Europe/Berlin")
    assert (
        record_line(state.schedules["nightly"][0], berlin) == "Thu 2026-11-19 03:00 CET  caught up  run r0, 2h 00m late"
    )
    shown = told(state)
    assert shown[2] == "schedule nightly"
    assert document(state, [])["schedules"]["nightly"][2]["how"] == "ran"


def test_the_plain_form_is_ascii() -> None:
    assert "\n".join(told(state_of({1: (1.0, 9.0, 4.0)}), marks=ASCII)).isascii()


def test_a_due_time_that_is_no_time_is_left_out() -> None:
    assert "due" not in "".join(told(state_of({}, ({**RUN, "due": "nightly"},))))


def test_names_of_any_width_stay_in_their_column() -> None:
    state = state_of({1: (1.0,), 2: (1.0,)})
    state.phases[1] = state.phase(1).replace(name="数据准备")
    state.phases[2] = state.phase(2).replace(name="a" * 100)
    first, second = told(state)[-2:]
    assert "数据准备" in first and len(second) < 90 and "…" in second


def test_of_many_phases_only_those_that_stand_out() -> None:
    usual = dict.fromkeys(range(1, 1001), (20.0, 20.0, 20.5))
    state = state_of({**usual, 500: (20.0, 20.0, 60.0), 600: (0.1, 0.1, 0.2), 700: (3000.0, 3000.0)})
    shown = told(state)
    numbers = {int(line.split()[0]) for line in shown if re.match(r" +\d+  p", line)}
    assert {500, 700} <= numbers and 600 not in numbers and len(numbers) <= MANY
    assert shown[-1] == f"and {1000 - len(numbers)} that do not stand out: `orch history --all` shows them"
    assert len(told(state, everything=True)) > 1000


def test_the_runs_of_long_ago_are_only_counted() -> None:
    shown = told(state_of({}, tuple({**RUN, "id": f"r{number}"} for number in range(100))))
    assert shown[0] == "(80 earlier runs: `orch history --all` shows them)"
    assert sum(line.startswith("run ") for line in shown) == 20
    everything = told(state_of({}, (RUN,) * 100), everything=True)
    assert sum(line.startswith("run ") for line in everything) == 100


def test_phases_that_are_defined_no_more_are_left_out() -> None:
    state = state_of({1: (1.0,), 2: (1.0,)})
    state.phases[2] = state.phase(2).replace(planned=False)
    assert [row.number for row in rows_of(state)] == [1]


def test_json_has_every_figure() -> None:
    state = state_of({1: (10.0, 20.0, 30.0), 2: (5.0,)})
    assert document(state, rows_of(state)) == {
        "runs": [RUN], "schedules": {},
        "phases": [
            {"number": 1, "name": "p1", "durations_seconds": [10.0, 20.0, 30.0], "median_seconds": 20.0,
             "last_seconds": 30.0, "trend_percent": 100.0},
            {"number": 2, "name": "p2", "durations_seconds": [5.0], "median_seconds": 5.0, "last_seconds": 5.0,
             "trend_percent": None},
        ],
    }  # fmt: skip


# ---- the command


def test_the_history_of_two_runs(project: Project) -> None:
    project.commands({"number": -1, "name": "one", "run": "sleep 0.1"}, {"number": 2, "name": "two", "run": "exit 3"})
    empty = project.orch("history")
    assert empty.code == 0 and empty.out.startswith("nothing has been finished yet")
    for _ in range(2):
        assert project.orch("run", "--new").code == 1
    shown = project.orch("history")
    assert shown.code == 0 and len(re.findall(r"run \S+  failed .* 1/2 done", shown.out)) == 2
    assert re.search(r"^ +-1  one +▄▄|^ +-1  one +[▁█]{2}", shown.out, re.MULTILINE)
    assert "two" not in shown.out  # it never succeeded
    document = json.loads(project.orch("history", "--json").out)
    assert [len(phase["durations_seconds"]) for phase in document["phases"]] == [2]
    assert [run["verdict"] for run in document["runs"]] == ["failed", "failed"]


def test_one_phase_by_its_number_and_the_answer_to_a_wrong_one(project: Project) -> None:
    project.commands({"number": -1, "name": "one", "run": "true"}, {"number": 2, "name": "two", "run": "false"})
    project.orch("run")
    assert project.orch("history", "--phase", "-1").out.startswith("phase -1 one")
    assert "never succeeded" in project.orch("history", "--phase", "2").out
    wrong = project.orch("history", "--phase", "7")
    assert wrong.code == 2 and "nothing is known of a phase 7" in wrong.err and not wrong.out


def test_a_dumb_terminal_and_a_plain_locale_get_ascii(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "true"})
    for _ in range(2):
        project.orch("run", "--new")
    assert not project.orch("history").out.isascii()
    assert project.orch("history", env={"TERM": "dumb"}).out.isascii()
    assert project.orch("history", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}).out.isascii()


def test_it_writes_nothing_and_works_while_a_run_goes_on(project: Project) -> None:
    project.commands(
        {"number": 1, "name": "one", "run": "true"}, {"number": 2, "name": "two", "run": "sleep 30", "needs": [1]}
    )
    run = project.start("run")
    wait_for(lambda: project.statuses().get(2) == "in_progress")
    shown = project.orch("history")
    assert shown.code == 0 and "has not ended: `orch status` shows where it stands" in shown.out
    project.orch("cancel")
    assert run.wait().code != 0


# ---- the time left, as a reader gets it


def test_status_tells_the_time_left_once_something_is_known_and_not_of_a_run_that_is_over(project: Project) -> None:
    project.settings('beat_interval = "0.3s"\nkill_grace = "0.3s"\n')
    project.commands(
        {"number": 1, "name": "one", "run": "until [ -e go ]; do sleep 0.05; done"},
        {"number": 2, "name": "two", "run": "sleep 20", "needs": [1]},
    )

    def eta() -> Any:
        return project.status()["progress"]["eta_seconds"]

    run = project.start("run")
    wait_for(lambda: project.statuses().get(1) == "in_progress")
    assert eta() is None
    project.file("go", "")
    # What phase 1 took may be over before the next asking: then it says 0, until phase 2 has outlived it.
    first = run.until(lambda: (told := eta()) and told["high"] > 0 and told)
    assert 0 <= first["low"] <= first["likely"] <= first["high"]
    project.orch("cancel")
    assert run.wait().code != 0
    assert eta() is None
