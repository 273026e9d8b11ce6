"""Where secrets come from: a variable, a file, a command. What was had is remembered, so that no message shows it.

Refusals name the secret and the place that was looked at, never what was found there.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Mapping
from pathlib import Path

from orchestrator import clock, disk, process
from orchestrator.core.masking import SHORTEST, Masker
from orchestrator.core.names import cut, readable, span
from orchestrator.core.outward import SecretSource, Target
from orchestrator.errors import SettingsError

DEADLINE = 30.0
LARGEST = 16 * 1024  # bytes: a key with its certificates; to look for more would cost too much
_SHOWN = 300  # characters of what a command has said


def resolve_all(sources: Mapping[str, SecretSource], root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Every one of them, or one SettingsError with all that cannot be had."""
    found: dict[str, str] = {}
    faults: list[str] = []
    for name, source in sources.items():
        try:
            found[name] = resolve(name, source, root, environ)
        except SettingsError as error:
            faults.append(f"{error.message}: {error.remedy}")
    if faults:
        many = "a secret" if len(faults) == 1 else f"{len(faults)} secrets"
        told = "\n  ".join([f"{many} cannot be had; nothing was started", *faults])
        raise SettingsError(told, "correct what is named, then `orch config check`")
    return found


def resolve(name: str, source: SecretSource, root: Path, environ: Mapping[str, str]) -> str:
    """The value; SettingsError says what is missing, where, and what to do."""
    if source.env:
        place, value = f"the variable {source.env}", _from_variable(name, source.env, environ)
    elif source.file:
        path = Path(os.path.normpath(root / _home(source.file, environ)))
        place, value = str(path), _from_file(name, path)
    else:
        place, value = f"`{source.command}`", _from_command(name, source.command, root, environ)
    if len(value) < SHORTEST:
        had = f"{len(value)} characters" if value else "nothing"
        said = f"secret {name}: {place} gives {had}, and less than {SHORTEST} characters cannot be hidden"
        raise SettingsError(said, "give it a longer one")
    if len(value.encode("utf-8", "surrogateescape")) > LARGEST:
        raise SettingsError(
            f"secret {name}: {place} gives more than {LARGEST} bytes", "write what is secret, and no more"
        )
    if "\0" in value:
        raise SettingsError(f"secret {name}: {place} gives a NUL byte", "a secret is text")
    remember(value)
    return value


def without_sources(sources: Mapping[str, SecretSource], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that others get: those variables are left out that secrets come from."""
    names = {source.env for source in sources.values() if source.env}
    return {name: value for name, value in environ.items() if name not in names}


def for_sender(
    sources: Mapping[str, SecretSource], targets: Mapping[str, Target], environ: Mapping[str, str]
) -> dict[str, str]:
    """What the sender gets, which may stay for hours: none of these variables but those that it has an address from.
    A command that prints one has all, as always: nobody knows what it needs."""
    used = [sources[target.secret] for target in targets.values() if target.secret in sources]
    if any(source.command for source in used):
        return dict(environ)
    wanted = {source.env for source in used}
    return without_sources({name: one for name, one in sources.items() if one.env not in wanted}, environ)


def variable_of(name: str, source: SecretSource) -> str:
    """Where a shell command finds it."""
    return source.env or name.upper().replace("-", "_")


# ── what this process knows to be secret ───────────────────────────────────────────────────────────────────────

_known: dict[str, None] = {}
_maskers: list[Masker] = []  # of all of them; made when it is needed


def remember(value: str) -> None:
    if value not in _known:
        _known[value] = None
        _maskers.clear()


def hidden(text: str) -> str:
    """The text without any secret that this process has had."""
    if not _known:
        return text
    if not _maskers:
        _maskers.append(Masker(_known))
    return _maskers[0].text(text)


# ── the three sources ──────────────────────────────────────────────────────────────────────────────────────────


def _from_variable(name: str, variable: str, environ: Mapping[str, str]) -> str:
    if variable not in environ:
        hint = f"export {variable}=… before `orch run`; cron and systemd give none of your shell's variables"
        raise SettingsError(f"secret {name}: the variable {variable} is not set", hint)
    return _text(name, f"the variable {variable}", os.fsencode(environ[variable]))


def _home(file: str, environ: Mapping[str, str]) -> str:
    if file != "~" and not file.startswith("~/"):
        return os.path.expanduser(file)
    return environ.get("HOME", os.path.expanduser("~")) + file[1:]


def _from_file(name: str, path: Path) -> str:
    try:
        data, mode = disk.read(path, most=LARGEST + 2), os.stat(path).st_mode
    except FileNotFoundError:
        raise SettingsError(f"secret {name}: {path} does not exist", f"make it, then `chmod 600 {path}`") from None
    except OSError as error:
        raise SettingsError(
            f"secret {name}: {path}: {error.strerror}", "it is a file that you alone may read"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        said = f"secret {name}: others than its owner may use {path} (mode {stat.S_IMODE(mode):04o})"
        raise SettingsError(said, f"`chmod 600 {path}`")
    return _text(name, str(path), data)


def _text(name: str, place: str, data: bytes) -> str:
    """Without the line break that ends it: editors and programs write one."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"secret {name}: {place} gives what is not UTF-8 text", "keep it as base64") from None
    return text.removesuffix("\n").removesuffix("\r")


def _from_command(name: str, command: str, root: Path, environ: Mapping[str, str]) -> str:
    done = _Command(command, root, environ)
    try:
        status = done.wait(clock.ticking() + DEADLINE)
    finally:
        done.end()
    if status is None:
        said = f"secret {name}: `{command}` did not end within {span(DEADLINE)}"
        raise SettingsError(said, "it may wait for somebody to type: run it by hand, without a terminal")
    if status != 0:
        errors = _shown(done)
        how = f"ended with exit status {status}" if status > 0 else f"died by signal {-status}"
        said = f"secret {name}: `{command}` {how}" + (f": {errors}" if errors else " and said nothing")
        raise SettingsError(said, "run it by hand to see why")
    return _text(name, f"`{command}`", done.said)


def _shown(done: _Command) -> str:
    """What it has complained of; nothing in it that it has printed, too, which may be part of the secret."""
    printed = [line for line in done.said.decode(errors="replace").splitlines() if len(line) >= SHORTEST]
    text = hidden(Masker(printed).text(done.complained.decode(errors="replace")))
    return cut(readable(text.strip().replace("\n", "; ")), _SHOWN)


class _Command:
    """A shell command, what it prints and says, and its end with all that it started."""

    def __init__(self, command: str, root: Path, environ: Mapping[str, str]) -> None:
        self.said = self.complained = b""
        self._pid = -1
        output, errors = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        self._open = {output[0]: "said", errors[0]: "complained"}
        argv = ("/bin/sh", "-c", command)
        try:
            self._pid = process.start(process.Launch(argv, dict(environ), str(root), output[1], errors[1]))
        except BaseException:
            self._close()
            raise
        finally:
            os.close(output[1])
            os.close(errors[1])

    def wait(self, until: float) -> int | None:
        """How it ended; None if it has not. What goes on behind its back and holds its output is not waited for."""
        pidfd = os.pidfd_open(self._pid)
        try:
            while (left := until - clock.ticking()) > 0:
                poll = select.poll()
                for fd in (pidfd, *self._open):
                    poll.register(fd, select.POLLIN)
                ready = [fd for fd, _ in poll.poll(min(left, 1.0) * 1000)]
                for fd in ready:
                    if fd != pidfd:
                        self._read(fd)
                if ready == [pidfd]:
                    ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
                    if ended is not None:
                        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        finally:
            os.close(pidfd)
        return None

    def _read(self, fd: int) -> None:
        data, name = os.read(fd, 65536), self._open[fd]
        if data:
            setattr(self, name, (getattr(self, name) + data)[: LARGEST + 2])
        else:
            os.close(fd)
            del self._open[fd]

    def end(self) -> None:
        self._close()
        if self._pid > 0:
            table = process.scan()
            process.insist(process.below([self._pid], table), table)
            process.end_group(self._pid)
            self._pid = -1

    def _close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open.clear()
