"""Inside an attempt of Python: makes the process its own, runs the phase's function, says how it went."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from orchestrator import clock, process
from orchestrator.agent.channel import LARGEST_RESULT
from orchestrator.context import Context
from orchestrator.core.causes import code_of
from orchestrator.core.item import Item, phase_of
from orchestrator.core.wire import Order
from orchestrator.errors import ConfigurationFault, Critical, ValidationFault
from orchestrator.phasefile import Loaded, import_phases

_OWN = str(Path(__file__).resolve().parents[1])
_DEEPEST = 200
_LONGEST_SENTENCE = 20_000  # the agent cuts it shorter, once it has hidden what is secret in it
_ANSWER_SECONDS = 30.0
_ADOPTION_PAUSE_SECONDS = 0.0002


def become_adopted(middle: int, loaded: Loaded, output: int, channel: int, order: int) -> NoReturn:
    """In a fork of the template, which is the agent's child as soon as `middle` has ended."""
    task = _read_order(order)
    while os.getppid() == middle:
        clock.pause(_ADOPTION_PAUSE_SECONDS)
    os.setsid()
    process.die_with_parent(task["agent_pid"])
    process.become_subreaper()
    process.allow_signals()
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for fd in (null, output):
        os.close(fd)
    talk = socket.socket(fileno=channel)
    _send(talk, {"kind": "ready"})
    if talk.recv(1) != b"g":
        os._exit(70)
    if task["group_procs"]:
        process.join_group(task["group_procs"])
    process.set_limits(Order.from_dict(task["order"]).limits)
    os.environ.update(task["environment"])
    if "TZ" in task["environment"]:
        time.tzset()
    os.chdir(task["folder"])
    _run(talk, task, loaded)


def become_only(project: Path, channel: int, order: int) -> NoReturn:
    """In a Python of its own: import the one file, then run."""
    process.become_subreaper()
    task = _read_order(order)
    talk = socket.socket(fileno=channel)
    talk.set_inheritable(False)
    if talk.recv(1) != b"g":
        os._exit(70)
    file = task["order"]["file"]
    try:
        loaded = import_phases(project, file)
    except BaseException as error:
        show_traceback(error)
        _fail(talk, "CONFIGURATION", f"{file}: its import raised {sentence(error)}", type(error).__name__)
    if loaded.digest != task["order"]["digest"]:
        _fail(talk, "CONFIGURATION", f"{file} changed after this run was planned: start the run again", "")
    _run(talk, task, loaded)


def _run(talk: socket.socket, task: dict[str, Any], loaded: Loaded) -> NoReturn:
    order = Order.from_dict(task["order"])
    _make_output_live()
    number = phase_of(order.attempt.phase)
    context = Context(
        run=order.attempt.run,
        phase=number,
        attempt=order.attempt.number,
        due=order.due,
        project=task["project"],
        results=order.results,
        index=order.attempt.phase.index if isinstance(order.attempt.phase, Item) else None,
        item=order.item[0] if order.item is not None else None,
        params=order.params,
        send=lambda message: _send(talk, message),
        ask=lambda name: _ask(talk, name),
    )
    try:
        if number not in loaded.functions:
            raise ConfigurationFault(f"{order.file} defines no phase {number}")
        result = loaded.functions[number](context)
        context.flush()
        _give(talk, result)
    except SystemExit as leaving:
        context.flush()
        _leave(talk, leaving.code)
    except BaseException as error:
        context.flush()
        show_traceback(error)
        is_critical = isinstance(error, Critical)
        _fail(talk, code_of(error), message_of(error), type(error).__name__, is_critical=is_critical)


def _give(talk: socket.socket, result: Any) -> NoReturn:
    fault = unfit(result, "its result")
    if fault:
        raise ValidationFault(fault)
    text = json.dumps(result, separators=(",", ":"))
    if len(text) > LARGEST_RESULT:
        raise ValidationFault(
            f"its result is {len(text)} bytes of JSON, more than {LARGEST_RESULT}: write a file, return its path"
        )
    flush()
    _send(talk, {"kind": "result", "value": result})
    os._exit(0)


def _leave(talk: socket.socket, code: object) -> NoReturn:
    """sys.exit() inside a phase means what it means in a program."""
    if code is None or code == 0:
        _give(talk, None)
    if not isinstance(code, int):
        print(code, file=sys.stderr)
    flush()
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _fail(talk: socket.socket, code: str, message: str, kind: str, *, is_critical: bool = False) -> NoReturn:
    flush()
    _send(talk, {"kind": "error", "code": code, "message": message, "type": kind, "critical": is_critical})
    os._exit(1)


def unfit(value: Any, where: str, depth: int = 0) -> str:
    """What in `value` is no JSON, and where; empty if all of it is."""
    if depth > _DEEPEST:
        return f"{where} is nested deeper than {_DEEPEST}"
    if value is None or isinstance(value, (bool, int, str)):
        return ""
    if isinstance(value, float):
        return "" if value - value == 0 else f"{where} is {value}: JSON has no such number"
    if isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            if fault := unfit(item, f"{where}[{place}]", depth + 1):
                return fault
        return ""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{where} has the key {key!r}, a {type(key).__name__}: keys of JSON are strings"
            if fault := unfit(item, f"{where}[{key!r}]", depth + 1):
                return fault
        return ""
    return f"{where} is a {type(value).__name__}, which is no JSON: return strings, numbers, lists and dicts"


def message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return text or type(error).__name__


def sentence(error: BaseException) -> str:
    text = message_of(error).strip().partition("\n")[0][:_LONGEST_SENTENCE]
    return text if text == type(error).__name__ else f"{type(error).__name__}: {text}"


def show_traceback(error: BaseException) -> None:
    """On standard error, which is the log; the frames of orch before the user's own are no help to anybody."""
    try:
        traceback.print_exception(type(error), error, _users(error.__traceback__))
    except Exception:
        print(type(error).__name__, file=sys.stderr)


def _users(frames: TracebackType | None) -> TracebackType | None:
    first = frames
    while first is not None and _is_ours(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first


def _is_ours(file: str) -> bool:
    return file.startswith((_OWN + os.sep, "<frozen importlib"))


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed by the phase, or replaced by something that cannot
            pass


def _make_output_live() -> None:
    """A line that is printed is in the log at once, and none fails for the sake of its letters."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        except Exception:  # the author's file has put something else there: it prints as that does
            pass


def _send(talk: socket.socket, message: dict[str, Any]) -> None:
    try:
        talk.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    except OSError:  # the agent is gone, and so are we
        pass


def _ask(talk: socket.socket, name: str) -> dict[str, Any]:
    """What the agent says of a secret. The answer comes on a socket of its own: others may be asking just now."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            socket.send_fds(talk, [json.dumps({"kind": "secret", "name": name}).encode() + b"\n"], [theirs.fileno()])
        ours.settimeout(_ANSWER_SECONDS)
        said = b""
        while data := ours.recv(65536):
            said += data
    return dict(json.loads(said))


def _read_order(fd: int) -> dict[str, Any]:
    with open(fd, "rb") as file:
        file.seek(0)
        task = json.loads(file.read())
    return dict(task)
