"""The real volume from every place and in every format that is read: the same bytes, and what each costs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import tifffile

from tests.conftest import REPOSITORY
from tests.fixtures_boss import fill, start_boss
from tests.fixtures_s3 import S3Server, start_s3
from tests.volumes_on_disk import FORMS, uri_of, write

REAL = REPOSITORY.parent / "shared" / "data" / "at_example"
CHANNELS = ("PSD95", "SYNAPSIN", "GLUR1", "LY")
SAMPLE_S = 0.05
WORDS = ("--no-push", "--no-plots", "--quiet", "--cpus", "2", "--path", "out")
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder by HTTP."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def put(server: S3Server, folder: Path) -> str:
    """Copy a folder to S3, and return its address."""
    client = server.client()
    client.create_bucket(Bucket="lab")
    for file in folder.rglob("*"):
        if file.is_file():
            key = str(file.relative_to(folder.parent))
            client.put_object(Bucket="lab", Key=key, Body=file.read_bytes(), ACL="public-read")
    return f"s3://lab/{folder.name}"


def run(words: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float, float]:
    """Run a job in a folder; return seconds, seconds of processors, and the peak of memory of all processes in MB."""
    command = [sys.executable, "-m", "nd_synapse", "run", *words, *WORDS]
    started, before, peak = time.monotonic(), sum(os.times()[2:4]), 0
    settings = {**os.environ, **environment, "PYTHONPATH": str(REPOSITORY)}
    job = psutil.Popen(command, cwd=folder, env=settings, stderr=subprocess.DEVNULL)
    while job.poll() is None:
        peak = max(peak, _memory(job))
        time.sleep(SAMPLE_S)
    if job.returncode:
        raise subprocess.CalledProcessError(job.returncode, command)
    return time.monotonic() - started, sum(os.times()[2:4]) - before, peak / 1e6


def _memory(job: psutil.Process) -> int:
    try:
        return sum(each.memory_info().rss for each in (job, *job.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def digests(folder: Path) -> list[str]:
    """Return the first digits of the SHA-256 of mask, table and the voxels of all labels and levels."""
    (results,) = (folder / "out").iterdir()
    labels = sorted(file for file in results.glob("synapses.ome.zarr/**/c/**/*") if file.is_file())
    kinds = [[results / "nomads-unsupervised-predictions.pkl"], [results / "synapses.csv"], labels]
    return [hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8] for files in kinds]


def main() -> int:
    """Print a row a place; return 1 if one of them gives other bytes."""
    voxels = {name: tifffile.imread(REAL / f"{name}.tif") for name in CHANNELS}
    z, y, x = voxels["LY"].shape
    print(f"{len(CHANNELS)} channels of {z} x {y} x {x} voxels, uint8, one run each")
    print("| place | s | s of processors | peak MB | mask | table | labels |\n|---|---|---|---|---|---|---|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fill(folder / "boss", "weiler", "at_example", voxels)
        for form in FORMS:
            write(form, folder / form, voxels)
        boss = stack.enter_context(start_boss(folder / "boss"))
        s3 = stack.enter_context(start_s3())
        url = stack.enter_context(served(folder))
        places = {"BOSS on this machine": ["--source", f"boss://{boss.url}/weiler/at_example", "--token", boss.token]}
        places |= {form: ["--source", uri_of(form, folder / form)] for form in FORMS}
        places |= {"ome05.zarr in S3": ["--source", put(s3, folder / "ome05.zarr")]}
        places |= {"ome05.zarr by HTTP": ["--source", f"{url}/ome05.zarr"]}
        found = {}
        for number, (place, words) in enumerate(places.items()):
            (folder / str(number)).mkdir()
            costs = run(words, folder / str(number), {**KEYS, "AWS_ENDPOINT_URL": s3.url})
            found[place] = digests(folder / str(number))
            numbers = "{:.1f} | {:.1f} | {:.0f}".format(*costs)
            print(f"| {place} | {numbers} | {' | '.join(found[place])} |", flush=True)
    return int(len({tuple(each) for each in found.values()}) > 1)


if __name__ == "__main__":
    raise SystemExit(main())
