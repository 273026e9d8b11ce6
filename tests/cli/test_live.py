from __future__ import annotations

import fcntl
import gc
import os
import re
import signal
import struct
import termios
import time
import tracemalloc
from typing import Any

import pytest
from rich.cells import cached_cell_len

from orchestrator import clock
from orchestrator.cli import watching
from orchestrator.cli.showing import status_lines
from orchestrator.cli.terminal import cells, fitted
from orchestrator.look import Look
from orchestrator.watch.outlet import Outlet
from orchestrator.watch.screen import Paint, Screen
from tests.driving import Project, Terminal, wait_for
from tests.emulator import Emulator

XTERM = {"TERM": "xterm-256color"}
UNTIL_TOLD = "while [ ! -e go ]; do sleep 0.05; done"
BUSY = 'kill_grace = "0.3s"\njobs = 6\nbeat_interval = "0.2s"\n[retry.FAILED]\ntries = 0\n'


def resized(terminal: Terminal, columns: int, lines: int) -> Terminal:
    fcntl.ioctl(terminal._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    return terminal


def seen(terminal: Terminal, columns: int = 80, lines: int = 24) -> Emulator:
    return Emulator(columns, lines).feed(terminal.out.encode())


def frames(terminal: Terminal) -> int:
    return terminal.out.count("\x1b[?2026h")


def many(project: Project, count: int, command: str = "sleep 0.1") -> None:
    project.settings(BUSY)
    project.commands(*({"number": n, "name": f"n{n}", "run": command, "needs": []} for n in range(1, count + 1)))


def test_a_run_on_a_terminal_leaves_only_the_ends_and_the_summary(project: Project) -> None:
    project.settings(BUSY)
    project.commands(
        {"number": 1, "name": "构建", "run": "echo '::progress 1/2 half'; sleep 1.5", "needs": []},
        {"number": 2, "name": "fails", "run": "echo a last line; exit 78", "needs": []},
        {"number": 3, "name": "after", "run": "true", "needs": [2]},
        {"number": 4, "name": "then", "run": "true", "needs": [1]},
    )
    run = project.terminal("run", env=XTERM)
    wait_for(lambda: "━━━━━╌╌╌╌╌   50%" in re.sub(r"\x1b\[[\d;]*m", "", run.out), why="its own bar")
    assert run.wait().code == 1
    shown = seen(run).shown
    assert [" ".join(line.split()[1:4]) for line in shown if re.match(r"\d\d:", line)][1:-1] == [
        "FAILED 2 fails",
        "completed 1 构建",
        "completed 4 then",
    ]
    assert "          | a last line" in shown
    assert "          log: system/logs/phases/2/1.log" in shown
    assert "failed: 2 done, 1 failed, 1 not run, in" in "".join(shown)
    assert "next: `orch logs 2` shows what it printed" in "".join(shown)
    assert not any("━" in line or "╌" in line or "waiting" in line for line in shown)
    assert seen(run).x == 0


def test_at_most_ten_drawings_a_second(project: Project) -> None:
    many(project, 60)
    run = project.terminal("run", env=XTERM)
    wait_for(lambda: frames(run))
    began, before = time.monotonic(), frames(run)
    wait_for(lambda: (run.out, run.is_over)[1])
    took = time.monotonic() - began
    assert run.wait().code == 0
    assert 3 <= frames(run) - before <= 10 * took + 2
    assert sum(" completed " in line for line in seen(run).shown) >= 60


def test_the_size_of_the_terminal_is_followed(project: Project) -> None:
    many(project, 3, UNTIL_TOLD)
    run = project.terminal("run", env=XTERM)
    resized(run, 120, 30)
    wait_for(lambda: " of 1h" in run.out)
    before = len(run.out)
    resized(run, 40, 20)
    os.kill(_orchestrator(project), signal.SIGWINCH)
    drawn = wait_for(lambda: [part for part in run.out[before:].split("\x1b[?2026h")[1:] if "\x1b[?2026l" in part])
    rows = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", drawn[-1].partition("\x1b[?2026l")[0]).split("\r\n")
    assert max(cells(row) for row in rows) < 40
    run.send(signal.SIGTERM)
    assert run.wait().code == 143


def _orchestrator(project: Project) -> int:
    return int(project.status()["run"]["pid"])


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}], ids=["no TERM", "TERM=dumb"])
def test_a_terminal_that_cannot_be_drawn_on_gets_plain_lines(project: Project, environ: dict[str, str]) -> None:
    many(project, 2)
    run = project.terminal("run", env=environ)
    assert run.wait().code == 0
    assert "\x1b" not in run.out
    assert "start       1 n1" in run.out


def test_quiet_shows_only_failures_on_a_terminal_too(project: Project) -> None:
    project.settings(BUSY)
    project.commands(
        {"number": 1, "name": "fine", "run": "true", "needs": []},
        {"number": 2, "name": "bad", "run": "exit 78", "needs": []},
    )
    run = project.terminal("run", "--quiet", env=XTERM)
    assert run.wait().code == 1
    assert "\x1b" not in run.out
    assert [line.partition("  ")[2].split()[:2] for line in run.out.splitlines() if line[0] != " "] == [["FAILED", "2"]]


def test_in_a_pipe_the_live_view_is_not_even_loaded(project: Project) -> None:
    many(project, 1)
    ended = project.orch("run", env={**XTERM, "PYTHONPROFILEIMPORTTIME": "1"})
    assert ended.code == 0
    assert "orchestrator.watch.plain" in ended.err
    assert "orchestrator.watch.live" not in ended.err
    assert "rich.style" not in ended.err
    assert "\x1b" not in ended.out


def test_no_color_leaves_colours_out(project: Project) -> None:
    many(project, 1, "sleep 0.3")
    run = project.terminal("run", env={**XTERM, "NO_COLOR": "1"})
    assert run.wait().code == 0
    assert frames(run)
    assert not re.search(r"\x1b\[(\d;)?3\dm", run.out)


def test_a_killed_run_leaves_a_terminal_that_needs_no_repair(project: Project) -> None:
    many(project, 3, UNTIL_TOLD)
    run = project.terminal("run", env=XTERM)
    wait_for(lambda: frames(run) >= 2)
    run.kill()
    assert "\x1b[?25l" not in run.out  # the cursor was never hidden
    assert "\x1b[?1049h" not in run.out
    shown = seen(run)
    assert (shown.x, shown._rows[shown.y]) == (0, []), "the prompt would not be on a line of its own"
    assert project.orch("cancel").code == 0


def test_ctrl_c_ends_the_view_with_the_run(project: Project) -> None:
    many(project, 3, "sleep 20")
    run = project.terminal("run", env=XTERM)
    wait_for(lambda: frames(run) >= 2 and list(project.statuses().values()) == ["in_progress"] * 3)
    run.type(b"\x03")
    assert run.wait().code == 130
    shown = seen(run).shown
    assert any("SIGINT: ending 3 attempts" in line for line in shown)
    assert shown[-1] == "          next: `orch run` goes on from here"
    assert not any("╌" in line for line in shown)


def test_a_terminal_that_goes_away_ends_nothing(project: Project) -> None:
    many(project, 12, "sleep 0.3")
    run = project.terminal("run", env=XTERM)
    wait_for(lambda: frames(run))
    run.close()
    wait_for(lambda: run.is_over)
    assert set(project.statuses().values()) == {"completed"}


def test_a_terminal_that_is_not_read_delays_nothing(project: Project) -> None:
    """As after Ctrl-S: far more is shown than a terminal holds."""
    project.settings(BUSY)
    project.file(
        "phases/p.py",
        "from orchestrator import phase\n"
        "for n in range(1, 81):\n"
        "    @phase(n, name=f'n{n}', needs=[])\n"
        "    def work(ctx):\n"
        "        return {'verdict': 'x' * 1500}\n",
    )
    run = project.terminal("run", env=XTERM)
    wait_for(lambda: run.popen.poll() is not None, 40)
    assert run.popen.returncode == 0
    assert set(project.statuses().values()) == {"completed"}


# ---- status --watch


def test_watching_draws_in_place_until_the_run_is_over(project: Project) -> None:
    many(project, 3, UNTIL_TOLD)
    run = project.start("run")
    wait_for(lambda: "in_progress" in project.statuses().values())
    watch = project.terminal("status", "--watch", env=XTERM)
    wait_for(lambda: frames(watch) >= 2, why="drawn again")
    assert sum("n1" in line for line in seen(watch).shown) == 1
    project.file("go", "")
    assert run.wait().code == 0
    assert watch.wait().code == 0
    shown = seen(watch, columns=120).shown
    assert len(shown) == 4
    assert ": finished, 3 of 3 done, completed at 2" in shown[0]
    assert all("completed" in line for line in shown)


def test_watching_more_phases_than_lines_shows_those_that_matter(project: Project) -> None:
    many(project, 40, UNTIL_TOLD)
    project.start("run")
    wait_for(lambda: list(project.statuses().values()).count("in_progress") == 6)
    watch = project.terminal("status", "--watch", env=XTERM)
    wait_for(lambda: frames(watch))
    shown = seen(watch).shown
    assert len(shown) == 23
    assert sum("in_progress" in line for line in shown) == 6
    assert shown[-1] == "and 19 that need no attention: `orch status --all` shows them"
    watch.type(b"\x03")
    assert watch.wait().code == 130
    assert "interrupted" not in watch.out
    assert project.orch("cancel").code == 0


def test_watching_in_a_pipe_prints_again_only_when_something_happened(project: Project) -> None:
    project.settings(BUSY)
    project.commands(
        {"number": 1, "name": "one", "run": UNTIL_TOLD, "needs": []},
        {"number": 2, "name": "two", "run": "true", "needs": [1]},
    )
    project.start("run")
    wait_for(lambda: project.phases().get(1, {}).get("step") == "running")
    watch = project.start("status", "--watch", env=XTERM)
    watch.wait_for("one  in_progress")
    project.file("go", "")
    assert watch.wait().code == 0
    assert "\x1b" not in watch.out
    looks = watch.out.split("\n\n")
    assert 2 <= len(looks) <= 4, watch.out
    assert "one  in_progress" in looks[0]
    assert "two  completed" in looks[-1]


def test_watching_nothing_says_so_and_ends(project: Project) -> None:
    many(project, 1)
    assert project.orch("status", "--watch").out == "no run yet: `orch run` begins one\n"
    refused = project.orch("status", "--watch", "--json")
    assert (refused.code, refused.out) == (2, "")


class Enough(Exception):
    pass


@pytest.mark.parametrize("in_place", [True, False])
def test_hundreds_of_refreshes_grow_nothing(project: Project, monkeypatch: pytest.MonkeyPatch, in_place: bool) -> None:
    many(project, 2, UNTIL_TOLD)
    project.start("run")
    wait_for(lambda: "in_progress" in project.statuses().values())
    null = os.open("/dev/null", os.O_WRONLY)
    outlet = Outlet(null)
    display = watching.InPlace(Screen(outlet, lambda: (80, 24), Paint({}))) if in_place else watching.Again(outlet)
    sizes: list[tuple[int, int]] = []
    turns = iter(range(10_000))

    def words(look: Look, **how: Any) -> list[str]:
        return status_lines(look, everything=False, **how)

    def pause(seconds: float) -> None:
        turn = next(turns)
        if turn in (50, 110, 170):
            gc.collect()
            cached_cell_len.cache_clear()  # bounded by itself
            sizes.append((tracemalloc.get_traced_memory()[0], len(os.listdir("/proc/self/fd"))))
        if turn == 170:
            raise Enough

    monkeypatch.setattr(clock, "pause", pause)
    tracemalloc.start()
    try:
        with pytest.raises(Enough):
            watching._until_over(project.root, words, outlet, display)
    finally:
        tracemalloc.stop()
        monkeypatch.undo()
        outlet.close()
        os.close(null)
        assert project.orch("cancel").code == 0
    (first, files), (second, files_later), (third, files_last) = sizes
    assert files == files_later == files_last
    # What is loaded once, however late, is no leak: a leak grows each time.
    assert min(second - first, third - second) < 60 * 300, "what is kept of each refresh is too much for a day of them"


# ---- widths


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 5, "abc  "),
        ("构建", 5, "构建 "),
        ("abcdef", 4, "abc…"),
        ("构建搜索", 6, "构建… "),
        ("构建搜索", 5, "构建…"),
    ],
)
def test_chinese_letters_take_two_cells(text: str, width: int, shown: str) -> None:
    assert fitted(text, width) == shown
    assert cells(shown) == width
