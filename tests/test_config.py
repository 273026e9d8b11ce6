"""Settings: who beats whom, what is refused and in which words, and what a start without settings imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator import config
from orchestrator.config import Settings
from orchestrator.core.outward import SecretSource, Target
from orchestrator.core.setting import BY_NAME, RETRIED, SETTINGS, size
from orchestrator.core.spec import RetryRule
from orchestrator.errors import CODES, SettingsError, UsageError
from orchestrator.layers import strange_variables

ROOT = Path(__file__).resolve().parents[1]


def settle(
    root: Path, file: str = "", flags: Mapping[str, object] | None = None, name: str = "orch.toml", **environ: str
) -> Settings:
    if file:
        (root / name).write_text(file, "utf-8")
    return config.settings(root, flags or {}, environ)


def faults(
    root: Path, file: str = "", flags: Mapping[str, object] | None = None, name: str = "orch.toml", **environ: str
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settle(root, file, flags, name, **environ)
    first, *lines = caught.value.message.split("\n  ")
    assert first.startswith("the settings are wrong")
    assert "orch config check" in caught.value.remedy
    return lines


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    got = settle(tmp_path)
    assert got.jobs == max(4, len(os.sched_getaffinity(0)))
    assert (got.timeout, got.kill_grace, got.stale_after) == (3600, 5, 7200)
    assert (got.beat_interval, got.heartbeat_timeout, got.load_timeout) == (2, 120, 30)
    assert (got.logs_phase_bytes, got.logs_keep, got.trust) == (10_000_000, 20, False)
    assert got.retry["TRANSIENT"] == RetryRule(3, 60, 2, 3600, 0.1)
    assert got.retry["DEPENDENCY"].delay == 300
    assert got.retry["TIMEOUT"].tries == 0
    assert set(got.retry) == {name for name, code in CODES.items() if code.retry}
    assert got.origins == {}


def test_jobs_are_at_least_four_and_otherwise_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, jobs in ((1, 4), (4, 4), (64, 64)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, count=processors: set(range(count)))
        assert settle(tmp_path).jobs == jobs


def test_the_file_gives_every_kind_of_value(tmp_path: Path) -> None:
    got = settle(
        tmp_path,
        """
jobs = 8
timeout = "10m"
kill_grace = 0
beat_interval = 0.5
trust = true

[logs]
phase_bytes = "2MiB"
keep = 3

[retry.TRANSIENT]
tries = 5
factor = 1
jitter = 0.25
""",
    )
    assert (got.jobs, got.timeout, got.kill_grace, got.beat_interval, got.trust) == (8, 600, 0, 0.5, True)
    assert (got.logs_phase_bytes, got.logs_keep) == (2 * 2**20, 3)
    assert got.retry["TRANSIENT"] == RetryRule(5, 60, 1, 3600, 0.25)
    assert got.retry["RESOURCE"] == RetryRule(3, 300)
    assert got.origins["jobs"] == "orch.toml:2"
    assert got.origins["logs.keep"] == "orch.toml:10"
    assert got.origins["retry.TRANSIENT.jitter"] == "orch.toml:15"
    assert "retry.TRANSIENT.delay" not in got.origins


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    file = 'jobs = 5\ntimeout = "1m"\nload_timeout = 9\n'
    got = settle(tmp_path, file, {"jobs": 7, "timeout": None}, ORCH_JOBS="6", ORCH_TIMEOUT="90s", ORCH_TRUST="true")
    assert (got.jobs, got.timeout, got.load_timeout, got.trust) == (7, 90, 9, True)
    assert got.origins == {
        "jobs": "--jobs", "timeout": "ORCH_TIMEOUT", "load_timeout": "orch.toml:3", "trust": "ORCH_TRUST",
    }  # fmt: skip


def test_a_flag_may_be_text_and_may_name_a_table(tmp_path: Path) -> None:
    got = settle(tmp_path, flags={"kill_grace": "2s", "logs.keep": "4", "retry.FAILED.tries": 0})
    assert (got.kill_grace, got.logs_keep, got.retry["FAILED"].tries) == (2, 4, 0)
    assert got.origins["kill_grace"] == "--kill-grace"


def test_an_empty_variable_and_variables_of_an_attempt_say_nothing(tmp_path: Path) -> None:
    assert settle(tmp_path, ORCH_JOBS="", ORCH_RUN="x", ORCH_PHASE="3", ORCH_RESULT="/tmp/x").origins == {}


def test_the_shared_file_serves_as_well(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n\n[tool.orch]\njobs = 9\n[tool.orch.logs]\nkeep = 2\n[tool.other]\nkeep = "no"\n'
    got = settle(tmp_path, text, name="pyproject.toml")
    assert (got.jobs, got.logs_keep) == (9, 2)
    assert got.origins == {"jobs": "pyproject.toml:5", "logs.keep": "pyproject.toml:7"}


def test_a_shared_file_of_others_is_not_ours_to_judge(tmp_path: Path) -> None:
    assert settle(tmp_path, "[tool.other]\nx = [", name="pyproject.toml").origins == {}
    assert settle(tmp_path, '[project]\nname = "orch-user"\n', name="pyproject.toml").origins == {}


def test_two_places_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[build-system]\n\n[tool.orch.logs]\nkeep = 3\n")
    for own in ("jobs = 3\n", "# nothing yet\n"):
        told = faults(tmp_path, own)
        assert told == ["pyproject.toml:3: [tool.orch] and orch.toml both have settings: keep one of the two places"]


def test_two_places_are_too_many_also_where_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.orch]\n")
    (told,) = faults(tmp_path, "jobs = 3\n")
    assert "both have settings" in told


def test_the_faults_of_a_file_come_in_the_order_of_its_lines(tmp_path: Path) -> None:
    told = faults(tmp_path, 'kill_grace = true\njob = 3\njobs = "four"\n[logs]\nkeeps = 3\n[pools]\ngpu = 0\n')
    assert [line.split(" ")[0] for line in told] == [f"orch.toml:{number}:" for number in (1, 2, 3, 5, 7)]


def test_a_variable_that_is_misspelt_is_named_and_what_an_attempt_is_given_is_not() -> None:
    environ = {"ORCH_JOBZ": "3", "ORCH_JOBS": "3", "ORCH_PROJECT": "/p", "PATH": "/bin", "ORCH_ZZZZZ": "1"}
    assert strange_variables(environ) == [
        "ORCH_JOBZ: there is no such variable: did you mean ORCH_JOBS?",
        "ORCH_ZZZZZ: there is no such variable: it is ignored",
    ]
    assert strange_variables({**environ, "ORCH_PHASE": "3"}) == []


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        """\
job = 3
jobs = "four"
timeout = "10 parsecs"
kill_grace = true
pools = { gpu = 0, "two words" = 1, ok = 3 }

[logs]
phase_bytes = "1 heap"
keeps = 3

[retry.CONFIGURATION]
tries = 3
[retry.transient]
tries = 3
[retry.TRANSIENT]
tries = -1
""",
        {"trust": "perhaps"},
        ORCH_JOBS="0",
    )
    assert sorted(told) == sorted(
        [
            "orch.toml:1: job is not a setting: did you mean jobs?",
            'orch.toml:2: jobs = "four" is not a whole number from 1 to 10000',
            'orch.toml:3: timeout: \'10 parsecs\' is not a duration: write seconds, or "90s", "10m", "2h", "1d"',
            'orch.toml:4: kill_grace: True is not a duration: write seconds, or "90s", "10m", "2h", "1d"',
            "orch.toml:5: pools.gpu = 0 is not a whole number from 1 to 1000000000",
            "orch.toml:5: pools.two words: this is not the name of a pool: letters, digits, _ and -, at most 41,"
            " a letter first",
            'orch.toml:8: logs.phase_bytes: \'1 heap\' is not a size: write bytes, or "64kB", "10MB", "1GB"',
            "orch.toml:9: logs.keeps is not a setting: did you mean logs.keep?",
            "orch.toml:11: [retry.CONFIGURATION]: CONFIGURATION (its settings or its environment are wrong) is never"
            f" retried, because trying again cannot help; rules may be set for {', '.join(RETRIED)}",
            "orch.toml:13: [retry.transient]: no class of errors has this name: did you mean TRANSIENT?",
            "orch.toml:16: retry.TRANSIENT.tries = -1 is not a whole number from 0 to 1000",
            'ORCH_JOBS: jobs = "0" is not a whole number from 1 to 10000',
            '--trust: trust = "perhaps" is not true or false',
        ]
    )


@pytest.mark.parametrize("code", [name for name in CODES if name not in RETRIED])
def test_a_class_that_is_never_retried_takes_no_rule(tmp_path: Path, code: str) -> None:
    (told,) = faults(tmp_path, f"[retry.{code}]\ntries = 1\n")
    assert f"{code} ({CODES[code].meaning}) is never retried" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("jobs = 4.0", "orch.toml:1: jobs = 4.0 is not a whole number from 1 to 10000"),
        ('jobs = "4"', 'orch.toml:1: jobs = "4" is not a whole number from 1 to 10000'),
        ("jobs = true", "orch.toml:1: jobs = true is not a whole number from 1 to 10000"),
        ("jobs = [4]", "orch.toml:1: jobs = a list is not a whole number from 1 to 10000"),
        ("jobs.x = 1", "orch.toml:1: jobs = a table is not a whole number from 1 to 10000"),
        ("timeout = 0", "orch.toml:1: timeout = 0 is not a duration of at least 0.1s"),
        ("timeout = nan", "orch.toml:1: timeout: nan is not a duration between 0 and ten years"),
        (f"timeout = {'9' * 400}", "orch.toml:1: timeout: it is longer than ten years"),
        ("timeout = 1979-05-27", "orch.toml:1: timeout: datetime.date(1979, 5, 27) is not a duration"),
        ('beat_interval = "2m"', 'orch.toml:1: beat_interval = "2m" is not a duration from 0.1s to 1m'),
        ('trust = "yes"', 'orch.toml:1: trust = "yes" is not true or false'),
        ("logs = 3", "orch.toml:1: logs = 3 is not a table: write [logs], its keys below"),
        ("logs.phase_bytes = 10", "orch.toml:1: logs.phase_bytes = 10 is not a size from 1kB to 1000GB"),
        ("retry = { FAILED = { jitter = 2 } }", "orch.toml:1: retry.FAILED.jitter = 2 is not a number from 0 to 1"),
        ("retry.FAILD.tries = 1", "orch.toml:1: [retry.FAILD]: no class of errors has this name: did you mean FAILED?"),
        ("retry.SOME.tries = 1", "no class of errors has this name: rules may be set for CONFLICT"),
        ("keep = 3", "orch.toml:1: keep is not a setting: did you mean keep under [logs] or [checkpoints]?"),
        ("[logs]\njobs = 3", "orch.toml:2: logs.jobs is not a setting: did you mean jobs above the first [table]?"),
        ('"a.b" = 3', "orch.toml:1: a.b is not a setting: `orch config show` lists them all"),
        ('"a\\nb" = 3', "a\\nb is not a setting"),
        ("Jobs = 3", "orch.toml:1: Jobs is not a setting: did you mean jobs?"),
        ("jobs = 3\njobs =", "orch.toml:2: it is not valid TOML"),
        ("jobs = 3\njobs = 4", "orch.toml:2: it is not valid TOML"),
        (f"jobs = {'9' * 5000}", "it is not valid TOML"),
        ("x = " + "[" * 5000, "it is not valid TOML"),
    ],
)
def test_each_fault_is_one_sentence_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    (only,) = faults(tmp_path, line + "\n")
    assert told in only
    assert "\n" not in only


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    told = faults(tmp_path, 'heartbeat_timeout = "3s"\n[retry.FAILED]\ndelay = "2h"\n')
    assert told == [
        "heartbeat_timeout = 3s (orch.toml:1) is less than twice beat_interval = 2s (default): a late beat looks like a hang",
        "retry.FAILED.delay = 2h (orch.toml:3) is longer than retry.FAILED.cap = 1h (default):"
        " raise the cap, or lower the delay",
    ]


def test_contradictions_are_not_looked_for_among_settings_that_were_refused(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "beat_interval = 1\njob = 3\n", ORCH_HEARTBEAT_TIMEOUT="3s")
    assert "job is not a setting" in told


def test_a_file_that_is_not_text_or_not_readable(tmp_path: Path) -> None:
    (tmp_path / "orch.toml").write_bytes(b"jobs = 3 # \xff\n")
    assert faults(tmp_path) == ["orch.toml: it is not UTF-8 text (byte 11)"]
    (tmp_path / "orch.toml").unlink()
    (tmp_path / "orch.toml").mkdir()
    assert faults(tmp_path) == ["orch.toml: it cannot be read: a folder stands where a file should"]


def test_stale_after_follows_a_long_timeout_unless_it_is_set(tmp_path: Path) -> None:
    assert settle(tmp_path, flags={"timeout": "3h", "kill_grace": 10}).stale_after == 3 * 3600 + 10
    assert settle(tmp_path, flags={"timeout": "3h", "stale_after": "1m"}).stale_after == 60


def test_settings_are_a_value(tmp_path: Path) -> None:
    assert settle(tmp_path) == settle(tmp_path)
    with pytest.raises(AttributeError):
        settle(tmp_path).jobs = 3  # type: ignore[misc]
    assert issubclass(SettingsError, UsageError)


def test_what_is_shown_may_be_written_back(tmp_path: Path) -> None:
    shown = config.describe(settle(tmp_path, 'timeout = "90s"\n[retry.FAILED]\ndelay = 0.5\n', ORCH_JOBS="3"))
    assert [row.name for row in shown] == [setting.name for setting in SETTINGS]
    rows = {row.name: row for row in shown}
    assert rows["timeout"][1:3] == ("90s", "orch.toml:1")
    assert rows["retry.FAILED.delay"][1:3] == ("0.5s", "orch.toml:3")
    assert rows["jobs"][1:3] == ("3", "ORCH_JOBS")
    assert rows["logs.phase_bytes"][1:3] == ("10MB", "default")
    assert rows["stale_after"][1:3] == ("2h", "default")
    assert all(row.meaning for row in shown)
    again = config.settings(tmp_path / "nowhere", {row.name: row.value for row in shown}, {})
    assert again.replace(origins={}) == settle(tmp_path, ORCH_JOBS="3").replace(origins={})


def test_every_setting_has_a_default_within_its_own_bounds(tmp_path: Path) -> None:
    got = settle(tmp_path)
    text = "".join(f"{row.name} = {_quoted(row.value, row.name)}\n" for row in config.describe(got))
    assert settle(tmp_path, text).replace(origins={}) == got


def _quoted(value: str, name: str) -> str:
    return f'"{value}"' if BY_NAME[name].kind in ("duration", "bytes") else value


@pytest.mark.parametrize(
    ("text", "amount"),
    [(7, 7), ("7", 7), ("7B", 7), ("64kB", 64_000), ("1 KB", 1000), ("1.5MB", 1_500_000), ("2GiB", 2 * 2**30), ("3m", 3_000_000)],
)  # fmt: skip
def test_sizes(text: object, amount: int) -> None:
    assert size(text) == amount


@pytest.mark.parametrize("text", [True, None, 1.5, "", "MB", "1TB", "-1", "1e6", "1iB", "9" * 400])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size(text)


def test_a_start_without_settings_loads_no_library_that_checks_them(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator import config;"
        f" config.settings(Path({str(tmp_path)!r}), {{'jobs': None}}, {{'ORCH_RUN': 'x'}});"
        " print([name for name in ('pydantic', 'tomllib', 'logging', 'dataclasses', 'subprocess') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, cwd=ROOT
    )
    assert done.stdout == "[]\n"


def test_pools_are_the_projects_own(tmp_path: Path) -> None:
    (tmp_path / "orch.toml").write_text("[pools]\ngpu = 2\nlicence-a = 1\n")
    found = config.settings(tmp_path, {}, {})
    assert found.pools == {"gpu": 2, "licence-a": 1}
    shown = {row.name: row for row in config.describe(found)}
    assert (shown["pools.gpu"].value, shown["pools.gpu"].origin) == ("2", "orch.toml:2")
    (tmp_path / "orch.toml").write_text("pools = 3\n")
    assert faults(tmp_path) == ["orch.toml:1: pools = 3 is not a table: write [pools], its keys below"]
    (tmp_path / "orch.toml").unlink()
    assert config.settings(tmp_path, {}, {}).pools == {}


OUTWARD = """
[secrets]
token = { env = "TOKEN" }
key = { file = "~/.key" }

[notify.ops]
url = "https://user:word@hooks.example/services/abc?x=1"
events = ["failed", "gate"]
quiet = "22:00-07:00"

[notify.alive]
ping = "https://hc.example/uuid"
"""


def test_secrets_and_targets_are_values_and_no_url_is_shown(tmp_path: Path) -> None:
    (tmp_path / "orch.toml").write_text(OUTWARD)
    found = config.settings(tmp_path, {}, {})
    assert found.secrets == {"token": SecretSource(env="TOKEN"), "key": SecretSource(file="~/.key")}
    assert found.notify["ops"].events == ("failed", "gate")
    assert found.notify["alive"] == Target(ping="https://hc.example/uuid")
    shown = {row.name: row.value for row in config.describe(found)}
    assert shown["notify.ops.url"] == '"https://hooks.example/..."'
    assert shown["secrets.token.env"] == '"TOKEN"'
    assert "secrets.token.file" not in shown
    assert not any(word in value for value in shown.values() for word in ("word", "abc", "uuid"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[secrets]\ntoken = "s3cr3t"', 'orch.toml:2: secrets.token: say where it is found, not what it is: token = { env = "TOKEN" }'),
        ("[secrets]\ntoken = {}", "secrets.token takes exactly one of env, file, command"),
        ('[secrets]\ntoken = { env = "A", file = "b" }', "orch.toml:2: secrets.token takes exactly one of env, file, command"),
        ('[secrets]\ntoken = { enf = "A" }', "orch.toml:2: secrets.token.enf is not a setting: did you mean secrets.token.env?"),
        ('[secrets]\n"a b" = { env = "A" }', "secrets.a b: this is not the name of a secret"),
        ('[notify.ops]\nevents = ["failed"]', "orch.toml:2: notify.ops takes exactly one of url, secret, ping"),
        ('[notify.ops]\nurl = "x:y"\nevents = ["faild"]', 'orch.toml:3: notify.ops.events: "faild" is none of'),
        ('[notify.ops]\nurl = "x:y"\nevents = []', "orch.toml:3: notify.ops.events: write a list of"),
        ('[notify.ops]\nurl = ""', "orch.toml:2: notify.ops.url: it is empty, or not text of one line"),
        ('[notify]\nops = "https://x/hidden"', "notify.ops"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_secrets_and_targets_is_named_and_no_value_shown(
    tmp_path: Path, text: str, told: str
) -> None:
    (found,) = faults(tmp_path, text)
    assert told in found
    assert "s3cr3t" not in found and "hidden" not in found
