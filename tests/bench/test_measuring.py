"""What `make bench` says of a process is held against processes of which it is known: what they use, write and leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import tracing
from tests.warm import PACKAGE

MEASURE = (
    "import json, sys; from pathlib import Path; from bench.measuring import environment, measured\n"
    "how = json.loads(sys.argv[2])\n"
    "run = measured(['sh', '-c', sys.argv[1]], Path('.'), environment(), **how); print(json.dumps(run._asdict()))"
)


def measure(line: str, folder: Path, **how: float) -> dict[str, Any]:
    """In a process of its own: it takes all children that there are for what it has started."""
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, line, json.dumps(how)], cwd=folder, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PACKAGE},
        capture_output=True, text=True, check=True, timeout=50,
    ).stdout  # fmt: skip
    found: dict[str, Any] = json.loads(told)
    return found


def test_what_is_left_behind_is_waited_for_and_counted_but_not_in_the_wall_time(tmp_path: Path) -> None:
    behind = "(trap '' HUP; sleep 2; head -c 300000 /dev/zero >left) &"
    run = measure(f"{behind} echo oh >&2; exit 3", tmp_path)
    assert (run["code"], run["said"]) == (3, "oh\n")
    assert run["wall"] < 1.9
    assert (tmp_path / "left").stat().st_size == 300_000
    assert 300_000 <= run["written"] < 301_000


def test_processor_time_is_that_of_all(tmp_path: Path) -> None:
    busy = f"{sys.executable} -S -c 'sum(range(10_000_000))'"
    alone, both = measure(busy, tmp_path), measure(f"{busy} & {busy}", tmp_path)
    assert both["processor"] > 1.3 * alone["processor"] > 0.05


def test_memory_is_that_of_all_at_once(tmp_path: Path) -> None:
    large = f"{sys.executable} -S -c 'import time; x = bytearray(30_000_000); time.sleep(1)'"
    run = measure(f"{large} & {large}; wait", tmp_path, look_each=0.05)
    assert 57 < run["together"] < 90


def test_what_is_over_its_limit_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    run = measure("setsid sleep 1000 & sleep 1000", tmp_path, limit=0.3)
    assert run["code"] == -9


RECORD = """\
10 execve("/v/bin/orch", ["/v/bin/orch", "run"], 0x1 /* 9 vars */) = 0
10 vfork( <unfinished ...>
11 execve("/v/bin/python", ["python", "/p/orchestrator/agent/__main__.py"], 0x1 /* 9 vars */) = 0
10 <... vfork resumed>) = 11
11 fork() = 12
12 execve("/bin/true", ["true"], 0x1 /* 9 vars */) = 0
12 exit_group(0) = ?
10 write(5</p/system/journal/1>, "two"..., 40) = 40
10 fdatasync(5</p/system/journal/1>) = 0
10 write(7<socket:[1]>, "start"..., 99) = 99
11 fork() = 13
11 epoll_wait(3<anon_inode:[eventpoll]>,  <unfinished ...>
13 execve("/usr/bin/true", ["true"], 0x1 /* 9 vars */) = -1 ENOENT (No such file or directory)
13 execve("/bin/true", ["true"], 0x1 /* 9 vars */) = 0
11 <... epoll_wait resumed>[], 9, -1) = 1
11 write(6</p/system/logs/2>, "", 5) = 5
13 exit_group(0) = ?
10 write(5</p/system/journal/1>, "end"..., 4000) = 4000
"""


def test_a_record_of_strace_is_counted_between_the_ends_of_the_attempts() -> None:
    found = tracing.between(list(tracing._calls(RECORD)), 2)
    assert (found.phases, found.processes, found.syncs, found.bytes_written) == (1, 1, 1, 45)
    assert dict(found.calls[tracing.ORCHESTRATOR]) == {"write": 2, "fdatasync": 1}
    assert dict(found.calls[tracing.HANDS]) == {"fork": 1, "epoll_wait": 1, "write": 1}
    assert dict(found.calls[tracing.WORK]) == {"execve": 2, "exit_group": 1}


def test_where_nothing_may_be_traced_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tracing.CannotTrace, match="there is no strace"):
        tracing.tracing(tmp_path / "record")
