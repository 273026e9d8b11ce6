from __future__ import annotations

import time

from orchestrator import clock


def test_now_is_the_time_of_day_and_the_ticking_clock_counts_from_the_boot():
    assert abs(clock.now() - time.time()) < 60
    assert abs(clock.ticking() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_the_ticking_clock_never_goes_back():
    ticks = [clock.ticking() for _ in range(1000)]
    assert ticks == sorted(ticks)


def test_a_pause_lasts_at_least_as_long_as_it_should():
    since = clock.ticking()
    clock.pause(0.02)
    assert clock.ticking() - since >= 0.02


def test_a_moment_has_both_clocks_and_a_draw_that_differs():
    moments = [clock.System().moment() for _ in range(20)]
    assert len({moment.draw for moment in moments}) == 20 and all(0 <= moment.draw < 1 for moment in moments)
    assert abs(moments[0].now - clock.now()) < 60 and abs(moments[0].tick - clock.ticking()) < 60
