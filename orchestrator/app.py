"""What a command may have done: a run, a recovery, a turn. It decides nothing."""

from __future__ import annotations

import gc
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import clock, secret
from orchestrator.beginning import Recovered, RunOptions, RunResult, nothing_to_do, params_for, scope_for
from orchestrator.config import Settings, keep_what_was_checked
from orchestrator.core import observations as obs
from orchestrator.core.cachekey import Material
from orchestrator.core.due import Met
from orchestrator.core.events import Scope
from orchestrator.core.names import iso
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.errors import OrchError, RunActive
from orchestrator.files.absent import absent
from orchestrator.files.ground import Ground
from orchestrator.files.measuring import examine
from orchestrator.fitting import definitions_of
from orchestrator.look import known_plan, rules_of
from orchestrator.ports import Watcher
from orchestrator.resting import is_at_rest, is_proven, is_sure_to_work, look_ahead
from orchestrator.signals import Signals
from orchestrator.store.lock import RUN, TURN

if TYPE_CHECKING:
    from orchestrator.bridge.ahead import Ahead
    from orchestrator.holding import Holding


def holding_of(*asked: Any, **more: Any) -> Holding:
    """Loaded only here: what goes with the lock is more than all that most starts need."""
    holding: Holding = import_module("orchestrator.holding").Holding(*asked, **more)
    return holding


def run(
    root: Path, settings: Settings, options: RunOptions, watchers: Sequence[Watcher],
    say: Callable[[Recovered], None], tend_display: Callable[[], float],
) -> RunResult:  # fmt: skip
    """One call of `orch run`: recover, begin or go on, until nothing more happens by itself."""
    ahead = _agent_ahead(root, settings, options)
    try:
        return _run(root, settings, options, watchers, say, tend_display, ahead)
    finally:
        if ahead is not None:
            ahead.close()


def _agent_ahead(root: Path, settings: Settings, options: RunOptions) -> Ahead | None:
    """It loads what it needs while we read the plan."""
    if options.meets or not is_sure_to_work(root / "system", anew=options.new or options.force):
        return None
    environ = secret.without_sources(settings.secrets, os.environ)
    ahead: Ahead = import_module("orchestrator.bridge.ahead").Ahead(root, environ)
    return ahead


def _run(
    root: Path, settings: Settings, options: RunOptions, watchers: Sequence[Watcher],
    say: Callable[[Recovered], None], tend_display: Callable[[], float], ahead: Ahead | None,
) -> RunResult:  # fmt: skip
    definitions = definitions_of(root, settings)
    keep_what_was_checked(root)
    plan = Plan(definitions.specs, rules_of(settings), definitions.digest)
    secrets = secret.resolve_all(settings.secrets, root, os.environ)  # before the lock: a command may take its time
    if (state := _all_done(root, settings, plan, options)) is not None:
        say(Recovered([], absent(root, definitions.specs)))
        return RunResult(0, False, state, plan)
    with holding_of(
        root, settings, lambda: plan, RUN, watchers, takeover=options.takeover, secrets=secrets, ahead=ahead
    ) as holding:  # fmt: skip
        holding.found.hints += absent(root, definitions.specs)
        say(holding.found)
        met = options.meets(holding.state) if options.meets else Met()
        if options.meets and met.chosen is None:
            _settle(holding, met)
            return RunResult(0, False, holding.state, plan)
        scope = scope_for(plan, holding.state, options)
        params = params_for(settings.params, holding.state, options)
        materials = _materials(holding.ground, plan, holding.state, scope, options)
        if nothing_to_do(plan, holding.state, scope, options, materials):
            _settle(holding, met)
            holding.outgoing.nothing_to_do(holding.state.run.id)
            return RunResult(0, False, holding.state, plan)
        holding.inbox.every(tend_display)
        holding.keep_logs()
        with Signals(holding.inbox):
            _begin(holding, scope, options, params, materials, met)
            if not gc.isenabled():  # what was read until now stays: nobody looks through it for what could go
                gc.freeze()
                gc.enable()
            holding.engine.run()
        return RunResult(holding.state.run.exit_code or 0, True, holding.state, plan)


def _materials(
    ground: Ground, plan: Plan, state: State, scope: Scope, options: RunOptions
) -> dict[int, Material]:  # fmt: skip
    """What the disk says of all that may be kept."""
    return {} if options.force else examine(ground, plan.questions(state, scope, new=options.new))


def _all_done(root: Path, settings: Settings, plan: Plan, options: RunOptions) -> State | None:
    """The state, where nobody has to take the lock to say that there is nothing to do.

    What has changed is read before it is taken in any case: while it is held nobody is to wait for gigabytes.
    """
    system = root / "system"
    loaded = look_ahead(system)
    if loaded is None:
        return None
    state, rests = loaded.state, not options.meets and is_at_rest(system, loaded, settings)
    if not rests and not any(spec.cache for spec in plan.specs.values()):
        return None
    try:
        scope = scope_for(plan, state, options)
        params_for(settings.params, state, options)
    except OrchError:
        return None  # whoever has the lock says so
    has_files = any(spec.inputs or spec.outputs or spec.foreach for spec in plan.specs.values())
    materials = _materials(Ground(root), plan, state, scope, options) if has_files else {}
    is_done = rests and nothing_to_do(plan, state, scope, options, materials)
    return state if is_done and is_proven(system, loaded) else None


def _settle(holding: Holding, met: Met) -> None:
    """What is due of a schedule, where there is nothing to run for it."""
    name = holding.state.run.id
    if instants := (*met.settled, *((met.chosen.replace(run=name),) if met.chosen else ())):
        holding.engine.step([obs.InstantsMet(instants)])


def _begin(
    holding: Holding, scope: Scope, options: RunOptions, params: dict[str, Any], materials: Mapping[int, Material],
    met: Met,
) -> None:  # fmt: skip
    now = clock.now()
    engine = holding.engine
    engine.mode = engine.mode.replace(
        starts=True, jobs=holding.settings.jobs, no_wait=options.no_wait, fail_fast=options.fail_fast
    )
    due = met.chosen.due if met.chosen else iso(now)
    instants = (*met.settled, met.chosen) if met.chosen else ()
    asked = obs.RunAsked(
        new_run_id(now), scope, holding.me, holding.command, options.new, options.force, due, params, instants
    )  # fmt: skip
    engine.step([asked])
    state = holding.state  # what fans out again is looked at again, and then what it finds is remembered
    judged = {number for number in materials if engine.plan.is_judged(number, state.phase(number))}
    if judged:
        engine.step([obs.Measured(number, materials[number]) for number in materials if number in judged])


def new_run_id(now: float) -> str:
    return iso(now)[:19].replace("-", "").replace(":", "") + "-" + os.urandom(2).hex()


def recover(root: Path, settings: Settings, *, takeover: bool) -> Recovered:
    """`orch recover`: take the lock for one turn; RunActive if a run is alive."""
    with holding_of(root, settings, lambda: known_plan(root, settings), TURN, takeover=takeover) as holding:
        holding.engine.run()
        holding.found.left = sorted(holding.state.live - holding.found.untold.keys())
        return holding.found


def ask_in_turn(root: Path, settings: Settings) -> bool:
    """Take the lock if it is free, answer the asks that are there, and end what they end. False: it is not free."""
    try:
        with holding_of(root, settings, lambda: known_plan(root, settings), TURN, ends_hung=False) as holding:
            for ask in holding.asked():
                holding.inbox.put(ask)
            holding.engine.run()
            return True
    except RunActive:
        return False


def who_asks() -> str:
    """The account's name: cron gives no $LOGNAME on every system."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
