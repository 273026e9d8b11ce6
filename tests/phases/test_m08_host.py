"""Phase -8 on this machine, and on machines that are told to it."""

from __future__ import annotations

import os

import pytest

from orchestrator import ConfigurationFault
from phases import m08_host

GB = 10**9


def test_it_tells_this_machine(make, fits):
    found = fits(m08_host.host(make(-8)))["figures"]
    assert found["kernel"] == os.uname().release
    assert found["kernel"] in m08_host.verdict(found)
    assert 0 < found["cores_usable"] <= found["cores_allowed"] <= found["cores_online"]
    assert 0 < found["memory_free_bytes"] <= found["memory_total_bytes"]
    assert 0 < found["disk_free_bytes"] <= found["disk_total_bytes"]
    assert found["processes_now"] > 1
    assert set(found["tools"]) == {"strace", "crontab", "systemctl"}


@pytest.mark.parametrize(
    ("system", "release"), [("Linux", "5.3.18"), ("Linux", "4.19.0-27-amd64"), ("Darwin", "23.1.0")]
)
def test_an_old_kernel_is_refused(system, release):
    with pytest.raises(ConfigurationFault, match=rf"this is {system} {release}: orch needs Linux 5\.4"):
        m08_host.refuse_old_kernel(system, release)


@pytest.mark.parametrize("release", ["5.4.0", "5.10.0-28-amd64", "6.18.44", "10.0"])
def test_a_newer_kernel_is_not(release):
    assert m08_host.refuse_old_kernel("Linux", release) is None


class Machine:
    """Files as another machine has them."""

    def __init__(self, monkeypatch, **files):
        self.files = {
            "/proc/self/cgroup": "0::/a/b\n",
            "/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
        }
        self.files.update({name.replace("__", "."): text for name, text in files.items()})
        monkeypatch.setattr(m08_host, "read", lambda path: self.files.get(str(path), ""))


def test_a_quota_of_a_group_around_us_counts(monkeypatch):
    machine = Machine(monkeypatch)
    assert m08_host.cpu_quota() is None
    machine.files["/sys/fs/cgroup/a/b/cpu.max"] = "max 100000\n"
    assert m08_host.cpu_quota() is None
    machine.files["/sys/fs/cgroup/a/cpu.max"] = "150000 100000\n"
    assert m08_host.cpu_quota() == 1.5
    assert m08_host.of_cores()["cores_usable"] == min(1.5, len(os.sched_getaffinity(0)))


def test_a_quota_of_version_1_counts(monkeypatch):
    machine = Machine(monkeypatch)
    machine.files["/proc/self/cgroup"] = "5:cpu,cpuacct:/docker/abc\n0::/\n"
    machine.files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"] = (
        "50000\n"  # a container's mount begins at its own group
    )
    machine.files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us"] = "100000\n"
    assert m08_host.cpu_quota() == 0.5
    machine.files["/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"] = "-1\n"
    assert m08_host.cpu_quota() is None


def test_memory_is_what_the_tightest_group_leaves(monkeypatch):
    machine = Machine(monkeypatch)
    free = {"memory_total_bytes": 8_192_000_000, "memory_limit_bytes": None, "memory_free_bytes": 4_096_000_000}
    assert m08_host.of_memory() == free
    machine.files |= {"/sys/fs/cgroup/a/memory.max": "max\n", "/sys/fs/cgroup/a/memory.current": "5\n"}
    assert m08_host.of_memory() == free
    machine.files |= {"/sys/fs/cgroup/a/b/memory.max": f"{GB}\n", "/sys/fs/cgroup/a/b/memory.current": "400000000\n"}
    assert m08_host.of_memory() == {**free, "memory_limit_bytes": GB, "memory_free_bytes": 600_000_000}


def test_processes_that_a_group_allows(monkeypatch):
    machine = Machine(monkeypatch)
    assert m08_host.pids_of_groups() is None
    machine.files |= {"/sys/fs/cgroup/a/pids.max": "100\n", "/sys/fs/cgroup/a/b/pids.max": "max\n"}
    assert m08_host.pids_of_groups() == 100


def test_a_virtual_machine_is_told(monkeypatch):
    machine = Machine(monkeypatch)
    assert m08_host.virtual_machine() == ""
    machine.files["/proc/cpuinfo"] = "flags\t\t: fpu hypervisor avx\n"
    assert m08_host.virtual_machine() == "virtual machine"
    machine.files["/sys/class/dmi/id/sys_vendor"] = "QEMU\n"
    assert m08_host.virtual_machine() == "QEMU"


PLENTY = {
    "memory_free_bytes": 8 * GB, "disk_free_bytes": 8 * GB, "open_files_limit": 4096, "cores_usable": 4,
    "load_1_minute": 0.5, "systemd": True, "tools": {"crontab": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"memory_free_bytes": 10**8}, "only 100 MB of memory are free"),
        ({"disk_free_bytes": 10**8}, "only 100 MB are free on the project's disk"),
        ({"open_files_limit": 256}, "only 256 files may be open"),
        ({"load_1_minute": 8.5}, "a load of 8.5 on 4 cores"),
        ({"systemd": False}, "nothing starts a run by itself"),
    ],
)
def test_what_is_worse_than_wished_is_told(change, told):
    assert list(m08_host.warnings(PLENTY)) == []
    (warning,) = m08_host.warnings({**PLENTY, **change})
    assert told in warning
