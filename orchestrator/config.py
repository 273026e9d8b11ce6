"""Settings: flags before environment before file before default, checked all at once, each knowing where it comes from.

The library that checks is not imported where there is nothing to check, or where the same was checked before: most
starts of orch are such starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import checked
from orchestrator.checked import Given
from orchestrator.core.names import nearest, readable, seconds
from orchestrator.core.outward import SecretSource, Target
from orchestrator.core.own import NOTIFY, OWN, PARAMS, POOLS, SECRETS, by_table, setting_of
from orchestrator.core.own import unknown as not_a_setting
from orchestrator.core.setting import (
    BY_NAME,
    BYTES,
    COUNT,
    DURATION,
    PLAIN,
    RETRIED,
    SETTINGS,
    SWITCH,
    TEXT,
    WORDS,
    Setting,
    size,
)
from orchestrator.core.spec import RetryRule
from orchestrator.core.target import faults as faults_of_target
from orchestrator.core.target import host_only
from orchestrator.core.value import Value
from orchestrator.errors import SettingsError
from orchestrator.layers import Layer, as_toml, file_layer, flag_layer, line_of, texts_in, variable_layer

DEFAULT = "default"


class Settings(Value):
    jobs: int
    timeout: float
    kill_grace: float
    stale_after: float
    beat_interval: float
    heartbeat_timeout: float
    load_timeout: float
    logs_phase_bytes: int
    logs_keep: int
    logs_structured_bytes: int
    logs_max_age: float
    checkpoints_keep: int
    checkpoints_max_age: float
    trust: bool
    retry: dict[str, RetryRule]  # every class that may be retried at all
    pools: dict[str, int]  # how many tokens there are of each
    params: dict[str, Any]  # the parameters that a run may be given, with their defaults
    secrets: dict[str, SecretSource]
    notify: dict[str, Target]
    origins: dict[str, str]  # of what is no default


class Shown(NamedTuple):
    name: str
    value: str
    origin: str
    meaning: str


def settings(root: Path, flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """What holds for the project at `root`; SettingsError with every fault. A flag that is None was not given."""
    faults: list[str] = []
    texts, variables, given_flags = texts_in(root, faults), variable_layer(environ), flag_layer(flags)
    given: Given = {}
    for written, layer in (
        ([*texts] if texts.own or texts.shared else None, lambda: file_layer(texts, faults)),
        (["variables", variables.tree] if variables.tree else None, lambda: variables),
        (["flags", given_flags.tree] if given_flags.tree else None, lambda: given_flags),
    ):
        if written is not None:
            given.update(_given(root, written, layer, faults))
    values = _with_defaults({name: value for name, (value, _) in given.items()})
    origins = {name: origin for name, (_, origin) in given.items()}
    faults += [] if faults else _contradictions(values, origins)
    if faults:
        raise SettingsError(_told(faults), "correct what is named, then `orch config check`")
    return _settled(values, origins)


def to_tell_by(root: Path) -> Settings | None:
    """Who is told, where other settings are wrong: just that is what they are to hear. None: these are wrong, too."""
    faults: list[str] = []
    layer = file_layer(texts_in(root, faults), faults)
    layer = layer.replace(tree={table: layer.tree[table] for table in (SECRETS, NOTIFY) if table in layer.tree})
    given = _checked(layer, faults) if layer.tree else {}
    values = _with_defaults({name: value for name, (value, _) in given.items()})
    origins = {name: origin for name, (_, origin) in given.items()}
    faults += [] if faults else _contradictions(values, origins)
    return None if faults else _settled(values, origins)


def describe(settings: Settings) -> list[Shown]:
    """Every setting as it holds, for people: the value as it could be written in the file, its origin, its meaning."""
    own = [row for table in OWN for key in getattr(settings, table) for row in OWN[table].settings(key)]
    shown = [*SETTINGS, *(row for row in own if row.name in settings.origins)]
    return [
        Shown(row.name, row.written(_shown(settings, row.name)), settings.origins.get(row.name, DEFAULT), row.meaning)
        for row in shown
    ]


# Checking


def keep_what_was_checked(root: Path) -> None:
    """By whoever runs, so that others who start need not check it again."""
    checked.keep(_cache(root))


def _cache(root: Path) -> Path:
    return root / "system" / "cache"


def _given(root: Path, written: list[Any], layer: Callable[[], Layer], faults: list[str]) -> Given:
    """What a layer gives; from the cache, where just that has been found right before."""
    name = checked.key(written)
    found = checked.recall(_cache(root), name, lambda: layer().tree)
    if found is None:
        before, said = len(faults), layer()
        found = _checked(said, faults) if said.tree else {}
        if len(faults) == before:
            checked.note(name, found, said.tree)
    return found


def _checked(layer: Layer, faults: list[str]) -> Given:
    if all(_is_plainly_right(name, value) for name, value in layer.tree.items()):
        return {name: (value, layer.where(name)) for name, value in layer.tree.items()}
    from pydantic import ValidationError

    try:
        checked = _model(by_table(layer.tree), layer.tree).model_validate(layer.tree, strict=layer.strict)
    except ValidationError as invalid:
        found = list[str]()
        for error in invalid.errors(include_url=False):
            name = readable(".".join(map(str, error["loc"])))
            said = readable(_sentence(name, error, _as_given(layer.tree, error["loc"])))
            found.append(f"{layer.where(name)}: {said}")
        faults += sorted(found, key=line_of)
        return {}
    return {name: (value, layer.where(name)) for name, value in _leaves(checked.model_dump())}


def _is_plainly_right(name: str, value: object) -> bool:
    """A count within its bounds: `--jobs 2` is not worth the library."""
    setting = BY_NAME.get(name)
    if setting is None or setting.kind != COUNT or type(value) is not int:
        return False
    return setting.least <= value and (setting.most is None or value <= setting.most)


def _model(known: dict[str, Any], given: dict[str, Any]) -> Any:
    """A model of what is given and known: one of everything takes as long to build as the library to import."""
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {
        key: (_inner_model(item, given[key]) if isinstance(item, dict) else _type_of(item), None)
        for key, item in known.items()
        if key in given
    }
    return create_model("Settings", __config__=ConfigDict(extra="forbid"), **fields)


def _inner_model(known: dict[str, Any], given: object) -> Any:
    return _model(known, given if isinstance(given, dict) else {})


def _type_of(setting: Setting) -> Any:
    from typing import Annotated

    from pydantic import BeforeValidator, Field

    if setting.kind == PLAIN:
        return Annotated[Any, BeforeValidator(_plain)]
    if setting.kind in (TEXT, WORDS):
        return Annotated[Any, BeforeValidator(_line if setting.kind == TEXT else partial(_words, setting.words))]
    bounds = Field(ge=setting.least, le=setting.most)
    if setting.kind == DURATION:
        return Annotated[float, bounds, BeforeValidator(_finite_seconds)]
    if setting.kind == BYTES:
        return Annotated[int, bounds, BeforeValidator(size)]
    return bool if setting.kind == SWITCH else Annotated[int if setting.kind == COUNT else float, bounds]


def _plain(given: object) -> object:
    if isinstance(given, str | bool) or (isinstance(given, int | float) and abs(given) < 2**63):
        return given
    if isinstance(given, list) and not any(isinstance(each, list) for each in given):
        return [_plain(each) for each in given]
    raise ValueError("it is neither text nor a number, true or false, nor a list of these")


def _line(given: object) -> str:
    if isinstance(given, str) and given.strip() and given.isprintable():
        return given
    raise ValueError("it is empty, or not text of one line")


def _words(known: tuple[str, ...], given: object) -> tuple[str, ...]:
    for word in given if isinstance(given, list) else [given]:
        if word not in known:
            right = nearest(word, list(known)) if isinstance(word, str) else None
            raise ValueError(f"{as_toml(word)} is none of {', '.join(known)}" + (f"; {right}?" if right else ""))
    if not isinstance(given, list) or not given:
        raise ValueError(f"write a list of {', '.join(known)}")
    return tuple(given)


def _finite_seconds(given: object) -> float:
    try:
        return seconds(given)
    except OverflowError:
        raise ValueError("it is longer than ten years") from None


def _leaves(tree: dict[str, Any], tables: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and (value or tables.rstrip(".") not in OWN):
            yield from _leaves(value, f"{tables}{key}.")
        else:
            yield f"{tables}{key}", value


def _contradictions(values: dict[str, Any], origins: dict[str, str]) -> Iterator[str]:
    """Settings that are right each for itself and wrong together."""

    def said(name: str) -> str:
        return f"{name} = {BY_NAME[name].written(values[name])} ({origins.get(name, DEFAULT)})"

    if values["heartbeat_timeout"] < 2 * values["beat_interval"]:
        yield f"{said('heartbeat_timeout')} is less than twice {said('beat_interval')}: a late beat looks like a hang"
    for code in RETRIED:
        delay, cap = f"retry.{code}.delay", f"retry.{code}.cap"
        if values[delay] > values[cap]:
            yield f"{said(delay)} is longer than {said(cap)}: raise the cap, or lower the delay"
    for table, among, example in _ONE_OF:
        for key, given in _entries(values, table).items():
            if sum(name in given for name in among) != 1:
                where = next(
                    (origins[f"{table}.{key}.{name}"] for name in given), origins.get(f"{table}.{key}", DEFAULT)
                )
                yield f"{where}: {table}.{key} takes exactly one of {', '.join(among)}: {example}"
    yield from _of_targets(values, origins)


def _of_targets(values: dict[str, Any], origins: dict[str, str]) -> Iterator[str]:
    for key, given in _entries(values, NOTIFY).items():
        found = [*faults_of_target(given, _entries(values, SECRETS).keys()), *_fault_of_zone(given.get("tz"))]
        for field, fault in found:
            yield f"{origins.get(f'{NOTIFY}.{key}.{field}', DEFAULT)}: {NOTIFY}.{key}.{field}: {fault}"


def _fault_of_zone(name: str | None) -> Iterator[tuple[str, str]]:
    if name is not None:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(name)
        except (OSError, ValueError, LookupError):  # not found is a KeyError; a folder, a file that is none
            yield "tz", f'there is no time zone {name}: write one like "Europe/Berlin"'


_ONE_OF = (
    (SECRETS, ("env", "file", "command"), 'token = { env = "TOKEN" }'),
    (NOTIFY, ("url", "secret", "ping"), 'url = "https://..."'),
)


# What is said of a fault


def _told(faults: list[str]) -> str:
    where = "" if len(faults) == 1 else f" in {len(faults)} places"
    return "\n  ".join([f"the settings are wrong{where}; nothing was started", *faults])


def _sentence(name: str, error: Mapping[str, Any], given: object) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return not_a_setting(name)
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    table, _, key = name.partition(".")
    if kind == "model_type" and table == SECRETS and key:  # what stands there may be the secret: it is not shown
        return f'{name}: say where it is found, not what it is: {key} = {{ env = "{key.upper()}" }}'
    if kind == "model_type" and table == NOTIFY and key:
        return f"{name} is not a table: write [{name}], its keys below"
    if kind == "model_type":
        return f"{name} = {as_toml(given)} is not a table: write [{name}], its keys below"
    return f"{name} = {as_toml(given)} is not {setting_of(name).expected}"


def _as_given(tree: Any, path: tuple[Any, ...]) -> Any:
    """The error shows what was parsed: of "2m" it says 120.0."""
    for key in path:
        tree = tree[key]
    return tree


# What holds


def _with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    values = {setting.name: setting.default for setting in SETTINGS} | given
    if values["jobs"] is None:
        values["jobs"] = max(4, len(os.sched_getaffinity(0)))
    if values["stale_after"] is None:
        values["stale_after"] = max(7200.0, values["timeout"] + values["kill_grace"])
    return values


def _settled(values: dict[str, Any], origins: dict[str, str]) -> Settings:
    retry = {
        code: RetryRule(*(values[f"retry.{code}.{field}"] for field in ("tries", "delay", "factor", "cap", "jitter")))
        for code in RETRIED
    }
    pools, params = (_entries(values, table) for table in (POOLS, PARAMS))
    secrets = {name: SecretSource(**given) for name, given in _entries(values, SECRETS).items()}
    notify = {name: Target(**given) for name, given in _entries(values, NOTIFY).items()}
    apart = ("retry.", *(f"{table}." for table in OWN))
    plain = {name.replace(".", "_"): value for name, value in values.items() if not name.startswith(apart)}
    return Settings(
        **plain, retry=retry, pools=pools, params=params, secrets=secrets, notify=notify, origins=origins
    )  # fmt: skip


def _entries(values: dict[str, Any], table: str) -> dict[str, Any]:
    """What is given for each key of a table that is the project's own; of several settings each, by their names."""
    found = dict[str, Any]()
    for name, value in values.items():
        if name.startswith(f"{table}."):
            _, key, *field = name.split(".")
            if field:
                found.setdefault(key, {})[field[0]] = value
            else:
                found[key] = value
    return found


def _shown(settings: Settings, name: str) -> Any:
    table, *rest = name.split(".")
    if table == "retry":
        return getattr(settings.retry[rest[0]], rest[1])
    if table == NOTIFY and rest[1] in ("url", "ping"):  # whoever has the whole of it may write there
        return host_only(getattr(settings.notify[rest[0]], rest[1]))
    if table in OWN:
        found = getattr(settings, table)[rest[0]]
        return getattr(found, rest[1]) if len(rest) > 1 else found
    return getattr(settings, name.replace(".", "_"))
