from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator import clock
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.draft import Decision
from orchestrator.core.gate import Approval
from orchestrator.core.item import item
from orchestrator.core.names import Moment
from orchestrator.core.outcome import EXITED, Failure, Outcome
from orchestrator.core.spec import Foreach
from orchestrator.watch import live as live_module
from orchestrator.watch.live import LiveView
from orchestrator.watch.outlet import MOST, Outlet
from orchestrator.watch.plain import PlainLines
from orchestrator.watch.screen import Paint, Row, Screen
from tests.core.given import FINE, NOW, Case, an, run_started
from tests.emulator import Emulator


class Stage:
    """A terminal, a view that writes to it, and a run that is told to the view; time is what the test says it is."""

    def __init__(self, case: Case, columns: int = 80, lines: int = 24, environ: dict[str, str] | None = None) -> None:
        self.master, self._slave = os.openpty()
        self.case, self.terminal, self.raw = case, Emulator(columns, lines), b""
        self.size = (columns, lines)
        self.outlet = Outlet(self._slave)
        self.view = LiveView(self.outlet, lambda: self.size, environ or {})
        opening = (run_started(), ev.PlanAdopted("digest", case.plan.titles()))
        self.view.tell([], Decision(opening, ()), case.state, case.agenda, case.plan, case.moment)
        self.step()

    def step(self, *batch: obs.Observation, after: float = 0.0) -> Stage:
        decision = self.case.step(*batch, after=after)
        self.view.tell(batch, decision, self.case.state, self.case.agenda, self.case.plan, self.case.moment)
        return self

    def look(self, after: float = 0.2) -> list[str]:
        self.case.tick += after
        self.view.tend()
        return self.read().screen

    def read(self) -> Emulator:
        while select.select([self.master], [], [], 0.02)[0]:
            data = os.read(self.master, 65536)
            self.raw += data
            self.terminal.feed(data)
        return self.terminal

    def close(self) -> None:
        self.outlet.close()
        os.close(self._slave)
        os.close(self.master)


@pytest.fixture
def on_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    class Clock:
        def moment(self) -> Moment:
            return made[-1].case.moment if made else Moment(NOW, 0.0)

    monkeypatch.setattr(clock, "System", Clock)

    def make(*args: Any, **how: Any) -> Stage:
        made.append(Stage(*args, **how))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


def beat(number: int, **news: Any) -> obs.Beat:
    told = {"done": None, "total": None, "text": "", "line": "", "idle_seconds": 0.0, **news}
    return obs.Beat("a1", {an(number).key: told})


def started(number: int) -> obs.Started:
    return obs.Started(an(number), 30 + number, 3)


def line_of(lines: list[str], word: str) -> str:
    found = [line for line in lines if word in line]
    assert len(found) == 1, (word, lines)
    return found[0]


# ---- what is seen


def test_a_running_phase_shows_its_own_bar_time_deadline_and_last_line(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: ()}, keys={1: {"timeout": 600.0}}))
    stage.step(started(1), started(2))
    stage.step(beat(1, done=3, total=10, line="shard 3"), after=65)
    line = line_of(stage.look(), "p1")
    assert "━━━╌╌╌╌╌╌╌" in line
    assert "30%" in line
    assert "1m 05s of 10m" in line
    assert line.endswith("shard 3")
    assert "running" in line_of(stage.look(), "p2")


def test_the_text_of_progress_is_shown_rather_than_the_line_that_carried_it(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: ()}))
    stage.step(started(1)).step(beat(1, done=1, total=2, text="packing", line="::progress 1/2 packing"))
    assert line_of(stage.look(), "50%").endswith("packing")


def test_progress_of_an_older_attempt_is_not_that_of_the_one_in_progress(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: ()}))
    stage.step(started(1)).step(beat(1, done=9, total=10), after=1)
    stage.step(obs.Ended(an(1), Outcome(EXITED, 75, duration_seconds=2.0)), after=1)
    stage.step(after=120)
    assert stage.case.state.phase(1).attempt == 2
    stage.step(started_again := obs.Started(an(1, 2), 77, 3)).step(beat(1, done=9, total=10), after=1)
    assert stage.case.state.phase(1).pid == started_again.pid
    assert "90%" not in "\n".join(stage.look())


def test_what_earlier_durations_say_is_marked_as_a_guess(on_stage: Callable[..., Stage]) -> None:
    case = Case({1: ()})
    case.state.phases[1] = case.state.phase(1).replace(durations=(10.0, 20.0, 40.0))
    stage = on_stage(case)
    stage.step(started(1), after=0).step(after=5)
    assert "~25%" in line_of(stage.look(0.0), "p1")


def test_the_whole_is_below_and_counts_what_is_done_and_failed(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: (), 3: (1,), 4: (2,)}))
    stage.step(started(1), started(2))
    stage.step(obs.Ended(an(1), FINE), after=72)
    stage.step(obs.Ended(an(2), Outcome(EXITED, 78, duration_seconds=2.0)))
    lines = stage.look()
    assert lines[-1].startswith(" 25% ━")
    assert "1/4 done  1m 12s  1 FAILED" in lines[-1]
    assert "left" in lines[-1]
    assert line_of(lines, "blocked by what failed")


def test_a_phase_that_ended_scrolls_away_with_its_verdict_and_time(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: (1,)}))
    stage.step(started(1)).look()
    fine = Outcome(EXITED, 0, result={"verdict": "all well"}, duration_seconds=2.0)
    stage.step(obs.Ended(an(1), fine))
    lines = stage.look()
    assert line_of(lines, "completed").endswith("completed   1 p1  2.00s  all well")
    assert lines.index(line_of(lines, "completed")) < lines.index(line_of(lines, " p2"))
    assert sum("p1" in line for line in lines) == 1


def test_a_failure_shows_its_last_lines_and_its_log_at_once_and_the_retry_how_to_have_it_now(
    on_stage: Callable[..., Stage],
) -> None:
    stage = on_stage(Case({7: ()}))
    failure = Failure("TRANSIENT", "status 503")
    outcome = Outcome(EXITED, 1, failure=failure, duration_seconds=2.0, log="logs/7/1.log", tail=("one", "two"))
    stage.step(started(7)).step(obs.Ended(an(7), outcome))
    lines = stage.look()
    at = lines.index(line_of(lines, "RETRY"))
    assert "TRANSIENT: status 503" in lines[at]
    assert [line.strip() for line in lines[at + 1 : at + 5] if line.strip().startswith(("|", "log"))] == [
        "| one",
        "| two",
        "log: logs/7/1.log",
    ]
    assert "retry in 1m 04s, now: orch retry 7" in line_of(lines, "p7  retry")
    assert "retry in 54s, now: orch retry 7" in line_of(stage.look(10.0), "p7  retry")


def test_what_waits_says_for_whom(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: (), 3: (1, 2), 4: (3,)}), columns=120)
    assert line_of(stage.step(started(1)).look(), "waiting") == "     2 waiting; next: 3 p3 for 1 and 2"


def test_more_running_phases_than_lines_are_counted(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case(dict.fromkeys(range(1, 41), ()), jobs=40), lines=20)
    lines = stage.step(*(started(number) for number in range(1, 41))).look()
    assert len(lines) <= 19
    running = [line for line in lines if " of 1h" in line]
    assert f"and {40 - len(running)} more running" in line_of(lines, "more running")
    assert len(running) >= 8


@pytest.mark.parametrize(("columns", "lines"), [(20, 3), (40, 24), (80, 24), (200, 50)])
def test_no_line_is_wider_than_the_terminal(on_stage: Callable[..., Stage], columns: int, lines: int) -> None:
    case = Case(dict.fromkeys(range(1, 30), ()), jobs=12)
    names = {str(number): [f"构建搜索索引_{'x' * number}", ""] for number in range(1, 30)}
    case.given(ev.PlanAdopted("digest", names))
    stage = on_stage(case, columns=columns, lines=lines)
    stage.step(started(1), started(2), beat(1, done=1, total=3, line="输出" * 200))
    stage.step(obs.Ended(an(3), Outcome(EXITED, 75, duration_seconds=1.0)))
    stage.look()
    assert all(row.cells < columns for row in stage.view._screen._drawn)
    assert stage.terminal.screen[-1].startswith("  0% ")


def test_narrow_terminals_still_say_how_to_have_a_retry_now(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1007: ()}), columns=40)
    stage.step(started(1007)).step(obs.Ended(an(1007), Outcome(EXITED, 75, duration_seconds=2.0)))
    assert "now: orch retry 1007" in stage.look()[-2]


def test_what_a_phase_prints_cannot_move_the_cursor(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: ()}))
    stage.step(started(1)).step(beat(1, line="\x1b[2J\x1b[31mred\x1b[0m\ttab\x07 \x9b2J\u202eturned"))
    assert line_of(stage.look(), "p1").endswith("red tab 2Jturned")


def test_without_colours_every_word_is_still_there(on_stage: Callable[..., Stage]) -> None:
    def shown(environ: dict[str, str]) -> tuple[list[str], bytes]:
        stage = on_stage(Case({1: (), 2: ()}), environ=environ)
        stage.step(started(1), started(2)).step(obs.Ended(an(1), Outcome(EXITED, 78, duration_seconds=2.0)))
        return [line.partition("  ")[2] for line in stage.look()], stage.raw

    coloured, bytes_of_coloured = shown({})
    plain, bytes_of_plain = shown({"NO_COLOR": "1"})
    assert plain == coloured
    assert b"\x1b[1;31mFAILED" in bytes_of_coloured
    assert not any(b"\x1b[%s3%dm" % (bold, colour) in bytes_of_plain for colour in range(8) for bold in (b"", b"1;"))


# ---- how it is drawn


def test_at_most_ten_drawings_a_second_however_much_happens(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: ()}))
    stage.step(started(1)).look()
    before = stage.terminal.frames
    for count in range(300):
        stage.step(beat(1, done=count, total=300, line=f"step {count}"), after=0.01)
        stage.view.tend()
    stage.read()
    assert 25 <= stage.terminal.frames - before <= 30


def test_when_nothing_happens_it_is_drawn_once_a_second_and_wakes_the_loop_no_more_often(
    on_stage: Callable[..., Stage],
) -> None:
    stage = on_stage(Case({1: ()}))
    stage.step(started(1)).look()
    before, waits = stage.terminal.frames, []
    for _ in range(10):
        waits.append(stage.view.tend())
        stage.look(waits[-1] + 0.001)
    assert stage.terminal.frames - before == 10
    assert min(waits) > 0.9


def test_a_drawing_overwrites_the_one_before_without_clearing_it_first(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: ()}))
    stage.step(started(1)).look()
    stage.raw = b""
    stage.look(1.1)
    assert stage.raw.count(b"\x1b[J") == 1
    assert stage.raw.endswith(b"\x1b[J\x1b[?2026l")  # only what lies below the new one is cleared
    assert b"?25l" not in stage.raw  # a cursor that is never hidden need not be shown again after kill -9


def test_after_a_resize_nothing_of_the_wider_drawing_is_left(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: (), 3: (1,)}), columns=120)
    stage.step(started(1), started(2)).step(beat(1, done=1, total=2, line="x" * 200)).look()
    for columns, lines in ((50, 24), (30, 10), (120, 30), (41, 20)):
        stage.size = (columns, lines)
        stage.terminal.resize(columns, lines)
        lines_now = stage.look(1.1)
        assert sum(" p1 " in line for line in lines_now) == 1, lines_now
        assert sum(line.startswith("  0% ") for line in lines_now) == 1, lines_now


def test_a_signal_of_another_size_asks_for_a_drawing_soon(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: ()}))
    with stage.view:
        stage.step(started(1)).look()
        before = stage.terminal.frames
        stage.size = (60, 24)
        os.kill(os.getpid(), signal.SIGWINCH)
        assert stage.look(0.11) and stage.terminal.frames == before + 1
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL


def test_at_the_end_only_lines_that_stay_are_left(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: (1,)}))
    with stage.view:
        stage.step(started(1)).look()
        stage.step(obs.Ended(an(1), FINE), after=10)
        stage.step(started(2)).look()
        stage.step(obs.Ended(an(2), FINE), after=10)
        assert stage.case.state.run.verdict == "completed"
        stage.look()
    lines = stage.read().shown
    assert [line.partition("  ")[2] for line in lines if line[0] != " "] == [
        "run r1 begins: all phases, 0/2 done, 2 at a time",
        "completed   1 p1  2.00s",
        "completed   2 p2  2.00s",
        "run r1 completed: 2 done, in 20s",
    ]
    assert [line.strip() for line in lines[-3:]] == [
        "ran 2 phases",
        "the longest path took 4.00s: 1 p1 2.00s, 2 p2 2.00s",
        "next: `orch status` shows it; `orch run --new` does it all again",
    ]
    assert stage.terminal.x == 0


# ---- it is never in the way


def test_a_terminal_that_nobody_reads_costs_drawings_but_no_lines(on_stage: Callable[..., Stage]) -> None:
    numbers = range(1, 301)
    stage = on_stage(Case(dict.fromkeys(numbers, ()), jobs=1), columns=400)
    fine = Outcome(EXITED, 0, result={"verdict": "x" * 300}, duration_seconds=2.0)
    for number in numbers:
        stage.step(started(number)).step(obs.Ended(an(number), fine), after=0.2)
        stage.view.tend()
    queued = len(stage.outlet._waiting)
    assert queued, "the terminal should have been full"
    stage.step(after=5)
    stage.view.tend()
    assert len(stage.outlet._waiting) == queued, "a drawing was queued for a terminal that does not read"
    stage.view.__exit__()
    while not stage.outlet.is_clear:
        stage.read()
        stage.outlet.flush()
    shown = stage.read().shown
    done = [int(line.split()[2]) for line in shown if " completed " in line and "run r1" not in line]
    assert done == list(numbers)
    assert not any("╌" in line for line in shown), "a drawing was left between the lines"


def test_an_outlet_never_waits_for_a_terminal_and_says_how_many_lines_it_dropped() -> None:
    master, slave = os.openpty()
    outlet = Outlet(slave)
    signal.alarm(20)
    try:
        for _ in range(2 * MOST // 100):
            outlet.line("x" * 99)
    finally:
        signal.alarm(0)
    assert not outlet.is_clear
    assert os.get_blocking(slave), "the descriptor is shared with the shell: it must stay as it was"
    shown = b""
    while select.select([master], [], [], 0.05)[0]:
        shown += os.read(master, 65536)
        outlet.flush()
    outlet.line("the end")
    shown += os.read(master, 65536)
    assert b"lines were not shown: nobody read them" in shown
    outlet.close()
    for fd in (master, slave):
        os.close(fd)


def test_a_fault_of_the_display_is_told_and_plain_lines_go_on(
    on_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(view: object) -> list[Row]:
        raise ZeroDivisionError("no columns")

    stage = on_stage(Case({1: (), 2: (1,)}))
    stage.step(started(1)).look()
    monkeypatch.setattr(live_module, "rows_of", broken)
    stage.look(2.0)
    stage.step(obs.Ended(an(1), FINE))
    lines = stage.look()
    assert line_of(lines, "live view failed").startswith("(the live view failed: ZeroDivisionError: no columns")
    assert line_of(lines, "completed   1 p1")
    assert line_of(lines, "start       2 p2")


def test_a_closed_terminal_ends_nothing(on_stage: Callable[..., Stage]) -> None:
    master, slave = os.openpty()
    outlet = Outlet(slave)
    screen = Screen(outlet, lambda: (80, 24), Paint({}))
    os.close(slave)
    os.close(master)
    for count in range(3):
        screen.line("a line")
        screen.draw([Row(79).add(f"row {count}")])
    screen.close()
    outlet.close()
    assert not outlet.is_open


def test_lines_that_fill_the_width_exactly_keep_their_last_letter() -> None:
    master, slave = os.openpty()
    outlet, terminal = Outlet(slave), Emulator(20, 10)
    screen = Screen(outlet, lambda: (20, 10), Paint({}))
    screen.draw([Row(19).add("row " * 4), Row(19).add("below")])
    for text in ("x" * 20, "y" * 41, "中" * 10, "short"):
        screen.line(text)
    screen.draw([Row(19).add("row")])
    screen.close()
    while select.select([master], [], [], 0.05)[0]:
        terminal.feed(os.read(master, 65536))
    assert terminal.shown == ["x" * 20, "y" * 20, "y" * 20, "y", "中" * 10, "short"]
    outlet.close()
    for fd in (master, slave):
        os.close(fd)


# ---- plain lines say now and then what goes on


class Collected:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Case, Collected, PlainLines]]:
    def make(*, quiet: bool = False) -> tuple[Case, Collected, PlainLines]:
        case, shown = Case({1: (), 2: ()}), Collected()
        plain = PlainLines(shown, quiet=quiet)

        class Clock:
            def moment(self) -> Moment:
                return case.moment

        monkeypatch.setattr(clock, "System", Clock)
        opening = (run_started(), ev.PlanAdopted("digest", case.plan.titles()))
        plain.tell([], Decision(opening, ()), case.state, case.agenda, case.plan, case.moment)
        for batch in ((), (started(1), started(2)), (beat(1, done=9, total=20),)):
            plain.tell(batch, case.step(*batch), case.state, case.agenda, case.plan, case.moment)
        return case, shown, plain

    return make


def test_silence_is_broken_after_30_s_and_then_ever_more_rarely(plainly: Callable[..., Any]) -> None:
    case, shown, plain = plainly()
    before, told_at = len(shown.lines), []
    while case.tick < 7200:
        wait = plain.tend()
        if len(shown.lines) > before:
            told_at.append(case.tick)
            before = len(shown.lines)
        assert wait > 0
        case.tick += wait
    gaps = [round(after - earlier) for earlier, after in zip([0.0, *told_at], told_at, strict=False)]
    assert gaps[:6] == [30, 60, 120, 240, 480, 600]
    assert set(gaps[5:]) == {600}
    assert "running   1 p1 45% for 30s, 2 p2 for 30s; 0/2 done; " in shown.lines[3]


def test_quiet_says_nothing_but_failures(plainly: Callable[..., Any]) -> None:
    case, shown, plain = plainly(quiet=True)
    case.tick += 10_000
    assert plain.tend() == 3600.0
    batch = [obs.Ended(an(1), FINE), obs.Ended(an(2), Outcome(EXITED, 78, duration_seconds=2.0))]
    plain.tell(batch, case.step(*batch), case.state, case.agenda, case.plan, case.moment)
    assert case.state.run.verdict == "failed"
    assert [line for line in shown.lines if not line.startswith(" ")] == [line_of(shown.lines, "FAILED")]


def test_the_summary_names_what_ran_was_kept_and_failed(plainly: Callable[..., Any]) -> None:
    case, shown, plain = plainly()
    batch = [obs.Ended(an(1), FINE), obs.Ended(an(2), Outcome(EXITED, 78, duration_seconds=2.0))]
    plain.tell(batch, case.step(*batch, after=100), case.state, case.agenda, case.plan, case.moment)
    at = shown.lines.index(line_of(shown.lines, "run r1 failed"))
    assert shown.lines[at].endswith("run r1 failed: 1 done, 1 failed, in 1m 40s")
    assert [line.strip() for line in shown.lines[at + 1 :]] == [
        "ran 2 phases",
        "failed: 2 p2 (CONFIGURATION)",
        "next: `orch logs 2` shows what it printed; `orch run` runs what failed again",
    ]


def test_a_phase_that_fans_out_is_one_line_with_how_many_of_how_many(on_stage: Callable[..., Stage]) -> None:
    keys = {"foreach": Foreach(tuple(range(40))), "retries": 0}
    stage = on_stage(Case({1: (), 2: (1,)}, jobs=3, keys={1: keys}))
    stage.step().step(started(item(1, 0)), started(item(1, 1)))
    fine, bad = obs.Ended(an(item(1, 0)), FINE), Outcome(EXITED, 1, failure=Failure("FAILED", "no", log="its.log"))
    lines = stage.step(fine, obs.Ended(an(item(1, 1)), bad), after=5.0).look()
    shown = line_of(lines, "1/40 items")
    assert "1 p1" in shown and "2%" in shown and "1/40 items, 3 running, 1 FAILED" in shown, lines
    assert "1[1] p1  FAILED: no" in line_of(lines, "FAILED: no"), "what failed is said above"
    assert not [line for line in lines if "1[2]" in line], lines
    assert "0/2 done" in lines[-1]


def test_a_paused_run_says_so_and_how_it_goes_on(on_stage: Callable[..., Stage]) -> None:
    stage = on_stage(Case({1: (), 2: (1,)}))
    stage.step(started(1)).step(obs.Asked("k", "pause", "ann", why="moving"))
    assert "0/2 done  0s" in line_of(stage.look(), "PAUSED: orch resume")
    assert "by ann: moving; 1 attempt in hand, nothing new starts" in line_of(stage.look(), "moving")
    stage.size = (50, 24)
    assert stage.look(2.0)[-1].endswith("PAUSED")
    stage.step(obs.Asked("l", "skip", "ann", 2, "by hand")).step(obs.Asked("m", "resume", "ann"))
    shown = stage.look()
    assert "resumed   by ann" in line_of(shown, "resumed") and "2 p2  by ann: by hand" in line_of(shown, "skipped")
    assert "1/2 " in shown[-1] and "PAUSED" not in shown[-1]


def test_who_waits_for_a_person_is_shown_with_what_to_type_and_until_when(on_stage: Callable[..., Stage]) -> None:
    gate = Approval("before", 600.0, who=("ann",), show="figures of today")
    stage = on_stage(Case({1: (), 2: (), 3: (2,)}, keys={2: {"approval": gate}}), columns=110)
    stage.step(started(1))
    line = line_of(stage.look(), "orch approve 2  waits")
    assert line.lstrip().startswith(
        "2 p2  orch approve 2  waits for approval by ann, rejected in 10m: figures of today"
    )
    assert "3 p3 for 2" in line_of(stage.look(), "next:")
    assert "| figures of today" in line_of(stage.look(), "|")
    stage.size = (30, 10)
    stage.look(2.0)
    assert "   2 p2  orch approve 2" in stage.terminal.screen, "what to type is the last to go"
    stage.step(obs.Asked("k", "reject", "ann", 2, "no", (f"gate={stage.case.state.phase(2).gate.id}",)))  # type: ignore[union-attr]
    stage.size = (110, 24)
    assert "2 p2  by ann: no" in line_of(stage.look(2.0), "REJECTED")


def test_many_that_wait_for_a_person_leave_room_for_what_runs(on_stage: Callable[..., Stage]) -> None:
    keys = {number: {"approval": Approval("before")} for number in range(2, 30)}
    stage = on_stage(Case(dict.fromkeys(range(1, 30), ()), keys=keys), lines=24)
    stage.step(started(1))
    shown = stage.look()
    assert "p1" in line_of(shown, "of 1h")
    assert "more to be approved" in "\n".join(shown) and "0/29" in shown[-1]
