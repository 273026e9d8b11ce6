"""Where secrets come from, what is refused, and that no refusal shows a value."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator import secret
from orchestrator.core.outward import SecretSource, Target
from orchestrator.errors import SettingsError
from orchestrator.secret import for_sender, resolve, resolve_all, without_sources
from tests.driving import is_gone, wait_for

CANARY = "c4n4ry-Zq9#w'7"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_known", {})
    monkeypatch.setattr(secret, "_maskers", [])


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), **more}


def file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(source: SecretSource, root: Path, **more: str) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve("token", source, root, environ(root, **more))
    assert caught.value.exit_code == 2
    assert caught.value.message.startswith("secret token: ")
    return f"{caught.value.message}: {caught.value.remedy}"


def test_the_three_sources(tmp_path: Path) -> None:
    file(tmp_path / "here", f"{CANARY}\n")
    for source in (
        SecretSource(env="TOKEN"), SecretSource(file="here"), SecretSource(file="~/here"),
        SecretSource(file=str(tmp_path / "here")), SecretSource(command="cat here"),
        SecretSource(command='printf "%s\\r\\n" "$TOKEN"'),
    ):  # fmt: skip
        assert resolve("token", source, tmp_path, environ(tmp_path, TOKEN=CANARY)) == CANARY
    assert secret.hidden(f"it is {CANARY}!") == "it is ***!"


def test_only_the_last_line_break_goes(tmp_path: Path) -> None:
    file(tmp_path / "pem", "one 1\n two\n\n")
    assert resolve("pem", SecretSource(file="pem"), tmp_path, {}) == "one 1\n two\n"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (SecretSource(env="NOT_THERE"), "the variable NOT_THERE is not set"),
        (SecretSource(env="SHORT"), "the variable SHORT gives 3 characters"),
        (SecretSource(env="EMPTY"), "the variable EMPTY gives nothing"),
        (SecretSource(file="nowhere"), "nowhere does not exist: make it, then `chmod 600 "),
        (SecretSource(file="open"), "(mode 0640): `chmod 600 "),
        (SecretSource(file="."), "a folder stands where a file should"),
        (SecretSource(file="latin"), "gives what is not UTF-8 text"),
        (SecretSource(file="large"), "gives more than 16384 bytes"),
        (SecretSource(command="exit 3"), "`exit 3` ended with exit status 3 and said nothing"),
        (SecretSource(command="kill -9 $$"), "died by signal 9"),
        (SecretSource(command="true"), "`true` gives nothing"),
        (SecretSource(command="echo not here >&2; exit 1"), "exit status 1: not here"),
    ],
)
def test_what_cannot_be_had_is_refused(source: SecretSource, told: str, tmp_path: Path) -> None:
    file(tmp_path / "open", CANARY, 0o640)
    file(tmp_path / "large", "x" * 70_000)
    (tmp_path / "latin").write_bytes(b"caf\xe9 noir")
    (tmp_path / "latin").chmod(0o600)
    said = refused(source, tmp_path, SHORT="abc", EMPTY="")
    assert told in said
    assert CANARY not in said


def test_a_command_that_fails_does_not_show_what_it_has_printed(tmp_path: Path) -> None:
    said = refused(SecretSource(command=f'echo "{CANARY}"; echo "cannot use {CANARY}" >&2; exit 1'), tmp_path)
    assert "cannot use ***" in said
    assert CANARY not in said.partition("` ended")[2]


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret, "DEADLINE", 0.3)
    before = time.monotonic()
    assert "did not end within 0.30s" in refused(
        SecretSource(command="setsid sleep 61.5 & echo $! > pid; sleep 60; echo"), tmp_path
    )
    assert time.monotonic() - before < 10
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: is_gone(pid))


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    assert resolve("token", SecretSource(command="sleep 60 & echo value"), tmp_path, environ(tmp_path)) == "value"


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    sources = {"a": SecretSource(env="NO_A"), "b": SecretSource(env="B"), "c": SecretSource(file="c")}
    with pytest.raises(SettingsError) as caught:
        resolve_all(sources, tmp_path, {"B": CANARY})
    assert "2 secrets cannot be had; nothing was started" in caught.value.message
    assert "the variable NO_A is not set" in caught.value.message
    assert f"{tmp_path}/c does not exist" in caught.value.message


def test_others_do_not_get_the_variables_that_secrets_come_from() -> None:
    sources = {"a": SecretSource(env="A"), "b": SecretSource(file="B")}
    assert without_sources(sources, {"A": CANARY, "B": "1", "C": "2"}) == {"B": "1", "C": "2"}


def test_the_sender_gets_those_variables_only_that_an_address_comes_from() -> None:
    sources = {"a": SecretSource(env="A"), "b": SecretSource(env="B"), "again": SecretSource(env="B")}
    environ = {"A": CANARY, "B": "http://x", "C": "2"}
    assert for_sender(sources, {"ops": Target(secret="b"), "all": Target(url="http://x")}, environ) == {
        "B": "http://x", "C": "2"
    }  # fmt: skip
    sources["c"] = SecretSource(command="a program that reads $A")
    assert for_sender(sources, {"ops": Target(secret="c")}, environ) == environ
