"""Telling: which events somebody is to hear of, and in which words; the first failure and the recovery, not each retry.

What is told follows from the lines of the journal alone, so that a line read again says the same under the same id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from orchestrator.core import events as ev
from orchestrator.core.gate import Gate, ways
from orchestrator.core.item import Item, phase_of
from orchestrator.core.names import epoch, iso, readable, span
from orchestrator.core.outward import FAILED, GATE, GAVE_UP, MISSED, RECOVERED, RUN_COMPLETED, RUN_FAILED
from orchestrator.core.table import AWAITING, DONE
from orchestrator.core.value import Value

BEGUN, ENDED_WELL, ENDED_BADLY = "start", "ok", "fail"  # for a dead man's switch
PINGS = (BEGUN, ENDED_WELL, ENDED_BADLY)
TEST, DROPPED = "test", "dropped"
NAMED = 10  # phases in a sentence
LISTED = 100  # phases in a message
LONGEST = 2000  # characters of a sentence
_LEAD = (60.0, 3600.0)  # seconds before its deadline that a gate is spoken of again: a tenth of its time, within these


class Message(Value):
    """One thing to be told, whoever hears it; told twice only under the same id."""

    id: str
    event: str
    text: str
    at: str
    run: str = ""
    phases: tuple[tuple[int, str], ...] = ()  # number and name
    after: str = ""  # not before then
    dropped: int = 0  # how many others this one stands for

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Message:
        return cls(**{**data, "phases": tuple((int(number), str(name)) for number, name in data.get("phases", ()))})


class Told(NamedTuple):
    messages: list[Message]
    withdrawn: list[str]  # ids of what need not be told any more


class _Alert(NamedTuple):
    since: str
    failures: int


class _Asking(NamedTuple):
    gate: str
    warning: str  # the id of the message that is to come before its deadline; empty: none


class Teller:
    """Remembers which phases are known to fail, and which gates are open: over retries, runs and the end of orch."""

    def __init__(self) -> None:
        self.run = ""
        self._alerts: dict[int, _Alert] = {}
        self._gates: dict[int, _Asking] = {}

    def hear(self, seq: int, at: str, events: Iterable[ev.Event], name_of: Callable[[int], str]) -> Told:
        """What follows from the line `seq` of the journal: of each kind one message, which names all phases."""
        line = _Line(self, seq, at, name_of)
        for event in events:
            branch = _BRANCHES.get(type(event))
            if branch is not None:
                branch(self, event, line)
        return line.told()

    def forget(self, done: Iterable[int]) -> None:
        """Nobody knows how these came to be done: nothing is said of it."""
        for number in done:
            self._alerts.pop(number, None)

    @property
    def failing(self) -> list[int]:
        return sorted(self._alerts)

    def as_dict(self) -> dict[str, Any]:
        alerts = {str(number): alert._asdict() for number, alert in self._alerts.items()}
        gates = {str(number): asking._asdict() for number, asking in self._gates.items()}
        return {"run": self.run, "alerts": alerts, "gates": gates}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Teller:
        teller = cls()
        teller.run = str(data["run"])
        teller._alerts = {int(n): _Alert(str(one["since"]), int(one["failures"])) for n, one in data["alerts"].items()}
        teller._gates = {int(n): _Asking(str(one["gate"]), str(one["warning"])) for n, one in data["gates"].items()}
        return teller


class _Line:
    """What one line comes to: for each kind of message the phases, each with its words, in their order."""

    def __init__(self, teller: Teller, seq: int, at: str, name_of: Callable[[int], str]) -> None:
        self.teller, self.seq, self.at, self._name_of = teller, seq, at, name_of
        self._said: dict[str, dict[int, str]] = {}
        self._messages: list[Message] = []
        self._withdrawn: list[str] = []

    def say(self, event: str, number: int, words: str) -> None:
        self._said.setdefault(event, {}).setdefault(phase_of(number), words)

    def add(
        self, event: str, number: int | None, text: str, phases: Iterable[int] = (), after: str = "", called: str = ""
    ) -> str:  # fmt: skip
        """`called`: what its id ends with, where another of that kind may say something else."""
        listed = tuple((number, self._name_of(number)) for number in phases)[:LISTED]
        named = self.id(called or event, number)
        made = Message(named, event, readable(text, LONGEST), self.at, self.teller.run, listed, after)
        self._messages.append(made)
        return made.id

    def id(self, event: str, number: int | None) -> str:
        return ident(self.teller.run or "none", self.seq, *(() if number is None else (number,)), event)

    def withdraw(self, warning: str) -> None:
        if warning:
            self._withdrawn.append(warning)

    def name(self, number: int) -> str:
        return f"{number} {self._name_of(number)}".rstrip()

    def told(self) -> Told:
        """Phases first: what became of the run follows from them."""
        others, self._messages = self._messages, []
        for event, said in self._said.items():
            numbers = sorted(said)
            shown = [f"{self.name(number)} {said[number]}" for number in numbers[:NAMED]]
            more = f"; and {len(said) - NAMED} more" if len(said) > NAMED else ""
            if len(said) == 1:
                text = f"phase {shown[0]}"
            else:
                text = f"{len(said)} phases {_SEVERAL[event]}: {'; '.join(shown)}{more}"
            self.add(event, numbers[0], text, numbers)
        return Told([*self._messages, *others], self._withdrawn)


_SEVERAL = {FAILED: "failed", RECOVERED: "are well again", GATE: "wait for a person", GAVE_UP: "have failed for good"}


def ident(*parts: object) -> str:
    """Of an id a file is named, and a header: what stands in neither is taken out."""
    return re.sub(r"[^\w.-]", "_", ".".join(map(str, parts)), flags=re.ASCII)[:150]


def missed(schedule: str, due: float, now: float, words: str = "") -> Message:
    """A start that did not happen: under the same id whoever notices it, the next run or the second entry of cron."""
    text = f"schedule {schedule}: {words or f'the start that was due at {_shown(iso(due))} did not happen'}"
    return Message(ident(MISSED, schedule, int(due)), MISSED, readable(text, LONGEST), iso(now))


def nothing_to_do(run: str, now: float) -> Message:
    """For a dead man's switch: a call that found all done has been there, too."""
    return Message(ident(run, f"{now:.3f}", ENDED_WELL), ENDED_WELL, "nothing to do", iso(now), run)


# ---- what each event says


def _opened(teller: Teller, event: ev.RunStarted | ev.RunContinued, line: _Line) -> None:
    teller.run = event.run
    if isinstance(event, ev.RunStarted):  # all is as if never asked
        for number in list(teller._gates):
            line.withdraw(teller._gates.pop(number).warning)
    line.add(BEGUN, None, f"run {event.run} {'began' if isinstance(event, ev.RunStarted) else 'goes on'}")


def _run_ended(teller: Teller, event: ev.RunEnded, line: _Line) -> None:
    failing = teller.failing
    names = ", ".join(line.name(number) for number in failing[:NAMED])
    left = f"; failing: {names}" if names and event.verdict != "completed" else ""
    text = f"run {teller.run} {'waits' if event.verdict == 'waiting' else event.verdict}{left}"
    if event.verdict == "completed":
        line.add(RUN_COMPLETED, None, text)
    elif event.verdict != "waiting":
        line.add(RUN_FAILED, None, text, failing)
    # 3: nothing is wrong, it waits for a person or for its time, and was there
    line.add(ENDED_WELL if event.exit_code in (0, 3) else ENDED_BADLY, None, f"{text} (exit code {event.exit_code})")


def _failing(teller: Teller, event: Any, line: _Line) -> None:
    number, failure = phase_of(event.number), event.failure
    of_item = f"{event.number} " if isinstance(event.number, Item) else ""
    words = f"failed: {of_item}{failure.code}: {failure.message}"
    alert = teller._alerts.get(number)
    teller._alerts[number] = _Alert(alert.since if alert else line.at, alert.failures + 1 if alert else 1)
    if alert is None:
        line.say(FAILED, number, f"{words}; {_what_next(event)}")
    if type(event) in _FINAL and not of_item:
        line.say(GAVE_UP, number, f"failed for good: {failure.code}: {failure.message}")


def _what_next(event: Any) -> str:
    if isinstance(event, ev.RetryScheduled):
        return f"tried again at {_shown(event.due_at)} (in {span(event.delay_seconds)})"
    if isinstance(event, ev.PhaseRecovered):
        return "`orch run` runs it again"
    return f"not tried again by itself: `orch retry {event.number}`"


def _rejected(teller: Teller, event: ev.GateRejected, line: _Line) -> None:
    _decided(teller, event, line)
    _failing(teller, event, line)


def _done(teller: Teller, event: Any, line: _Line) -> None:
    if isinstance(event.number, Item):
        return  # its phase is what was told of
    alert = teller._alerts.pop(event.number, None)
    if alert is None:
        return
    many = "1 failure" if alert.failures == 1 else f"{alert.failures} failures"
    lasted = span(max(0.0, epoch(line.at) - epoch(alert.since)))
    how = "completed" if not isinstance(event, ev.PhaseKept) else "is as it was when it last succeeded,"
    missing = f", {len(event.failed)} of its items failed" if getattr(event, "failed", ()) else ""
    line.say(RECOVERED, event.number, f"{how} after {many} since {_shown(alert.since)} ({lasted}){missing}")


def _skipped(teller: Teller, event: Any, line: _Line) -> None:
    if not isinstance(event.number, Item):
        teller._alerts.pop(event.number, None)
        _decided(teller, event, line)


def _gate_opened(teller: Teller, event: ev.GateOpened, line: _Line) -> None:
    before = teller._gates.pop(event.number, None)
    if before is None:
        line.say(GATE, event.number, f"waits for {event.gate.told()}: {_shown_of(event.gate)}{ways(event.number)}")
    else:
        line.withdraw(before.warning)  # asked anew while it waits: that has been told
    teller._gates[event.number] = _Asking(event.gate.id, _warn(event.number, event.gate, line))


def _warn(number: int, gate: Gate, line: _Line) -> str:
    """The message that comes before its deadline, if there is time for one; put down now, whoever is there then."""
    least, most = _LEAD
    if gate.due_at is None or not gate.delay_seconds or gate.delay_seconds < 2 * least:
        return ""
    when = iso(epoch(gate.due_at) - min(most, max(least, gate.delay_seconds / 10)))
    text = f"phase {line.name(number)} still waits for {gate.told()}: {_shown_of(gate)}{ways(number)}"
    return line.add(GATE, number, text, [number], when, called=f"{GATE}_warning")


def _shown_of(gate: Gate) -> str:
    return f"{gate.shown}; " if gate.shown else ""


def _decided(teller: Teller, event: Any, line: _Line) -> None:
    asking = teller._gates.pop(event.number, None)
    if asking is not None:
        line.withdraw(asking.warning)


def _settled(teller: Teller, event: ev.InstantSettled, line: _Line) -> None:
    """Of several in a row the last is what the second entry of cron names, too."""
    if not event.missed:
        return
    words = f"the start that was due at {_shown(event.due)} did not happen"
    if event.count > 1:
        words = (
            f"none of the {event.count} starts happened that were due from {_shown(event.due)} to {_shown(event.last)}"
        )
    words += f": {event.why}" if event.why else ""
    line._messages.append(missed(event.schedule, epoch(event.last or event.due), epoch(line.at), words))


def _plan_adopted(teller: Teller, event: ev.PlanAdopted, line: _Line) -> None:
    teller.forget([number for number in teller._alerts if str(number) not in event.phases])
    for number in [number for number in teller._gates if str(number) not in event.phases]:
        line.withdraw(teller._gates.pop(number).warning)


def _rolled_back(teller: Teller, event: ev.RolledBack, line: _Line) -> None:
    teller.forget(int(text) for text, phase in event.phases.items() if "[" not in text and phase.get("status") in DONE)
    for number in list(teller._gates):
        if event.phases.get(str(number), {}).get("status") != AWAITING:
            line.withdraw(teller._gates.pop(number).warning)


_FINAL = frozenset({ev.PhaseFailed, ev.PhaseMended, ev.GatherFailed, ev.GateRejected})
_BRANCHES: dict[type[ev.Event], Callable[[Teller, Any, _Line], None]] = {
    ev.RunStarted: _opened,
    ev.RunContinued: _opened,
    ev.RunEnded: _run_ended,
    ev.PlanAdopted: _plan_adopted,
    ev.RolledBack: _rolled_back,
    ev.RetryScheduled: _failing,
    ev.PhaseFailed: _failing,
    ev.PhaseRecovered: _failing,
    ev.PhaseMended: _failing,
    ev.GatherFailed: _failing,
    ev.PhaseCompleted: _done,
    ev.PhaseKept: _done,
    ev.Gathered: _done,
    ev.PhaseSkipped: _skipped,
    ev.GateOpened: _gate_opened,
    ev.GatePassed: _decided,
    ev.GateApproved: _decided,
    ev.GateRejected: _rejected,
    ev.PhaseCancelled: _decided,
    ev.PhaseReset: _decided,
    ev.InstantSettled: _settled,
}


def _shown(at: str) -> str:
    """To the second: that is what people act on."""
    return re.sub(r"\.\d+Z$", "Z", at)
