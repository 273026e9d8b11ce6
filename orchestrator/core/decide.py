"""decide: observations in, events and actions out, with the reason. The heart of orch; it runs nothing.

Order matters, and is this: gates whose deadline has passed; ends of attempts before anything that judges deadlines;
recovery before a run begins; what people ask; the net; then gates that open and new attempts on the slots that are
free by then; last, whether the run is over.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core import actions as act
from orchestrator.core import deciding, fanning, retry, stuck, undoing
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.agenda import Agenda
from orchestrator.core.asking import answer
from orchestrator.core.cachekey import digest
from orchestrator.core.draft import Decision, Draft, Mode
from orchestrator.core.due import SKIPPED
from orchestrator.core.ending import end_if_over
from orchestrator.core.item import Item
from orchestrator.core.judging import judge
from orchestrator.core.names import Moment, iso
from orchestrator.core.outcome import LOST, NEVER_STARTED, STOPPED, Failure, Outcome, failure_of
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, stays_failed
from orchestrator.core.starting import start_what_is_due
from orchestrator.core.state import State
from orchestrator.core.table import RETRY_WAIT

FROM_A_SIGNAL = 128  # exit codes beyond it say so
FAILED_FAST = 1  # the exit code, as of any run in which a phase failed
_FIRST = (obs.Ended, obs.OwnerDead, obs.NeverStarted, obs.Started, obs.AgentJoined, obs.AgentGone)
_PRECEDENCE = {**{kind: place for place, kind in enumerate(_FIRST)}, obs.Tick: len(_FIRST) + 1}


def decide(
    plan: Plan, state: State, agenda: Agenda, batch: Iterable[obs.Observation], moment: Moment, mode: Mode
) -> Decision:
    draft = Draft(plan, state, agenda, moment, mode)
    known = list(batch)
    deciding.expire(draft)
    for observation in sorted(known, key=_precedence):
        draft.reason = observation.told()
        _HANDLERS[type(observation)](draft, observation)
    _cast_net(draft)
    for number in fanning.give_up_early(draft):
        _fail_fast(draft, number)
    if mode.starts and not draft.opened and not draft.is_over:
        for number in fanning.gather(draft):
            _fail_fast(draft, number)
    if mode.starts and not draft.opened and not draft.stopping and not draft.is_over:
        judge(draft)
        deciding.open_before(draft)
        if not draft.paused:
            fanning.fan_out(draft)
            start_what_is_due(draft)
    if mode.starts and not draft.opened and not draft.ended:
        end_if_over(draft)
    return draft.decision()


def next_wake(state: State, agenda: Agenda, mode: Mode, moment: Moment) -> float:
    """Seconds until something is due by itself. A due retry without a free slot is not: an end will wake us."""
    times = [watch.strikes_at - moment.tick for watch in agenda.watches.values()]
    times += [tick - moment.tick for tick, _ in agenda.gates[:1]]
    if mode.starts and state.run.verdict is None and _has_only_to_look_again(state, agenda):
        return 0.0
    if mode.starts and not state.run.stopping and len(state.live) < mode.jobs and _may_start(state):
        left = agenda.free_tokens(state.live)
        if not agenda.is_idle(left, mode.jobs - len(state.live) if mode.agent else 0):
            return 0.0
        if agenda.waiting and mode.agent and not mode.no_wait:
            times += agenda.next_due(left, moment.tick)
    return max(0.0, min(times, default=3600.0))


def _has_only_to_look_again(state: State, agenda: Agenda) -> bool:
    """Items are to be found or gathered, or nothing at all is left, which the next decision says."""
    to_fan_out = agenda.to_fan_out - agenda.looking
    if agenda.to_gather - agenda.looking or (to_fan_out and not state.run.stopping and _may_start(state)):
        return True
    if agenda.to_gather:
        return False  # its outputs are being looked at
    return not (state.live or agenda.count_ready or agenda.waiting or agenda.to_fan_out or agenda.unjudged)


def _may_start(state: State) -> bool:
    return state.run.verdict is None and state.run.paused is None


def is_over(state: State, mode: Mode) -> bool:
    """Nothing more will happen by itself: the call may end."""
    if mode.starts:
        return state.run.verdict is not None
    return not state.restoring and not any(state.phase(number).step == "stopping" for number in state.live)


def _precedence(observation: obs.Observation) -> int:
    return _PRECEDENCE.get(type(observation), len(_FIRST))


# ---- how attempts end


def _ended(draft: Draft, seen: obs.Ended) -> None:
    number, outcome = seen.attempt.phase, seen.outcome
    draft.do(act.TakeOutcome(seen.attempt))
    draft.over.add(seen.attempt)
    if not draft.is_current(seen.attempt):
        return  # an older attempt, or news of it that came twice
    phase = draft.phase(number)
    if outcome.succeeded:
        draft.note(_completed(number, phase, outcome))
        deciding.open_after(draft, number)
    elif phase.why == stuck.WHY and outcome.kind == STOPPED:
        _failed(draft, number, Failure("TIMEOUT", stuck.WHY, log=outcome.log), outcome.duration_seconds)
    elif outcome.kind == STOPPED or (phase.step == "stopping" and outcome.kind == NEVER_STARTED):
        draft.note(_cancelled(number, phase, outcome))
    elif outcome.kind == NEVER_STARTED and outcome.failure is None:
        draft.note(ev.AttemptWithdrawn(number, phase.attempt, "it was never started"))
    elif phase.step == "stopping" and outcome.kind != LOST and not _ended_by_itself(outcome):
        draft.note(_cancelled(number, phase, outcome))
    else:
        _failed(draft, number, failure_of(outcome), outcome.duration_seconds)


def _cancelled(number: int, phase: PhaseState, outcome: Outcome) -> ev.PhaseCancelled:
    took, killed = outcome.duration_seconds, outcome.insisted
    return ev.PhaseCancelled(number, phase.why or "stopped", phase.attempt, took, killed)


def _ended_by_itself(outcome: Outcome) -> bool:
    """A failure with a code of its own, although the end was already asked for: that news is worth more."""
    return outcome.failure is not None


def _completed(number: int, phase: PhaseState, outcome: Outcome) -> ev.PhaseCompleted:
    yields = digest([outcome.result, outcome.files])
    return ev.PhaseCompleted(
        number, phase.attempt, outcome.duration_seconds, outcome.result, outcome.log, outcome.leftovers,
        outcome.files, yields,
    )  # fmt: skip


def _failed(draft: Draft, number: int, failure: Failure, duration: float) -> None:
    phase, plan = draft.phase(number), draft.plan
    verdict = retry.judge(plan.spec(number), phase, failure, plan.rules.retry, number, draft.moment.draw)
    if verdict.again and phase.step != "stopping":
        due = iso(draft.moment.now + verdict.delay)
        draft.note(ev.RetryScheduled(number, phase.attempt, failure, duration, due, verdict.delay))
    else:
        restore = "" if verdict.again else undoing.goes_back_to(draft, number)
        draft.note(ev.PhaseFailed(number, phase.attempt, failure, duration, verdict.why, restore))
        if restore:
            draft.do(act.RestoreCheckpoint(number, restore))
        _fail_fast(draft, number)


def _checkpoint_failed(draft: Draft, seen: obs.CheckpointFailed) -> None:
    if draft.is_current(seen.attempt) and draft.phase(seen.attempt.phase).step == "starting":
        _failed(draft, seen.attempt.phase, Failure(seen.code, f"its checkpoint could not be made: {seen.why}"), 0.0)


def _fail_fast(draft: Draft, number: int) -> None:
    if isinstance(number, Item):
        draft.failed_items.append(number)  # judged when all the news are in
    elif draft.mode.fail_fast and not draft.stopping:
        why = f"phase {number} failed, and --fail-fast was asked for"
        draft.stop_run(why, FAILED_FAST)
        draft.stop_all(why)


def _owner_dead(draft: Draft, seen: obs.OwnerDead) -> None:
    """Recovery: what a dead owner left in progress is failed, and says who and since when."""
    if not draft.is_current(seen.attempt):
        return
    number = seen.attempt.phase
    message = f"{seen.owner} is gone ({seen.why}); it was in progress since {seen.since}"
    failure = Failure("INTERRUPTED", message, log=draft.phase(number).log or "")
    draft.note(ev.PhaseRecovered(number, seen.attempt.number, failure, 0.0, seen.owner, seen.since))
    draft.recovered.append(number)


def _never_started(draft: Draft, seen: obs.NeverStarted) -> None:
    """Nobody knows of it; but what the journal says has started is not forgotten, and what was to end has ended."""
    if not draft.is_current(seen.attempt):
        return
    number, phase = seen.attempt.phase, draft.phase(seen.attempt.phase)
    if phase.step == "stopping":
        draft.note(ev.PhaseCancelled(number, phase.why or "stopped", phase.attempt))
    elif phase.pid is not None:
        who, since = f"attempt {seen.attempt}", phase.started_at or ""
        _owner_dead(draft, obs.OwnerDead(seen.attempt, who, since, f"agent {phase.agent} knows nothing of it"))
        return
    else:
        draft.note(ev.AttemptWithdrawn(number, phase.attempt, "intended, but never started"))
    draft.recovered.append(number)


def _started(draft: Draft, seen: obs.Started) -> None:
    if seen.attempt in draft.over:
        return
    if not draft.is_current(seen.attempt):
        draft.do(act.StopAttempt(seen.attempt, "nobody waits for this attempt any more", insist=True))
        return
    phase = draft.phase(seen.attempt.phase)
    if phase.step == "starting":
        draft.note(ev.AttemptStarted(seen.attempt.phase, phase.attempt, seen.pid, seen.ticks))


# ---- agents come and go


def _agent_joined(draft: Draft, seen: obs.AgentJoined) -> None:
    if draft.state.agents.get(seen.agent) != seen.identity:
        draft.note_run(ev.AgentEngaged(seen.agent, seen.identity))
    for attempt in seen.attempts:
        if not draft.is_current(attempt):
            draft.do(act.StopAttempt(attempt, "nobody waits for this attempt any more", insist=True))
        elif draft.phase(attempt.phase).step == "stopping":
            draft.do(act.StopAttempt(attempt, draft.phase(attempt.phase).why or "stopped"))
    if not seen.takes_work:
        _forgotten(draft, seen)


def _forgotten(draft: Draft, seen: obs.AgentJoined) -> None:
    """Whoever takes no more work says all that they know: what is not among it will never be heard of."""
    for number in sorted(draft.live()):
        if draft.phase(number).agent == seen.agent and draft.attempt_id(number) not in seen.attempts:
            _never_started(draft, obs.NeverStarted(draft.attempt_id(number)))


def _agent_gone(draft: Draft, seen: obs.AgentGone) -> None:
    if seen.agent in draft.state.agents:
        draft.note_run(ev.AgentLeft(seen.agent, seen.why))
    for number in sorted(draft.live()):
        phase = draft.phase(number)
        if phase.agent == seen.agent:
            _ended(draft, obs.Ended(draft.attempt_id(number), _lost(phase, seen.why)))


def _lost(phase: PhaseState, why: str) -> Outcome:
    if phase.step == "stopping":
        return Outcome(STOPPED)
    return Outcome(LOST, failure=Failure("INTERRUPTED", f"its agent is gone: {why}", log=phase.log or ""))


# ---- the run begins, and is told to stop


def _run_asked(draft: Draft, seen: obs.RunAsked) -> None:
    run, rules = draft.state.run, draft.plan.rules
    fresh = seen.new or not run.id
    name = seen.run if fresh else run.id
    opening = (
        name, seen.scope, seen.owner, seen.command, draft.mode.jobs, rules.heartbeat_timeout, rules.stale_after
    )  # fmt: skip
    params = {**rules.params, **seen.params}
    for instant in seen.instants:
        draft.note_run(instant if instant.how == SKIPPED else instant.replace(run=name))
    cut_off = run.id if run.id and run.verdict is None else ""
    begun = ev.RunStarted(*opening, due=seen.due, params=params, cut_off=cut_off, force=seen.force)
    draft.note_run(begun if fresh else ev.RunContinued(*opening))
    if fresh or run.plan != draft.plan.digest:
        draft.note_run(ev.PlanAdopted(draft.plan.digest, draft.plan.titles()))
    draft.opened = True
    draft.paused = draft.paused and not fresh
    if not fresh and run.plan != draft.plan.digest:
        deciding.open_anew(draft)
    if not fresh:
        _reset_for_another_call(draft, seen)


def _reset_for_another_call(draft: Draft, seen: obs.RunAsked) -> None:
    for number in draft.plan.specs:
        phase = draft.phase(number)
        if number not in seen.scope or phase.is_live:
            continue
        items, relists = fanning.missed_items(draft, number), fanning.relists(draft, number)
        has_a_past = phase.attempts or phase.status != "pending" or phase.items or phase.made
        if seen.force and has_a_past and not fanning.live_items(draft, number):
            draft.note(ev.PhaseReset(number, "--force"))
        elif phase.status in ("failed", "cancelled") and not stays_failed(draft.plan, number, phase):
            draft.note(
                ev.PhaseReset(number, f"it was {phase.status}", phase.interruptions, items=items, relists=relists)
            )
        elif phase.status == "pending" and items:
            draft.note(ev.PhaseReset(number, "of its items some had failed", items=items, relists=relists))
        elif phase.status == RETRY_WAIT and draft.plan.asks_first(number, phase):
            draft.note(ev.PhaseReset(number, "another plan was approved than there is now", phase.interruptions))


def _instants_met(draft: Draft, seen: obs.InstantsMet) -> None:
    for instant in seen.instants:
        draft.note_run(instant)


def _no_agents(draft: Draft, seen: obs.NoAgents) -> None:
    if not draft.stopping:
        draft.stop_run(seen.why, 70)
    draft.stop_all(seen.why)


def _interrupted(draft: Draft, seen: obs.Interrupt) -> None:
    insist = bool(draft.stopping) and draft.stopping_code > FROM_A_SIGNAL  # a cancel from elsewhere is not the first
    if not insist:
        draft.stop_run(seen.name, seen.exit_code)
    draft.stop_all(f"ended by {seen.name}", insist=insist)


def _asked(draft: Draft, seen: obs.Asked) -> None:
    earlier = draft.state.answers.get(seen.ask)
    if earlier is not None:
        draft.do(act.AnswerAsk(seen.ask, earlier["accepted"], earlier["text"]))
        return
    if seen.ask in draft.answers:
        return  # it came twice at once
    accepted, text = draft.answers[seen.ask] = answer(draft, seen)
    about = seen.number if draft.state.run.id else None  # where there is no run yet, no phase has a story
    draft.note_run(ev.AskAnswered(seen.ask, seen.verb, seen.by, accepted, text, about))
    draft.do(act.AnswerAsk(seen.ask, accepted, text))


# ---- the net, and what was found out


def _cast_net(draft: Draft) -> None:
    """For attempts that their agent should have ended long ago: press, harder each time."""
    for number, watch in draft.agenda.watches.items():
        if not stuck.is_stuck(watch, draft.moment.tick) or not (phase := draft.phase(number)).is_live:
            continue
        draft.pressed.append(number)
        draft.reason = f"the loop's own net: attempt {number}.{phase.attempt} is long past its deadline"
        if watch.step + 1 <= stuck.INSIST:
            why = phase.why if phase.step == "stopping" and phase.why else stuck.WHY
            draft.stop(number, why, insist=True)
        elif watch.step + 1 == stuck.END_AGENT:
            draft.do(act.EndAgent(phase.agent or "", "it did not end an attempt when told to"))
        else:
            message = "nobody could say how it ended; the loop's own net marks it as failed"
            failure = Failure("INTERNAL", message, log=phase.log or "")
            draft.note(ev.PhaseMended(number, phase.attempt, failure))
            _fail_fast(draft, number)


def _measured(draft: Draft, seen: obs.Measured) -> None:
    draft.materials[seen.number] = seen.material


_HANDLERS = {
    obs.Tick: lambda draft, seen: None,
    obs.Beat: lambda draft, seen: None,
    obs.Measured: _measured,
    obs.Ended: _ended,
    obs.OwnerDead: _owner_dead,
    obs.NeverStarted: _never_started,
    obs.Started: _started,
    obs.CheckpointFailed: _checkpoint_failed,
    obs.AgentJoined: _agent_joined,
    obs.AgentGone: _agent_gone,
    obs.RunAsked: _run_asked,
    obs.InstantsMet: _instants_met,
    obs.NoAgents: _no_agents,
    obs.Interrupt: _interrupted,
    obs.Asked: _asked,
    obs.FilesListed: fanning.files_listed,
    **undoing.HANDLERS,
}
