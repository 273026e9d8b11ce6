"""Secrets in bytes: every way of writing one, cut anywhere; what is held back; what is left alone."""

from __future__ import annotations

import base64
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.masking import Masker, Stream
from tests.canary import WAYS

SECRETS = (
    "c4n4ryXq7Lm2Vt9", "p@ss w\"o'r\\d/+&<é>%", "#!$&*()^~`", "line one\nsecond \"line\"\n  third é\nab\nlast", "s3cr",
    "日本語パスワード", "😀-smile-ÿ", "0123456789abcdef" * 8,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", SECRETS)
def test_every_way_of_writing_it_is_hidden_whatever_the_cuts(secret: str, way: str) -> None:
    written = WAYS[way](secret)
    if not written:
        return
    masker, draw = Masker([secret, "another-one"]), random.Random(way + secret)
    before, after = b"before: ", b" :after\n"
    whole = masker.data(before + written + after)
    assert whole.startswith(before), whole
    assert whole.endswith(after), whole
    assert b"***" in whole, whole
    left = whole.removeprefix(before).removesuffix(after)
    if "broken" in way:
        filling = written[: len(base64.encodebytes(b"x" * (int(way.split()[-1]) // 3 * 3)).rstrip())]
        assert left.startswith(filling)
        left = left.removeprefix(filling)
    assert len(left.replace(b"***", b"")) <= max(24, len(written) // 3) if "base64" in way else left == b"***", left
    for size in (1, 3, draw.randrange(2, 40)):
        stream, told = Stream(masker), b""
        data = before + written + after
        for at in range(0, len(data), size):
            told += stream.feed(data[at : at + size])
            told += stream.settle() if draw.random() < 0.7 else b""
        assert told + stream.finish() == whole


@given(
    st.lists(st.sampled_from(("ab12", "b12x", "ab12xyz9", "2xy", "a", "b1", "\n", "zz", "12ab")), max_size=40),
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=60),
)
def test_secrets_that_overlap_are_hidden_as_one_whatever_the_cuts(
    parts: list[str], cuts: list[tuple[int, bool]]
) -> None:
    data = "".join(parts).encode()
    masker = Masker(["ab12", "b12x", "ab12xyz9", "12ab"])
    stream, told, left = Stream(masker), b"", data
    for size, settles in cuts:
        told += stream.feed(left[:size])
        left = left[size:]
        told += stream.settle() if settles else b""
    told += stream.feed(left) + stream.finish()
    assert re.sub(rb"(\*\*\*)+", b"***", told) == masker.data(data)
    assert not masker.spans(told)


def test_what_cannot_be_part_of_a_secret_is_not_held_back() -> None:
    stream = Stream(Masker(["s3cret-value"]))
    assert stream.feed(b"a line of its own\n") + stream.settle() == b"a line of its own\n"
    assert stream.feed(b"it is s3cret-") + stream.settle() == b"it is "
    assert stream.settle() == b""
    assert stream.feed(b"value, is it?\n") + stream.settle() == b"***, is it?\n"
    assert stream.feed(b"s3cre") + stream.settle() == b""
    assert stream.finish() == b"s3cre"


def test_a_long_stream_goes_through_as_it_is_and_is_not_kept() -> None:
    masker = Masker(SECRETS)
    stream, draw = Stream(masker), random.Random(4)
    data = b"".join(b"%d lines of %s\n" % (number, draw.randbytes(6).hex().encode()) for number in range(30_000))
    told = b""
    for at in range(0, len(data), 50_000):
        told += stream.feed(data[at : at + 50_000])
        assert len(stream._held) < masker.longest + 100_000
    assert told + stream.finish() == data


def test_a_stream_of_nothing_but_secrets_is_bounded_too() -> None:
    stream, told = Stream(Masker(["abab"])), b""
    for _ in range(20):
        told += stream.feed(b"ab" * 5000)
        assert len(stream._held) < 60_000
    assert told + stream.finish() == b"***"


@pytest.mark.parametrize("kept", ["hunter2-tok ", "hunter2-tok\n", "\thunter2-tok", "\nhunter2-tok \n\n"])
def test_blanks_at_its_ends_may_be_taken_away_by_who_uses_it(kept: str) -> None:
    masker = Masker([kept])
    assert masker.text("Bearer hunter2-tok.") == "Bearer ***."
    assert "aHVudGVyMi10b2" not in masker.text(base64.b64encode(b"hunter2-tok").decode())
    assert masker.text(f"[{kept}]") == "[***]"


def test_json_keeps_its_shape() -> None:
    masker = Masker(["s3cret", "123456"])
    value = {"a": [1, "x s3cret", {"s3cret key": None}], "pin": 123456, "n": 1.5, "yes": True}
    assert masker.json(value) == {"a": [1, "x ***", {"*** key": None}], "pin": "***", "n": 1.5, "yes": True}
    kept = {"a": [1, 2, {"b": "\ud800"}]}
    assert masker.json(kept) is kept


def test_text_that_is_no_text_goes_through() -> None:
    masker = Masker(["s3cret"])
    assert masker.text("a\udc80b") == "a\udc80b"
    assert "s3cret" not in masker.text("\udc80 s3cret")
