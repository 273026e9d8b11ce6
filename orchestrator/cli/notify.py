"""orch notify: whether those who are to be told can be, and what they have not heard yet."""

from __future__ import annotations

import os
import secrets
from typing import Annotated, Any

import typer

from orchestrator import clock, process
from orchestrator.cli.completing import messages, targets
from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.options import Command, Group, JsonOption, ProjectOption
from orchestrator.config import Settings
from orchestrator.core.names import iso, nearest, span
from orchestrator.core.outward import MISSED, Target
from orchestrator.core.target import host_only
from orchestrator.core.telling import ENDED_WELL, TEST, Message, missed
from orchestrator.errors import UsageError
from orchestrator.secret import for_sender
from orchestrator.services.extras import lacking
from orchestrator.services.outbox import Letter, Outbox, fares
from orchestrator.services.sending import send
from orchestrator.services.webhook import Never, NotNow

EXAMPLE = "Example: orch notify test"
TargetArgument = typer.Argument(metavar="[TARGET]", help="Only this one.", show_default=False, autocompletion=targets)
IdArgument = typer.Argument(metavar="ID", help="The message.", show_default=False, autocompletion=messages)

app = typer.Typer(
    cls=Group, help="Who is told what, and what they have not heard.", epilog=EXAMPLE, rich_markup_mode=None
)


@app.command("test", cls=Command, epilog="Example: orch notify test ops")
def test(
    name: Annotated[str | None, TargetArgument] = None, as_json: JsonOption = False, project: ProjectOption = None
) -> None:
    """Send one real message to each target now, also in its quiet hours, and say what came back."""
    root = root_of(project)
    settings = settings_of(root)
    chosen = _chosen(settings, name)
    if faults := lacking(settings):
        raise UsageError("; ".join(faults), "install it where orch is, then again")
    host = process.host().partition("/")[0]
    rows = list[dict[str, Any]]()
    for each in chosen:
        target, now, began = settings.notify[each], clock.now(), clock.ticking()
        event = ENDED_WELL if target.ping else TEST
        text = f"this is a test, sent by hand from {host}"
        message = Message(f"{TEST}.{iso(now)}.{secrets.token_hex(3)}".replace(":", ""), event, text, iso(now))
        row = {"target": each, "id": message.id, "address": _shown(target)}
        try:
            answer, ok = send(target, settings, root, Letter(each, root, message, root.name, host)), True
        except (NotNow, Never) as fault:
            answer, ok = str(fault), False
        rows.append({**row, "ok": ok, "answer": answer, "seconds": round(clock.ticking() - began, 3)})
    if as_json:
        show_json(rows)
    for row in [] if as_json else rows:
        how = "told" if row["ok"] else "NOT told"
        where = f" ({row['address']})" if row["ok"] else ""
        show(f"{row['target']}: {how}{where}: {row['answer']}, after {span(float(row['seconds']))}")
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


def _shown(target: Target) -> str:
    return f"secret {target.secret}" if target.secret else host_only(target.url or target.ping)


def _chosen(settings: Settings, name: str | None) -> list[str]:
    known = list(settings.notify)
    if not known:
        raise UsageError("nobody is to be told anything", 'write [notify.ops] and url = "https://..." in orch.toml')
    if name is not None and name not in known:
        near = nearest(name, known)
        meant = f"did you mean {near}? " if near else ""
        there = "there is" if len(known) == 1 else "there are"
        raise UsageError(f"there is no target {name}", f"{meant}{there} {', '.join(known)}")
    return known if name is None else [name]


@app.command("list", cls=Command, epilog="Example: orch notify list --json")
def list_all(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """What is to be told and was not heard yet, in the order in which it goes out; and what was refused."""
    root = root_of(project)
    outbox, how, now = Outbox(root), fares(root / "system"), clock.now()
    waiting = [letter for target in outbox.targets() for letter in outbox.letters(target)]
    rows = [_row(letter, now, how.get(letter.target, {})) for letter in waiting]
    rows += [_row(letter, now, {}) for letter in outbox.refused()]
    if as_json:
        show_json(rows)
    else:
        show("\n".join(map(_line, rows)) or "nothing waits to be told")


def _row(letter: Letter, now: float, fare: dict[str, Any]) -> dict[str, Any]:
    message = letter.message
    state = "refused" if letter.reason else "waits"
    if letter.due > now:
        state = "not due"
    elif not letter.reason and fare.get("held_until", "") > iso(now):
        state = "quiet"
    until = {"not due": message.after, "quiet": fare.get("held_until")}.get(state)
    return {
        "target": letter.target, "id": message.id, "event": message.event, "state": state, "at": message.at,
        "age_seconds": round(max(0.0, now - letter.since), 3), "until": until, "text": message.text,
        "reason": letter.reason or fare.get("error") or None,
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    when = f"until {row['until']}" if row["until"] else f"for {span(row['age_seconds'])}"
    state = "refused" if row["state"] == "refused" else f"{row['state']} {when}"
    reason = f"\n       {row['reason']}" if row["reason"] else ""
    return f"{row['target']}  {state}  {row['id']}  {row['text']}{reason}"


@app.command("drop", cls=Command, epilog="Example: orch notify drop --all")
def drop(
    ident: Annotated[str | None, IdArgument] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that waits, and all that was refused.")] = False,
    project: ProjectOption = None,
) -> None:
    """Have a message, or all, not told any more."""
    if (ident is None) is not everything:
        raise UsageError("either a message, or --all", "`orch notify list` shows what waits, and its ids")
    many = Outbox(root_of(project)).drop(ident)
    if not many and ident is not None:
        raise UsageError(f"there is no message {ident}", "`orch notify list` shows what waits; it may be told by now")
    show(f"{many} {'message' if many == 1 else 'messages'} dropped")


@app.command("missed", cls=Command, hidden=True, epilog="Example: orch notify missed nightly 1763690400")
def say_missed(
    schedule: Annotated[str, typer.Argument(metavar="NAME")],
    due: Annotated[int, typer.Argument(metavar="EPOCH")],
    project: ProjectOption = None,
) -> None:
    """For the second entry of cron: say, once, that a start did not happen. Takes no lock."""
    root = root_of(project)
    settings = settings_of(root)
    outbox = Outbox(root, tell, for_sender(settings.secrets, settings.notify, os.environ))
    told = [name for name, target in settings.notify.items() if not target.ping and MISSED in target.events]
    for name in told:
        outbox.put(name, missed(schedule, due, clock.now()))
    if told:
        outbox.wake()
