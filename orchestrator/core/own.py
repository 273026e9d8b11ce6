"""Tables of the settings whose keys are the project's own: pools, params, secrets, notify; a setting by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.core.names import nearest
from orchestrator.core.outward import TELLABLE
from orchestrator.core.setting import BY_NAME, COUNT, PLAIN, RETRIED, SETTINGS, TEXT, WORDS, Setting
from orchestrator.core.value import Value
from orchestrator.errors import CODES

POOLS, PARAMS, SECRETS, NOTIFY = "pools", "params", "secrets", "notify"


class Own(Value):
    """One such table: what its keys may look like, and the settings that each of them stands for."""

    table: str
    noun: str
    names: str  # a pattern
    looks: str  # the pattern in words
    settings: Callable[[str], tuple[Setting, ...]]  # of one key; named after it, or below it


def _pool(name: str) -> tuple[Setting, ...]:
    meaning = f"how many tokens there are of {name}, for phases that take it"
    return (Setting(f"{POOLS}.{name}", COUNT, None, meaning, 1, 10**9),)


def _param(name: str) -> tuple[Setting, ...]:
    meaning = f"what {name} is in a run that is not told otherwise (`--set {name}=...`)"
    return (Setting(f"{PARAMS}.{name}", PLAIN, None, meaning),)


def _secret(name: str) -> tuple[Setting, ...]:
    where = f"{SECRETS}.{name}"
    return (
        Setting(f"{where}.env", TEXT, "", "the variable that this secret is taken from"),
        Setting(f"{where}.file", TEXT, "", "the file that this secret is read from"),
        Setting(f"{where}.command", TEXT, "", "the command that prints this secret"),
    )


def _target(name: str) -> tuple[Setting, ...]:
    where = f"{NOTIFY}.{name}"
    return (
        Setting(f"{where}.url", TEXT, "", "where messages are sent"),
        Setting(f"{where}.secret", TEXT, "", "the secret that is the URL where messages are sent"),
        Setting(f"{where}.ping", TEXT, "", "what is called when a run begins and ends"),
        Setting(f"{where}.events", WORDS, None, "what is told", words=TELLABLE),
        Setting(f"{where}.template", TEXT, "", "how it is told"),
        Setting(f"{where}.quiet", TEXT, "", "when nothing is sent, as 22:00-07:00"),
        Setting(f"{where}.tz", TEXT, "", "the time zone of `quiet`; left out: the machine's own"),
    )


_WORD, _WORD_LOOKS = r"[A-Za-z][A-Za-z0-9_-]{0,40}", "letters, digits, _ and -, at most 41, a letter first"
_NAME, _NAME_LOOKS = r"[A-Za-z_][A-Za-z0-9_]{0,63}", "letters, digits and _, at most 64, no digit first"
OWN = {
    own.table: own
    for own in (
        Own(POOLS, "pool", _WORD, _WORD_LOOKS, _pool),
        Own(PARAMS, "parameter", _NAME, _NAME_LOOKS, _param),
        Own(SECRETS, "secret", _NAME, _NAME_LOOKS, _secret),
        Own(NOTIFY, "target", _WORD, _WORD_LOOKS, _target),
    )
}


def is_own(table: str, name: str) -> bool:
    """May a key of this table be called so?"""
    return re.fullmatch(OWN[table].names, name) is not None


def setting_of(name: str) -> Setting:
    if name in BY_NAME:
        return BY_NAME[name]
    table, key, *_ = name.split(".")
    return next(setting for setting in OWN[table].settings(key) if setting.name == name)


def by_table(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as their tables nest; with the project's own keys, as `given` has them."""
    top: dict[str, Any] = {table: {} for table in OWN}
    keys = {table: given[table] for table in OWN if isinstance(given.get(table), dict)}
    own = [row for table in keys for key in keys[table] if is_own(table, key) for row in OWN[table].settings(key)]
    for setting in (*SETTINGS, *own):
        *tables, key = setting.name.split(".")
        level = top
        for word in tables:
            level = level.setdefault(word, {})
        level[key] = setting
    return top


def unknown(name: str) -> str:
    """What to say of a name that is no setting."""
    tables, _, key = name.rpartition(".")
    if tables in OWN:
        noun, looks = OWN[tables].noun, OWN[tables].looks
        return f"{name}: this is not the name of a {noun}: {looks}"
    if tables == "retry":
        return _unknown_class(key)
    right = _neighbour(tables, key) or _elsewhere(key)
    return f"{name} is not a setting: " + (f"did you mean {right}?" if right else "`orch config show` lists them all")


def _unknown_class(key: str) -> str:
    code, may = key.upper(), f"rules may be set for {', '.join(RETRIED)}"
    if code in CODES and code not in RETRIED:
        return (
            f"[retry.{key}]: {code} ({CODES[code].meaning}) is never retried, because trying again cannot help; {may}"
        )
    right = code if code in RETRIED else nearest(code, list(RETRIED))
    return f"[retry.{key}]: no class of errors has this name: " + (f"did you mean {right}?" if right else may)


def _neighbour(tables: str, key: str) -> str | None:
    words = tables.split(".") if tables else []
    level: Any = by_table({words[0]: {words[1]: {}}} if len(words) == 2 and words[0] in OWN else {})
    for table in words:
        level = level.get(table, {}) if isinstance(level, dict) else {}
    right = nearest(key.lower(), list(level)) if isinstance(level, dict) else None
    return f"{tables}.{right}" if tables and right else right


def _elsewhere(key: str) -> str | None:
    """The same key where it belongs: a table forgotten, or begun too early, is the common slip."""
    found = [name.rpartition(".")[0] for name in BY_NAME if name.rpartition(".")[2] == key.lower()]
    if not 1 <= len(found) <= 2:
        return None
    if found == [""]:
        return f"{key.lower()} above the first [table]"
    return f"{key.lower()} under {' or '.join(f'[{table}]' for table in found)}"
