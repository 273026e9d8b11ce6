"""Whatever phases do with their secrets, they are nowhere below system/ and on no screen: generated ways of showing them."""

from __future__ import annotations

import pytest

from tests import canary
from tests.driving import Project, seeded, times, wait_for
from tests.secrecy import ENVIRON, SECRETS, held, leaks_below, prepare
from tests.services.listening import Server

PHASE = """
from orchestrator import phase
import canary

@phase(1, needs=[], foreach=list(range({many})), retries=0, timeout="60s")
def shown(ctx):
    return canary.show(ctx.secret({names}[ctx.item % 4]), {base} + ctx.item, ctx.progress)
"""


def screens(project: Project, numbers: list[str]) -> list[str]:
    """What every command shows."""
    looks = [["status"], ["status", "--all"], ["status", "--json"], ["history"], ["history", "--json"], ["plan"]]
    looks += [["config", "show"], ["story", "1"], ["fsck"], *(["logs", number] for number in numbers)]
    return [project.orch(*look).text for look in looks]


@pytest.mark.timeout(600)
def test_whatever_phases_do_with_secrets_they_are_nowhere(project: Project) -> None:
    prepare(project)
    many = times(80, 1000)
    project.file("phases/p01.py", PHASE.format(many=many, names=list(SECRETS), base=seeded().randrange(10**6)))
    run = project.start("run", "--json", env=ENVIRON)
    rounds = 0
    while not run.is_over:
        assert leaks_below(project.system) == []
        rounds += 1
    ended = run.wait(300)
    assert ended.code in (0, 1), ended
    assert rounds > 1
    state = project.state()
    assert len(state["phases"]["1"]["items"]) == many
    assert leaks_below(project.system) == []
    numbers = [f"1[{number}]" for number in range(0, many, max(1, many // 10))]
    for text in (ended.text, *screens(project, numbers)):
        assert canary.leaks(text.encode(), SECRETS) == []
    shown = "".join(held(path).decode(errors="replace") for path in project.system.glob("logs/phases/*/*.log"))
    assert shown.count("***") > many // 2
    assert project.orch("run", "--new", "--only", "1", env=ENVIRON).code in (0, 1)
    project.assert_nothing_left()


RAISING = """
from orchestrator import phase
import canary, random

def raising(number):
    def body(ctx):
        draw = random.Random({base} + number)
        name = {names}[number % 4]
        data = b""
        while not data:
            data = canary.WAYS[draw.choice(list(canary.WAYS))](ctx.secret(name))
        canary.PLACES["raised"](data, draw)
    return body

for number in range(1, {many} + 1):
    phase(number, needs=[], retries=0, name=f"p{{number}}")(raising(number))
"""


@pytest.mark.timeout(600)
def test_whoever_is_told_of_failures_is_told_no_secret(project: Project, server: Server) -> None:
    prepare(project)
    target = f'[notify.ops]\nurl = "{server.url()}"\nevents = ["failed", "gave_up", "run_failed"]\n'
    project.settings((project.root / "orch.toml").read_text() + target)
    many = times(12, 200)
    project.file("phases/p01.py", RAISING.format(many=many, names=list(SECRETS), base=seeded().randrange(10**6)))
    assert project.orch("run", "--quiet", env=ENVIRON, seconds=300).code == 1
    wait_for(lambda: any(one.document["event"] == "run_failed" for one in server.taken))
    told = [one.document for one in server.taken]
    assert sum(len(one["phases"]) for one in told if one["event"] == "gave_up") == many
    assert "***" in "".join(one["text"] for one in told)
    for one in server.heard:
        assert canary.leaks(one.body, SECRETS) == []
    for look in (["notify", "list"], ["health"], ["health", "--json"], ["status"]):
        assert canary.leaks(project.orch(*look).text.encode(), SECRETS) == []
    assert leaks_below(project.system) == []
