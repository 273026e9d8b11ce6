"""Quiet hours: of which times of day nobody wants to hear, also over midnight and over both changes of the clock."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo

from orchestrator.core.value import Value

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)")


class Quiet(Value):
    """Minutes of the day by the clock on the wall: from the first to just before the second."""

    begin: int
    end: int

    def until(self, now: float, zone: tzinfo | None) -> float | None:
        """When they end that hold now, in seconds since 1970; None: nobody sleeps. No zone: the machine's own."""
        here = datetime.fromtimestamp(now, zone)
        minute = here.hour * 60 + here.minute
        if self.begin < self.end:
            if not self.begin <= minute < self.end:
                return None
            day = here.date()
        elif self.end <= minute < self.begin:
            return None
        else:
            day = here.date() + timedelta(days=1 if minute >= self.begin else 0)
        ends = datetime.combine(day, time(self.end // 60, self.end % 60), zone).timestamp()
        if ends <= now:  # the hour comes twice, and this is its second time
            ends = datetime.combine(day, time(self.end // 60, self.end % 60, fold=1), zone).timestamp()
        return ends if ends > now else None


def quiet_of(text: str) -> Quiet:
    """ "22:00-07:00"; ValueError says what quiet hours look like."""
    match = _HOURS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{text!r} are no quiet hours: write them like this: "22:00-07:00"')
    first, second, third, fourth = map(int, match.groups())
    if (first, second) == (third, fourth):
        raise ValueError(f"{text!r} are no quiet hours: they begin when they end")
    return Quiet(first * 60 + second, third * 60 + fourth)
