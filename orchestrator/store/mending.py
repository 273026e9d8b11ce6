"""fsck of state.json and the journal: what is wrong, what the other copies prove, and the steps that mend it."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator import clock
from orchestrator.core.flaw import Cut, Drop, Flaw, Put, Step
from orchestrator.core.item import number_of
from orchestrator.core.names import iso
from orchestrator.core.state import State
from orchestrator.store import heartbeat, journal
from orchestrator.store.journal import Damage
from orchestrator.store.proof import Evidence, Later, Reach, written
from orchestrator.store.salvage import Salvage, phases_in
from orchestrator.store.snapshot import Encoder, Position

NOT_PROVEN = "no other copy proves it"
BY_HAND = "put back a copy of system/; or move system/state.json and system/journal away to start from nothing"
LISTED = 20  # damaged lines that are named one by one


class Verdict:
    """What is proven, and what is wrong."""

    def __init__(self) -> None:
        self.flaws: list[Flaw] = []
        self.state: State | None = State()  # None: nothing is proven
        self.decisions = 0
        self.segments = 0


def judge(system: Path, *, is_live: bool) -> Verdict:
    """`is_live`: somebody writes just now, so that half a line at the end is none of our business."""
    evidence, verdict = Evidence(system), Verdict()
    verdict.segments = len(evidence.segments)
    best = evidence.best
    has_state_file = os.path.lexists(evidence.state_file)
    nothing_before = best is not None and best.seq == 0 and has_state_file and evidence.from_state_file is None
    if best is None or (nothing_before and not any(later.line for later in evidence.later(best))):
        if evidence.segments or has_state_file:
            verdict.flaws, verdict.state = _hopeless(system, evidence), None
        return verdict
    verdict.state, verdict.decisions = best.state, best.seq
    found = _Findings(system, evidence, best)
    if found.flaws:
        found.repair()
    verdict.flaws = found.flaws
    if best.torn and not is_live and not found.rebased:
        verdict.flaws.append(_torn(system, best))
    return verdict


def _hopeless(system: Path, evidence: Evidence) -> list[Flaw]:
    what = {path: why for path, why in evidence.bad.items() if os.path.lexists(path)}
    if not what:
        what = {evidence.state_file: "it is missing, and so is every snapshot to begin from"}
    why = f"nothing proves the state any more; {BY_HAND}"
    flaws = [Flaw(_name(system, path), said, why, "") for path, said in what.items()]
    for reach in evidence.from_journal:
        if reach.damage is not None:
            flaws.append(_flaw(system, reach.damage, why, ""))
    return flaws


def _torn(system: Path, best: Reach) -> Flaw:
    path = journal.path_of(system / "journal", best.position.segment)
    return Flaw(
        _name(system, path), "half a line stands at its end", "a decision that was not taken: nothing is lost",
        "cut it off, as the next run would", best.seq - best.position.segment + 2, best.position.offset,
        (Cut(_inner(system, path), best.position.offset),),
    )  # fmt: skip


class _Findings:
    def __init__(self, system: Path, evidence: Evidence, best: Reach) -> None:
        self._system, self._evidence, self._best = system, evidence, best
        self.flaws: list[Flaw] = []
        self.rebased = False
        self._salvage = Salvage(best.state)
        self._salvage.last = best.seq
        if best.damage is not None:
            self._salvage.take(evidence.later(best))
        if best.is_refuted:  # what can be of that line is used, the rest of it is lost
            self._salvage.lost[:0] = self._salvage.kept[:1]
        self._journal_is_whole = False
        self._journal_is_whole = self._look_at_journal()
        self._look_at_state_file()

    # ---- what is wrong

    def _look_at_journal(self) -> bool:
        evidence, flaws = self._evidence, list[Flaw]()
        for one in evidence.segments:
            base = journal.base_of(evidence.folder, one.first)
            if base in evidence.bad:
                flaws.append(self._covered(base, evidence.bad[base]))
        reaches = [*evidence.from_journal, *([evidence.from_state_file] if evidence.from_state_file else [])]
        damages = {(one.damage.path, one.damage.line): one.damage for one in reaches if one.damage is not None}
        lost = {(later.path, later.number) for later in self._salvage.lost}
        flaws += [self._of_line(one, damages) for one in self._salvage.lost[:LISTED]]
        for place, damage in damages.items():
            if place not in lost:
                flaws.append(_flaw(self._system, damage, *self._unharmed()))
        flaws += self._bases_that_differ()
        self.flaws += flaws
        return not flaws

    def _bases_that_differ(self) -> list[Flaw]:
        first = next(iter(self._evidence.from_journal), None)
        flaws = []
        for reach in self._evidence.from_journal[1:]:
            start = reach.start
            said = first.passed.get(start.position.segment) if first else None
            if start.path is not None and said is not None and (*start.position[:2], start.said) != said:
                flaws.append(self._covered(start.path, "it says something else than the lines before it"))
        return flaws

    def _look_at_state_file(self) -> None:
        path, best = self._evidence.state_file, self._best
        reach = self._evidence.from_state_file
        if reach is None:
            if best.seq:
                why = self._evidence.bad[path]
                what = why if "missing" in why else f"it is damaged: {why}"
                self.flaws.append(self._covered(path, what))
        elif self._journal_is_whole and reach is not best and self._differs(reach, best):
            what = "it says something else than the journal"
            self.flaws.append(self._covered(path, what))

    def _differs(self, reach: Reach, best: Reach) -> bool:
        same_place = (reach.seq, reach.position.chain) == (best.seq, best.position.chain)
        return not same_place or written(reach.state) != written(best.state)

    def _covered(self, path: Path, what: str) -> Flaw:
        return Flaw(_name(self._system, path), what, *self._unharmed())

    def _unharmed(self) -> tuple[str, str]:
        if self._salvage.lost:
            return "with it more is lost than need be: see the lines that are damaged", "the same"
        start, seq = self._best.start, self._best.seq
        proof = "the journal" if start.path is None else _name(self._system, start.path)
        more = " and the lines behind it prove" if start.path is not None and seq > start.position.seq else " proves"
        mends = "write state.json anew from it" if self._journal_is_whole else "begin a new segment from what is proven"
        return f"{proof}{more} decisions 1 to {seq}: nothing that is known is lost", mends

    def _of_line(self, lost: Later, damages: dict[tuple[Path, int], Damage]) -> Flaw:
        known = damages.get((lost.path, lost.number))
        what = known.why if known else "it cannot be told from damage, with the line before it damaged"
        about = sorted(phases_in(lost.raw))
        about_whom = f"; it seems to be about {_phases(about)}" if about else ""
        return Flaw(
            _name(self._system, lost.path), what, f"{NOT_PROVEN}: that decision is lost{about_whom}",
            self._going_back(), lost.number, lost.byte,
        )  # fmt: skip

    def _going_back(self) -> str:
        kept = [one for one in self._salvage.kept if one not in self._salvage.lost]
        with_later = f", with the {len(kept)} whole lines behind the damage" if kept else ""
        back = f"go back to decision {self._best.seq}{with_later}"
        concerned = sorted(self._salvage.concerned)
        if not concerned:
            return back
        stands = ", ".join(f"{number} is {self._best.state.phase(number).status}" for number in concerned[:LISTED])
        return f"{back}: of the phases that it concerns, {stands}; `orch run` goes on from there"

    # ---- how it is mended

    def repair(self) -> None:
        """One repair mends all of it; its steps go with the first flaw."""
        if self._salvage.lost and not self._is_worth_it():
            self.flaws = [one.replace(repair="", why=f"{one.why}; {BY_HAND}") for one in self.flaws]
            return
        steps = self._rebase() if not self._journal_is_whole else [self._state_file(self._best.position)]
        self.flaws[0] = self.flaws[0].replace(steps=tuple(steps))

    def _is_worth_it(self) -> bool:
        return self._best.seq > 0 or bool(self._salvage.kept)

    def _state_file(self, position: Position) -> Put:
        return Put("state.json", Encoder().encode(self._best.state, position))

    def _rebase(self) -> list[Step]:
        """A new segment that begins from what is proven; the others go once that is on the disk."""
        system, evidence = self._system, self._evidence
        now = clock.now()
        if self._salvage.lost:
            self._salvage.never_again(attempts_in_logs(system), now)
            self._salvage.name_the_run(heartbeat.run_of(system), iso(now))
        last = max([self._salvage.last, *(one.first for one in evidence.segments)])
        position = Position(last, self._best.position.chain, last + 1, 0)
        whole = self._state_file(position)
        self.rebased = True
        fresh = journal.path_of(evidence.folder, last + 1)
        base = journal.base_of(evidence.folder, last + 1)
        steps: list[Step] = [Put(_inner(system, base), whole.data), Put(_inner(system, fresh), b""), whole]
        for one in evidence.segments:
            base = journal.base_of(evidence.folder, one.first)
            steps += [Drop(_inner(system, one.path)), Drop(_inner(system, base))]
        return steps


def attempts_in_logs(system: Path) -> dict[int, int]:
    """Phase -> the highest attempt that has a log."""
    found: dict[int, int] = {}
    for path in (system / "logs" / "phases").glob("*/*.log"):
        try:
            number, attempt = number_of(path.parent.name), int(path.stem)
        except ValueError:
            continue
        found[number] = max(attempt, found.get(number, 0))
    return found


def _phases(numbers: list[int]) -> str:
    return ("phase " if len(numbers) == 1 else "phases ") + ", ".join(map(str, numbers))


def _flaw(system: Path, damage: Damage, why: str, repair: str) -> Flaw:
    line, byte = (damage.line, damage.offset) if damage.line else (None, None)
    return Flaw(_name(system, damage.path), damage.why, why, repair, line, byte)


def _inner(system: Path, path: Path) -> str:
    return str(path.relative_to(system))


def _name(system: Path, path: Path) -> str:
    return f"{system.name}/{_inner(system, path)}"
