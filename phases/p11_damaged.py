"""Phase 11: the state is damaged, a little and a lot; what another copy proves is used, the rest refused and repaired.

A little: half a line behind the journal's last, one byte of one copy changed, one copy gone. Nothing is lost by that,
and nobody need do anything. A lot: both copies of the same decision. Then no command goes on as if nothing were, until
`orch fsck --repair` has said what cannot be proven any more, and gone back to what can.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import Context, phase
from phases._drill import (
    LOST,
    STUCK,
    TWICE,
    Figures,
    Project,
    Trial,
    drill,
)

DAMAGED, FOUND = 4, 1
LAST = 6
PHASES: tuple[dict[str, Any], ...] = tuple(
    {"number": number, "run": f"echo {number} >> ran"} for number in range(1, LAST + 1)
)


@phase(11, needs=[6], timeout="2m", retries=0)
def damaged(ctx: Context) -> dict[str, Any]:
    """Damage the state, a little and a lot."""
    return drill(ctx, damage, verdict, steps=len(LITTLE) + 3)


def verdict(figures: Figures) -> str:
    return (
        f"{figures['mended']} of {len(LITTLE)} kinds of small damage were seen and cost nothing; damage to both copies "
        f"was refused, named and repaired, {figures['run_again']} phase ran again"
    )


def damage(project: Project, trial: Trial) -> None:
    project.commands(*PHASES)
    trial.step("run the first phase")
    project.orch("run", "--to", "1")
    trial.figures["mended"] = 0
    for done, (name, spoil) in enumerate(LITTLE.items(), start=1):
        trial.step(name)
        a_little(project, trial, done, name, spoil)
    trial.step("damage both copies")
    a_lot(project, trial)
    trial.step("repair it")
    repair(project, trial)


def a_little(project: Project, trial: Trial, done: int, name: str, spoil: Callable[[Project], None]) -> None:
    """Seen and mended: what is told is what was, and the next run does one phase more and nothing again."""
    spoil(project)
    told = sorted(number for number, phase in project.phases().items() if phase["status"] == "completed")
    right = list(range(1, done + 1))
    trial.expect(f"with {name}, what was done is told", told == right, f"told: {told}, done: {right}", LOST)
    code = project.orch("run", "--to", str(done + 1), codes=(0, 1, 2, 3, DAMAGED)).code
    trial.expect(f"with {name}, a run goes on", code == 0, f"it left with {code}", STUCK)
    ran = project.lines("ran")
    kept = ran == [str(number) for number in range(1, done + 2)]
    trial.expect(f"with {name}, nothing is run again", kept, f"ran: {' '.join(ran)}", TWICE)
    trial.figures["mended"] += told == right and code == 0 and kept


def a_lot(project: Project, trial: Trial) -> None:
    change_byte(state_of(project))
    change_byte(journal_of(project), of_last_line=True)
    before = [path.read_bytes() for path in (state_of(project), journal_of(project))]
    for words in (("status",), ("run",)):
        ended = project.orch(*words, codes=(0, 1, 2, 3, DAMAGED))
        said = f"it left with {ended.code}: {ended.last_words}"
        trial.expect(f"`orch {words[0]}` refuses what nothing proves", ended.code == DAMAGED, said, LOST)
    untouched = before == [path.read_bytes() for path in (state_of(project), journal_of(project))]
    trial.expect("what is damaged is not touched", untouched, "untouched" if untouched else "bytes differ", LOST)


def repair(project: Project, trial: Trial) -> None:
    looked = project.orch("fsck", codes=(0, FOUND, DAMAGED))
    named = looked.code == FOUND and journal_of(project).name in looked.out
    trial.expect("`orch fsck` names the file and the place", named, f"{looked.code}: {looked.last_words}")
    mended = project.orch("fsck", "--repair", codes=(0, FOUND, DAMAGED))
    trial.expect("`orch fsck --repair` repairs it", mended.code == FOUND, f"{mended.code}: {mended.last_words}", STUCK)
    again = project.orch("fsck", codes=(0, FOUND, DAMAGED))
    trial.expect("a second `orch fsck` finds nothing", again.code == 0, f"{again.code}: {again.last_words}")
    ended = project.orch("run", codes=(0, 1, 2, 3, DAMAGED))
    trial.expect("then a run comes to its end", ended.code == 0, f"{ended.code}: {ended.last_words}", STUCK)
    ran = project.lines("ran")
    lost = [number for number in range(1, LAST + 1) if str(number) not in ran]
    trial.figures["run_again"] = len(ran) - len(set(ran))
    trial.expect("all is done then", not lost, f"never run: {lost or 'none'}", LOST)
    again_at_most = trial.figures["run_again"] <= 1
    trial.expect("only what the lost decision was about runs again", again_at_most, f"ran: {' '.join(ran)}", TWICE)


# Where it is, and what can happen to it


def state_of(project: Project) -> Path:
    return project.root / "system" / "state.json"


def journal_of(project: Project) -> Path:
    return max((project.root / "system" / "journal").glob("*.jsonl"))


def change_byte(path: Path, *, of_last_line: bool = False) -> None:
    """In the middle, or in the middle of its last line."""
    data = bytearray(path.read_bytes())
    begin = data.rstrip(b"\n").rfind(b"\n") + 1 if of_last_line else 0
    data[(begin + len(data)) // 2] ^= 0x01
    path.write_bytes(data)


def tear(project: Project) -> None:
    with open(journal_of(project), "ab") as file:
        file.write(b'{"v":1,"seq":')


LITTLE: dict[str, Callable[[Project], None]] = {
    "half a line behind the journal": tear,
    "a changed byte in state.json": lambda project: change_byte(state_of(project)),
    "a changed byte in the journal": lambda project: change_byte(journal_of(project)),
    "state.json gone": lambda project: state_of(project).unlink(),
}
