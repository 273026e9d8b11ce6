"""What a project says of the outside: where its secrets are, and who is told what."""

from __future__ import annotations

from orchestrator.core.value import Value

FAILED, RECOVERED, GATE, MISSED = "failed", "recovered", "gate", "missed"
GAVE_UP, RUN_FAILED, RUN_COMPLETED = "gave_up", "run_failed", "run_completed"
TOLD = (FAILED, RECOVERED, GATE, MISSED)  # unless a target says otherwise
TELLABLE = (*TOLD, GAVE_UP, RUN_FAILED, RUN_COMPLETED)


class SecretSource(Value):
    """Where the value of a secret is found; exactly one of them is given."""

    env: str = ""
    file: str = ""
    command: str = ""


class Target(Value):
    """Who is told; exactly one of `url`, `secret` and `ping` is given."""

    url: str = ""
    secret: str = ""  # the secret that the URL is
    ping: str = ""  # a dead man's switch: told that a run began and how it ended, and nothing else
    events: tuple[str, ...] = TOLD
    template: str = ""
    quiet: str = ""  # "22:00-07:00": what is to be told then waits for its end
    tz: str = ""  # of `quiet`; empty: the machine's own
