"""Limits of this machine, or of the container on it, memory and cores; and settings of libraries in its environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from nd_synapse.errors import UsageError

__all__ = [
    "available_bytes",
    "available_cores",
    "check_environment",
    "default_cpus",
    "in_gib",
    "settings_of_libraries",
    "sufficient_bytes",
    "usable_bytes",
    "warn_of_workers",
]

log = logging.getLogger(__name__)

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")

_PERCENT = 90
"""What may be used of a limit of memory: the kernel and the system's own caches count, too."""

_CORRECT = "Correct it, or unset it"

_MOST_THREADS = {
    **dict.fromkeys((f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "GOTO", "MKL", "BLIS")), 4096),
    **dict.fromkeys(("NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS", "LOKY_MAX_CPU_COUNT"), 4096),
    "BLOSC_NTHREADS": 256,
    "JOBLIB_MULTIPROCESSING": 1,
    "SOURCE_DATE_EPOCH": 2**33,
}
"""The largest number in each variable that libraries of ours read: of threads, and the date of figures. What they do
with another text is not said where it happens: a block fails, or a figure, or an import."""


_WORDS = {
    "BLOSC_COMPRESSOR": ("blosclz", "lz4", "lz4hc", "zlib", "zstd"),
    "BLOSC_SPLITMODE": ("ALWAYS", "AUTO", "FORWARD_COMPAT", "NEVER"),
    "BLOSC_CLEVEL": tuple("0123456789"),
}
"""What Blosc takes in each variable that it puts in the place of our arguments. It fails at any other text, an empty
one too, without a word; as a level it takes that for 0, which is no compression."""


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse a setting that is no number, or one too large; and one of Blosc that it fails at."""
    for name, most in _MOST_THREADS.items():
        # OpenMP takes a list, for threads that start threads
        for number in environ.get(name, "").split(",") if name.startswith("OMP") else [environ.get(name, "")]:
            plain = number.strip()
            if plain and not (plain.isascii() and plain.isdigit() and int(plain) <= most):
                found = f"{plain[:40]!r} is no whole number up to {most}"
                raise UsageError(f"{name} in the environment", found, _CORRECT)
    for name, words in _WORDS.items():
        if environ.get(name, words[0]) not in words:
            found = f"{environ[name][:40]!r} is none of {', '.join(words)}"
            raise UsageError(f"{name} in the environment", found, _CORRECT)


def settings_of_libraries(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that tqdm and zarr take for settings of any kind: one that is wrong looks like a defect."""
    return sorted(name for name in environ if name.startswith(("TQDM_", "ZARR_")))


def available_bytes() -> int:
    """Return the memory that the container allows, or that the machine has."""
    limits = _limits("memory", "memory.max", "memory.limit_in_bytes")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(int(text) for text in limits if text.isdigit())])


def usable_bytes(limit_bytes: int) -> int:
    """Return what may be used of a limit, whatever size it is."""
    return limit_bytes * _PERCENT // 100


def sufficient_bytes(used_bytes: int) -> int:
    """Return the smallest limit of which so much may be used."""
    return -(-used_bytes * 100 // _PERCENT)


def in_gib(size_bytes: int) -> str:
    """Return a size in GiB, as ``--memory`` takes it; rounded up, so that it suffices."""
    hundredths = -(-size_bytes * 100 // 2**30)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def available_cores() -> int:
    """Return the cores that this process may run on, within the limit of its container."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    limits = [float(len(affinity(0)) if affinity else os.cpu_count() or 1)]
    for text in _limits("cpu", "cpu.max", "cpu.cfs_quota_us"):
        quota, _, period = text.partition(" ")
        if quota.isdigit():
            # cgroups v1 have the period in a file of its own; 100 ms is its default
            limits.append(int(quota) / int(period or 100_000))
    return max(1, int(min(limits)))


def default_cpus() -> int:
    """Return the default number of worker processes: all cores but one, at least one."""
    return max(1, available_cores() - 1)


def warn_of_workers(cpus: int) -> None:
    """Warn of more workers than cores."""
    cores = available_cores()
    if cpus > cores:
        log.warning("%d workers: this machine has %d cores; more workers take memory, and no less time", cpus, cores)


def _limits(controller: str, name: str, old_name: str) -> Iterator[str]:
    """Yield the limits of this process's control groups and their parents, of cgroups v1 and v2."""
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
                continue  # this group has no such limit
