"""Imports one phase file and says what its decorators registered and which project files it depends on.

This is the only place where user code is imported, and it runs in throw-away processes only: the agent's template, and
the process that describes the definitions to load/ (`main`).
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.util import module_from_spec, resolve_name
from operator import index
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from orchestrator import author, clock
from orchestrator.author import Registered
from orchestrator.core.value import Value

if TYPE_CHECKING:
    from orchestrator.context import Context

PACKAGE = "phases"
_ASIDE = {"site-packages", "dist-packages", ".venv", "venv", "node_modules"}
_OWN = os.path.dirname(os.path.realpath(__file__)) + os.sep  # orch is the tool, also where it is the project


class Loaded(Value):
    functions: dict[int, Callable[[Context], object]]
    raw: tuple[Registered, ...]  # all that the file registered, in order, as written
    project_files: tuple[str, ...]  # files of the project, other than itself, which importing it loaded
    digest: str  # of its own bytes, and of the names and bytes of these
    threads: bool  # more than one thread was there afterwards


def import_phases(root: Path, file: str) -> Loaded:
    """Import `file` (relative to `root`). Whatever the import raises comes through as it is."""
    project = _project(root)
    path = os.path.join(project.root, file)
    with project.watching(), author.collecting(project.registry):
        module = project.import_file(path)
    raw = tuple(project.registry.get(path, ()))
    functions: dict[int, Callable[[Context], object]] = {}
    for entry in raw:
        number = plain_number(entry.keys.get("number"))
        if number is not None:
            functions.setdefault(number, entry.function)
    used = project.files_behind(module) - {path}
    return Loaded(functions, raw, tuple(sorted(map(project.relative, used))), project.digest(path, used), _threads())


def plain_number(value: object) -> int | None:
    """A whole number of any kind (an IntEnum, numpy's), but not True."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        return None
    return index(value)  # type: ignore[arg-type]


class _Source(SourceFileLoader):
    """Compiles the bytes that were digested. A .pyc counts as fresh if size and *second* of the change are the same."""

    project: _Project

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        self.project.digests[path] = hashlib.sha256(data).hexdigest()
        code: CodeType = self.source_to_code(data, path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        self.project.registry.pop(self.path, None)  # a second try after a failed one would register all twice
        super().exec_module(module)


class _Project:
    """What is known of one project's modules in this process: who imported what, digests of what was compiled."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.registry: author.Registry = {}
        self.digests: dict[str, str] = {}
        self._imports: dict[str, set[str]] = {}
        inside = sys.prefix.startswith(root + os.sep)  # a prefix of /usr says nothing about /usr/src/project
        self._environment = os.path.join(sys.prefix, "") if inside else "\0"
        self._loader = type("_ProjectSource", (_Source,), {"project": self})
        self._install()

    def _install(self) -> None:
        loaders = (ExtensionFileLoader, EXTENSION_SUFFIXES), (self._loader, SOURCE_SUFFIXES)
        finder = FileFinder.path_hook(*loaders)

        def hook(path: str) -> Any:
            if not self.owns(os.path.join(path, "")):
                raise ImportError("not a folder of this project")
            return finder(path)

        if self.root not in sys.path[:1]:
            sys.path.insert(0, self.root)
        sys.path_hooks.insert(0, hook)
        for path in [path for path in sys.path_importer_cache if self.owns(os.path.join(path, ""))]:
            del sys.path_importer_cache[path]
        if not os.path.exists(os.path.join(self.root, PACKAGE, "__init__.py")) and PACKAGE not in sys.modules:
            package = ModuleType(PACKAGE)  # as a bare namespace a package of that name elsewhere would win
            package.__path__ = [os.path.join(self.root, PACKAGE)]
            sys.modules[PACKAGE] = package

    def owns(self, path: str) -> bool:
        if not path.startswith(self.root + os.sep) or path.startswith(_OWN):
            return False
        parts = path[len(self.root) + 1 :].split(os.sep)
        return parts[0] != "system" and _ASIDE.isdisjoint(parts) and not path.startswith(self._environment)

    def relative(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def import_file(self, path: str) -> ModuleType:
        name = f"{PACKAGE}.{os.path.basename(path).removesuffix('.py').replace('.', '-dot-')}"
        if name in sys.modules:  # another phase file imported it
            return sys.modules[name]
        package = importlib.import_module(PACKAGE)
        spec = ModuleSpec(name, self._loader(name, path), origin=path)
        spec.has_location = True
        self._imports.setdefault(name, set()).add(PACKAGE)
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except BaseException:
            sys.modules.pop(name, None)
            raise
        setattr(package, name.rpartition(".")[2], module)
        return module

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Every import statement that runs meanwhile is noted, also of modules that others had loaded before."""
        plain, by_name = builtins.__import__, importlib.import_module

        def watched(
            name: str,
            globals: Any = None,  # noqa: A002  callers may write these names
            locals: Any = None,  # noqa: A002
            fromlist: Any = (),
            level: int = 0,
        ) -> Any:
            found = plain(name, globals, locals, fromlist, level)
            package = globals.get("__package__") or globals["__name__"] if level else None
            self._note(resolve_name("." * level + name, package), fromlist or ())
            return found

        def watched_by_name(name: str, package: str | None = None) -> ModuleType:
            found = by_name(name, package)
            self._note(found.__name__, ())
            return found

        builtins.__import__, importlib.import_module = watched, watched_by_name
        try:
            yield
        finally:
            builtins.__import__, importlib.import_module = plain, by_name

    def _note(self, name: str, fromlist: Any) -> None:
        """What the innermost module in execution asked for; an import in a function counts for whoever called it."""
        noted = self._imports.setdefault(_module_in_execution(sys._getframe(2)), set())
        parts = name.split(".")
        noted.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
        names = getattr(sys.modules.get(name), "__all__", ()) if "*" in fromlist else fromlist
        noted.update(full for each in names if (full := f"{name}.{each}") in sys.modules)

    def files_behind(self, module: ModuleType) -> set[str]:
        """The project's files among all that this module imported, directly or through others."""
        seen: set[str] = set()
        to_see = [module.__name__]
        while to_see:
            name = to_see.pop()
            if name not in seen:
                seen.add(name)
                to_see.extend(self._imports.get(name, ()))
        files = {getattr(sys.modules.get(name), "__file__", None) for name in seen}
        return {file for file in files if file and self.owns(file)}

    def digest(self, path: str, used: set[str]) -> str:
        whole = hashlib.sha256()
        for each in (path, *sorted(used)):
            if each not in self.digests:  # an extension module, or a file that was loaded before we looked
                self.digests[each] = hashlib.sha256(Path(each).read_bytes()).hexdigest()
            whole.update(f"{self.relative(each)}\0{self.digests[each]}\0".encode(errors="surrogateescape"))
        return whole.hexdigest()


_projects: dict[str, _Project] = {}  # sys.modules is one for the whole process, and so is what is known of it


def _project(root: Path) -> _Project:
    path = os.path.realpath(root)
    if path not in _projects:
        _projects[path] = _Project(path)
    return _projects[path]


def _module_in_execution(frame: FrameType | None) -> str:
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if frame.f_code.co_name == "<module>" and name in sys.modules:
            return str(name)
        frame = frame.f_back
    return ""


def _threads() -> bool:
    """More than this one. One that was joined may be in the list a moment longer."""
    for _ in range(5):
        if len(os.listdir("/proc/self/task")) == 1:
            return False
        clock.pause(0.002)
    return True


# ── the describing process ─────────────────────────────────────────────────────────────────────────────────────

_CO_GENERATOR, _CO_COROUTINE, _CO_ASYNC_GENERATOR, _CO_VARARGS = 0x20, 0x80, 0x200, 0x04  # as inspect has them
_LONGEST = 500  # characters of what an exception says


def main() -> None:
    """`… FD`: reads {"root", "files"} from the descriptor and says on it, line by line, how each import went."""
    fd, own = int(sys.argv.pop(1)), os.getpid()
    os.set_inheritable(fd, False)
    with open(fd, "rb", closefd=False) as channel:
        asked = json.loads(channel.readline())
    root = Path(asked["root"])
    seen = _watch_files(_project(root))
    for file in asked["files"]:
        _say(fd, importing=file)
        try:
            said = _described(root, file, seen)
        except BaseException as error:
            said = {"failed": file, **_trouble(_project(root), error), "threads": _threads()}
        if os.getpid() != own:  # a fork that the file's import left behind has nothing to say here
            os._exit(0)
        _say(fd, **said)
    os._exit(0)  # threads and exit handlers of user code are not waited for


def _say(fd: int, **message: Any) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    while data:
        data = data[os.write(fd, data) :]


def _described(root: Path, file: str, seen: set[str]) -> dict[str, Any]:
    loaded = import_phases(root, file)
    project = _project(root)
    folder = os.path.join(project.root, PACKAGE)
    strays = [path for path in project.registry if os.path.dirname(path) != folder]
    read = [project.relative(seen.pop()) for _ in range(len(seen))]
    return {
        "imported": file,
        "phases": [_as_written(entry) for entry in loaded.raw],
        "project_files": loaded.project_files,
        "digest": loaded.digest,
        "threads": loaded.threads,
        "strays": [[project.relative(path), entry.line] for path in strays for entry in project.registry.pop(path)],
        "read": sorted(read),
    }


def _as_written(entry: Registered) -> dict[str, Any]:
    function = entry.function
    number = plain_number(entry.keys.get("number"))
    keys = {key: _portable(value) for key, value in entry.keys.items()}
    return {
        "line": entry.line,
        "keys": keys if number is None else {**keys, "number": number},
        "name": str(getattr(function, "__name__", "")),
        "title": str(getattr(function, "__doc__", None) or "").strip().partition("\n")[0].strip(),
        "oddity": _oddity(entry),
    }


def _oddity(entry: Registered) -> str:
    """What is wrong with the function itself, or with how the decorator was called."""
    function, code = entry.function, getattr(entry.function, "__code__", None)
    if entry.extra:
        return f"@phase takes one positional argument, its number; {_shown(entry.extra[0])} is one more"
    if not callable(function):
        return f"@phase stands over {_shown(function)}, which cannot be called"
    if code is None:
        return ""
    if code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR):
        return f"{function.__name__} is an async function, which a call does not run: use asyncio.run in a plain one"
    if code.co_flags & _CO_GENERATOR:
        return f"{function.__name__} is a generator, which a call does not run: take the yield out"
    if hasattr(function, "__self__"):
        return ""
    required = code.co_argcount - len(getattr(function, "__defaults__", None) or ())
    if required > 1 or (code.co_argcount == 0 and not code.co_flags & _CO_VARARGS):
        return f"{function.__name__} is called with one argument, the context: write def {function.__name__}(ctx)"
    return ""


def _portable(value: Any) -> Any:
    """As JSON; what has no place there becomes {"": its text}, for the message that refuses it."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if (number := plain_number(value)) is not None:
        return number if number.bit_length() < 64 else {"": f"a number of {number.bit_length()} bits"}
    if isinstance(value, (set, frozenset)):
        return sorted(map(_portable, value), key=repr)
    if isinstance(value, (list, tuple, range)):
        return [_portable(each) for each in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _shown(key): _portable(each) for key, each in value.items()}
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    return value.total_seconds() if hasattr(value, "total_seconds") else {"": _shown(value)}


def _shown(value: object) -> str:
    return repr(value)[:80]


def _trouble(project: _Project, error: BaseException) -> dict[str, Any]:
    """What an import raised, and where in the project."""
    try:
        text = str(error)[:_LONGEST]
    except Exception:
        text = ""
    place, line = "", 0
    trace = error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if project.owns(path):
            place, line = project.relative(path), trace.tb_lineno
        trace = trace.tb_next
    syntax = isinstance(error, SyntaxError) and error.filename is not None and project.owns(error.filename)
    if isinstance(error, SyntaxError) and syntax:
        place, line, text = project.relative(str(error.filename)), error.lineno or 0, error.msg
    return {"type": type(error).__name__, "message": text, "file": place, "line": line, "syntax": syntax}


def _watch_files(project: _Project) -> set[str]:
    """Collects what imports read of the project besides modules: data that phases may be made from."""
    seen: set[str] = set()

    def hook(event: str, args: Any) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, int) or not isinstance(flags, int) or flags & os.O_ACCMODE != os.O_RDONLY:
                return
        elif event in ("os.listdir", "os.scandir"):
            path = "." if args[0] is None else args[0]
            if isinstance(path, int) or sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):
                return
        else:
            return
        path = os.path.abspath(os.fsdecode(path))
        if project.owns(path) and "__pycache__" not in path:
            seen.add(path)

    sys.addaudithook(hook)
    return seen
