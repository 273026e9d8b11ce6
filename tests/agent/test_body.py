"""What counts as a result, and how an exception is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.body import message_of, sentence, unfit


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [], {}, (1, 2), {"a": [{"b": None}]}])
def test_json(value: Any) -> None:
    assert unfit(value, "its result") == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Path("x"), "its result is a PosixPath"),
        ({"a": {1}}, "its result['a'] is a set"),
        ([1, {"b": b"x"}], "its result[1]['b'] is a bytes"),
        ({1: 2}, "the key 1, a int"),
        (float("inf"), "its result is inf"),
        ([float("nan")], "its result[0] is nan"),
    ],
)
def test_no_json(value: Any, words: str) -> None:
    assert words in unfit(value, "its result")


def test_circles_and_depths_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert "nested deeper than" in unfit(circle, "its result")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def test_exceptions_that_cannot_even_be_told() -> None:
    assert message_of(Mute()) == "Mute"
    assert sentence(Mute()) == "Mute"
    assert sentence(ValueError("one\ntwo")) == "ValueError: one"
    assert sentence(ValueError()) == "ValueError"
