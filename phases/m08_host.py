"""Phase -8: what machine this is, and how much of it is ours."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import ConfigurationFault, Context, phase

OLDEST_KERNEL = (5, 4)  # pidfd_open came with 5.3
GB, MB = 10**9, 10**6
MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
TOOLS = ("strace", "crontab", "systemctl")


@phase(-8, needs=[], timeout="30s", retries=0)
def host(ctx: Context) -> dict[str, Any]:
    """Look at the machine: kernel, cores, memory, disk, limits."""
    refuse_old_kernel(os.uname().sysname, os.uname().release)
    figures = {**of_system(), **of_cores(), **of_memory(), **of_disk(ctx.project), **of_limits(), **of_surroundings()}
    return {"verdict": verdict(figures), "figures": figures, "warnings": list(warnings(figures))}


def refuse_old_kernel(system: str, release: str) -> None:
    found = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if system != "Linux" or found < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        raise ConfigurationFault(f"this is {system} {release}: orch needs Linux {oldest} or newer, with /proc mounted")


def verdict(figures: dict[str, Any]) -> str:
    where = figures["container"] or figures["virtual_machine"] or "no container"
    return (
        f"Linux {figures['kernel']} ({where}), Python {figures['python']}: {figures['cores_usable']:g} cores, "
        f"{gigabytes(figures['memory_free_bytes'])} memory and {gigabytes(figures['disk_free_bytes'])} disk free"
    )


def warnings(figures: dict[str, Any]) -> Iterator[str]:
    if figures["memory_free_bytes"] < 500 * MB:
        yield f"only {gigabytes(figures['memory_free_bytes'])} of memory are free"
    if figures["disk_free_bytes"] < GB:
        yield f"only {gigabytes(figures['disk_free_bytes'])} are free on the project's disk"
    if figures["open_files_limit"] < 1024:
        yield f"only {figures['open_files_limit']} files may be open at once: raise it with ulimit -n"
    if figures["load_1_minute"] > 2 * figures["cores_usable"]:
        yield f"a load of {figures['load_1_minute']:g} on {figures['cores_usable']:g} cores: measured times mislead"
    if not figures["systemd"] and not figures["tools"]["crontab"]:
        yield "neither systemd nor crontab is here: nothing starts a run by itself"


# What is looked at


def of_system() -> dict[str, Any]:
    return {
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "python": platform.python_version(),
        "python_build": " ".join((platform.python_implementation(), *platform.python_build())),
        "python_path": sys.executable,
    }


def of_cores() -> dict[str, Any]:
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return {
        "cores_online": os.cpu_count(),
        "cores_allowed": allowed,
        "cores_quota": quota,
        "cores_usable": min(allowed, quota or allowed),
        "load_1_minute": round(os.getloadavg()[0], 2),
    }


def of_memory() -> dict[str, Any]:
    told = dict(re.findall(r"^(\w+):\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE))
    total, free = int(told.get("MemTotal", 0)) * 1024, int(told.get("MemAvailable", 0)) * 1024
    granted = [(limit, limit - used) for limit, used in memory_of_groups() if limit < total]
    return {
        "memory_total_bytes": total,
        "memory_limit_bytes": min((limit for limit, _ in granted), default=None),
        "memory_free_bytes": max(0, min([free, *(left for _, left in granted)])),
    }


def of_disk(project: Path) -> dict[str, Any]:
    found = os.statvfs(project)
    return {"disk_total_bytes": found.f_frsize * found.f_blocks, "disk_free_bytes": found.f_frsize * found.f_bavail}


def of_limits() -> dict[str, Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    return {
        "open_files_limit": endless(soft),
        "open_files_limit_hard": endless(hard),
        "processes_limit": None if processes == resource.RLIM_INFINITY else processes,
        "processes_limit_group": pids_of_groups(),
        "processes_now": sum(name.isdecimal() for name in os.listdir("/proc")),
    }


def of_surroundings() -> dict[str, Any]:
    return {
        "container": container(),
        "virtual_machine": virtual_machine(),
        "systemd": Path("/run/systemd/system").is_dir(),
        "tools": {name: shutil.which(name) for name in TOOLS},
    }


def container() -> str:
    """Which kind of container this is in; empty if none can be told."""
    marks = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
    for file, kind in marks.items():
        if Path(file).exists():
            return kind
    if kind := os.environ.get("container", ""):  # noqa: SIM112  systemd-nspawn and podman write it so
        return kind
    found = re.search(r"docker|kubepods|libpod|lxc", read("/proc/1/cgroup"))
    return found[0] if found else ""


def virtual_machine() -> str:
    if not re.search(r"^flags.*\bhypervisor\b", read("/proc/cpuinfo"), re.MULTILINE):
        return ""
    return read("/sys/class/dmi/id/sys_vendor").strip() or "virtual machine"


# Control groups, version 2 and version 1


def cpu_quota() -> float | None:
    """Cores that the control groups around us grant; None where they grant all."""
    quotas = []
    for group in groups("cpu"):
        two = read(group / "cpu.max").split()
        quota, period = two or (read(group / "cpu.cfs_quota_us").strip(), read(group / "cpu.cfs_period_us").strip())
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_of_groups() -> Iterator[tuple[int, int]]:
    """Limit and use of every control group around us that has a limit."""
    for group in groups("memory"):
        for limit_file, use_file in MEMORY_FILES:
            limit, used = read(group / limit_file).strip(), read(group / use_file).strip()
            if limit.isdecimal() and used.isdecimal():
                yield int(limit), int(used)


def pids_of_groups() -> int | None:
    """How many processes the control groups around us allow; None where they allow any number."""
    said = (read(group / "pids.max").strip() for group in groups("pids"))
    return min((int(text) for text in said if text.isdecimal()), default=None)


def groups(controller: str) -> Iterator[Path]:
    """Our control group and those around it. In a container the mount may begin below the path that we are told."""
    for line in read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if not names else (f"/sys/fs/cgroup/{names}",):
            own = Path(f"{mount}{path}")
            yield from (each for each in (own, *own.parents) if str(each).startswith(mount))


# Small things


def read(path: str | Path) -> str:
    """Empty where it cannot be read: not every system has every file."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def endless(limit: int) -> int:
    return limit if limit != resource.RLIM_INFINITY else 2**31


def gigabytes(amount: int) -> str:
    return f"{amount / GB:.1f} GB" if amount >= GB else f"{amount / MB:.0f} MB"
