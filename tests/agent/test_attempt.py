"""Attempts of commands, by a real agent."""

from __future__ import annotations

import json
import os
import resource
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.core.outcome import failure_of
from orchestrator.core.spec import Limits
from orchestrator.process.groups import Groups
from tests.agent.driving import Driven, order, wait_for

OF_THE_C_LIBRARY = 0b11 << 31  # signals 32 and 33, which no program may set: they are as our own parent left them


def test_success_with_result_and_output(agent: Driven) -> None:
    what = order(1, "echo one; echo two >&2; echo '{\"n\": [1, 2]}' > $ORCH_RESULT")
    agent.owner.start(what)
    started = agent.owner.wait("started", what)
    outcome = agent.owner.outcome(what)
    assert outcome.succeeded
    assert outcome.result == {"n": [1, 2]}
    assert outcome.tail == ("one", "two")
    assert outcome.log == what.log
    assert (agent.project / what.log).read_text() == "one\ntwo\n"
    assert stat.S_IMODE((agent.project / what.log).stat().st_mode) == 0o600
    assert started["pid"] > 1
    assert started["ticks"] > 0
    assert outcome.started_at == started["at"]
    assert not list((agent.folder / "work").iterdir())


@pytest.mark.parametrize(
    ("run", "kind", "status", "number", "code"),
    [
        ("exit 3", "exited", 3, None, "FAILED"),
        ("exit 75", "exited", 75, None, "TRANSIENT"),
        ("exit 78", "exited", 78, None, "CONFIGURATION"),
        ("exit 69", "exited", 69, None, "DEPENDENCY"),
        ("no-such-command", "exited", 127, None, "NOT_FOUND"),
        ("kill -SEGV $$", "signalled", None, 11, "FAILED"),
        ("kill -XCPU $$", "signalled", None, 24, "RESOURCE"),
        ("sh -c 'kill -XCPU $$'; exit $?", "exited", 152, None, "RESOURCE"),
    ],
)
def test_how_a_command_says_it(
    agent: Driven, run: str, kind: str, status: int | None, number: int | None, code: str
) -> None:
    outcome = agent.owner.run(order(1, run))
    assert (outcome.kind, outcome.exit_status, outcome.signal) == (kind, status, number)
    assert failure_of(outcome).code == code


def test_a_kill_by_a_person_is_told_from_a_lack_of_memory_where_it_is_counted(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "kill -KILL $$"))
    assert (outcome.kind, outcome.signal) == ("signalled", 9)
    told = {False: "FAILED", None: "RESOURCE"}  # somewhere on this machine memory may just have run out
    assert failure_of(outcome).code == told[outcome.out_of_memory]
    assert (outcome.out_of_memory is None) <= (Groups().ran_out_of_memory(None) is None or _oom_kills() > 0)


def _oom_kills() -> int:
    counted = [line.split() for line in Path("/proc/vmstat").read_text().splitlines()]
    return sum(int(number) for name, number in counted if name == "oom_kill")


def test_a_limit_of_memory_that_was_reached_is_a_lack_of_it(agent: Driven) -> None:
    greedy = (sys.executable, "-I", "-S", "-c", "bytearray(1 << 40)")
    outcome = agent.owner.run(order(1, greedy, limits=Limits(memory=500 * 1024 * 1024)))
    assert failure_of(outcome).code == "RESOURCE"
    assert "memory had run out" in failure_of(outcome).message
    assert failure_of(agent.owner.run(order(2, greedy))).code == "FAILED"  # there it was no limit of ours


def test_a_list_is_run_without_a_shell(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, ("echo", "$HOME; exit 1")))
    assert outcome.succeeded
    assert outcome.tail == ("$HOME; exit 1",)


def test_programs_that_cannot_be_run(agent: Driven) -> None:
    (agent.project / "plain").write_text("#!/bin/sh\n")
    (agent.project / "odd").write_text("\x00\x01")
    (agent.project / "odd").chmod(0o700)
    for number, (run, code, word) in enumerate(
        [
            (("no-such-program", "x"), "NOT_FOUND", "no-such-program"),
            (("./nowhere",), "NOT_FOUND", "./nowhere"),
            (("./plain",), "PERMISSION", "./plain"),
            (("./odd",), "CONFIGURATION", "./odd"),
            ((), "CONFIGURATION", "run"),
        ],
        1,
    ):
        outcome = agent.owner.run(order(number, run))
        assert outcome.kind == "never_started"
        failure = failure_of(outcome)
        assert (failure.code, word in failure.message) == (code, True), failure


def test_path_of_the_attempt_is_searched(agent: Driven) -> None:
    tool = agent.project / "bin" / "my-tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o700)
    outcome = agent.owner.run(order(1, ("my-tool",), env={"PATH": f"{tool.parent}:/usr/bin:/bin"}))
    assert outcome.tail == ("mine",)


def test_environment_and_folder(agents: Callable[..., Driven]) -> None:
    agent = agents(env={"FROM_AGENT": "yes", "LEVEL": "1"})
    (agent.project / "sub").mkdir()
    what = order(7, "env; echo cwd=$(/bin/pwd -P)", cwd="sub", env={"LEVEL": "9", "ORCH_PHASE": "forged"})
    outcome = agent.owner.run(what)
    lines = (agent.project / what.log).read_text().splitlines()
    assert outcome.succeeded
    for expected in (
        "FROM_AGENT=yes",
        "LEVEL=9",
        "ORCH_RUN=r1",
        "ORCH_PHASE=3",
        "ORCH_ATTEMPT=7",
        f"ORCH_PROJECT={agent.project}",
        f"ORCH_AGENT={agent.agent}",
        f"ORCH_DUE={what.due}",
        f"TRACEPARENT={what.trace}",
        f"PWD={agent.project}/sub",
        f"cwd={os.path.realpath(agent.project)}/sub",
    ):
        assert expected in lines


def test_nothing_is_inherited(agent: Driven) -> None:
    outcome = agent.owner.run(
        order(1, "ls -l /proc/self/fd | grep -v ' -> /proc/' | grep -c -- '->'; readlink /proc/self/fd/0")
    )
    assert outcome.tail == ("3", "/dev/null")


def test_signals_are_as_in_a_fresh_shell(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "grep -E 'Sig(Blk|Ign)' /proc/self/status"))
    assert [int(line.split()[1], 16) & ~OF_THE_C_LIBRARY for line in outcome.tail] == [0, 0]


@pytest.mark.parametrize(("cwd", "code"), [("nowhere", "NOT_FOUND"), ("../..", "CONFIGURATION")])
def test_folders_that_cannot_be(agent: Driven, cwd: str, code: str) -> None:
    outcome = agent.owner.run(order(1, "true", cwd=cwd))
    assert outcome.kind == "never_started"
    assert failure_of(outcome).code == code
    assert cwd in failure_of(outcome).message


def test_a_broken_definition_fails_with_its_sentence(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, None, broken="phases/p03.py: its import did not finish within 30s"))
    assert outcome.kind == "never_started"
    assert outcome.failure is not None
    assert outcome.failure.code == "CONFIGURATION"
    assert "did not finish" in outcome.failure.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": 1,}', "line 1"),
        ("[NaN]", "NaN"),
        ("x" * 2_000_000, "1048576"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_results_that_are_none(agent: Driven, text: str, word: str) -> None:
    (agent.project / "text").write_text(text)
    outcome = agent.owner.run(order(1, "cat text > $ORCH_RESULT"))
    assert not outcome.succeeded
    assert outcome.failure is not None
    assert outcome.failure.code == "VALIDATION"
    assert word in outcome.failure.message
    assert outcome.result is None


def test_a_result_file_that_never_ends(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "mkfifo $ORCH_RESULT"), seconds=10)
    assert outcome.failure is not None
    assert outcome.failure.code == "VALIDATION"


def test_progress_lines(agent: Driven) -> None:
    what = order(
        1, "printf '::prog'; sleep 0.3; printf 'ress 3/10 reading\\n'; echo x::progress 9/10; echo; sleep 1", timeout=9
    )
    agent.owner.start(what)

    def beat() -> dict[str, object] | None:
        agent.owner.listen(0.1)
        beats = [
            message["attempts"].get(what.attempt.key) for message in agent.owner.heard if message["kind"] == "beat"
        ]
        return next((each for each in beats if each and each["done"] is not None), None)

    seen = wait_for(beat)
    assert (seen["done"], seen["total"], seen["text"]) == (3, 10, "reading")
    assert seen["line"] == "x::progress 9/10"
    assert agent.owner.outcome(what).succeeded


def test_who_promised_progress_and_is_silent_hangs(agent: Driven) -> None:
    what = order(
        1, "for i in 1 2 3 4 5 6; do echo ::progress $i/6; sleep 0.2; done; sleep 1000.25", heartbeat_timeout=0.6
    )
    outcome = agent.owner.run(what)
    assert outcome.kind == "hung"
    assert 1.5 < outcome.duration_seconds < 6
    assert failure_of(outcome).code == "TIMEOUT"


def test_no_deadline_swallows_an_exit(agent: Driven) -> None:
    """The agent is stopped over the deadline: when it wakes, exit and deadline are both there."""
    what = order(1, "sleep 0.3; exit 0", timeout=0.8)
    agent.owner.start(what)
    agent.owner.wait("started", what)
    os.kill(agent.pid, 19)
    time.sleep(1.2)
    os.kill(agent.pid, 18)
    assert agent.owner.outcome(what).kind == "exited"


def test_much_output_costs_no_memory_and_a_bounded_file(agent: Driven) -> None:
    what = order(
        1,
        "head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; yes abc | head -n 100000; echo end",
        log_bytes=200_000,
        timeout=50,
    )
    outcome = agent.owner.run(what, seconds=55)
    assert outcome.succeeded
    assert outcome.tail[-1] == "end"
    assert max(map(len, outcome.tail)) <= 500
    log = agent.project / what.log
    assert log.stat().st_size + log.with_name(log.name + ".1").stat().st_size <= 200_000
    assert "bytes before this were dropped" in log.read_text().splitlines()[0]
    peak = int(
        next(line for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines() if "VmHWM" in line).split()[1]
    )
    assert peak < 60_000


def test_bytes_that_are_no_text_are_no_fault(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, r"printf '\377\376 caf\303\251\n'"))
    assert outcome.succeeded
    assert outcome.tail == ("\ufffd\ufffd café",)


def test_limits(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "ulimit -n; ulimit -v", limits=Limits(memory=500 * 1024 * 1024, open_files=99)))
    assert outcome.tail == ("99", str(500 * 1024))
    outcome = agent.owner.run(order(2, "while :; do :; done", limits=Limits(cpu=1), timeout=15))
    assert failure_of(outcome).code == "RESOURCE"
    assert "SIGXCPU" in failure_of(outcome).message


def test_old_logs_are_forgotten(agents: Callable[..., Driven]) -> None:
    agent = agents(forget_logs_after=3)
    for number in range(1, 7):
        assert agent.owner.run(order(number, "echo hi")).succeeded
    names = sorted(path.name for path in (agent.project / "system/logs/phases/3").iterdir())
    assert names == ["4.log", "5.log", "6.log"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs a user of its own")
def test_a_fork_that_fails_is_no_start(agent: Driven) -> None:
    """Descriptors run out in the agent: it says so, and goes on when there are some again."""
    before = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{agent.pid}/fd"))
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (used + 1, before[1]))
    outcome = agent.owner.run(order(1, "true"))
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, before)
    assert outcome.kind == "never_started"
    assert failure_of(outcome).code == "RESOURCE"
    assert agent.owner.run(order(2, "true")).succeeded
    assert len(os.listdir(f"/proc/{agent.pid}/fd")) == used


def test_many_at_once_each_with_its_own_end(agent: Driven) -> None:
    orders = [order(number, f"sleep 0.{number % 5}; exit {number}", phase=number) for number in range(1, 31)]
    for what in orders:
        agent.owner.start(what)
    assert [agent.owner.outcome(what).exit_status for what in orders] == list(range(1, 31))


def test_every_transition_is_in_the_log(agent: Driven) -> None:
    agent.owner.run(order(1, "true"))
    agent.owner.run(order(2, "sleep 9", timeout=0.1))
    log = agent.log()
    for step in (
        "Idle -> Validating",
        "Validating -> Ready",
        "Ready -> Preparing",
        "Preparing -> Running",
        "Running -> Completed",
        "Completed -> Idle",
    ):
        assert f"slot 3.1: {step}" in log
    assert "slot 3.2: Running -> Aborting: timed_out" in log
    assert "slot 3.2: Aborting -> Failed" in log


def test_nothing_is_left_in_the_agent(agent: Driven) -> None:
    """Descriptors, children and control groups, after ends of every kind."""
    assert agent.owner.run(order(1, "true")).succeeded
    before = len(os.listdir(f"/proc/{agent.pid}/fd"))
    for number, run in enumerate(("true", "exit 1", "sleep 100", "kill -9 $$", "setsid sleep 100 &"), 2):
        agent.owner.run(order(number, run, timeout=0.3, kill_grace=0.2))
    agent.owner.run(order(9, ("nope",)))
    assert len(os.listdir(f"/proc/{agent.pid}/fd")) == before
    assert [process.LAUNCHER in process.describe(pid, 500) for pid in process.children_of(agent.pid)] == [True]
    groups = [
        name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith(f"orch-{agent.pid}-")
    ]
    assert len(groups) <= 1  # the last may linger until the next


def test_the_outcome_is_plain_json(agent: Driven) -> None:
    what = order(1, "exit 4")
    agent.owner.start(what)
    told = agent.owner.wait("ended", what)["outcome"]
    assert told == json.loads(json.dumps(told))
