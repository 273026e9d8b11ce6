"""Phases 2 to 4: a loop defines as many phases as it likes; these three do not need each other and run in parallel."""

import time

from orchestrator import Context, Transient, ValidationFault, phase

LONGER_THAN = {2: 1, 3: 5, 4: 8}


def define(number: int, letters: int) -> None:
    # retries: how often after the first try, for whatever may be retried at all.
    @phase(number, name=f"longer-than-{letters}", needs=[1], timeout="1m", retries=2)
    def count(ctx: Context) -> dict:
        found = 0
        # What phase 1 returned. Only what stands in `needs` can be read: nothing else is sure to be there yet.
        for name in ctx.track(ctx.result(1)["files"]):  # progress, and a sign of life after each item
            found += sum(len(word) > letters for word in read(ctx, name).split())
            time.sleep(0.1)  # so that there is something to see
        return {"verdict": f"{found} words of more than {letters} letters", "words": found}


def read(ctx: Context, name: str) -> str:
    try:
        return ctx.path(name).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValidationFault(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from error  # never retried
    except BlockingIOError as error:
        raise Transient(f"{name} is in use") from error  # tried again after a while


for number, letters in LONGER_THAN.items():
    define(number, letters)
