"""The sizes that a container can have: cores, memory, disk.

It knows no price and no load; see `planning` for what is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from batch.retry import Compute
from nd_synapse.errors import UsageError

__all__ = ["FARGATE_DISK_GIB", "FREE_DISK_GIB", "Size", "largest_memory_mib", "size_for"]

_FARGATE: dict[int, tuple[int, int, int]] = {
    1: (2, 8, 1),
    2: (4, 16, 1),
    4: (8, 30, 1),
    8: (16, 60, 4),
    16: (32, 120, 8),
}
"""Virtual cores to the least and the most memory, and the step between sizes, in GiB; none below one core."""

FREE_DISK_GIB = 20
"""The disk of a container on Fargate that asks for none."""

FARGATE_DISK_GIB = 200
"""The largest disk of a container on Fargate."""

_EC2_GIB_A_CORE = 8
"""Machines with much memory have so much a core."""

_EC2_STEP_MIB = 256


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a container.

    Parameters
    ----------
    vcpus : int
        Virtual cores.
    memory_mib : int
        Memory in MiB.
    """

    vcpus: int
    memory_mib: int


def largest_memory_mib(compute: Compute, vcpus: int) -> int:
    """Return the memory that a container with so many cores can have at most."""
    if compute == "EC2":
        return vcpus * _EC2_GIB_A_CORE * 1024
    return _FARGATE[_fargate_cores(vcpus)][1] * 1024


def size_for(compute: Compute, vcpus: int, memory_mib: int) -> Size:
    """Return the smallest size that holds what is needed."""
    if compute == "EC2":
        cores = max(vcpus, math.ceil(memory_mib / 1024 / _EC2_GIB_A_CORE))
        return Size(cores, -(-memory_mib // _EC2_STEP_MIB) * _EC2_STEP_MIB)
    for cores, (least, most, step) in _FARGATE.items():
        if cores >= _fargate_cores(vcpus) and memory_mib <= most * 1024:
            steps = max(0, math.ceil((memory_mib / 1024 - least) / step))
            return Size(cores, (least + steps * step) * 1024)
    raise UsageError(
        f"a container with {memory_mib / 1024:,.0f} GiB of memory on Fargate",
        f"its largest has {max(most for _, most, _ in _FARGATE.values())} GiB",
        "Use EC2, or a smaller box",
    )


def _fargate_cores(vcpus: int) -> int:
    """Return the size of Fargate that has at least so many cores."""
    for cores in _FARGATE:
        if cores >= vcpus:
            return cores
    raise UsageError(
        f"a container with {vcpus} vCPU on Fargate", f"its largest has {max(_FARGATE)}", "Use EC2, or fewer --cpus"
    )


def check_disk(compute: Compute, disk_gib: int) -> None:
    """Refuse a disk that no container has."""
    if compute == "FARGATE" and disk_gib > FARGATE_DISK_GIB:
        raise UsageError(
            f"{disk_gib:,} GiB of scratch in a container on Fargate",
            f"it has {FARGATE_DISK_GIB} GiB at most",
            "Use EC2, bound what pulled voxels may take by --cache, or take a smaller box",
        )
