"""What the project says of the world outside: where secrets come from, who is told what."""

from __future__ import annotations

from orchestrator.core.value import Value

DEFAULT_EVENTS = ("failed", "recovered", "gate", "missed")


class SecretSource(Value):
    env: str = ""
    file: str = ""
    command: str = ""


class Target(Value):
    """Who is told: exactly one of url, secret (the name of the secret that is the URL) and ping."""

    url: str = ""
    secret: str = ""
    ping: str = ""  # a dead man's switch: told that a run begins and how it ends, nothing else
    events: tuple[str, ...] = DEFAULT_EVENTS
    template: str = ""
    quiet: str = ""
    tz: str = ""
