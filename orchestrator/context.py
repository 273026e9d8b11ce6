"""Context: what a phase's function is handed; apart, because an author may import it without orch running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from orchestrator import clock
from orchestrator.core.names import nearest
from orchestrator.errors import ConfigurationFault

T = TypeVar("T")
_PER_SECOND = 10.0


class Context:
    """One attempt at one phase, seen from inside."""

    def __init__(
        self,
        *,
        run: str = "",
        phase: int = 0,
        attempt: int = 1,
        due: str = "",
        project: str | Path = ".",
        results: Mapping[str, Any] | None = None,
        item: Any = None,
        index: int | None = None,
        params: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        send: Callable[[dict[str, Any]], None] | None = None,
        ask: Callable[[str], dict[str, Any]] | None = None,
    ) -> None:
        self.run = run
        self.phase = phase
        self.attempt = attempt
        self.due = due
        self.item = item  # of a phase that fans out: what this attempt is for
        self.index = index  # and its place in the list, from 0
        self.project = Path(project)
        self.params = dict(params or {})
        self._results = {str(number): result for number, result in (results or {}).items()}
        self._secrets = dict(secrets or {})  # of a test; orch itself has them asked for
        self._send = send or (lambda message: None)
        self._ask = ask or self._own
        self._lock = Lock()
        self._allowance = _PER_SECOND
        self._at = clock.ticking()
        self._unsent: dict[str, Any] | None = None

    def path(self, *parts: str | Path) -> Path:
        """Relative to the project's root."""
        return self.project.joinpath(*parts)

    def result(self, number: int) -> Any:
        """What a phase that this one needs has returned."""
        try:
            return self._results[str(number)]
        except KeyError:
            raise ConfigurationFault(
                f"phase {self.phase} does not need phase {number}: add {number} to its needs"
            ) from None

    def secret(self, name: str) -> str:
        """What [secrets] in the settings has under this name. Do not print it, and do not return it."""
        with self._lock:
            said = self._ask(name)
        if "value" in said:
            return str(said["value"])
        if said["is"]:
            raise ConfigurationFault(f"phase {self.phase} may not have the secret {name}: add {name} to its secrets")
        right = nearest(str(name), said["may"])
        hint = f"did you mean {right}?" if right else f'write {name} = {{ env = "..." }} under [secrets] in orch.toml'
        raise ConfigurationFault(f"there is no secret {name}: {hint}")

    def _own(self, name: str) -> dict[str, Any]:
        has = self._secrets
        return {"value": has[name]} if name in has else {"may": sorted(has), "is": False}

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far it is; also the phase's own heartbeat."""
        message = {"kind": "progress", "done": done, "total": total, "text": str(text)}
        is_last = total is not None and done >= total
        with self._lock:
            if self._may_send() or is_last:
                self._unsent = None
                self._send(message)
            else:
                self._unsent = message

    def beat(self) -> None:
        """Say that it is alive, where there is no progress to tell."""
        with self._lock:
            if self._may_send():
                self._send({"kind": "beat"})

    def track(self, items: Iterable[T], total: float | None = None, text: str = "") -> Iterator[T]:
        """The same items, with progress after each."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        done = 0
        self.progress(done, total, text)
        for item in items:
            yield item
            done += 1
            self.progress(done, total, text)
        self.flush()

    def flush(self) -> None:
        """Send what the limit of messages has held back."""
        with self._lock:
            if self._unsent is not None:
                self._send(self._unsent)
                self._unsent = None

    def _may_send(self) -> bool:
        """Ten a second; after a pause, ten at once."""
        now = clock.ticking()
        self._allowance = min(_PER_SECOND, self._allowance + (now - self._at) * _PER_SECOND)
        self._at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
