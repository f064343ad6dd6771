"""What the table of synapses costs on the real volume: from a mask and images to all features, on two threads.

It detects nothing: the mask is the published one. It compares with copying a channel, and with measuring one synapse
after the other; the latter on some of them, for all of them take half a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import detect_arrays
from tests.conftest import REPOSITORY
from tests.detection import by_object
from tests.detection.given import Given

REAL = REPOSITORY.parent / "shared" / "data" / "at_example"
CHANNELS = ("SYNAPSIN", "PSD95", "GLUR1", "LY")
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
ROUNDS = 7
SAMPLE = 100
"""Synapses that are measured one after the other."""

MOST_COPIES = 30
LEAST_GAIN = 100


def images(count: int) -> dict[str, NDArray[Any]]:
    """Read the published mask, and so many channels."""
    names = {name: name for name in CHANNELS[:count]} | {"mask": "published_detections_mask"}
    return {name: tifffile.imread(REAL / f"{file}.tif") for name, file in names.items()}


def shortest_s(function: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the shortest time of some calls: what else a machine does can only add."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        took.append(time.perf_counter() - began)
    return min(took)


def table_s(channels: Mapping[str, NDArray[Any]]) -> float:
    """Return the seconds from mask and channels to the table; the mask is measured like a channel."""
    return shortest_s(lambda: detect_arrays(Given(), channels, VOXEL_SIZE_NM))


def one_by_one_s(channels: Mapping[str, NDArray[Any]]) -> float:
    """Return the seconds that measuring all synapses one after the other would take."""
    found = detect_arrays(Given(), channels, VOXEL_SIZE_NM)
    synapses = len(found.table["id"])
    labels = np.asarray(found.labels).astype(np.int64)
    labels[labels > SAMPLE] = 0
    return shortest_s(lambda: by_object.rows(labels, channels, (0, 0, 0), VOXEL_SIZE_NM), 1) * synapses / SAMPLE


def main() -> int:
    """Measure, print the figures, and return 1 if an aim is missed."""
    if not REAL.is_dir():
        print(f"no {REAL}: nothing is measured")
        return 0
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; the shortest of {ROUNDS} rounds")
    missed = False
    for count in (2, 4):
        channels = images(count)
        copy_s = shortest_s(lambda: channels["PSD95"].astype(np.float32).copy())  # noqa: B023 - called at once
        took_s = table_s(channels)
        slow_s = one_by_one_s(channels)
        copies, gain = took_s / copy_s, slow_s / took_s
        missed |= copies > MOST_COPIES or gain < LEAST_GAIN
        print(
            f"{count} channels and mask: {took_s * 1e3:.0f} ms; that is {copies:.1f} float32 copies of a channel of"
            f" {copy_s * 1e3:.0f} ms (at most {MOST_COPIES}), and {gain:.0f} times as fast as one synapse after the"
            f" other, {slow_s:.0f} s (at least {LEAST_GAIN})"
        )
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
