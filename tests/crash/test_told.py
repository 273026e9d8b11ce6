"""Killed between a decision and its message, or with a disk that takes nothing: each is put down once, under its id."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.events import Event
from orchestrator.core.telling import Teller
from orchestrator.services import outbox as outboxes
from orchestrator.services.outbox import Outbox
from orchestrator.services.sender import main
from orchestrator.store.reading import read_lines
from tests.crash.injecting import KILL, Done, Fault, command, spread
from tests.crash.instant import FAIL, set_up, stage
from tests.crash.scenes import in_memory
from tests.driving import TIMES, seeded, times, wait_for
from tests.services.given import ended, forked, hurry, steps
from tests.services.listening import OK, UNWELL, Server, server

__all__ = ["server"]

SETTINGS = """
[retry.FAILED]
tries = 2
delay = "0s"
[retry.INTERRUPTED]
delay = "0s"
[notify.ops]
url = "http://127.0.0.1:1/hook"
events = ["failed", "recovered", "gate", "missed", "gave_up", "run_failed", "run_completed"]
[notify.alive]
ping = "http://127.0.0.1:1/ping"
"""
SCRIPT = {1: [FAIL, FAIL], 2: [FAIL, FAIL, FAIL]}  # phase 1 is well at the third try; phase 2 in the next run


def nobody_sends() -> None:
    stage()
    outboxes.process = Silent  # type: ignore[assignment]


class Silent:
    """What is put down stays there."""

    host = staticmethod(outboxes.process.host)

    @staticmethod
    def spawn_detached(argv: object, **how: object) -> int:
        return 2**22


def project(folder: Path, name: str) -> Path:
    root = folder / name
    set_up(root, SETTINGS, SCRIPT)
    return root


def play(root: Path, fault: Fault | None = None, of: str = "system") -> Done:
    return command(root, "run", "--quiet", fault=fault, stage=nobody_sends, of=of)


def put_down(root: Path, target: str) -> list[str]:
    return [letter.message.id for letter in Outbox(root).letters(target)]


def to_be_told(root: Path, events: tuple[str, ...] | None) -> list[str]:
    """What follows from the whole journal, told by one who was never killed."""
    teller, found = Teller(), list[str]()
    for line in read_lines(root / "system"):
        told = teller.hear(line.seq, line.at, [Event.from_dict(one) for one in line.events], lambda number: "")
        pings = ("start", "ok", "fail")
        found += [one.id for one in told.messages if (one.event in pings) == (events is None)]
    return found


def check(root: Path, why: str) -> None:
    for _ in range(3):
        if (done := play(root)).code == 0:
            break
    assert done.code == 0, f"{why}: {done.text}"
    assert put_down(root, "ops") == to_be_told(root, ()), why
    pings = put_down(root, "alive")
    assert pings[: len(to_be_told(root, None))] == to_be_told(root, None), why
    assert len({*pings}) == len(pings)


def test_a_run_that_nobody_kills_tells_each_once() -> None:
    with in_memory() as folder:
        root = project(folder, "whole")
        assert play(root).code == 1
        assert [ident.rpartition(".")[2] for ident in put_down(root, "ops")] == [
            "failed", "recovered", "failed", "gave_up", "run_failed",
        ]  # fmt: skip
        check(root, "not killed")
        assert [ident.rpartition(".")[2] for ident in put_down(root, "ops")][-2:] == ["recovered", "run_completed"]


@pytest.mark.timeout(120 + 10 * TIMES)
@pytest.mark.parametrize("of", ["system/outbox", "system"])
def test_killed_at_each_point_nothing_is_lost_and_nothing_has_two_ids(of: str) -> None:
    with in_memory() as folder:
        points = play(project(folder, "counting"), of=of).points
        assert len(points) > 30
        fired = 0
        for at in spread(len(points), times(7, 1000), seeded().randrange(1000)):
            root = project(folder, f"at{at}")
            fired += play(root, Fault(at, KILL), of).fired is not None
            check(root, f"killed at {at}: {points[at]}")
    print(f"{of}: {len(points)} points, {fired} fired")
    assert fired >= times(5, 20)


@pytest.mark.timeout(120 + 10 * TIMES)
@pytest.mark.parametrize("kind", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("lasts", [False, True])
def test_a_disk_that_takes_no_message_does_not_touch_the_run(kind: str, lasts: bool) -> None:
    with in_memory() as folder:
        points = play(project(folder, "counting"), of="system/outbox").points
        assert len(points) > 30
        for at in spread(len(points), times(2, 1000), seeded().randrange(1000)):
            root = project(folder, f"at{at}")
            done = play(root, Fault(at, kind, lasts), "system/outbox")
            assert done.code == 1 and "Traceback" not in done.text, f"{points[at]}: {done.text}"
            if (root / "system/outbox/told.json").exists():  # else nobody ever began to tell anything
                check(root, f"{kind} at {at}: {points[at]}")


@pytest.mark.timeout(120 + 20 * TIMES)
def test_orchestrator_and_sender_are_killed_again_and_again_and_the_target_is_unwell(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it together: what follows from the journal was heard, in its order, and twice only under the same id."""
    hurry(monkeypatch)
    chance, killed, doubled = seeded(), 0, 0
    with in_memory() as folder:
        for number in range(times(1, 60)):
            root, path = project(folder, f"r{number}"), f"/r{number}"
            (root / "orch.toml").write_text(
                SETTINGS.replace("http://127.0.0.1:1/hook", server.url(path)).partition("[notify.alive]")[0]
            )
            for _ in range(6):
                killed += play(root, Fault(chance.randrange(150), KILL)).code == -9
                server.script = [chance.choice((*UNWELL, OK, OK)) for _ in range(3)]
                at = chance.randrange(20, 1200)
                killed += ended(forked(lambda root=root, at=at: steps(root, at))) == -9  # type: ignore[misc]
            while play(root).code:
                pass
            wait_for(lambda: not any(thread.is_alive() for thread in server._threads))
            server.script = []
            assert ended(forked(lambda root=root: main(["--project", str(root)]))) == 0  # type: ignore[misc]
            heard = [one.ident for one in server.of(path)]
            assert [one for at, one in enumerate(heard) if one not in heard[:at]] == to_be_told(root, ())
            doubled += len(heard) - len({*heard})
    print(f"{killed} killed, {doubled} told again under the same id")
    assert killed >= times(4, 200)
