"""What a command costs with all processes that it starts: seconds, seconds of processors, memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

__all__ = ["Cost", "cost_of", "in_turns", "medians"]

SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    wall_s: float
    processor_s: float
    peak_mib: float
    """Largest memory of all its processes together; what several share counts once."""


def medians(costs: Sequence[Cost]) -> Cost:
    """Return the median of each cost."""
    return Cost(*map(statistics.median, zip(*map(astuple, costs), strict=True)))


def cost_of(command: Sequence[str | Path]) -> Cost:
    """Run a command in an empty folder until its end; one that fails is an error."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        before, started, peak = sum(os.times()[2:4]), time.monotonic(), 0
        job = psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
        while True:
            try:
                job.wait(SAMPLE_S)
                break
            except psutil.TimeoutExpired:
                peak = max(peak, _memory(job))
        took = time.monotonic() - started
        if job.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command} ended with {job.returncode}: {errors.read()[-2000:].decode()}")
        return Cost(took, sum(os.times()[2:4]) - before, peak / 2**20)


def _memory(job: psutil.Process) -> int:
    """Return the memory of a process and all below it; a page that several map is divided between them."""
    total = 0
    try:
        for each in (job, *job.children(recursive=True)):
            total += each.memory_full_info().pss
    except psutil.Error:
        return 0  # one has just ended
    return total


def in_turns(rounds: int, *commands: Sequence[str | Path]) -> list[list[Cost]]:
    """Run commands in turns, so that all meet the same machine; return the costs of each."""
    found = [[cost_of(command) for command in commands] for _ in range(rounds)]
    return [list(costs) for costs in zip(*found, strict=True)]
