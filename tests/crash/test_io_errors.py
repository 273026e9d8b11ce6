"""Errors where orch writes: exit 74 with the file and the reason, nothing begun after that, and the next run goes on."""

from __future__ import annotations

import errno
import os
import resource
from collections import Counter
from functools import partial

import pytest

from tests.crash.injecting import SHORT, SYNCS, Done, Fault, Point, command, spread
from tests.crash.instant import ran
from tests.crash.scenes import BY_NAME, SCENES, Copies, Scene, check_after_cut, check_goes_on, in_memory
from tests.driving import TIMES, seeded, times

# What there is no room for, or no right to, stays so for a while; the others pass.
KINDS = (("EIO", False), ("ENOSPC", True), ("EDQUOT", True), ("EROFS", True), ("EMFILE", False), (SHORT, False))
LIMITS = range(0, 12_000, times(800, 40))  # bytes that a file may have
UNWRITABLE = 74


def check_told(done: Done, normal: int, reason: int, started: int) -> None:
    """Harmless, or said: what, where, why; and nothing was started any more."""
    assert "Traceback" not in done.text, done
    assert done.code in (normal, UNWRITABLE), done
    if done.code == UNWRITABLE:
        assert "the state could not be written: /" in done.err, done.err
        assert "/system" in done.err, done.err
        assert os.strerror(reason) in done.err, done.err
        assert started == done.after, f"{started} attempts, {done.after} when it failed"


def is_possible(point: Point, kind: str) -> bool:
    """Descriptors run out where files are opened."""
    return kind != "EMFILE" or point.call == "open"


def number_of(kind: str) -> int:
    return errno.ENOSPC if kind == SHORT else int(getattr(errno, kind))


@pytest.mark.timeout(120 + 20 * TIMES)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_an_error_at_each_point(scene: Scene) -> None:
    codes, fired = Counter[int](), Counter[str]()
    with in_memory() as folder:
        copies = Copies(scene, folder)
        clean = copies.clean()
        cases = [(at, *kind) for at, point in enumerate(clean.points) for kind in KINDS if is_possible(point, kind[0])]
        for index in spread(len(cases), len(cases) if TIMES else 12, seeded().randrange(len(cases))):
            fault = Fault(*cases[index])
            with copies.copy() as root:
                done = scene.play(root, fault, at_fault=lambda root=root: len(ran(root)))
                if done.fired is None:
                    continue
                fired[fault.kind] += 1
                codes[done.code] += 1
                print(f"{fault} hit {done.fired}: {done.code}")
                check_told(done, clean.code, number_of(fault.kind), len(ran(root)))
                check_goes_on(root, scene, check_after_cut(root, scene, done))
    print(f"{scene.name}: {sum(fired.values())} fired {dict(fired)}, ended with {dict(codes)}")
    assert sum(fired.values()) >= (len(cases) - 12 if TIMES else 10)


@pytest.mark.timeout(120 + 10 * TIMES)
@pytest.mark.parametrize("name", ["serial run", "compaction", "recovery with a damaged journal", "cancel"])
def test_what_failed_to_be_synced_is_never_synced_again(name: str) -> None:
    """A second sync that succeeds would prove nothing: the kernel may have dropped what it could not write."""
    scene, fired, chance = BY_NAME[name], 0, seeded()
    with in_memory() as folder:
        copies = Copies(scene, folder)
        clean = copies.clean()
        syncs = [at for at, point in enumerate(clean.points) if point.call in SYNCS]
        for index in spread(len(syncs), times(5, 1000), chance.randrange(len(syncs))):
            with copies.copy() as root:
                done = scene.play(root, Fault(syncs[index], "EIO"), at_fault=lambda root=root: len(ran(root)))
                if done.fired is None:
                    continue
                fired += 1
                check_told(done, clean.code, errno.EIO, len(ran(root)))
                assert done.code == UNWRITABLE or "cache" in clean.points[syncs[index] - 1].path, (done.fired, done)
                if done.code == UNWRITABLE:
                    after = done.points[syncs[index] + 1 :]
                    assert not [one for one in after if one.call in SYNCS and one.path == done.fired.path], after
                check_goes_on(root, scene, check_after_cut(root, scene, done))
    print(f"{name}: {len(syncs)} syncs, {fired} failed")
    assert fired >= min(len(syncs), times(5, 1000)) - 1


def _limited(scene: Scene, most: int) -> None:
    """What a file has beyond this is refused, and a write that crosses it is cut short: by the kernel, not by us."""
    scene.stage()
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


@pytest.mark.timeout(120 + 10 * TIMES)
@pytest.mark.parametrize("name", ["serial run", "compaction", "recovery"])
def test_a_file_may_not_grow_beyond_a_limit(name: str) -> None:
    scene, refused = BY_NAME[name], 0
    with in_memory() as folder:
        copies = Copies(scene, folder)
        clean = copies.clean()
        for most in LIMITS:
            with copies.copy() as root:
                done = command(root, *scene.words, stage=partial(_limited, scene, most))
                refused += done.code == UNWRITABLE
                check_told(done._replace(after=len(ran(root))), clean.code, errno.EFBIG, len(ran(root)))
                check_goes_on(root, scene, check_after_cut(root, scene, done))
    print(f"{name}: {len(LIMITS)} limits, {refused} times refused")
    assert refused >= 2
