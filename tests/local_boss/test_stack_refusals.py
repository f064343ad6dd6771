"""What is no stack is refused in plain words, and runs nothing."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nd_synapse.errors import DataError, NDSynapseError, StorageError, UnknownNameError, UsageError
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import Stack
from nd_synapse.files.stacks import open_stack
from tests.local_boss.stack_writers import (
    GREY,
    write_deflate,
    write_npy,
    write_ome,
    write_one_page_for_all,
    write_plain,
    write_slices,
    write_zarr,
    write_zarr2,
)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return [path]


def bad_slices(folder):
    for z, shape in enumerate([(5, 6), (5, 7)]):
        tifffile.imwrite(folder / f"s{z}.tif", np.zeros(shape, np.uint8), **GREY)
    return sorted(folder.glob("*.tif"))


def bad_pages(folder):
    with tifffile.TiffWriter(folder / "pages.tif") as writer:
        for shape in ((5, 6), (5, 6), (6, 6)):
            writer.write(np.zeros(shape, np.uint8), **GREY)
    return [folder / "pages.tif"]


def bad_slices_types(folder):
    for z, dtype in enumerate([np.uint8, np.uint16]):
        tifffile.imwrite(folder / f"s{z}.tif", np.zeros((5, 6), dtype), **GREY)
    return sorted(folder.glob("*.tif"))


def bad_two_stacks(folder):
    for z in range(2):
        tifffile.imwrite(folder / f"s{z}.tif", np.zeros((3, 5, 6), np.uint8), **GREY)
    return sorted(folder.glob("*.tif"))


def bad_rgb(folder):
    tifffile.imwrite(folder / "rgb.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    return [folder / "rgb.tif"]


def bad_rgb_slices(folder):
    for z in range(2):
        tifffile.imwrite(folder / f"rgb{z}.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    return sorted(folder.glob("*.tif"))


def bad_channels(folder):
    tifffile.imwrite(folder / "two.tif", np.zeros((4, 2, 5, 6), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    return [folder / "two.tif"]


def bad_float(folder):
    tifffile.imwrite(folder / "float.tif", np.zeros((3, 5, 6), np.float32), **GREY)
    return [folder / "float.tif"]


def bad_text(folder):
    (folder / "notes.tif").write_text("these are my notes\n")
    return [folder / "notes.tif"]


def bad_empty(folder):
    (folder / "empty.tif").write_bytes(b"")
    return [folder / "empty.tif"]


def bad_codec(folder):
    tifffile.imwrite(folder / "lzw.tif", np.zeros((3, 5, 6), np.uint8), **GREY)
    with tifffile.TiffFile(folder / "lzw.tif", mode="r+") as tif:
        for page in tif.pages:
            page.tags["Compression"].overwrite(5)  # type: ignore[union-attr] # LZW
    return [folder / "lzw.tif"]


def bad_white(folder):
    tifffile.imwrite(folder / "white.tif", np.zeros((3, 5, 6), np.uint8), photometric="miniswhite", metadata=None)
    return [folder / "white.tif"]


def bad_row_npy(folder):
    return write_npy(folder, np.zeros(6, np.uint8))


def bad_no_voxels(folder):
    array = zarr.create_array(folder / "none.zarr", shape=(0, 5, 6), dtype="u1", chunks=(1, 5, 6))
    assert array.shape[0] == 0
    return [folder / "none.zarr"]


def bad_objects(folder):
    np.save(folder / "objects.npy", np.array([[[{"a": 1}]]], dtype=object))
    return [folder / "objects.npy"]


def bad_cut_npy(folder):
    return cut(write_npy(folder, np.ones((3, 50, 60), np.uint8))[0], 0.7)


def bad_folder(folder):
    return [folder]


def bad_group(folder):
    zarr.create_group(folder / "group.zarr").create_array("labels", shape=(3, 4, 5), dtype="u1")
    return [folder / "group.zarr"]


def bad_group_outside(folder):
    write_zarr(folder, np.ones((3, 4, 5), np.uint8))
    group = zarr.create_group(folder / "group.zarr")
    group.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "../stack.zarr"}]}]}
    return [folder / "group.zarr"]


def bad_chunk(folder):
    (path,) = write_zarr(folder, np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    next(file for file in (path / "c").rglob("*") if file.is_file()).write_bytes(b"garbage")
    return [path]


def bad_zarr_metadata(folder):
    (path,) = write_zarr(folder, np.ones((3, 4, 5), np.uint8))
    (path / "zarr.json").write_text("{nope")
    return [path]


def bad_zarr_size(folder):
    (path,) = write_zarr(folder, np.ones((3, 4, 5), np.uint8))
    document = json.loads((path / "zarr.json").read_text())
    document["shape"] = document["chunk_grid"]["configuration"]["chunk_shape"] = [100_000, 100_000, 100]
    (path / "zarr.json").write_text(json.dumps(document))
    return [path]


def bad_slice_size(folder):
    tifffile.imwrite(folder / "huge.tif", np.zeros((3, 5, 6), np.uint8), **GREY)
    with tifffile.TiffFile(folder / "huge.tif", mode="r+") as tif:
        for page in tif.pages:
            for tag in ("ImageWidth", "ImageLength"):
                page.tags[tag].overwrite(1_000_000)  # type: ignore[union-attr] # pages have tags
    return [folder / "huge.tif"]


BAD = {
    "slices of unequal shape": (bad_slices, DataError, "5, 7"),
    "slices of unequal type": (bad_slices_types, DataError, "uint16"),
    "pages of unequal shape": (bad_pages, DataError, "unequal shape"),
    "several stacks": (bad_two_stacks, DataError, "3 pages"),
    "a colour image": (bad_rgb, DataError, "colour"),
    "colour slices": (bad_rgb_slices, DataError, "colour"),
    "two channels": (bad_channels, DataError, "several channels"),
    "float": (bad_float, DataError, "float32, not whole numbers"),
    "text": (bad_text, DataError, "not a TIFF"),
    "an empty file": (bad_empty, DataError, "damaged"),
    "a damaged LZW stream": (bad_codec, DataError, "damaged"),
    "white is zero": (bad_white, DataError, "white as 0"),
    "a row": (bad_row_npy, DataError, "not z, y, x"),
    "no voxels": (bad_no_voxels, DataError, "no voxel"),
    "objects": (bad_objects, DataError, "objects"),
    "a cut npy": (bad_cut_npy, DataError, "damaged"),
    "a plain folder": (bad_folder, UsageError, r"\*\.tif"),
    "a zarr group": (bad_group, DataError, "labels"),
    "a zarr group that points outside": (bad_group_outside, DataError, "damaged"),
    "a damaged zarr chunk": (bad_chunk, DataError, "damaged"),
    "damaged zarr metadata": (bad_zarr_metadata, DataError, "damaged"),
    "zarr chunks beyond memory": (bad_zarr_size, DataError, "chunks"),
    "slices beyond memory": (bad_slice_size, DataError, "GiB|announces"),
    "no file": (lambda folder: [], UsageError, "no file"),
    "a name too long to be a file": (lambda folder: [folder / ("z" * 300)], StorageError, "too long"),
    "a missing file": (lambda folder: [folder / "nope.tif"], UnknownNameError, "no such file"),
}


@pytest.mark.parametrize(("make", "kind", "words"), BAD.values(), ids=BAD)
def test_what_is_no_stack_is_refused_in_plain_words(tmp_path, make, kind, words):
    paths = make(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        list(open_stack(paths).slabs(16))
    assert isinstance(caught.value, NDSynapseError)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="directory"), reading(tmp_path):
        tmp_path.open("rb")


def test_too_little_memory_is_called_by_its_name(tmp_path):
    def fetch(start, stop):
        return np.empty((stop - start, 2**31, 2**31), np.uint8)

    with pytest.raises(DataError, match="no memory"):
        Stack("large", (1, 2**31, 2**31), np.dtype(np.uint8), fetch).read(0, 1)


@pytest.mark.parametrize("write", [write_plain, write_deflate, write_ome, write_one_page_for_all, write_slices])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 0.98))
def test_for_any_cut_a_short_tiff_is_refused_or_whole(tmp_path, write, keep):
    """The reader library drops the pages behind a cut with a log line: a volume would lose its last slices."""
    volume = np.random.default_rng(1).integers(1, 255, (6, 30, 40)).astype(np.uint8)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        paths = write(Path(folder), volume)
        cut(paths[-1], keep)
        try:
            stack = open_stack(paths)
            read = stack.read(0, stack.shape[0])
        except DataError:
            return
        assert np.array_equal(read, volume)


def test_a_circle_of_pages_ends(tmp_path):
    path = tmp_path / "circle.tif"
    tifffile.imwrite(path, np.zeros((3, 5, 6), np.uint8), **GREY)
    with tifffile.TiffFile(path) as tif:
        first, last = tif.pages[0].offset, tif.pages.next_page_offset
        assert len(tif.pages) == 3
    data = bytearray(path.read_bytes())
    data[last : last + 4] = first.to_bytes(4, "little")  # type: ignore[operator] # an offset is a number
    path.write_bytes(data)
    with pytest.raises(DataError, match="circle"):
        open_stack([path])


class Touch:
    """Unpickles by making a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_no_pickle_in_a_zarr_array_is_run(tmp_path):
    (path,) = write_zarr2(tmp_path, np.ones((3, 4, 4), np.uint8))
    document = json.loads((path / ".zarray").read_text())
    document |= {"compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}
    (path / ".zarray").write_text(json.dumps(document))
    (path / "0.0.0").write_bytes(pickle.dumps(Touch(tmp_path / "run")))
    with pytest.raises(DataError, match="pickle"):
        open_stack([path])
    assert not (tmp_path / "run").exists()
