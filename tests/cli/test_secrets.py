"""Secrets, from the settings to the phases, and nowhere else: not under system/, not on a screen, whatever phases do."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path

import pytest

from tests import canary
from tests.driving import Project, seeded, times, wait_for

SECRETS = {
    "plain": "c4n4ryXq7Lm2Vt9",
    "token": "p@ss w\"o'r\\d/+&<é>%",
    "key": "-----BEGIN KEY-----\nMIIEvQ8aZ0/x+Tq\n  ZZ9pl2\nab\n-----END KEY-----",
    "odd": "#!$&*()^~`",
}
SETTINGS = """
kill_grace = "0.3s"
jobs = 4
[retry.FAILED]
tries = 0
[secrets]
plain = { env = "PLAIN" }
token = { file = ".token" }
key = { command = "cat .key" }
odd = { env = "THE_ODD" }
"""
ENVIRON = {"PLAIN": SECRETS["plain"], "THE_ODD": SECRETS["odd"]}
PHASE = """
from orchestrator import phase
import canary

@phase(1, needs=[], foreach=list(range({many})), retries=0, timeout="60s")
def shown(ctx):
    return canary.show(ctx.secret({names}[ctx.item % 4]), {base} + ctx.item, ctx.progress)
"""


def prepare(project: Project) -> None:
    project.settings(SETTINGS)
    for name in ("token", "key"):
        project.file(f".{name}", SECRETS[name] + "\n").chmod(0o600)
    project.file("canary.py", Path(canary.__file__).read_text())


def held(path: Path) -> bytes:
    """What a file holds; nothing, if it is gone by now."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (FileNotFoundError, EOFError):
        return b""


def leaks_below(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "work"]
    named = [f"the name of {path}: {leak}" for path in files for leak in canary.leaks(str(path).encode(), SECRETS)]
    return named + [f"{path}: {leak}" for path in files for leak in canary.leaks(held(path), SECRETS)]


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


def test_a_command_has_what_it_lists_in_its_environment(project: Project) -> None:
    prepare(project)
    shown = (
        'env; echo "$PLAIN" | base64; printf %s "$KEY" | od -c | head -2; echo "{\\"a\\": \\"$PLAIN\\"}" > $ORCH_RESULT'
    )
    project.commands(
        {"number": 1, "run": shown, "secrets": ["plain", "key", "odd"]},
        {"number": 2, "run": 'test -z "$PLAIN$KEY$TOKEN$ODD$THE_ODD"', "secrets": []},
        {"number": 3, "run": 'test -z "$PLAIN$KEY$TOKEN$ODD$THE_ODD"'},
        {"number": 4, "run": ["sh", "-c", 'test "$(cat .token)" = "$TOKEN" && test -z "$PLAIN"'], "secrets": "token"},
        {"number": 5, "run": f"test {len(SECRETS['odd'])} = ${{#THE_ODD}} && test $(printf %s \"$KEY\" | wc -l) = 4",
         "secrets": ["odd", "key"]},
    )  # fmt: skip
    ended = project.orch("run", env=ENVIRON)
    assert ended.code == 0, ended
    log = project.orch("logs", "1").out
    assert "PLAIN=***" in log
    assert "THE_ODD=***" in log
    assert "KEY=***" in log
    assert "TOKEN=" not in log
    assert project.state()["phases"]["1"]["outputs"]["result"] == {"a": "***"}
    assert leaks_below(project.system) == []


def test_what_cannot_be_had_is_refused_before_anything_is_run(project: Project) -> None:
    prepare(project)
    project.commands({"number": 1, "run": "touch ran"})
    (project.root / ".token").chmod(0o644)
    ended = project.orch("run", env={"PLAIN": "abc"})
    assert ended.code == 2
    assert "3 secrets cannot be had; nothing was started" in ended.err
    assert "secret plain: the variable PLAIN gives 3 characters" in ended.err
    assert "secret token: others than its owner may use" in ended.err
    assert "secret odd: the variable THE_ODD is not set" in ended.err
    assert not (project.root / "ran").exists()
    for look in (["status"], ["plan"], ["history"], ["run", "--dry-run"], ["recover"], ["fsck"], ["config", "show"]):
        assert project.orch(*look).code == 0, look


def test_config_check_says_whether_they_are_there(project: Project) -> None:
    prepare(project)
    project.file(".key", "").unlink()
    seen = project.orch("config", "check", env=ENVIRON)
    assert seen.code == 0, seen
    assert "there: the secrets plain, token, odd" in seen.out
    assert "not looked at, because a command prints it: the secret key; --commands runs it" in seen.out
    tried = project.orch("config", "check", "--commands", env=ENVIRON)
    assert tried.code == 2
    assert "secret key: `cat .key` ended with exit status 1: cat: .key: No such file or directory" in tried.err
    for ended in (seen, tried, project.orch("config", "show", "--json", env=ENVIRON)):
        assert canary.leaks(ended.text.encode(), SECRETS) == []


def test_a_value_that_stands_in_the_settings_by_mistake_is_not_shown(project: Project) -> None:
    project.settings(f'[secrets]\ntoken = "{SECRETS["plain"]}"\n')
    ended = project.orch("config", "check")
    assert ended.code == 2
    assert canary.leaks(ended.text.encode(), SECRETS) == []


ASKING = """
from orchestrator import phase

@phase(1, needs=[], retries=0)
def unknown(ctx):
    ctx.secret("tokn")

@phase(2, needs=[], retries=0, secrets=["plain"])
def not_its_own(ctx):
    assert ctx.secret("plain")
    ctx.secret("token")

@phase(3, needs=[], retries=0, isolation="spawn")
def of_many(ctx):
    import os, threading
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool:
        lengths = list(pool.map(lambda number: len(ctx.secret(["plain", "key"][number % 2])), range(40)))
    pids = [os.fork() for _ in range(4)]
    if 0 in pids:
        os._exit(not all(len(ctx.secret(name)) == size for name, size in SIZES.items() for _ in range(20)))
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert "PLAIN" not in os.environ and "THE_ODD" not in os.environ
    return sorted(set(lengths))
""".replace("SIZES", str({name: len(value) for name, value in SECRETS.items()}))


def test_a_function_asks_for_them(project: Project) -> None:
    prepare(project)
    project.file("phases/p.py", ASKING.replace("pids = [os.fork() for _ in range(4)]\n    if 0 in pids:", """pids = []
    while len(pids) < 4 and 0 not in pids:
        pids.append(os.fork())
    if 0 in pids:"""))  # fmt: skip
    ended = project.orch("run", env=ENVIRON)
    assert ended.code == 1, ended
    errors = project.errors()
    assert errors[1]["code"] == errors[2]["code"] == "CONFIGURATION"
    assert errors[1]["message"] == "there is no secret tokn: did you mean token?"
    assert errors[2]["message"] == "phase 2 may not have the secret token: add token to its secrets"
    assert 3 not in errors, ended
    assert project.state()["phases"]["3"]["outputs"]["result"] == sorted({len(SECRETS["plain"]), len(SECRETS["key"])})


def test_a_phase_that_lists_what_is_not_there_is_refused(project: Project) -> None:
    prepare(project)
    project.commands({"number": 1, "run": "true", "secrets": ["plan"]}, {"number": 2, "run": "true", "secrets": 3})
    ended = project.orch("run", env=ENVIRON)
    assert ended.code == 2
    assert "secrets: there is no secret plan: did you mean plain?" in ended.err or "is not a list of names" in ended.err


LONG = """
from orchestrator import phase

@phase(1, retries=0)
def long(ctx):
    import os, time
    value = ctx.secret("plain")
    print("begun", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    print(value, flush=True)
    raise ValueError(value)
"""


def test_an_agent_that_has_lost_its_orchestrator_goes_on_hiding_and_a_successor_with_other_secrets_too(
    project: Project,
) -> None:
    prepare(project)
    project.file("phases/p.py", LONG)
    log = project.system / "logs/phases/1/1.log"
    run = project.start("run", env=ENVIRON)
    run.until(lambda: log.exists() and b"begun" in log.read_bytes())
    (agent,) = project.agents()
    for pid in project.own_processes():
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert pid == run.pid or not canary.leaks(environ, SECRETS), pid
        assert not canary.leaks(Path(f"/proc/{pid}/cmdline").read_bytes(), SECRETS)
    os.kill(run.pid, signal.SIGKILL)
    wait_for(lambda: run.is_over)
    project.file("go", "")
    wait_for(lambda: not Path(f"/proc/{agent}").exists())
    assert list(project.system.glob("agents/*/outcomes/*.json"))
    assert leaks_below(project.system) == []
    again = project.orch("run", env={"PLAIN": "an0ther-value", "THE_ODD": SECRETS["odd"]})
    assert canary.leaks(again.text.encode(), SECRETS) == []
    assert leaks_below(project.system) == []
    assert json.loads((project.system / "state.json").read_text())["phases"]["1"]["status"] == "failed"


def test_a_line_is_live_although_it_goes_through_the_mask(project: Project) -> None:
    prepare(project)
    project.commands(
        {"number": 1, "run": 'echo "first $PLAIN"; until test -e go; do sleep 0.02; done', "secrets": ["plain"]}
    )
    run = project.start("run", env=ENVIRON)
    follow = project.start("logs", "1", "-f") if (project.system / "logs/phases/1").exists() else None
    log = project.system / "logs/phases/1/1.log"
    run.until(lambda: log.exists() and log.read_bytes() == b"first ***\n")
    follow = follow or project.start("logs", "1", "-f")
    follow.wait_for("first ***\n")
    project.file("go", "")
    assert run.wait().code == 0
    assert follow.wait().code == 0
