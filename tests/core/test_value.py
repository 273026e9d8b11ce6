from __future__ import annotations

import pytest

from orchestrator.core.value import Value, plain


class Point(Value):
    x: int
    y: int = 0


class Named(Point):
    name: str = ""


class Other(Value):
    x: int
    y: int = 0


class Holder(Value):
    points: tuple[Point, ...] = ()
    by_name: dict[str, Point] = {}  # noqa: RUF012


def test_fields_by_place_by_name_and_by_default():
    assert Point(1) == Point(1, 0) == Point(x=1) == Point(y=0, x=1)
    assert (Named(1, 2, "a").x, Named(1, name="a").name) == (1, "a")


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, 3), {}), ((1,), {"z": 2}), ((), {"y": 1})])
def test_missing_and_unknown_fields_are_refused(arguments):
    args, kwargs = arguments
    with pytest.raises(TypeError, match="Point"):
        Point(*args, **kwargs)


def test_equality_looks_at_the_class():
    assert Point(1) != Other(1) and Point(1) != Named(1) and Point(1) != (1, 0)
    assert Point(1) != Point(2) and len({Point(1), Point(1), Other(1)}) == 2


def test_nobody_writes_to_a_value():
    point = Point(1)
    with pytest.raises(AttributeError, match=r"replace\(x="):
        point.x = 2
    assert point.replace(x=2) == Point(2) and point == Point(1)


def test_shown_and_stored_without_defaults():
    assert repr(Named(1, name="a")) == "Named(x=1, name='a')"
    assert Point(1).as_dict() == {"x": 1} and Point(1, 2).as_dict() == {"x": 1, "y": 2}
    assert Holder((Point(1),), {"a": Point(2, 3)}).as_dict() == {
        "points": [{"x": 1}],
        "by_name": {"a": {"x": 2, "y": 3}},
    }


def test_plain_is_what_json_knows():
    assert plain({1: (Point(1), {2})}) == {"1": [{"x": 1}, [2]]}


def test_defaults_are_not_shared_between_classes():
    assert Named._fields == ("x", "y", "name") and Point._fields == ("x", "y")
    assert Named._defaults == {"y": 0, "name": ""} and Point._defaults == {"y": 0}
