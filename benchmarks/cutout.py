"""How long a cutout takes over HTTP, against reading and compressing the same chunks in one process.

It measures the local BOSS alone; the real one is behind a network.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import requests
from intern.resource.boss.resource import ChannelResource
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nd_synapse.geometry import Box
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.local_boss.codec import pack
from nd_synapse.local_boss.models import Channel
from tests.fixtures_boss import BossServer, start_boss

SHAPE = (96, 512, 512)
ROUNDS = 9
LARGEST_RATIO = 2.0


def image_like(shape: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """Return blurred puncta over a noisy background, as an array-tomography channel looks."""
    rng = np.random.default_rng(seed)
    puncta = gaussian_filter((rng.random(shape) > 0.998).astype(np.float32), (0.8, 2, 2)) * 4000
    background = 18 + rng.normal(0, 3, shape).astype(np.float32)
    return np.clip(puncta + background, 0, 255).astype(np.uint8)


def fill(boss: Boss, voxels: NDArray[np.uint8]) -> Channel:
    """Store the voxels in a channel, aligned with the chunks."""
    z, y, x = voxels.shape
    frame = {"x_start": 0, "x_stop": x, "y_start": 0, "y_stop": y, "z_start": 0, "z_stop": z, "x_voxel_size": 100}
    boss.catalog.create(COLLECTIONS, "bench")
    boss.catalog.create(
        FRAMES, "bench", fields={**frame, "y_voxel_size": 100, "z_voxel_size": 70, "voxel_unit": "nanometers"}
    )
    boss.catalog.create(EXPERIMENTS, "bench", "cutout", fields={"coord_frame": "bench"})
    channel = boss.catalog.create(CHANNELS, "bench", "cutout", "image", fields={"type": "image", "datatype": "uint8"})
    boss.voxels.write(channel, 0, Box.of_shape(voxels.shape), (0, 1), voxels[np.newaxis])
    return channel


def median_s(measures: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median time of each function in seconds; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(ROUNDS):
        for name, function in measures.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}  # the first one warms up


def measure(server: BossServer, boss: Boss, channel: Channel) -> dict[str, float]:
    """Return the times in seconds: in one process, over plain HTTP, and through the client with its unpacking."""
    remote = server.remote()
    resource = ChannelResource("image", "bench", "cutout", "image", datatype="uint8")
    z, y, x = SHAPE
    session = requests.Session()
    session.headers.update({"Authorization": f"Token {server.token}", "Accept": "application/blosc"})
    url = f"{server.url}/v1/cutout/bench/cutout/image/0/0:{x}/0:{y}/0:{z}/"
    return median_s(
        {
            "read and compress in one process": lambda: pack(boss.voxels.read(channel, 0, Box.of_shape(SHAPE), (0, 1))),
            "cutout over HTTP": lambda: session.get(url, timeout=60).content,
            "cutout with intern, unpacked": lambda: remote.get_cutout(resource, 0, [0, x], [0, y], [0, z]),
        }
    )


def main() -> int:
    """Measure, print the figures, and return 1 if a cutout takes too long."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        boss = Boss(data)
        channel = fill(boss, image_like(SHAPE, seed=1))
        with start_boss(data) as server:
            times = measure(server, boss, channel)
        boss.close()
    for name, seconds in times.items():
        print(f"{name:35s} {seconds * 1e3:7.1f} ms")
    local, remote = times["read and compress in one process"], times["cutout over HTTP"]
    print(f"ratio of HTTP to one process: {remote / local:.2f} (aim: at most {LARGEST_RATIO})")
    return int(remote > LARGEST_RATIO * local)


if __name__ == "__main__":
    raise SystemExit(main())
