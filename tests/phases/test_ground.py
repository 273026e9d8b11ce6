"""phases/_ground.py: a folder that goes, a process that goes, whatever happens; figures that are right."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import ConfigurationFault, PermissionFault, Resource, TimeoutFault, process
from phases._ground import child, sampled, scratch, spread

ROOT = Path(__file__).resolve().parents[2]

WAITS_IN_A_SCRATCH = """
import sys, time
from orchestrator import Context
from phases._ground import scratch
with scratch(Context(phase=-6, project=sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


def waiting(project: Path) -> tuple[subprocess.Popen[str], Path]:
    started = subprocess.Popen(
        [sys.executable, "-c", WAITS_IN_A_SCRATCH, project],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout
    return started, Path(started.stdout.readline().strip())


def test_a_scratch_folder_lies_in_system_and_goes(make, empty):
    with scratch(make(-6)) as folder:
        assert folder.parent == make(-6).path("system")
        (folder / "inner").mkdir()
    assert empty(make(-6))


def test_a_scratch_folder_goes_when_the_phase_fails(make, empty):
    with pytest.raises(ZeroDivisionError), scratch(make(-6)):
        1 / 0  # noqa: B018
    assert empty(make(-6))


def test_a_scratch_folder_goes_when_the_phase_is_asked_to_end(make, empty):
    started, folder = waiting(make(-6).project)
    with started:
        assert (folder / "file").exists()
        started.terminate()
    assert started.returncode == 128 + signal.SIGTERM
    assert empty(make(-6))


def test_what_an_attempt_left_that_was_killed_goes_with_the_next(make, empty):
    started, folder = waiting(make(-6).project)
    with started:
        started.kill()
    assert folder.exists()
    with scratch(make(-3)):
        assert folder.exists()  # another phase's
    with scratch(make(-6)):
        assert not folder.exists()
    assert empty(make(-6))


def test_sigterm_is_as_it_was_afterwards(make):
    before = signal.getsignal(signal.SIGTERM)
    with scratch(make(-6)):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_folder_that_may_not_be_written_is_a_fault_of_permission(make):
    context = make(-6)
    context.path("system").rmdir()
    context.path("system").symlink_to("/sys/kernel")  # where not even root may make a folder
    with (
        pytest.raises(PermissionFault, match=r"project/system.*: make .*project/system writable for user \d+"),
        scratch(context),
    ):
        pass


def test_a_missing_folder_is_a_fault_of_configuration(make):
    context = make(-6)
    context.path("system").rmdir()
    with pytest.raises(ConfigurationFault, match=r"No such file.*must be a folder on a disk"), scratch(context):
        pass


def test_a_full_disk_is_a_want_of_room(make, empty):
    with pytest.raises(Resource, match=r"No space left on device: free space"), scratch(make(-6)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")
    assert empty(make(-6))


def test_a_child_says_things_and_ends():
    with child(lambda say: [say(number) for number in range(3)]) as other:
        assert [other.hear() for _ in range(4)] == [0, 1, 2, None]


def test_a_child_that_waits_for_ever_goes_with_the_block_and_all_that_it_started():
    def work(say):
        say(os.getpid())
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(60)
        say(pid)
        time.sleep(60)

    with child(work) as other:
        pids = [other.hear(), other.hear()]
        assert [process.identity(pid) is not None for pid in pids] == [True, True]
    who = process.identity(pids[1])
    assert process.entry_of(pids[0]) is None
    assert who is None or process.await_end(who, 5)


def test_a_child_that_says_nothing_is_not_waited_for_for_ever():
    with child(lambda say: time.sleep(60)) as other, pytest.raises(TimeoutFault, match=r"said nothing for 0\.05 s"):
        other.hear(0.05)


def test_a_child_that_fails_ends_without_a_word(capfd):
    with child(lambda say: say({}["missing"])) as other:
        assert other.hear() is None
    assert "KeyError: 'missing'" in capfd.readouterr().err


def test_figures_of_samples():
    assert spread("x", [0.001 * n for n in range(1, 101)]) == {"x_median_ms": 50.5, "x_p95_ms": 96.0}
    assert spread("x", [0.002]) == {"x_median_ms": 2.0, "x_p95_ms": 2.0}


def test_what_is_slow_is_measured_less_often():
    assert len(sampled(lambda: None, 20)) == 20
    assert len(sampled(lambda: time.sleep(0.02), 50, at_most_seconds=0.01)) == 1


def test_a_child_is_over_when_it_ends_although_another_holds_its_pipe():
    def work(say):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        say(pid)

    with child(work) as other:
        grandchild = other.hear()
        try:
            assert other.hear(5.0) is None
        finally:
            os.kill(grandchild, signal.SIGKILL)
