"""The demonstration: a synthetic sample in a local BOSS, the job run on it as a user would, and its results compared.

It is no test and no part of a job; it needs neither network nor accounts. Where the development requirements are
installed, an S3 server of moto's receives the results; otherwise nothing is uploaded, and the demonstration says so.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import boto3
import numpy as np
import tifffile
from botocore.config import Config
from intern.remote.boss import BossRemote
from numpy.typing import NDArray

from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.errors import NDSynapseError, StorageError, UnavailableError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.sample import COLLECTION, DESCRIPTION, EXPERIMENT, SampleInfo, score, write_sample
from nd_synapse.local_boss.tokens import writing_token

__all__ = ["main", "make_room"]

_BUCKET = "nd-synapse-demo"
_MARKER = ".nd-synapse-demo"  # it says that boss/ and results/ beside it are a demonstration's
_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
_ANSWER_LIMIT_S = 60.0
_JOB_LIMIT_S = 3600.0  # it takes one minute
_OUT = ("collman_nomads", "nomads_predictions")


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration."""
    parser = Parser(prog="nd-synapse demo", description="Run the main job on a synthetic sample.")
    parser.add_argument(
        "--path",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="empty, or of an earlier demonstration (default: %(default)s)",
    )

    def command(words: list[str], _environ: Mapping[str, str]) -> int:
        return _demonstrate(parser.parse_args(words).path)

    return app.run(command, argv, remedy="The same command begins anew")


def _demonstrate(path: Path) -> int:
    """Make the sample, serve it, run the job, compare."""
    make_room(path)
    data = path / "boss"
    _write(f"1. A sample: writing {COLLECTION}/{EXPERIMENT} ({DESCRIPTION.lower()}) to {data}")
    boss = Boss(data)
    try:
        sample = write_sample(boss)
    finally:
        boss.close()
    with ExitStack() as servers:
        url = servers.enter_context(_served_boss(data))
        environment = {**os.environ, "BOSS_TOKEN": writing_token(data)}
        environment.pop("RESULTS_BUCKET", None)
        if importlib.util.find_spec("moto") is not None:
            environment.update(servers.enter_context(_served_s3()), RESULTS_BUCKET=_BUCKET)
        command = [
            sys.executable,
            "-m",
            "nd_synapse",
            "run",
            *_arguments(url, sample.box),
            "--path",
            str(path / "results"),
        ]
        _write(f"2. The job, on a local BOSS at {url}:\n   nd-synapse {' '.join(command[3:])}")
        started = time.monotonic()
        code = _run(command, environment)
        if code:
            return code
        _write(f"3. Done in {time.monotonic() - started:.1f} s. What the results hold, compared:")
        (folder,) = (path / "results").iterdir()
        _compare(folder, url, environment, sample)
        (report,) = folder.glob("*.html")
        _write(f"\nReport: {report.resolve()}")
    return 0


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run the job; return its exit code."""
    try:
        return subprocess.run(command, env=environment, check=False, timeout=_JOB_LIMIT_S).returncode
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            "the demonstration's job", f"it did not end within {_JOB_LIMIT_S:.0f} s", "See what keeps the machine busy"
        ) from error


def make_room(path: Path) -> None:
    """Remove what an earlier demonstration left in a folder; what else stands there is not ours to remove."""
    requested, marker = f"--path {path}", path / _MARKER
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not marker.is_file() and any(path.iterdir()):
            raise UsageError(
                requested, "no demonstration made this folder, and it is not empty", "Name an empty folder"
            )
        marker.touch()
        for name in ("boss", "results"):
            if (path / name).exists():
                shutil.rmtree(path / name)
    except NDSynapseError:
        raise
    except OSError as error:
        raise StorageError(requested, error.strerror or str(error), "Name a folder that you may write to") from error


def _arguments(url: str, box: Box) -> list[str]:
    """Return the job's arguments."""
    ranges = [text for axis, (a, b) in zip("zyx", box.ranges, strict=True) for text in (f"--{axis}-range", f"{a},{b}")]
    return ["--host", url, "--col", COLLECTION, "--exp", EXPERIMENT, *ranges]


def _compare(folder: Path, url: str, environment: dict[str, str], sample: SampleInfo) -> None:
    """Compare the mask in the folder with BOSS, S3 and the table, and the table with the planted synapses."""
    (tiff,) = folder.glob("*.ome.tiff")
    mask = tifffile.imread(tiff)
    held = _mask_in_boss(url, environment["BOSS_TOKEN"], f"{folder.name}_All", sample.box)
    _write(f"   mask in the folder against the channel in BOSS: {np.count_nonzero(mask != held)} voxels differ")
    with (folder / "synapses.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    voxels = sum(int(row["voxels"]) for row in rows)
    _write(f"   table: {len(rows)} synapses of {voxels} voxels together, the mask has {np.count_nonzero(mask)}")
    if "AWS_ENDPOINT_URL" in environment:
        _write(
            f"   S3: {_differing_objects(folder, environment)} of {len(list(_files(folder)))} files "
            "differ from their objects"
        )
    else:
        _write("   S3: nothing was uploaded, for no S3 server is installed here (requirements-dev.txt has one)")
    centroids = [[float(row[f"centroid_{axis}_um"]) for axis in "zyx"] for row in rows]
    result = score(sample.truth_csv, centroids)
    _write(
        f"   planted synapses found (centroid within {result.max_distance_um:g} um): "
        f"{result.found} of {result.planted}, {result.false_alarms} detections matched none"
    )
    for kind, planted in result.planted_by_type.items():
        _write(f"      {kind}: {result.found_by_type[kind]} of {planted}")


def _mask_in_boss(url: str, token: str, channel: str, box: Box) -> NDArray[np.uint8]:
    """Read a mask with the client that any user has."""
    protocol, _, host = url.partition("://")
    remote = BossRemote({"protocol": protocol, "host": host, "token": token})
    for service in (remote.project_service, remote.volume_service):
        service.session_send_opts = {**service.session_send_opts, "timeout": _ANSWER_LIMIT_S}
    z, y, x = (list(ends) for ends in box.ranges)
    mask: NDArray[np.uint8] = remote.get_cutout(remote.get_channel(channel, *_OUT), 0, x, y, z, parallel=False)
    return mask


def _differing_objects(folder: Path, environment: dict[str, str]) -> int:
    """Count the files whose object in S3 is missing or has other bytes."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(connect_timeout=5, read_timeout=30),
        region_name="us-east-1",
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET, Prefix=f"{folder.name}/")
    keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
    differing = 0
    for file in _files(folder):
        key = f"{folder.name}/{file.relative_to(folder).as_posix()}"
        same = key in keys and client.get_object(Bucket=_BUCKET, Key=key)["Body"].read() == file.read_bytes()
        differing += not same
    return differing


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a result folder."""
    return (file for file in folder.rglob("*") if file.is_file())


@contextmanager
def _served_boss(data: Path) -> Iterator[str]:
    """Serve a data folder from a process of its own."""
    command = [sys.executable, "-m", "nd_synapse", "boss", "serve", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(_START_LIMIT_S, process.kill)
    watchdog.start()
    try:
        # the server writes its address, ends, or is ended; this line is read whichever it is
        url = process.stdout.readline().strip() if process.stdout else ""
        watchdog.cancel()
        if not url:
            found = f"the server ended, or did not start within {_START_LIMIT_S:.0f} s"
            raise UnavailableError("a local BOSS", found, "Read its message above, if there is one")
        yield url
    finally:
        watchdog.cancel()
        _stop(process)


@contextmanager
def _served_s3() -> Iterator[dict[str, str]]:
    """Serve S3 from a process of its own; yield the environment that leads to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        _stop(process)


def _wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise UnavailableError("an S3 server on this machine", f"no answer within {_START_LIMIT_S:.0f} s", "Try again")


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a server."""
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        # one that the kernel does not let go of ends without us
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_LIMIT_S)
    if process.stdout is not None:
        process.stdout.close()


def _write(text: str) -> None:
    """Write a line at once: the job writes to the same terminal."""
    app.write_stdout(f"{text}\n")
