"""Definitions made from what is in phases/, when the cache does not have them: described, checked, assembled."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.load import describing, folder, static, tables
from orchestrator.load.checks import Checked, check
from orchestrator.load.definitions import Definitions, Fault, Written, digest_of
from orchestrator.load.pipeline import assemble


class Made(NamedTuple):
    definitions: Definitions
    imported: set[str]  # project files behind them, other than phase files
    read: set[str]  # other files and folders that imports looked into


def make(root: Path, found: folder.Folder, load_timeout: float, environ: dict[str, str] | None) -> Made:
    loading = _Loading(root, found)
    loading.read_tables()
    loading.import_files(load_timeout, environ)
    return Made(loading.finish(), loading.imported, loading.read)


def faults_in(found: folder.Folder) -> list[Fault]:
    """As far as reading tells."""
    faults = list(found.faults)
    for file, data in found.sources.items():
        if file.endswith(".toml"):
            faults += tables.parse(file, data, "")[1]
        elif (fault := static.syntax_fault(file, data)) is not None:
            faults.append(fault)
    return faults


class _Loading:
    """One load, while it is under way."""

    def __init__(self, root: Path, found: folder.Folder) -> None:
        self.root = root
        self.sources = found.sources
        self.imported: set[str] = set()  # project files behind the definitions, other than phase files
        self.read: set[str] = set()  # other files and folders that imports looked into
        self._faults = list(found.faults)
        self._written: list[Written] = []
        self._broken: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._unread: set[int] = set()  # numbers that files which cannot be read seem to define

    def read_tables(self) -> None:
        for file, data in self.sources.items():
            if file.endswith(".toml"):
                phases, faults = tables.parse(file, data, hashlib.sha256(data).hexdigest())
                self._written += phases
                self._faults += faults
                self._unread |= static.numbers_in(data) if faults else set()

    def import_files(self, load_timeout: float, environ: dict[str, str] | None) -> None:
        files = [file for file in self.sources if file.endswith(".py")]
        for file, answer in describing.describe(self.root, files, load_timeout, environ).items():
            if "broken" in answer:
                self._take_broken(file, answer["broken"])
            elif "failed" in answer:
                self._take_failed(file, answer)
            else:
                self._take_imported(file, answer)

    def _take_imported(self, file: str, answer: dict[str, Any]) -> None:
        self._digests[file] = answer["digest"]
        self.imported |= {each for each in answer["project_files"] if each not in self.sources}
        self.read |= {each for each in answer["read"] if each not in self.sources}
        for place, line in answer["strays"]:
            hint = f"define it in a file in {folder.FOLDER}/, or in a function that such a file calls"
            self._faults.append(Fault(place, line, "only files in phases/ define phases", hint))
        if not answer["phases"]:
            hint = "put @phase(3) over a function; begin the file's name with _ if others only import it"
            self._faults.append(Fault(file, None, "defines no phase", hint))
        for phase in answer["phases"]:
            self._written.append(Written(file, digest=answer["digest"], threads=answer["threads"], **phase))

    def _take_failed(self, file: str, answer: dict[str, Any]) -> None:
        kind, text, place, line = (answer[key] for key in ("type", "message", "file", "line"))
        if answer["syntax"]:
            fault = static.not_python(place, line, text)
            self._faults += [fault] if fault not in self._faults else []
            self._unread |= static.numbers_in(self.sources[file])
            return
        said = f"{kind}: {text}" if text else kind
        where = f" ({place}:{line})" if line else ""
        self._take_broken(file, f"{file}: its import raised {said}{where}: {_remedy(kind)}")

    def _take_broken(self, file: str, sentence: str) -> None:
        """Only this file's phases are lost, as far as they can be told without running it."""
        phases = static.literal_phases(file, self.sources[file], sentence)
        self._broken[file] = sentence
        self._written += phases
        self._unread |= static.numbers_in(self.sources[file])
        if not phases:
            said = sentence.removeprefix(f"{file}: ")
            self._faults.append(Fault(file, None, said, "its phases cannot be told without it"))

    def finish(self) -> Definitions:
        checked = [each for written in self._written if (each := check(written, self._report)) is not None]
        specs = assemble(_in_file_order(checked), self._unread, self._report)
        faults = tuple(sorted(self._faults, key=lambda fault: (fault.file, fault.line or 0)))
        digest = digest_of(specs, faults, self._broken)
        return Definitions(specs, faults, self._broken, digest, self._digests)

    def _report(self, written: Written, key: str, message: str, hint: str) -> None:
        self._faults.append(Fault(written.file, self._line(written, key), message, hint))

    def _line(self, written: Written, key: str) -> int:
        if not key:
            return written.line
        if written.is_command:
            return tables.key_line(self.sources[written.file], written.line, key)
        return static.key_line(self.sources[written.file], written.line, key)


def _in_file_order(checked: list[Checked]) -> list[Checked]:
    return sorted(checked, key=lambda each: (each.written.file, each.written.line))


def _remedy(kind: str) -> str:
    if kind in ("ModuleNotFoundError", "ImportError"):
        return "install what is missing, or correct the import"
    return "correct it, or move it into the phase's function"
