"""Several shells ask at once, of runs that live and of runs that are killed: each is answered once, and no move is wrong."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from typing import NamedTuple

import pytest

from orchestrator import process
from orchestrator.core import events as ev
from orchestrator.core.events import Event
from orchestrator.core.names import Identity, epoch
from orchestrator.core.state import State
from orchestrator.store.reading import read_lines, read_state
from tests.crash.warm import Command, Warm, warm
from tests.driving import PATIENCE, Project, seeded, times, wait_for
from tests.store.given import seen

__all__ = ["warm"]

SEQUENCES = times(3, 100)
SHELLS, ASKS = 3, 10  # of each sequence
LONG, SHORT = (1, 2), (3, 4, 5, 6)
NUMBERS = (*LONG, *SHORT)
VERBS = ("cancel", "cancel", "retry", "pause", "resume", "resume", "skip", "reset", "reset")


def pipeline(project: Project) -> None:
    """Two that only end when they are ended, each with a tree that left its session; one that fails; three of no trouble."""
    project.settings('kill_grace = "0.5s"\njobs = 4\n[retry.FAILED]\ntries = 1\ndelay = "0.3s"\n')
    deep = "trap '' TERM; setsid sleep 600 & sleep 600"  # whoever does not wait for its end finds it alive
    project.commands(
        *({"number": number, "name": "long", "needs": [], "run": deep} for number in LONG),
        {"number": 3, "name": "quick", "needs": [], "run": "sleep 0.1"},
        {"number": 4, "name": "fails", "needs": [3], "run": "sleep 0.05; exit 1"},
        {"number": 5, "name": "after", "needs": [3, 4], "run": "true"},
        {"number": 6, "name": "last", "needs": [5, 1], "run": "true"},
    )


class Said(NamedTuple):
    words: tuple[str, ...]
    command: Command
    trees: list[Identity]  # for cancel: what was there of it when it was asked


class Sequence:
    def __init__(self, project: Project, warm: Warm, chance: random.Random, done: Counter[str]) -> None:
        self.project, self.warm, self.chance, self.done = project, warm, chance, done
        self.run = warm.start(project, "run", "--new")
        self.run.until(lambda: all(self.trees({number}) for number in LONG))
        verbs = [*VERBS, *chance.choices(VERBS, k=ASKS)][:ASKS]
        self.asks = [("cancel", "1"), *(self.draw(verb) for verb in chance.sample(verbs, ASKS))]
        self.killed_at = {chance.randint(1, ASKS // 2), chance.randint(1, ASKS)} if chance.random() < 0.8 else set()
        self.begun_at = {at + chance.randint(1, 3) for at in self.killed_at}
        self.count = 0
        self.answered = len(answers(project))
        self.accepted = self.refused = 0
        self.open: list[Said] = []

    def play(self) -> None:
        for words in self.asks:
            wait_for(self.has_a_free_shell)
            self.ask(*words)
            self.disturb()
        wait_for(lambda: self.has_a_free_shell() and not self.open)
        self.close()

    def has_a_free_shell(self) -> bool:
        for said in [one for one in self.open if one.command.is_over]:
            self.open.remove(said)
            self.check(said)
        return len(self.open) < SHELLS

    def draw(self, verb: str) -> tuple[str, ...]:
        number = str(self.chance.choice((*NUMBERS, *LONG)))
        if verb in ("pause", "resume"):
            return (verb,)
        if verb == "skip":
            return verb, number, "--why", "so"
        if verb == "reset":
            more = self.chance.choice(((), ("--lost",), ("--with-dependents",)))
            return self.chance.choice(((verb, number, *more), (verb, "--yes"), (verb, "--lost")))
        return (verb,) if verb == "cancel" and self.chance.random() < 0.2 else (verb, number)

    def ask(self, *words: str) -> None:
        which = {int(word) for word in words[1:2] if word.isdigit()} or {*NUMBERS}
        trees = self.trees(which) if words[0] == "cancel" else []
        self.open.append(Said(words, self.warm.start(self.project, *words), trees))

    def disturb(self) -> None:
        """It is killed now and then, and begun again some time later: in between each ask is a turn of its own."""
        self.count += 1
        if self.count in self.killed_at and not self.run.is_over:
            time.sleep(self.chance.uniform(0.0, 0.1))
            self.run.kill()
            self.done["killed"] += 1
        elif self.count in self.begun_at and self.run.is_over:
            self.run = self.warm.start(self.project, "run", *self.chance.choice(((), ("--no-wait",))))

    def trees(self, numbers: set[int]) -> list[Identity]:
        wanted = {f"ORCH_PHASE={number}".encode() for number in numbers}
        mine = [pid for pid in self.project.workers() if wanted & environ_of(pid)]
        return [who for pid in mine if (who := process.identity(pid))]

    def check(self, said: Said) -> None:
        ended = said.command.wait()
        told = f"orch {' '.join(said.words)}: {ended}"
        refused = "refused: " in ended.err
        assert ended.code == int(refused or "had to be killed" in ended.err), told
        assert refused or ended.out, told
        self.accepted, self.refused = self.accepted + (not refused), self.refused + refused
        self.done[f"{said.words[0]} {'refused' if refused else 'accepted'}"] += 1
        if said.words[0] == "cancel" and not refused:
            self.done["trees gone"] += bool(said.trees)
            left = [who for who in said.trees if process.is_alive(who) == process.ALIVE]
            assert not left, f"{told}, and {left} are still there"

    def close(self) -> None:
        """All is ended, and nothing but what may be said of it is on the disk."""
        for words in (("resume",), ("cancel",)):
            self.ask(*words)
            self.check(self.open.pop())
        self.run.wait()
        self.project.assert_nothing_left(PATIENCE)
        told = answers(self.project)[self.answered :]
        assert len({one.ask for one in told}) == len(told), "one was answered twice"
        assert Counter(one.accepted for one in told) == +Counter({True: self.accepted, False: self.refused})
        asks = [path.name for path in (self.project.system / "asks").iterdir() if path.suffix != ".answer"]
        assert asks == ["bell"]
        assert seen(fold(self.project)) == seen(read_state(self.project.system).state)


def environ_of(pid: int) -> set[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return set(file.read().split(b"\0"))
    except OSError:
        return set()


def answers(project: Project) -> list[ev.AskAnswered]:
    events = (Event.from_dict(event) for line in read_lines(project.system) for event in line.events)
    return [event for event in events if isinstance(event, ev.AskAnswered)]


def fold(project: Project) -> State:
    """Event by event: one that may not happen where its phase stands is a KeyError of the table."""
    state = State()
    for line in read_lines(project.system):
        for event in line.events:
            state.apply(Event.from_dict(event), epoch(line.at))
    return state


@pytest.mark.timeout(max(180, 30 * SEQUENCES))
def test_whoever_asks_is_answered_once_and_what_they_ask_leads_only_where_it_may(project: Project, warm: Warm) -> None:
    pipeline(project)
    chance, done = seeded(), Counter[str]()
    assert warm.orch(project, "run", "--only", "3").code == 0
    for _ in range(SEQUENCES):
        Sequence(project, warm, chance, done).play()
    print(f"{SEQUENCES} sequences: {dict(sorted(done.items()))}")
    assert sum(many for what, many in done.items() if " " in what and what != "trees gone") == SEQUENCES * (ASKS + 3)
    wanted = {*VERBS, "killed", "trees gone"}
    assert wanted <= {what.partition(" ")[0] for what in done} | done.keys(), f"some of it never happened: {done}"
    assert os.listdir(project.system / "agents") == []
