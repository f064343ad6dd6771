"""Image stacks for the local BOSS: TIFF, ``.npy``, Zarr, and the names of files that are a slice each."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile
import zarr
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.files import tiff, zarr_arrays
from nd_synapse.local_boss import slabs
from nd_synapse.local_boss import stacks as local_stacks
from tests.fuzz.cases import mutated_bytes, mutated_json, mutated_text
from tests.fuzz.judge import Target

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7))
types = st.sampled_from([np.uint8, np.uint16, np.uint64, np.bool_])
bad_types = st.sampled_from([np.int16, np.float32, np.float64, np.uint32, np.int64, np.complex64])
bad_shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)


def voxels(shape: tuple[int, ...], dtype: Any, start: int) -> NDArray[Any]:
    """Return an array that is not the same everywhere."""
    return (np.arange(start, start + int(np.prod(shape))) % 200).reshape(shape).astype(dtype)


volumes = st.builds(voxels, shapes, types, st.integers(0, 99))
bad_volumes = st.builds(voxels, shapes, bad_types, st.just(1)) | st.builds(voxels, bad_shapes, types, st.just(1))


@contextmanager
def small_memory() -> Iterator[None]:
    """Let a slice have a megabyte: whatever a damaged header announces, a case may not take the machine's memory."""
    with (
        mock.patch.object(slabs, "MAX_SLICE_BYTES", 2**20),
        mock.patch.object(zarr_arrays, "_CHUNK_BYTES", 2**20),
        mock.patch.object(tiff, "_PADDING_BYTES", 2**20),
    ):
        yield


def open_stack(*paths: Path) -> None:
    with small_memory():
        stack = local_stacks.open_stack(paths)
        for start in range(min(stack.shape[0], 8)):
            assert stack.read(start, start + 1).shape == (1, *stack.shape[1:])


# --- TIFF ---------------------------------------------------------------------------------------------------------

tiff_options = st.fixed_dictionaries(
    {
        "bigtiff": st.booleans(),
        "byteorder": st.sampled_from("<>"),
        "compression": st.sampled_from([None, "zlib"]),
        "rowsperstrip": st.integers(1, 9),
    }
) | st.sampled_from([{"imagej": True}, {"ome": True}])


def tiff_of(array: NDArray[Any], options: dict[str, Any]) -> bytes:
    """Return a TIFF of an array; ImageJ and OME have no 64 bits."""
    if (options.get("imagej") or options.get("ome")) and array.dtype not in (np.uint8, np.uint16, np.float32):
        options = {}
    if array.dtype == np.bool_ or array.size == 0:
        array = array.astype(np.uint8)
        options = {"byteorder": "<"}
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack", **options)
    return file.getvalue()


def _colours(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.stack([array.astype(np.uint8)] * 3, axis=-1), photometric="rgb")
    return file.getvalue()


def _unequal(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in (array[0], array[0, :1], array[0]):
            writer.write(page.astype(np.uint8), photometric="minisblack")
    return file.getvalue()


def _directories(body: bytes | bytearray) -> list[int]:
    """Return where the directories of a classic TIFF are."""
    found: list[int] = []
    (at,) = struct.unpack_from("<I", body, 4)
    while at:
        found.append(at)
        (entries,) = struct.unpack_from("<H", body, at)
        (at,) = struct.unpack_from("<I", body, at + 2 + 12 * entries)
    return found


@st.composite
def mutated_tags(draw: st.DrawFn, array: NDArray[Any]) -> bytes:
    """A classic TIFF of which one entry of a directory has another tag, type, count or value."""
    body = bytearray(tiff_of(array, {"byteorder": "<", "compression": draw(st.sampled_from([None, "zlib"]))}))
    directories = _directories(body)
    at = draw(st.sampled_from(directories))
    (entries,) = struct.unpack_from("<H", body, at)
    entry = at + 2 + 12 * draw(st.integers(0, entries - 1))
    place, form = draw(st.sampled_from([(0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"), (8, "<I"), (8, "<I"), (8, "<I")]))
    largest = 2**16 - 1 if form == "<H" else 2**32 - 1
    value = draw(st.integers(0, 20) | st.integers(250, 350) | st.integers(0, largest) | st.sampled_from([32773, 50000]))
    struct.pack_into(form, body, entry + place, min(value, largest))
    return bytes(body)


@st.composite
def tiff_bodies(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["right", "right", "right", "wrong", "colours", "unequal", "tags", "tags", "bytes"]))
    array = draw(volumes)
    if kind == "wrong":
        array = draw(bad_volumes)
        return tiff_of(array if array.size and array.ndim > 1 else voxels((2, 2, 3, 4), np.uint8, 0), {})
    if kind == "colours":
        return _colours(array)
    if kind == "unequal":
        return _unequal(voxels((1, 3, 4), np.uint8, 0))
    if kind == "tags":
        return draw(mutated_tags(array))
    body = tiff_of(array, draw(tiff_options))
    return draw(mutated_bytes([body])) if kind == "bytes" else body


def read_tiff(body: bytes, folder: Path) -> None:
    path = folder / "stack.tif"
    path.write_bytes(body)
    open_stack(path)


def read_tiffs(bodies: list[bytes], folder: Path) -> None:
    paths = [folder / f"slice_{number}.tif" for number in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    open_stack(*paths)


@st.composite
def slice_bodies(draw: st.DrawFn) -> list[bytes]:
    """Files of a slice each, of which one is another kind in half of the cases."""
    shape, dtype = draw(shapes), draw(st.sampled_from([np.uint8, np.uint16]))
    bodies = [tiff_of(voxels(shape[1:], dtype, n), {}) for n in range(draw(st.integers(2, 4)))]
    if draw(st.booleans()):
        bodies[draw(st.integers(0, len(bodies) - 1))] = draw(tiff_bodies())
    return bodies


# --- .npy ---------------------------------------------------------------------------------------------------------


def npy_of(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


HEADER = {"descr": "|u1", "fortran_order": False, "shape": [2, 3, 4]}


def npy_with(header: Any, voxels_: bytes) -> bytes:
    """Return a .npy file with a header that somebody else wrote."""
    if isinstance(header, dict) and isinstance(header.get("shape"), list):
        header = {**header, "shape": tuple(header["shape"])}
    text = f"{header!r}\n".encode("latin-1", "replace")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 2**16 - 1)) + text + voxels_


npys = (
    volumes.map(npy_of)
    | volumes.map(lambda array: npy_of(np.asfortranarray(array)))
    | volumes.map(lambda array: npy_of(array[None]))
    | bad_volumes.map(npy_of)
    | st.just(npy_of(np.array([None], object)))
    | mutated_json([HEADER]).map(lambda header: npy_with(header, bytes(24)))
    | volumes.flatmap(lambda array: mutated_bytes([npy_of(array)]))
)


def read_npy(body: bytes, folder: Path) -> None:
    path = folder / "stack.npy"
    path.write_bytes(body)
    open_stack(path)


# --- Zarr ---------------------------------------------------------------------------------------------------------


@cache
def zarr_files(form: int, group: bool) -> dict[str, bytes]:
    """The files of a small Zarr array, or of an image in a group."""
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"shape": (2, 3, 4), "chunks": (1, 3, 4), "dtype": "uint8"}
        if group:
            root = zarr.create_group(folder, zarr_format=form)  # type: ignore[arg-type]
            root.attrs["multiscales"] = [{"axes": [{"name": axis} for axis in "zyx"], "datasets": [{"path": "0"}]}]
            array = root.create_array("0", **options)
        else:
            array = zarr.create_array(folder, zarr_format=form, **options)  # type: ignore[arg-type]
        array[...] = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


JSON_FILES = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


@st.composite
def zarrs(draw: st.DrawFn) -> dict[str, bytes]:
    """A Zarr array of which one file is changed."""
    files = dict(zarr_files(draw(st.sampled_from([2, 3])), draw(st.booleans())))
    name = draw(st.sampled_from(sorted(files)))
    if name.rpartition("/")[2] in JSON_FILES:
        files[name] = draw(mutated_json([json.loads(files[name])]).map(lambda v: json.dumps(v).encode()))
    else:
        files[name] = draw(mutated_bytes([files[name]]))
    if draw(st.integers(0, 9)) == 0:
        del files[name]
    return files


def write_files(root: Path, files: dict[str, bytes]) -> None:
    """Make a folder anew."""
    if root.exists():
        shutil.rmtree(root)
    root.mkdir()
    for name, body in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)


def read_zarr(files: dict[str, bytes], folder: Path) -> None:
    write_files(folder / "array.zarr", files)
    open_stack(folder / "array.zarr")


# --- names of slices ----------------------------------------------------------------------------------------------


@st.composite
def file_names(draw: st.DrawFn) -> list[str]:
    """Names that count slices, of which one is changed in half of the cases."""
    stem, width, step = draw(st.text("abz-_. ", max_size=4)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    first = draw(st.integers(0, 999))
    files = [f"{stem}{first + n * step:0{width}}.tif" for n in range(draw(st.integers(2, 5)))]
    place = draw(st.integers(0, len(files) - 1))
    match draw(st.sampled_from(["", "", "", "text", "gap", "twice"])):
        case "text":
            files[place] = draw(mutated_text([files[place]]))
        case "gap":
            files.append(f"{stem}{first + 99 * step:0{width}}.tif")
        case "twice":
            files.append(f"{stem}{first + place * step:0{width + 1}}.tif")
    return draw(st.permutations(files))


def order_files(files: list[str], folder: Path) -> None:
    ordered = local_stacks.natural_order([Path("stack") / name for name in files])
    assert sorted(ordered) == sorted(Path("stack") / name for name in files)


TARGETS = [
    Target("TIFF stacks", tiff_bodies(), read_tiff, 5, results=0.3, places=9),
    Target("slices in TIFF files", slice_bodies(), read_tiffs, 2, results=0.35, places=4),
    Target(".npy stacks", npys, read_npy, 3, results=0.35, places=4),
    Target("Zarr arrays", zarrs(), read_zarr, 2, results=0.22, places=5),
    Target("names of slices", file_names(), order_files, 2, results=0.4, places=3),
]
