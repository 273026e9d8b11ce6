"""For random graphs and random edits: `plan` then `run` do the same, a second `run` does nothing, and what comes out
is what a run from scratch gives. The real loop and real files; only processes and the journal are left out."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from orchestrator.beginning import RunOptions, nothing_to_do
from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.draft import Mode
from orchestrator.core.events import Scope
from orchestrator.core.item import phase_of
from orchestrator.core.outcome import EXITED, Failure, Outcome
from orchestrator.core.plan import DEPENDS, KEEP, RUN, SKIP, Plan, Rules
from orchestrator.core.preview import Step, preview
from orchestrator.core.spec import Foreach, RetryRule, Spec
from orchestrator.engine import Engine
from orchestrator.files.ground import OUTPUTS, Ground
from orchestrator.files.listing import list_files
from orchestrator.files.measuring import Measurer, examine
from tests.core.given import AGENT, ME
from tests.core.model import ModelStore, NoHeart, World
from tests.driving import seeded, times

LETTERS = "abcdef"


class Shop(World):
    """A project whose phases are computed on the spot: what one makes follows from what it is made of, and nothing else."""

    def __init__(self, root: Path, plan: Plan) -> None:
        super().__init__({}, set())
        self.root, self.plan, self.store = root, plan, ModelStore(self)
        self.ran: list[int] = []
        self.breaks: set[int] = set()
        self.results: dict[int, Any] = {}

    def path(self, name: str) -> Path:
        return self.root / name

    def make(self, order: Any) -> Outcome:
        number = phase_of(order.attempt.phase)
        spec = self.plan.specs[number]
        self.ran.append(order.attempt.phase)
        if spec.foreach is not None:
            return self.make_item(spec, order)
        parts = [f"{name}={self.content(name)}" for name in spec.inputs]
        counts = sorted(order.results.items()) if spec.cache is not False else []
        told = repr((number, parts, counts, order.params))
        value = int(hashlib.sha256(told.encode()).hexdigest(), 16)
        for name in spec.outputs:  # one that breaks leaves half of its work behind
            self.path(name).write_text(f"half of {number}" if number in self.breaks else str(value % 7))
        if number in self.breaks:
            return Outcome(EXITED, 1, failure=Failure("FAILED", "it broke"))
        self.results[number] = {"value": value % 3, "list": [f"i{one}" for one in range(value % 5)]}
        ground, files = Ground(self.root), ""
        if spec.outputs:
            listing = exhausted(ground.listing(spec.outputs))
            ground.keep(number, OUTPUTS, listing)
            files = listing.digest
        return Outcome(EXITED, 0, result=self.results[number], files=files)

    def make_item(self, spec: Spec, order: Any) -> Outcome:
        """What counts for an item, and nothing else: not its place, not the others, not the list itself."""
        foreach, item = spec.foreach, order.item[0]
        assert foreach is not None
        parts = [f"{name}={self.content(name)}" for name in spec.inputs if not fnmatchcase(name, foreach.files)]
        results = {n: {**r, "list": None} if n == str(foreach.result) else r for n, r in order.results.items()}
        params = {name: value for name, value in order.params.items() if name != foreach.param}
        told = repr(
            (spec.number, item, self.content(item) if foreach.files else "", parts, sorted(results.items()), params)
        )
        value = int(hashlib.sha256(told.encode()).hexdigest(), 16) % 7
        breaks = spec.number in self.breaks and ord(item[-1]) % 2 == 0
        for name in spec.outputs:
            self.path(name).mkdir(exist_ok=True)
            (self.path(name) / item).write_text("half" if breaks else str(value))
        if breaks:
            return Outcome(EXITED, 1, failure=Failure("FAILED", "it broke"))
        return Outcome(EXITED, 0, result=value)

    def content(self, name: str) -> str:
        path = self.path(name)
        if path.is_dir():
            return " ".join(f"{one.name}:{one.read_text()}" for one in sorted(path.iterdir()))
        return path.read_text() if path.exists() else "-"

    # ---- what `orch plan` and `orch run` do

    def steps(self, *, new: bool = False) -> dict[int, str]:
        return {number: step.what for number, step in self.planned(new=new).items()}

    def planned(self, *, new: bool = False) -> dict[int, Step]:
        asked = self.plan.questions(self.store.state, Scope(), new=new)
        found = preview(self.plan, self.store.state, Scope(), examine(Ground(self.root), asked), new=new)
        return {step.number: step for step in found}

    def run(self, *, new: bool = False) -> list[int] | None:
        """Which phases had an attempt; None if there was nothing to do."""
        self.ran = []
        ground, state = Ground(self.root), self.store.state
        materials = examine(ground, self.plan.questions(state, Scope(), new=new))
        if nothing_to_do(self.plan, state, Scope(), RunOptions(Scope(), new=new), materials):
            return None
        inbox = Inbox()
        hands = Hands(self, inbox, Measurer(ground, inbox.put))
        turn = Mode(starts=False)
        engine = Engine(self.plan, self.store, inbox, hands, NoHeart(), [], self, turn)  # type: ignore[arg-type]
        engine.step([obs.AgentJoined("a1", AGENT)])
        engine.mode = Mode(starts=True, jobs=2)
        name = f"run-{len(self.lines)}"
        engine.step([obs.RunAsked(name, Scope(), ME, "orch run", new)])
        judged = [n for n in materials if self.plan.is_judged(n, self.store.state.phase(n))]
        engine.step([obs.Measured(number, materials[number]) for number in judged])
        engine.run()
        return self.ran


class Inbox:
    def __init__(self) -> None:
        self.waiting: list[obs.Observation] = []
        self.measurer: Measurer | None = None
        self.rounds = 0

    @property
    def is_empty(self) -> bool:
        return not self.waiting

    def put(self, seen: obs.Observation) -> None:
        self.waiting.append(seen)

    def get(self, wait_seconds: float) -> list[obs.Observation]:
        self.rounds += 1
        assert self.rounds < 2000, "the loop spins"
        if not self.waiting and self.measurer is not None:
            self.measurer.tend()
        batch, self.waiting = self.waiting, []
        return batch


class Hands:
    agent = "a1"

    def __init__(self, shop: Shop, inbox: Inbox, measurer: Measurer) -> None:
        self.shop, self.inbox, self.measurer = shop, inbox, measurer
        inbox.measurer = measurer

    def prepare(self) -> None:
        pass

    def perform(self, actions: Any) -> None:
        self.measurer.perform(actions)
        for action in actions:
            if isinstance(action, act.StartAttempt):
                self.inbox.put(obs.Ended(action.order.attempt, self.shop.make(action.order)))
            elif isinstance(action, act.ListFiles):
                self.inbox.put(list_files(self.shop.root, action))


def exhausted(work: Any) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as done:
        return done.value


def specs(chance: random.Random) -> list[Spec]:
    found = []
    for number in range(1, chance.randint(3, 9)):
        needs = tuple(sorted(chance.sample(range(1, number), min(number - 1, chance.randint(0, 2)))))
        if needs and chance.random() < 0.2:  # never compared, and in the way between those that are
            found.append(Spec(number, f"p{number}", "phases/all.toml", 1, run="x", needs=needs, cache=False))
            continue
        made = tuple(dict.fromkeys(output for need in needs for output in made_up_to(found, need)))
        declares = chance.random() < 0.75
        inputs = (*chance.sample(LETTERS, chance.randint(0, 2)), *made) if declares else ()
        outputs = (f"out{number}",) if declares and chance.random() < 0.7 else ()
        cache = True if inputs or outputs else chance.choice([None, None, True])
        fans = foreach(chance, needs, found) if chance.random() < 0.4 else None
        if fans is not None and fans.items is None:
            outputs = ()  # what an item has left that is not in the list any more stays there
            cache = True if declares or fans.files else cache
        when = ""
        if (
            needs
            and found[needs[0] - 1].foreach is None
            and not outputs
            and not found[needs[0] - 1].when
            and chance.random() < 0.4
        ):
            when = f"params.wanted or result({needs[0]})['value'] > 0"
        found.append(
            Spec(
                number, f"p{number}", "phases/all.toml", 1, run=f"make {number}", needs=needs, inputs=inputs,
                outputs=outputs, cache=cache, when=when, foreach=fans,
                params={"wanted": chance.random() < 0.2, "names": ["x", "y", "x"]} if when or fans else {},
            )
        )  # fmt: skip
    return found


def made_up_to(found: list[Spec], number: int) -> list[str]:
    spec = found[number - 1]
    return [*spec.outputs] if spec.cache is not False else [o for need in spec.needs for o in made_up_to(found, need)]


def foreach(chance: random.Random, needs: tuple[int, ...], found: list[Spec]) -> Foreach:
    lists = [need for need in needs if found[need - 1].foreach is None and not found[need - 1].when]
    ways = [Foreach(("p", "q", "r", "q")), Foreach(files="[a-d]"), Foreach(files="[a-d]"), Foreach(param="names")]
    return chance.choice(ways + [Foreach(result=need, keys=("list",)) for need in lists])


def plan_of(found: list[Spec]) -> Plan:
    return Plan(found, Rules(jobs=2, retry={"FAILED": RetryRule(0)}), "digest")


def edit(chance: random.Random, shop: Shop) -> str:
    name = chance.choice([*LETTERS, *(output for spec in shop.plan.specs.values() for output in spec.outputs)])
    path, how = shop.path(name), chance.random()
    if path.is_dir():
        path = chance.choice([*path.iterdir()] or [path / "p"])
    if how < 0.15 and path.exists():
        path.unlink()
        return f"{name} is gone"
    if how < 0.3 and path.exists():
        path.touch()
        return f"{name} was touched"
    path.write_text(str(chance.randint(0, 9)))
    return f"{name} was written"


def from_scratch(shop: Shop, root: Path) -> Shop:
    root.mkdir()
    for name in LETTERS:
        if shop.path(name).exists():
            (root / name).write_bytes(shop.path(name).read_bytes())
    fresh = Shop(root, shop.plan)
    fresh.run()
    return fresh


def what_came_out(shop: Shop) -> dict[int, Any]:
    return {
        number: (
            shop.store.state.phase(number).status,
            shop.store.state.phase(number).outputs,
            [shop.content(name) for name in spec.outputs]
            if shop.store.state.phase(number).status == "completed"
            else None,
        )
        for number, spec in shop.plan.specs.items()
    }


def check_the_same(planned: dict[int, Step], ran: list[int] | None, told: list[str]) -> None:
    assert len(set(ran or ())) == len(ran or ()), told
    many = Counter(map(phase_of, ran or ()))
    for number, step in planned.items():
        what, items = step.what, re.search(r"(\d+) of \d+ items runs? |none of its \d+ items runs", step.why)
        if what in (KEEP, SKIP):
            assert not many[number], (number, what, told)
        elif items:
            assert many[number] == int(items[1] or 0), (number, step, told)
        elif what == RUN:
            assert many[number] or "for each of" in step.why or step.changed, (number, step, told)
        else:
            assert what == DEPENDS, (number, what, told)


@pytest.mark.timeout(300)
def test_plan_then_run_do_the_same_and_the_result_is_that_of_a_run_from_scratch(tmp_path: Path) -> None:
    chance = seeded()
    kept = ran = some = 0
    for graph in range(times(15, 1000)):
        root = tmp_path / f"g{graph}"
        root.mkdir()
        shop = Shop(root, plan_of(specs(chance)))
        told: list[str] = []
        for name in LETTERS:
            shop.path(name).write_text("0")
        for call in range(4):
            told += [edit(chance, shop) for _ in range(chance.randint(0, 2) if call else 0)]
            if chance.random() < 0.25:
                shop.breaks = set(chance.sample(sorted(shop.plan.specs), 1))
                told.append(f"{shop.breaks} breaks")
                shop.run()
                shop.breaks = set()
            new = bool(call) and chance.random() < 0.4
            planned = shop.planned(new=new)
            told.append(f"run, new: {new}, planned {planned}")
            found = shop.run(new=new)
            check_the_same(planned, found, told)
            assert set(shop.steps().values()) == {KEEP} and shop.run() is None, ("a second run does nothing", told)
            fresh = from_scratch(shop, tmp_path / f"g{graph}-{call}")
            assert what_came_out(shop) == what_came_out(fresh), told
            ran += len(found or ())
            kept += len(shop.plan.specs) - len({*map(phase_of, found or ())})
            some += sum("items run" in step.why for step in planned.values())
    print(f"{ran} attempts, {kept} phases kept, {some} times some items of a phase")
    assert ran > 50 and kept > 50 and some > 5
