"""What a success was made of, by name, so that the first difference can be told; and the key that sums it up.

Equal keys would do the same work, so a success stands for as long as its key does. What stands in a record is judged
by the recipe that it was made by: a newer orch that looks at more finds nothing missing in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.core.spec import Spec
from orchestrator.core.value import Value

RECIPE = 2
# recipe -> the families of ingredients that it knows; one whose meaning changes gets another name
FAMILIES: dict[int, frozenset[str]] = {
    2: frozenset({"code", "run", "cwd", "env", "params", "inputs", "needs", "outputs", "foreach", "over"}),
}
_SHORT, _SHOWN = 32, 8  # digits of a digest: as it is kept, as it is shown
_OF_ITEM = 16  # of the key of an item: there may be a million
_LONGEST = 40  # characters of a parameter that is kept as it is


class Difference(Value):
    """The first thing that is not as it was."""

    what: str  # inputs: data/a.csv
    how: str  # changed, is new, is gone
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        shown = [text[:_SHOWN] if _is_digest(text) else text for text in (self.old, self.new)]
        return f"{self.what} {self.how}" + (f" ({shown[0]} → {shown[1]})" if all(shown) else "")


class Material(Value):
    """What the disk says of a phase's files. An empty digest is equal to nothing: some file could not be read."""

    inputs: str = ""
    outputs: str = ""
    of_inputs: Difference | None = None  # the first that is not as in the record
    of_outputs: Difference | None = None
    missing: tuple[str, ...] = ()  # outputs that name one file or folder, and it is not there
    over: str = ""  # of the files that it fans out over
    of_over: Difference | None = None
    each: dict[str, str] = {}  # noqa: RUF012  of each of these: its path -> its content
    common: str = ""  # of the inputs that are none of these


NO_FILES = Material()


class Made(Value):
    """What the last attempt was made of and, if it succeeded, what came out."""

    key: str
    of: dict[str, str]  # what is compared
    files: str = ""  # the digest of its outputs, as they were when it ended
    yields: str = ""  # of its result and its outputs, which is what others depend on; empty: it has not succeeded
    run: str = ""  # in which it was made; empty: in this one
    result: Any = None  # where the phase itself does not have it, because it is to be judged
    failed: int = 0  # how many of its items failed, which it bore

    @property
    def recipe(self) -> int:
        head = self.key.partition(":")[0]
        return int(head) if head.isdigit() else 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Made:
        return cls(**data)


# `dumps` would build it each time; what was read from JSON or TOML holds no circle.
_written = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode


def digest(value: Any) -> str:
    text = value if isinstance(value, str) else _written(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT]


def _is_digest(text: str) -> bool:
    return len(text) == _SHORT and all(char in "0123456789abcdef" for char in text)


def ingredients(
    spec: Spec, params: Mapping[str, Any], material: Material, yields: Callable[[int], str]
) -> dict[str, str]:
    """What decides what an attempt does. Not its name, title, deadline or tries: they only say how it is treated.

    A command is its own code: its file's digest would make every edit beside it look like a change of it.
    """
    found = {"code": digest(spec.digest)} if spec.run is None else {"run": digest(spec.run)}
    found["cwd"] = spec.cwd
    found |= {f"env.{name}": digest(value) for name, value in sorted(spec.env.items())}
    found |= {f"params.{name}": _kept(value) for name, value in sorted(params.items())}
    if spec.item is not None:
        found["item"] = digest(spec.item)
    if spec.inputs:
        found["inputs"] = material.inputs
    if spec.foreach is not None:
        found["foreach"] = _kept(spec.foreach.as_dict())
        if spec.foreach.files:
            found["over"] = material.over
    return found | needed(spec, yields)


def item_keys(
    spec: Spec, params: Mapping[str, Any], material: Material, yields: Callable[[int], str], items: Sequence[Any]
) -> tuple[str, ...]:
    """One for each item: what all have in common without the list itself, its value and, of a file, its content.

    Empty, and equal to nothing, where something could not be read.
    """
    foreach = spec.foreach
    assert foreach is not None
    rest = {name: value for name, value in params.items() if name != foreach.param}
    of_files = material.replace(inputs=material.common) if foreach.files else material
    shared = ingredients(spec.replace(foreach=None), rest, of_files, yields)
    if "" in shared.values() or (foreach.files and "" in material.each.values()):
        return ("",) * len(items)
    head, own = digest(shared), material.each if foreach.files else {}
    return tuple(digest([head, each, own[each] if own else ""])[:_OF_ITEM] for each in items)


def is_of_item(key: str) -> bool:
    return bool(key) and ":" not in key


def needed(spec: Spec, yields: Callable[[int], str]) -> dict[str, str]:
    """Of what an older orch has run nobody knows what came out: it is compared with nothing."""
    return {f"needs.{need}": came for need in sorted(spec.needs) if (came := yields(need))}


def _kept(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _LONGEST else digest(text)


def compared(spec: Spec, found: Mapping[str, str]) -> dict[str, str]:
    """All of it; only what it needs where the author said nothing; nothing where the author said so."""
    if spec.cache:
        return dict(found)
    return {name: value for name, value in found.items() if _family(name) == "needs"} if spec.cache is None else {}


def key_of(number: int, found: dict[str, str]) -> str:
    return f"{RECIPE}:{digest([number, found])}"


def difference(spec: Spec, made: Made, now: Mapping[str, str], material: Material) -> Difference | None:
    """The first of what a success was made of, and what it made, that is not so any more; None if all of it is."""
    families = FAMILIES.get(made.recipe, frozenset()) & FAMILIES[RECIPE]
    if spec.cache and not {"code", "run"} & made.of.keys():
        return Difference("what it was made of", "was not recorded: its definition said less then")
    for name in [*now, *(name for name in made.of if name not in now)]:
        if _family(name) in families and not _same(made.of.get(name), now.get(name)):
            first = {"inputs": material.of_inputs, "over": material.of_over}.get(name)
            return first or _told(spec, name, made.of, now)
    if spec.cache and spec.outputs and "outputs" in families and not _same(made.files, material.outputs):
        return material.of_outputs or Difference("outputs", "changed", made.files, material.outputs)
    return None


def _same(old: str | None, new: str | None) -> bool:
    return old == new and old != ""


def _family(name: str) -> str:
    return name.partition(".")[0]


def _told(spec: Spec, name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Difference:
    how = "changed" if name in old and name in new else "is new" if name in new else "is gone"
    if how == "changed" and not new[name]:
        how = "cannot be read"
    return Difference(_LABELS[_family(name)](spec, name.partition(".")[2]), how, old.get(name, ""), new.get(name, ""))


_LABELS: dict[str, Callable[[Spec, str], str]] = {
    "code": lambda spec, name: f"code: {spec.file}, or what it imports,",
    "run": lambda spec, name: "run: its command",
    "cwd": lambda spec, name: "cwd",
    "env": lambda spec, name: f"env: {name}",
    "params": lambda spec, name: f"params: {name}",
    "inputs": lambda spec, name: "inputs",
    "needs": lambda spec, name: f"needs: what came out of phase {name}",
    "foreach": lambda spec, name: "foreach: what it is done for",
    "over": lambda spec, name: "foreach: its files",
}


def first_difference(
    label: str, old: Mapping[str, str] | None, new: Mapping[str, str], sums: tuple[str, str]
) -> Difference:
    """Between two lists of files with their digests; `old` is None where it was not kept: only the sums are known."""
    if old is None:
        return Difference(label, "changed, which of them is not known any more", *sums)
    for path in _paths(old, new):
        if old.get(path) != new.get(path):
            how = "changed" if path in old and path in new else "is new" if path in new else "is gone"
            return Difference(f"{label}: {path}", how, old.get(path, ""), new.get(path, ""))
    return Difference(label, "changed", *sums)


def _paths(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    yield from sorted(old.keys() | new.keys())
