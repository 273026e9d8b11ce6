"""One POST against a real server: what is a yes, what may come later, what never; and no address in what is said."""

from __future__ import annotations

import base64
import time
from email.utils import formatdate
from typing import Any

import pytest

from orchestrator.services import webhook
from orchestrator.services.webhook import Never, NotNow, post, rest
from tests.services.listening import UNWELL, Server

SECRET = "T0SECRET/B0SECRETTOKEN"
NO_PROXY = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    for name in NO_PROXY:
        monkeypatch.delenv(name, raising=False)


def sent(url: str) -> str:
    return post(url, b'{"a": 1}', {"Idempotency-Key": "i1", "Content-Type": "application/json"})


def test_a_yes(server: Server) -> None:
    assert sent(server.url()) == "HTTP 200"
    assert server.heard[0][:3] == ("/hook", "i1", b'{"a": 1}')


@pytest.mark.parametrize("how", UNWELL)
def test_what_may_be_heard_later(server: Server, how: str) -> None:
    server.script = [how]
    with pytest.raises(NotNow) as caught:
        sent(server.url(f"/{SECRET}"))
    assert SECRET.partition("/")[2] not in str(caught.value)
    assert sent(server.url(f"/{SECRET}")) == "HTTP 200"


@pytest.mark.parametrize("how", ["400", "401", "403", "404", "410", "413", "422", "304", "303"])
def test_what_never_will(server: Server, how: str) -> None:
    server.script = [how]
    with pytest.raises(Never, match=f"HTTP {how} Unwell"):
        sent(server.url(f"/{SECRET}"))


def test_nobody_listens(server: Server) -> None:
    server.down()
    with pytest.raises(NotNow, match="Connection refused"):
        sent(server.url())


def test_a_server_that_answers_a_byte_at_a_time_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = ["silent"]
    monkeypatch.setattr(webhook, "TIMEOUT", 30.0)
    monkeypatch.setattr(webhook, "WHOLE", 0.2)
    with pytest.raises(NotNow, match="no whole answer within 0s"):
        sent(server.url())


@pytest.mark.parametrize(("how", "value", "seconds"), [("429", "7", 7.0), ("503", "120", 120.0), ("429", "soon", 0.0)])
def test_a_target_may_ask_for_rest(server: Server, how: str, value: str, seconds: float) -> None:
    server.script, server.headers = [how], {"Retry-After": value}
    with pytest.raises(NotNow) as caught:
        sent(server.url())
    assert caught.value.after == seconds


def test_rest_may_be_a_date_and_is_never_without_end() -> None:
    assert rest(formatdate(2000.0, usegmt=True), 1940.0) == 60.0
    assert rest(formatdate(1000.0, usegmt=True), 1940.0) == 0.0
    assert rest("99999999999", 0.0) == 3600.0


@pytest.mark.parametrize("how", ["301", "302", "307", "308"])
def test_a_redirect_is_followed_on_the_same_host_and_with_the_message(server: Server, how: str) -> None:
    server.script, server.headers = [how], {"Location": "/there"}
    assert sent(server.url()) == "HTTP 200"
    assert [(one.path, one.body) for one in server.heard] == [("/hook", b'{"a": 1}'), ("/there", b'{"a": 1}')]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("http://elsewhere.example/x", "it redirects to http://elsewhere.example: give that address"),
        ("http://127.0.0.1:1/x", "it redirects to another port"),
        ("https://127.0.0.1:1/x", "it redirects to another port"),
        ("http://127.0.0.1:99999/x", "it redirects to what is no address"),
        ("//elsewhere.example/x", "it redirects to http://elsewhere.example"),
        ("ftp://127.0.0.1/x", "it redirects to ftp://127.0.0.1"),
        ("/hook", "it redirects again and again"),
    ],
)
@pytest.mark.parametrize("how", ["302", "307"])
def test_a_redirect_to_anybody_else_is_not(server: Server, how: str, place: str, told: str) -> None:
    server.script, server.headers = [how] * 9, {"Location": place}
    with pytest.raises(Never, match=told):
        sent(server.url(f"/hook?token={SECRET}"))


def test_user_and_password_go_where_http_wants_them(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = webhook._opener

    def opener() -> Any:
        made = real()
        told = made.open
        made.open = lambda request, **how: (seen.append(request), told(request, **how))[1]  # type: ignore[method-assign, misc, return-value, assignment]
        return made

    monkeypatch.setattr(webhook, "_opener", opener)
    assert sent(server.url().replace("127", "ann:p%40ss@127")) == "HTTP 200"
    assert seen[0].get_header("Authorization") == "Basic " + base64.b64encode(b"ann:p@ss").decode()
    assert "ann" not in seen[0].full_url


def test_an_answer_that_repeats_the_address_brings_it_nowhere(server: Server) -> None:
    server.script = [f"404 no such hook: /{SECRET} of {server.url('/' + SECRET)}"]
    with pytest.raises(Never) as caught:
        sent(server.url(f"/{SECRET}"))
    assert "SECRET" not in str(caught.value)
    assert "404 no such hook" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[bad/SECRETTOKEN", "http://host:port/SECRETTOKEN", "http:///SECRETTOKEN", "http://h/SECRET TOKEN"]
)
def test_what_is_no_address_is_never_called(url: str) -> None:
    with pytest.raises(Never, match="this is no address that can be called") as caught:
        sent(url)
    assert "SECRET" not in str(caught.value)


def test_the_time_of_a_hanging_target_is_bounded(server: Server) -> None:
    server.script = ["silent"]
    began = time.monotonic()
    with pytest.raises(NotNow, match="timed out"):
        sent(server.url())
    assert time.monotonic() - began < 10.0


def test_a_certificate_is_checked(server: Server) -> None:
    """There is none here: whoever answers https without one is not talked to."""
    with pytest.raises(NotNow):  # and no message is among what the other heard
        sent(server.url().replace("http://", "https://"))
    assert not any(one.body for one in server.heard)
