"""How fast volumes are read where they lie: local ones beside TensorStore, remote ones by eight requests at a time."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from benchmarks.slow_link import slowed
from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.geometry import Box
from tests.fixtures_s3 import start_s3

SHAPE = (64, 2048, 2048)
CHUNK = (8, 256, 256)
BLOCK = (16, 512, 512)
"""What one cutout of a job reads."""
ROUNDS = 5
REMOTE_CHUNKS = 64
SLOWEST, LARGEST, LEAST_GAIN = 1.1, 1.2, 6.0
"""Most time and memory beside TensorStore, and least gain of eight requests."""
_ZSTD = {"name": "zstd", "configuration": {"level": 1}}
_SHARDING = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": CHUNK, "codecs": [{"name": "bytes"}, _ZSTD]},
}
FORMS: dict[str, dict[str, Any]] = {
    "zarr3": {"driver": "zarr3", "metadata": {"codecs": [{"name": "bytes"}, _ZSTD]}},
    "shards": {"driver": "zarr3", "metadata": {"codecs": [_SHARDING]}},
    "n5": {"driver": "n5", "metadata": {"compression": {"type": "zstd"}}},
}


def write(form: str, path: Path) -> None:
    """Write the volume with TensorStore; N5 is x, y, z."""
    import tensorstore

    turn = -1 if form == "n5" else 1
    layout: dict[str, Any] = {"read_chunk": {"shape": CHUNK[::turn]}}
    if form == "shards":
        layout["write_chunk"] = {"shape": [2 * CHUNK[0], 4 * CHUNK[1], 4 * CHUNK[2]]}
    spec = {**FORMS[form], "kvstore": {"driver": "file", "path": str(path)}}
    spec["schema"] = {"dtype": "uint16", "domain": {"shape": SHAPE[::turn]}, "chunk_layout": layout}
    voxels = np.random.default_rng(0).poisson(200, SHAPE).astype(np.uint16)
    tensorstore.open(spec, create=True).result().write(voxels.T if turn < 0 else voxels).result()


def read(reader: str, form: str, uri: str, extents: str, pulls: str, most: str) -> dict[str, float]:
    """Read blocks in this process; return seconds, processor seconds, and the peak of its memory in MB."""
    z, y, x = json.loads(extents)
    cutout = {"ours": _ours, "tensorstore": _tensorstore}[reader](form, uri)
    boxes = list(Box.of_shape(SHAPE).tiles((z, y, x)))[: int(most)]
    started, processor = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(int(pulls)) as threads:
        voxels = sum(threads.map(lambda box: int(cutout(box).size), boxes))
    found = {"s": time.perf_counter() - started, "processor_s": time.process_time() - processor}
    assert voxels == sum(box.voxels for box in boxes)
    # getrusage would count what the parent had when it forked
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {**found, "mb": int(peak) / 1024}


def _ours(form: str, uri: str) -> Callable[[Box], Any]:
    from nd_synapse.sources.location import Location
    from nd_synapse.sources.source import open_source

    source = open_source(Location(f"n5://{uri}" if form == "n5" else uri, voxel_size_nm=(70, 100, 100)))
    (channel,) = source.channels
    return lambda box: source.get_cutout(channel, *box.ranges)


def _tensorstore(form: str, uri: str) -> Callable[[Box], Any]:
    import tensorstore

    spec = {"driver": FORMS[form]["driver"], "kvstore": {"driver": "file", "path": uri}}
    array: Any = tensorstore.open(spec).result()
    if form == "n5":
        array = array.T
    return lambda box: np.ascontiguousarray(array[box.slices()].read().result())


def _timed(*words: object, environment: Mapping[str, str] = os.environ) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.sources", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(environment))
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def beside_tensorstore(folder: Path) -> bool:
    """Print how fast local volumes are read, by turns; return whether an aim is missed."""
    print("| blocks of a local volume | reader | MB/s | s of a processor | peak MB |\n|---|---|---|---|---|")
    missed = False
    for form in FORMS:
        write(form, folder / form)
        words = (form, folder / form, json.dumps(BLOCK), DEFAULT_PULLS, 10**6)
        rounds = [(_timed("ours", *words), _timed("tensorstore", *words)) for _ in range(ROUNDS + 1)][1:]
        ours, theirs = (_median([pair[place] for pair in rounds]) for place in (0, 1))
        for name, found in (("nd-synapse", ours), ("TensorStore alone", theirs)):
            speed = np.prod(SHAPE) * 2 / 1e6 / found["s"]
            print(f"| {form} | {name} | {speed:.0f} | {found['processor_s']:.2f} | {found['mb']:.0f} |", flush=True)
        time_ratio, memory = ours["s"] / theirs["s"], ours["mb"] / theirs["mb"]
        print(f"{form}: {time_ratio:.2f} of the time (aim: {SLOWEST}), {memory:.2f} of the memory (aim: {LARGEST})")
        missed |= time_ratio > SLOWEST or memory > LARGEST
    return missed


def at_a_time(folder: Path) -> bool:
    """Print what eight requests gain over a slow link; return whether the aim is missed."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web, start_s3() as s3:
        Thread(target=web.serve_forever, daemon=True).start()
        client = s3.client()
        client.create_bucket(Bucket="lab")
        for file in (folder / "zarr3").rglob("*"):
            if file.is_file():
                key = str(file.relative_to(folder))
                client.put_object(Bucket="lab", Key=key, Body=file.read_bytes(), ACL="public-read")
        with slowed(f"http://127.0.0.1:{web.server_port}") as web_url, slowed(s3.url) as s3_url:
            keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing")
            environment = {**os.environ, **keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": s3_url}
            missed = False
            for name, uri in (("HTTP", f"{web_url}/zarr3"), ("S3", "s3://lab/zarr3")):
                words = ("ours", "zarr3", uri, json.dumps(CHUNK))
                one, eight = (_timed(*words, pulls, REMOTE_CHUNKS, environment=environment)["s"] for pulls in (1, 8))
                gain = f"{one / eight:.1f} times (aim: {LEAST_GAIN:g})"
                print(f"{name}, {REMOTE_CHUNKS} chunks: {one:.1f} s by one, {eight:.2f} s by eight at a time: {gain}")
                missed |= one / eight < LEAST_GAIN
        web.shutdown()
    return missed


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


def main() -> int:
    """Measure, print the figures, and return 1 if an aim is missed."""
    with tempfile.TemporaryDirectory() as folder:
        missed = beside_tensorstore(Path(folder))
        return int(at_a_time(Path(folder)) or missed)


if __name__ == "__main__":
    print(json.dumps(read(*sys.argv[1:])))
