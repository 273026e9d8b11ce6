"""Value: the frozen record that everything in the core is made of.

Not `dataclasses`: generating sixty of them costs a cold start five times what importing json does, and orch is
started from cron each minute. Not NamedTuple: there `Started(3) == Exited(3)` is true.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Self, dataclass_transform

from orchestrator.core.item import Item


@dataclass_transform(frozen_default=True)
class Value:
    """Subclasses annotate their fields; equality looks at the class and every field."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[frozenset[str]] = frozenset()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        own = tuple(name for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar"))
        cls._fields = (*cls._fields, *own)
        cls._known = frozenset(cls._fields)
        cls._defaults = {**cls._defaults, **{name: cls.__dict__[name] for name in own if name in cls.__dict__}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = self.__dict__
        fields.update(self._defaults)
        fields.update(zip(self._fields, args, strict=False), **kwargs)
        many = len(self._fields)
        if len(fields) != many or len(args) > many or not self._known.issuperset(kwargs):
            missing = [name for name in self._fields if name not in fields]
            unknown = [name for name in fields if name not in self._fields]
            raise TypeError(f"{type(self).__name__}: missing {missing}, unknown {unknown}, {len(args)} positional")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is a value: use replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(self.__dict__.__getitem__, self._fields)))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={self.__dict__[name]!r}"
            for name in self._fields
            if name not in self._defaults or self.__dict__[name] != self._defaults[name]
        )
        return f"{type(self).__name__}({shown})"

    def replace(self, **changes: Any) -> Self:
        if not changes.keys() <= self._known:
            return type(self)(**{**self.__dict__, **changes})  # says what it does not know
        new = object.__new__(type(self))
        fields = new.__dict__
        fields.update(self.__dict__)
        fields.update(changes)
        return new

    def as_dict(self) -> dict[str, Any]:
        """The fields that differ from their default, as plain JSON values."""
        return self.given()

    def given(self, but: Collection[str] = ()) -> dict[str, Any]:
        """The same of the fields alone, without those named."""
        defaults = self._defaults
        return {
            name: value if type(value) in _PLAIN else plain(value)
            for name, value in self.__dict__.items()
            if (name not in defaults or (value is not defaults[name] and value != defaults[name])) and name not in but
        }


_PLAIN = frozenset({str, int, float, bool, type(None)})  # nearly all that values hold


def plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Value):
        return value.as_dict()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Item) else value
