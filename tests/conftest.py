"""What all tests share: a plain environment, files that only their owner may write, and no deadline on generated cases."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from orchestrator import process
from tests.driving import TIMES

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
LIBC = ctypes.CDLL(None)

# A case is slow when its neighbours are busy; the time limit of the whole test is what counts. New dice: the long form's.
settings.register_profile("orch", deadline=None, derandomize=not TIMES)
settings.load_profile("orch")

# Nobody else has anything to do any more while one of these is the last.
LONGEST = (
    "test_a_run_of_all_ends_well_and_leaves_nothing_behind", "test_every_rule_holds_whatever_fails",
    "test_what_is_run_again_although_it_has_not_changed_is_seen",
    "test_nothing_grows_and_nothing_is_lost_however_long_it_goes_on",
    "test_whatever_a_power_cut_leaves_of_a_store_is_gone_on_from", "test_lost_at_any_moment",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: getattr(item, "originalname", "") not in LONGEST)


@pytest.fixture(autouse=True)
def _no_heirs() -> Iterator[None]:
    """A test that made this process a subreaper leaves it as it was, and nobody whom it inherited by that."""
    yield
    is_subreaper = ctypes.c_int()
    LIBC.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper), 0, 0, 0)
    if not is_subreaper.value:
        return
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for entry in process.scan().values():
        if entry.parent == os.getpid() and entry.state == "Z":
            os.waitpid(entry.pid, os.WNOHANG)


@pytest.fixture(autouse=True, scope="session")
def _plain_environment() -> Iterator[None]:
    """As on a machine that knows nothing of orch: settings of the person who runs the tests must not change them."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("ORCH_") or name in {"PYTHONDONTWRITEBYTECODE", "NO_COLOR", "FORCE_COLOR", "TRACEPARENT"}:
            del os.environ[name]
    mask = os.umask(0o022)
    yield
    os.umask(mask)
    os.environ.clear()
    os.environ.update(before)
