"""What all attempts of one agent share: where it is, whom it knows, what it was told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.agent.launching import Launcher
from orchestrator.agent.loop import Loop
from orchestrator.agent.tree import Census
from orchestrator.core.item import Item
from orchestrator.core.masking import Masker
from orchestrator.core.wire import Order
from orchestrator.process.groups import Groups


def _as_text(value: Any) -> str:
    """Text as it is; all else as JSON has it, so that true is true to a shell, too."""
    return value if isinstance(value, str) else json.dumps(value)


class Site:
    def __init__(self, project: Path, agent: str, folder: Path, loop: Loop, log: Callable[[str], None]) -> None:
        self.project = project
        self.agent = agent
        self.folder = folder
        self.loop = loop
        self._log = log
        self.census = Census(loop)
        self.environ = dict(os.environ)
        self.launcher = Launcher(self.census, log, self.environ)
        self.groups = Groups()
        self.python = ""
        self.load_timeout = 30.0
        self.beat_interval = 2.0
        self.forget_logs_after = 20
        self.starts_programs = False
        self.phase_files: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self.masker: Masker | None = None
        self._variables: dict[str, str] = {}  # what a command finds each secret as

    def configure(self, settings: dict[str, Any], *, is_heir: bool) -> None:
        """An heir only takes over: what attempts run with was settled by who started them."""
        self.beat_interval = max(0.05, float(settings.get("beat_interval", self.beat_interval)))
        if is_heir:
            return
        if given := settings.get("secrets"):  # kept here and nowhere else
            self.secrets = {name: value for name, (_, value) in given.items()}
            self._variables = {name: variable for name, (variable, _) in given.items()}
            self.masker = Masker(self.secrets.values())
        self.python = str(settings.get("python") or self.python)
        self.load_timeout = float(settings.get("load_timeout", self.load_timeout))
        self.starts_programs = bool(settings.get("starts_programs"))
        self.forget_logs_after = int(settings.get("forget_logs_after", self.forget_logs_after))
        self.phase_files = {str(file): str(digest) for file, digest in settings.get("phase_files", {}).items()}

    def log(self, text: str) -> None:
        self._log(self.hidden(text))

    def hidden(self, text: str) -> str:
        return self.masker.text(text) if self.masker is not None else text

    def hidden_in(self, value: Any) -> Any:
        return self.masker.json(value) if self.masker is not None else value

    def secrets_of(self, order: Order) -> dict[str, str]:
        """What this phase may have, by name."""
        return {name: value for name, value in self.secrets.items() if order.secrets is None or name in order.secrets}

    def secret_environment(self, order: Order) -> dict[str, str]:
        """Of a command: those that it lists. A function asks for them."""
        if order.run is None or order.secrets is None:
            return {}
        return {self._variables[name]: value for name, value in self.secrets_of(order).items()}

    @property
    def tags(self) -> dict[str, str]:
        """What every process of this agent carries in its environment: found by it when all else is lost."""
        return {"ORCH_PROJECT": str(self.project), "ORCH_AGENT": self.agent}

    def result_file(self, order: Order) -> str:
        return f"{self.folder}/work/{order.attempt}.json"

    def own_environment(self, order: Order) -> dict[str, str]:
        """What an attempt's environment has on top of the agent's."""
        attempt = order.attempt
        own = {
            **order.env,
            **{f"ORCH_PARAM_{name.upper()}": _as_text(value) for name, value in order.params.items()},
            **self.tags,
            "ORCH_RUN": attempt.run,
            "ORCH_PHASE": str(attempt.phase),
            "ORCH_ATTEMPT": str(attempt.number),
            "ORCH_DUE": order.due,
            "ORCH_RESULT": self.result_file(order),
            "PWD": self.folder_of(order),
        }
        if isinstance(attempt.phase, Item) and order.item is not None:
            value = order.item[0]
            own["ORCH_ITEM"] = value if isinstance(value, str) and "\0" not in value else json.dumps(value)
            own["ORCH_ITEM_INDEX"] = str(attempt.phase.index)
        return {**own, "TRACEPARENT": order.trace} if order.trace else own

    def folder_of(self, order: Order) -> str:
        return os.path.normpath(os.path.join(self.project, order.cwd))
