"""What may be written of a target, how its messages are worded, and what is shown of its address."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.outward import Target
from orchestrator.core.target import faults, host_only, worded

FIELDS = {"project": "nightly", "event": "failed", "text": "phase 3 failed", "run": "r1", "phases": "3 p3", "host": "h"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", "nightly: phase 3 failed"),
        ("{event} on {host}: {text} ({run}; {phases})", "failed on h: phase 3 failed (r1; 3 p3)"),
        ("{{{project}}}", "{nightly}"),
    ],
)
def test_a_message_is_worded_as_the_template_says(template: str, text: str) -> None:
    assert worded(Target(url="http://x", template=template), FIELDS) == text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "https://x/y"}, None),
        ({"url": "tgram://token/chat", "quiet": "22:00-07:00", "tz": "Europe/Berlin", "template": "{text}"}, None),
        ({"secret": "hook"}, None),
        ({"ping": "https://hc.example/uuid"}, None),
        ({"url": "hooks.example/x"}, 'url: is no URL: write "https://..."'),
        ({"url": "http://[::1]:8080/x%20y?a=b&c=%C3%A9"}, None),
        ({"url": "slack://tok en/é"}, None),
        ({"url": "http://127.0.0.1:99999/x"}, "url: its port is none: a number from 1 to 65535"),
        ({"url": "http://h:http/x"}, "url: its port is none"),
        ({"ping": "http://h:0/x"}, "ping: its port is none"),
        ({"url": "http://[::1/x"}, "url: its host is none: one of IPv6 stands in brackets"),
        ({"url": "http://[bad]/x"}, "url: its host is none"),
        ({"url": "http://münchen.example/x"}, None),
        ({"url": "http://h/x y"}, "url: it has a blank in it: write %20"),
        ({"ping": "http://h/\tx"}, "ping: it has a blank in it: write %09"),
        ({"url": "http://127.0.0.1:8765/é"}, "url: it has 'é' in it: write %C3%A9"),
        ({"url": "http://:80/x"}, "url: it names no host"),
        ({"ping": "tgram://a/b"}, 'ping: takes an address that begins with "https://" or "http://"'),
        ({"secret": "hok"}, "secret: there is no secret hok: did you mean hook?"),
        ({"url": "http://x", "quiet": "22-7"}, "quiet: '22-7' are no quiet hours"),
        ({"url": "http://x", "tz": "UTC"}, "tz: has no meaning without quiet"),
        ({"url": "http://x", "template": "{txt}"}, "template: there is no {txt}: did you mean {text}?"),
        ({"url": "http://x", "template": "{text.__class__}"}, "template: there is no {text.__class__}"),
        ({"url": "http://x", "template": "{text!r}"}, "template: there is no {text!r}: there is {project}, {event}"),
        ({"url": "http://x", "template": "{text:>9}"}, "template: there is no {text:>9}"),
        ({"url": "http://x", "template": "{}"}, "template: there is no {}"),
        ({"url": "http://x", "template": "{text"}, "template: expected '}' before end of string; a brace itself"),
        ({"ping": "http://x", "quiet": "22:00-07:00"}, "quiet: has no meaning beside ping"),
        ({"ping": "http://x", "events": ("failed",)}, "events: has no meaning beside ping"),
    ],
)
def test_what_is_wrong_with_a_target_is_said(given: dict[str, Any], told: str | None) -> None:
    found = [f"{name}: {why}" for name, why in faults(given, ["hook"])]
    assert found == [] if told is None else any(one.startswith(told) for one in found), found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/T0/B0/secret", "https://hooks.example/..."),
        ("https://user:word@hooks.example:8443?x=secret", "https://hooks.example:8443/..."),
        ("https://hooks.example/a@secret/b", "https://hooks.example/..."),
        ("tgram://123:token/chat", "tgram://..."),
        ("discord://id/token", "discord://..."),
        ("nonsense", "..."),
    ],
)
def test_of_an_address_no_more_is_shown_than_its_host(url: str, shown: str) -> None:
    assert host_only(url) == shown
