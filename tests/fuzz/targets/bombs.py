"""Files that unpack to far more than what is read of them needs, or go on without end."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import blosc
import numcodecs
import zarr
from hypothesis import strategies as st

import pymeda_driver
from nd_synapse.blocks.store import Store
from nd_synapse.evaluate import truth
from nd_synapse.evaluate.files import read_volume
from nd_synapse.job import manifest
from tests.fuzz.judge import Target
from tests.fuzz.targets.stacks import open_stack
from tests.hostile_files import tiff_of

BOMB_BYTES = 2**22
"""What a bomb unpacks to, or goes on for: enough to be seen, and little enough for a machine that meets one."""

BOMB_PEAK_BYTES = 3 * 2**20
"""Memory that may be taken of it: what is read at a time, and what is told of it."""

READERS = ["TIFF", "evaluated TIFF", "Zarr 2", "Zarr 3", "table", "truth", "run.json", "block"]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda body: zlib.compress(body, 9),
    "gzip": lambda body: gzip.compress(body, 9),
    "lzma": lambda body: lzma.compress(body, preset=0),
    "bz2": bz2.compress,
    "blosc": lambda body: blosc.compress(body, typesize=1),
    "zstd": lambda body: bytes(numcodecs.Zstd().encode(body)),
    "as it is": lambda body: body,
}


@st.composite
def bombs(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """What it is read as, how it is packed, and the bytes, which are far more than what is read needs."""
    packer = draw(st.sampled_from(sorted(PACKERS)))
    piece = draw(st.binary(min_size=1, max_size=9) | st.sampled_from([b"\0", b",", b"1,", b'"\n",', b"[],", b"{"]))
    body = (piece * (BOMB_BYTES // len(piece)))[: draw(st.integers(BOMB_BYTES - 9, BOMB_BYTES))]
    reader = draw(st.sampled_from(READERS))
    return reader, packer, PACKERS[packer](body)


def meet_bomb(case: tuple[str, str, bytes], folder: Path) -> None:
    """Read a bomb; whether it is refused or not, it may not be held."""
    reader, packer, body = case
    run = bomb_as(reader, packer, body, folder)
    tracemalloc.start()
    try:
        run()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < BOMB_PEAK_BYTES + 2 * (len(body) if reader == "run.json" else 0), f"{reader}: {peak} bytes"


def bomb_as(reader: str, packer: str, body: bytes, folder: Path) -> Callable[[], object]:
    """Write a bomb where it is read from, and return what reads it."""
    if "TIFF" in reader:
        path = folder / "bomb.tif"
        tiff_of(path, body, {"zlib": 8, "lzma": 34925, "zstd": 50000}.get(packer, 32773))
        return lambda: open_stack(path) if reader == "TIFF" else read_volume(path)
    if "Zarr" in reader:
        root, form = folder / "bomb.zarr", int(reader[-1])
        shutil.rmtree(root, ignore_errors=True)
        array = zarr.create_array(root, shape=(1, 4, 4), chunks=(1, 4, 4), dtype="uint8", zarr_format=form)  # type: ignore[arg-type]
        array[...] = 1
        name = root / (".zarray" if form == 2 else "zarr.json")
        said = json.loads(name.read_bytes())
        if packer != "as it is":
            said |= {"compressor": {"id": packer}} if form == 2 else {}
            if form == 3 and packer in ("gzip", "zstd", "blosc"):
                chosen = {"gzip": zarr.codecs.GzipCodec(), "zstd": zarr.codecs.ZstdCodec()}.get(packer)
                said["codecs"][1:] = [(chosen or zarr.codecs.BloscCodec(typesize=1)).to_dict()]
        name.write_text(json.dumps(said))
        (root / ("0.0.0" if form == 2 else "c/0/0/0")).write_bytes(body)
        return lambda: open_stack(root)
    if reader == "block":
        store = Store(folder)
        return lambda: store.adopt("parts", "a", body, 2**16)
    path = folder / ("run.json" if reader == "run.json" else "bomb.csv")
    path.write_bytes(body)
    read = {
        "table": lambda: pymeda_driver.read_table(path),
        "truth": lambda: truth.read_points(path, (70.0, 100.0, 100.0), scored=True),
        "run.json": lambda: manifest.read_run_file(folder),
    }
    return read[reader]


TARGETS = [Target("bombs", bombs(), meet_bomb, 1, results=0.0, places=3)]
