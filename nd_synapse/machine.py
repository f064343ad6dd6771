"""What this machine, or the container on it, lets a process and its children have: memory and cores.

It measures nothing that is in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_bytes", "available_cores", "default_cpus"]

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def available_bytes() -> int:
    """Return the memory that there is: what the container allows, or what the machine has."""
    told = _told("memory", "memory.max", "memory.limit_in_bytes")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(int(text) for text in told if text.isdigit())])


def available_cores() -> int:
    """Return the cores that this process may run on, within the limit of its container."""
    limits = [float(len(os.sched_getaffinity(0)))]
    for text in _told("cpu", "cpu.max", "cpu.cfs_quota_us"):
        quota, _, period = text.partition(" ")
        if quota.isdigit():
            # older kernels tell the period in a file of its own; nobody changes it from 100 ms
            limits.append(int(quota) / int(period or 100_000))
    return max(1, int(min(limits)))


def default_cpus() -> int:
    """Return the worker processes where nobody asked for a number: one less than there are cores, at least one."""
    return max(1, available_cores() - 1)


def _told(controller: str, name: str, old_name: str) -> Iterator[str]:
    """Yield what the kernel tells of this process's control groups and those above them, whichever kind it has."""
    try:
        lines = _OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root, file = (_GROUPS / controllers, old_name) if controllers else (_GROUPS, name)
        here = Path(root, group.lstrip("/"))
        for folder in (here, *here.parents):
            if root not in (folder, *folder.parents):
                break
            try:
                yield (folder / file).read_text(encoding="ascii").strip()
            except OSError:
                continue  # not every group has a limit of each kind
