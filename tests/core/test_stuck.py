from __future__ import annotations

from orchestrator.core.stuck import END_AGENT, INSIST, MEND, PRESS_EVERY, Watch, is_stuck


def test_stuck_from_the_moment_on_and_not_before():
    watch = Watch(1, 100.0)
    assert not is_stuck(watch, 99.9) and is_stuck(watch, 100.0) and is_stuck(watch, 5000.0)


def test_each_press_is_a_step_further_and_leaves_time_to_act():
    watch = Watch(1, 100.0).pressed(130.0)
    assert watch == Watch(1, 130.0 + PRESS_EVERY, 1) and not is_stuck(watch, 130.0)
    assert watch.pressed(150.0) == Watch(1, 165.0, 2)
    assert (INSIST, END_AGENT, MEND) == (1, 2, 3)
