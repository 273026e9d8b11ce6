"""A watcher that fails is named once and let go."""

from __future__ import annotations

from orchestrator.watch.guard import Guarded


class Failing:
    def __init__(self) -> None:
        self.told = 0

    def tell(self, *told: object) -> None:
        self.told += 1
        raise ZeroDivisionError("no")


def test_it_is_told_once_and_named_once():
    watcher, complaints = Failing(), list[str]()
    guarded = Guarded(watcher, complaints.append)  # type: ignore[arg-type]
    guarded.tell(1, 2)
    guarded.tell(3)
    assert watcher.told == 1
    assert complaints == ["Failing failed and is let go: ZeroDivisionError: no"]
