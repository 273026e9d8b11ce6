"""Killed before every write, sync, rename, creation, truncation, unlink and mkdir in system/; in recovery, too."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.injecting import KILL, Fault, spread
from tests.crash.scenes import BY_NAME, NIGHTLY, SCENES, Copies, Scene, Seen, check_after_cut, check_goes_on, in_memory
from tests.driving import TIMES, seeded, times

EACH = 14  # points of a scene in the short form
AGAIN = [scene.name for scene in SCENES if scene.name.startswith("recover")]
FIRST = times(6, 1000)  # points of a recovery that are cut, each followed by some of the next
SECOND = times(3, 5)
BY_COMMAND = 8  # after so many cuts the reader is `orch status` itself, a process of its own


@pytest.mark.timeout(120 + 10 * TIMES)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_killed_at_each_point(scene: Scene) -> None:
    offset, fired = seeded().randrange(1000), Counter[str]()
    with in_memory() as folder:
        copies = Copies(scene, folder)
        points = copies.points()
        chosen = spread(len(points), len(points) if TIMES else EACH, offset)
        for at in chosen:
            with copies.copy() as root:
                done = scene.play(root, Fault(at, KILL))
                if done.fired is None:
                    continue
                fired[points[at].call] += 1
                by_command = sum(fired.values()) % BY_COMMAND == 0
                check_goes_on(root, scene, check_after_cut(root, scene, done, by_command=by_command))
    print(f"{scene.name}: {len(points)} points, {len(chosen)} cut, {sum(fired.values())} fired: {dict(fired)}")
    assert sum(fired.values()) >= len(chosen) - 2  # the last ones may not come where the clock has ticked otherwise


@pytest.mark.timeout(120 + 10 * TIMES)
def test_an_instant_has_its_record_with_its_run_or_neither_wherever_cron_is_killed() -> None:
    scene, told = BY_NAME["cron fire"], Counter[str]()
    with in_memory() as folder:
        copies = Copies(scene, folder)
        points = copies.points()
        for at in spread(len(points), len(points) if TIMES else EACH, seeded().randrange(1000)):
            with copies.copy() as root:
                scene.play(root, Fault(at, KILL))
                state = Seen(root).state
                records = state.schedules.get(NIGHTLY, [])
                assert [record["how"] for record in records] in ([], ["ran"])
                assert [record["run"] for record in records] == [state.run.id for _ in records]
                assert (state.run.due in [record["due"] for record in records]) == bool(records)
                told["with" if records else "without"] += 1
                again = scene.play(root)
                assert again.code == 0, again
                assert len(Seen(root).state.schedules[NIGHTLY]) == 1
    assert told["with"] and told["without"], told


@pytest.mark.timeout(120 + 30 * TIMES)
@pytest.mark.parametrize("name", AGAIN)
def test_killed_in_recovery_and_in_the_recovery_of_that(name: str) -> None:
    """After the second cut the third recovery begins from what three have left."""
    scene, chance, pairs = BY_NAME[name], seeded(), 0
    with in_memory() as folder:
        copies = Copies(scene, folder)
        count = len(copies.points())
        for first in spread(count, FIRST, chance.randrange(count)):
            with copies.copy() as root:
                if scene.play(root, Fault(first, KILL)).fired is None:
                    continue
                left = Copies(scene, folder / "again", made=root)
                for second in spread(count, SECOND, chance.randrange(count)):
                    with left.copy() as again:
                        done = scene.play(again, Fault(second, KILL))
                        pairs += done.fired is not None
                        check_goes_on(again, scene, check_after_cut(again, scene, done))
                left.forget()
    print(f"{name}: {count} points, {pairs} pairs")
    assert pairs >= times(45, 400) / len(AGAIN), pairs
