"""Secrets, from the settings to the phases: who gets them, who does not, and what is refused."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests import canary
from tests.driving import Project, wait_for
from tests.secrecy import ENVIRON, SECRETS, leaks_below, prepare


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


def test_a_command_line_is_hidden_before_it_is_cut(project: Project) -> None:
    prepare(project)
    filled = "0" * 84  # so that it stands where the name is cut
    project.commands(
        {"number": 1, "run": f"setsid sh -c 'sleep 300; :' {filled} $PLAIN & sleep 0.3", "secrets": ["plain"]}
    )
    ended = project.orch("run", env=ENVIRON)
    assert ended.code == 0, ended
    told = ended.text + "".join(path.read_text() for path in project.system.glob("journal/*"))
    assert "sleep 300; :" in told and SECRETS["plain"][:8] not in told


def test_of_what_is_swept_after_an_agent_only_the_programs_are_named(project: Project) -> None:
    prepare(project)
    project.commands(
        {"number": 1, "run": "setsid sh -c 'sleep 300; :' $PLAIN & touch begun; sleep 300", "secrets": ["plain"]}
    )
    run = project.start("run", env=ENVIRON)
    run.until((project.root / "begun").exists)
    for pid in (run.pid, *project.agents()):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: run.is_over)
    ended = project.orch("recover")
    assert "ended what was left running" in ended.text, ended
    assert canary.leaks(ended.text.encode(), SECRETS) == []
    assert leaks_below(project.system) == []
