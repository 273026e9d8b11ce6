"""The template program: imports phase files when told to and forks attempts of them: user code is kept in here."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import process
from orchestrator.agent import body
from orchestrator.phasefile import Loaded, import_phases

_LARGEST = 65536


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    project = Path(options["--project"])
    sys.argv[1:] = []
    if sys.path[:1] != [str(project)]:
        sys.path.insert(0, str(project))
    if "--once" in options:
        channel, order = (int(number) for number in options["--once"].split(","))
        body.become_only(project, channel, order)
    _Template(project, int(options["--control"])).serve()


class _Template:
    def __init__(self, project: Path, control: int) -> None:
        self._project = project
        self._control = socket.socket(fileno=control)
        self._control.set_inheritable(False)
        self._loaded: dict[str, Loaded] = {}

    def serve(self) -> None:
        """Until the agent closes its end."""
        self._say({"up": os.getpid()})
        while True:
            data, fds = _receive(self._control)
            if not data:
                return
            message = json.loads(data)
            if "import" in message:
                self._import(message["import"])
            elif "fork" in message:
                self._fork(message["fork"], message["file"], fds)

    def _import(self, file: str) -> None:
        reply: dict[str, Any] = {"imported": file, "threads": False}
        gc.disable()  # what is frozen below is shared with every attempt as long as nothing touches it
        try:
            loaded = self._loaded[file] = import_phases(self._project, file)
            reply.update(digest=loaded.digest, threads=loaded.threads)
        except BaseException as error:
            body.show_traceback(error)
            reply.update(raised=body.sentence(error), threads=len(os.listdir("/proc/self/task")) > 1)
        finally:
            gc.freeze()
            gc.enable()
        body.flush()
        self._say(reply)

    def _fork(self, key: str, file: str, fds: list[int]) -> None:
        output, channel, order = fds
        try:
            process.fork_adopted(self._become(file, output, channel, order), lambda pid: _announce(channel, pid))
        except OSError as error:
            self._say({"fork_failed": key, "errno": error.errno})
        finally:
            for fd in fds:
                os.close(fd)

    def _become(self, file: str, output: int, channel: int, order: int) -> Callable[[int], None]:
        def child(middle: int) -> None:
            self._control.close()
            body.become_adopted(middle, self._loaded[file], output, channel, order)

        return child

    def _say(self, message: dict[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())


def _announce(channel: int, pid: int) -> None:
    os.write(channel, json.dumps({"kind": "pid", "pid": pid}).encode() + b"\n")


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    data, fds, _flags, _address = socket.recv_fds(control, _LARGEST, 3, socket.MSG_CMSG_CLOEXEC)
    return data, list(fds)
