"""Volumes in files, buckets and on web servers that cannot be read, or not as they are."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock

import numpy as np
import tifffile
import zarr

from tests.cases import Case
from tests.in_process import main, restored
from tests.volumes_on_disk import uri_of, write

_CHANNELS = {name: np.full((4, 40, 40), 9, np.uint8) for name in ("PSD95", "SYNAPSIN")}
_BEFORE = "2: --source n5://: it is not read, and so for precomputed:// and gs://"
"""What formats and buckets that were not read gave."""
_NO_OPTION = "2: the command line: unrecognized option"


def _run(folder: Path, *words: str) -> str:
    """Return the exit code of a run, and its error without what differs from place to place."""
    printed = io.StringIO()
    with restored(), redirect_stderr(printed):
        code = main("nd-synapse", "run", *words, "--path", str(folder / "out"), "--no-plots", "--quiet", "--cpus", "1")
    (line,) = (line for line in printed.getvalue().splitlines() if " ERROR " in line)
    return f"{code}: {line.partition(' ERROR ')[2].replace(f'{folder}/', '')}"


def _damaged(form: str, change: Callable[[Path], object], *words: str) -> Callable[[Path], str]:
    """Return what writes a volume, changes its files, and runs a job on it."""

    def observe(folder: Path) -> str:
        write(form, folder / "a", _CHANNELS)
        change(folder / "a")
        return _run(folder, "--source", uri_of(form, folder / "a"), *words)

    return observe


def _cut(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (file,) = folder.glob(name)
        file.write_bytes(file.read_bytes()[:-9])

    return change


def _said(name: str, **values: Any) -> Callable[[Path], object]:
    """Return what changes values of JSON metadata."""

    def change(folder: Path) -> None:
        for file in folder.glob(name):
            file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def _one_chunk(folder: Path) -> None:
    """Let a block of N5 say that it has one voxel, which would be repeated."""
    (file,) = folder.glob("PSD95/0/0/0")
    file.write_bytes(bytes((0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1)) + gzip.compress(b"\t"))


def _two_shapes(folder: Path) -> str:
    for depth, name in ((5, "PSD95"), (6, "SYNAPSIN")):
        tifffile.imwrite(folder / f"{name}.tif", np.ones((depth, 8, 8), np.uint8))
    return _run(folder, *(word for name in _CHANNELS for word in ("--channel", f"{name}={folder}/{name}.tif")))


def _two_sizes(folder: Path) -> str:
    for name, size in (("PSD95", 0.07), ("SYNAPSIN", 0.05)):
        metadata = {"axes": "ZYX", "spacing": size, "unit": "um"}
        tifffile.imwrite(
            folder / f"{name}.tif", np.ones((5, 8, 8), np.uint8), imagej=True, metadata=metadata, resolution=(10, 10)
        )
    return _run(folder, *(word for name in _CHANNELS for word in ("--channel", f"{name}={folder}/{name}.tif")))


def _of_floats(value: float, *words: str) -> Callable[[Path], str]:
    def observe(folder: Path) -> str:
        for name in _CHANNELS:
            voxels = np.full((4, 8, 8), 0.5, np.float32)
            if name == "SYNAPSIN":
                voxels[3, 2, 1] = value
            array = zarr.create_array(
                folder / "a.zarr" / name, shape=voxels.shape, dtype="float32", dimension_names=list("zyx")
            )
            array[:] = voxels
        zarr.create_group(folder / "a.zarr")
        return _run(folder, "--source", str(folder / "a.zarr"), "--voxel-size-nm", "70,100,100", *words)

    return observe


_NO_BUCKET = b"<Error><Code>NoSuchBucket</Code></Error>"


class _Store(BaseHTTPRequestHandler):
    """Answers every request alike, as Google's store does."""

    status, body = HTTPStatus.NOT_FOUND, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


def _in_bucket(uri: str, status: HTTPStatus, body: bytes = b"") -> Callable[[Path], str]:
    """Return what runs a job on a bucket whose store answers so."""

    def observe(folder: Path) -> str:
        handler = type("Store", (_Store,), {"status": status, "body": body})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}"
            alone = {"CLOUDSDK_CONFIG": "/dev/null", "GOOGLE_APPLICATION_CREDENTIALS": "", "NO_GCE_CHECK": "true"}
            with mock.patch.dict("os.environ", STORAGE_EMULATOR_HOST=url, NO_PROXY="127.0.0.1", **alone):
                found = _run(folder, "--source", uri)
            server.shutdown()
        return re.sub(r"/(zarr\.json|\.z\w+)", "", found.replace(url, "STORE"))  # several are requested at once

    return observe


CASES = (
    Case(
        "n5-missing-level",
        "level 3 of an N5 volume without levels",
        _BEFORE,
        "2: level 3 of n5://a/PSD95: it is one dataset without levels. Leave --resolution out.",
        _damaged("n5", Path.exists, "--resolution", "3"),
    ),
    Case(
        "precomputed-missing-level",
        "level 3 of a precomputed volume of one",
        _BEFORE,
        "2: level 3 of precomputed://a/PSD95: it has the level 0 alone. Give another --resolution.",
        _damaged("precomputed", Path.exists, "--resolution", "3"),
    ),
    Case(
        "n5-nothing-there",
        "n5:// of a folder that does not exist",
        _BEFORE,
        "2: b: there is no such file. Check the path.",
        lambda folder: _run(folder, "--source", f"n5://{folder}/b"),
    ),
    Case(
        "precomputed-nothing-there",
        "precomputed:// of a folder that does not exist",
        _BEFORE,
        "2: b: there is no such file. Check the path.",
        lambda folder: _run(folder, "--source", f"precomputed://{folder}/b"),
    ),
    Case(
        "n5-cut-chunk",
        "a block of N5 that is cut short",
        _BEFORE,
        (
            "65: chunk PSD95/0/0/0 of n5://a/PSD95: the file is damaged, cut short, or not what its "
            "name says (Error -5 while decompressing data: incomplete or truncated stream). Copy or "
            "write it anew."
        ),
        _damaged("n5", _cut("PSD95/0/0/0")),
    ),
    Case(
        "n5-repeated-chunk",
        "a block of N5 whose header says one voxel",
        _BEFORE,
        (
            "65: z 0:4 y 0:40 x 0:40 of n5://a/PSD95: the file is damaged, cut short, or not what its "
            "name says (the chunk (0, 0, 0) has the shape (1, 1, 1)). Copy or write it anew."
        ),
        _damaged("n5", _one_chunk),
    ),
    Case(
        "precomputed-cut-chunk",
        "a chunk of a precomputed volume that is cut short",
        _BEFORE,
        (
            "65: chunk PSD95/100_100_70/5-37_6-38_7-9 of precomputed://a/PSD95: the file is damaged, "
            "cut short, or not what its name says (cannot reshape array of size 2039 into shape "
            "(1,2,32,32)). Copy or write it anew."
        ),
        _damaged("precomputed", _cut("PSD95/*/5-37_6-38_7-9")),
    ),
    Case(
        "precomputed-cut-shard",
        "a shard that is cut short",
        _BEFORE,
        (
            "65: chunk PSD95/100_100_70/5-37_6-38_7-9 of precomputed://a/PSD95: the file is damaged, "
            "cut short, or not what its name says (PSD95/100_100_70/0.shard ends before byte 213). Copy "
            "or write it anew."
        ),
        _damaged("shards", _cut("PSD95/*/0.shard")),
    ),
    Case(
        "n5-compression",
        "N5 with the compression lz4",
        _BEFORE,
        (
            "65: n5://a/PSD95: its compression is lz4; raw, gzip, bzip2, xz, blosc and zstd are read. "
            "Save it with one of them."
        ),
        _damaged("n5", _said("*/attributes.json", compression={"type": "lz4"})),
    ),
    Case(
        "precomputed-no-json",
        "an info file that is no JSON",
        _BEFORE,
        (
            "65: precomputed://a/PSD95: the file is damaged, cut short, or not what its name says "
            "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1)). Copy or "
            "write it anew."
        ),
        _damaged("precomputed", lambda folder: (folder / "PSD95" / "info").write_text("{")),
    ),
    Case(
        "no-bucket-zarr",
        "gs:// of a bucket that does not exist, as Zarr",
        _BEFORE,
        "2: reading STORE/lab/a.zarr: there is no bucket lab. Check the name of the bucket.",
        _in_bucket("gs://lab/a.zarr", HTTPStatus.NOT_FOUND, _NO_BUCKET),
    ),
    Case(
        "no-bucket-precomputed",
        "gs:// of a bucket that does not exist, as precomputed",
        _BEFORE,
        "2: reading STORE/lab/a/info: there is no bucket lab. Check the name of the bucket.",
        _in_bucket("precomputed://gs://lab/a", HTTPStatus.NOT_FOUND, _NO_BUCKET),
    ),
    Case(
        "forbidden-zarr",
        "a bucket that answers 403, as Zarr",
        _BEFORE,
        (
            "77: reading STORE/lab/a.zarr: the server answered 403 Forbidden, and there are no "
            "credentials. Log in: gcloud auth application-default login, or the path of a key in "
            "GOOGLE_APPLICATION_CREDENTIALS."
        ),
        _in_bucket("gs://lab/a.zarr", HTTPStatus.FORBIDDEN),
    ),
    Case(
        "forbidden-n5",
        "a bucket that answers 403, as N5",
        _BEFORE,
        (
            "77: reading STORE/lab/a/attributes.json: the server answered 403 Forbidden, and there are "
            "no credentials. Log in: gcloud auth application-default login, or the path of a key in "
            "GOOGLE_APPLICATION_CREDENTIALS."
        ),
        _in_bucket("n5://gs://lab/a", HTTPStatus.FORBIDDEN),
    ),
    Case(
        "two-shapes",
        "--channel with 5 and with 6 slices",
        _NO_OPTION,
        (
            "65: PSD95=PSD95.tif SYNAPSIN=SYNAPSIN.tif: PSD95 has the shape (5, 8, 8), and SYNAPSIN (6, "
            "8, 8). Give channels of one shape (z, y, x)."
        ),
        _two_shapes,
    ),
    Case(
        "two-voxel-sizes",
        "--channel with sections of 70 and of 50 nm",
        _NO_OPTION,
        (
            "65: PSD95=PSD95.tif SYNAPSIN=SYNAPSIN.tif: voxels of PSD95 have 70,100,100 nm (z, y, x), "
            "and those of SYNAPSIN 50,100,100. Give channels of one voxel size."
        ),
        _two_sizes,
    ),
    Case(
        "floats",
        "channels of float32",
        "65: it holds float32, not whole numbers. Save whole numbers as integers as they are",
        (
            "65: a.zarr/PSD95: it holds float32, not whole numbers. Give --scale-float if they are "
            "within 0 to 1; save whole numbers as uint16."
        ),
        _of_floats(0.5),
    ),
    Case(
        "nan",
        "--scale-float where a value is NaN",
        _NO_OPTION,
        (
            "65: a.zarr/SYNAPSIN: the value at z 3 y 2 x 1 is nan, not within 0 to 1. Save whole "
            "numbers as uint16, or scale the values to 0 to 1."
        ),
        _of_floats(float("nan"), "--scale-float"),
    ),
    Case(
        "float-above",
        "--scale-float where a value is 1.5",
        _NO_OPTION,
        (
            "65: a.zarr/SYNAPSIN: the value at z 3 y 2 x 1 is 1.5, not within 0 to 1. Save whole "
            "numbers as uint16, or scale the values to 0 to 1."
        ),
        _of_floats(1.5, "--scale-float"),
    ),
)
