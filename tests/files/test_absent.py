from __future__ import annotations

import pytest

from orchestrator.files.absent import absent
from tests.core.given import spec_of


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        (("there.csv",), (), False),
        (("dta/in.csv",), (), True),
        (("dta/*.csv",), (), False),
        (("out/sum.txt",), ("out/sum.txt",), False),
        (("out/sum.txt",), ("out",), False),
        (("out/sum.txt",), ("out/*.txt",), False),
        (("out/sum.txt",), ("*/x.txt",), False),
        (("outer/sum.txt",), ("out",), True),
    ],
)
def test_what_is_not_there_and_nobody_makes_is_named(tmp_path, inputs, outputs, told):
    (tmp_path / "there.csv").touch()
    specs = [spec_of(1, (), outputs=outputs), spec_of(2, (1,), inputs=inputs)]
    said = [f"phase 2: its input {inputs[0]} is not there, and no phase says that it makes it"]
    assert absent(tmp_path, specs) == (said if told else [])


def test_several_are_one_sentence(tmp_path):
    (told,) = absent(tmp_path, [spec_of(3, (), inputs=("a", "b", "c"))])
    assert told == "phase 3: its inputs a and 2 more are not there, and no phase says that it makes them"
