"""Stacks: every format gives back the voxels that were written, and what is no stack is refused in plain words."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nd_synapse.errors import DataError, NDSynapseError, StorageError, UnknownNameError, UsageError
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import Stack
from nd_synapse.files.stacks import natural_order, open_channels, open_stack, stack_of_array

REPOSITORY = Path(__file__).parents[2]
GREY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}


def write_plain(folder, volume):
    tifffile.imwrite(folder / "plain.tif", volume, **GREY)
    return [folder / "plain.tif"]


def write_deflate(folder, volume):
    tifffile.imwrite(
        folder / "deflate.tif",
        volume,
        compression="zlib",
        predictor=volume.dtype.kind == "u" and volume.itemsize < 8,
        **GREY,
    )
    return [folder / "deflate.tif"]


def write_tiled_big(folder, volume):
    tifffile.imwrite(folder / "tiled.tif", volume, tile=(16, 16), compression="zlib", bigtiff=True, **GREY)
    return [folder / "tiled.tif"]


def write_big_endian(folder, volume):
    tifffile.imwrite(folder / "motorola.tif", volume, byteorder=">", **GREY)
    return [folder / "motorola.tif"]


def write_one_page_for_all(folder, volume):
    """As ImageJ writes stacks above 4 GiB: one page, and the slices behind each other."""
    # tifffile packs bits in pages of their own, and writes what is one pixel wide on its side
    assume(volume.dtype != np.bool_ and volume.shape[2] > 1)
    description: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(folder / "contiguous.tif", volume, truncate=True, **description)
    return [folder / "contiguous.tif"]


def write_ome(folder, volume):
    # the OME schema has no uint64, and tifffile writes no OME image that is one pixel wide
    assume(volume.dtype != np.uint64 and min(volume.shape[1:]) > 4)
    form: dict[str, Any] = {"photometric": "minisblack", "metadata": {"axes": "TZCYX"}, "compression": "zlib"}
    tifffile.imwrite(folder / "stack.ome.tif", volume[None, :, None], **form)
    return [folder / "stack.ome.tif"]


def write_slices(folder, volume):
    paths = []
    for z, one in enumerate(volume):
        paths.append(folder / f"PSD95_{z}.tif")
        tifffile.imwrite(paths[-1], one, **GREY)
    return sorted(paths)  # by letters: slice 10 stands before slice 2


def write_npy(folder, volume):
    np.save(folder / "stack.npy", volume)
    return [folder / "stack.npy"]


def write_npy_fortran(folder, volume):
    np.save(folder / "stack.npy", np.asfortranarray(volume[None]))
    return [folder / "stack.npy"]


def write_npy_big_endian(folder, volume):
    np.save(folder / "stack.npy", volume.astype(volume.dtype.newbyteorder(">")))
    return [folder / "stack.npy"]


def write_zarr2(folder, volume):
    return write_zarr(folder, volume, zarr_format=2)


def write_zarr(folder, volume, zarr_format=3):
    chunks = tuple(min(4, n) for n in volume.shape)
    array = zarr.create_array(
        folder / "stack.zarr", shape=volume.shape, chunks=chunks, dtype=volume.dtype, zarr_format=zarr_format
    )
    array[:] = volume
    return [folder / "stack.zarr"]


def write_ome_zarr(folder, volume):
    group = zarr.create_group(folder / "image.zarr")
    group.create_array("full", shape=(1, 1, *volume.shape), dtype=volume.dtype)[:] = volume[None, None]
    group.create_array("half", shape=(1, 1, 1, 1, 1), dtype=volume.dtype)
    axes = [{"name": name} for name in "tczyx"]
    scales = [{"axes": axes, "datasets": [{"path": "full"}, {"path": "half"}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    return [folder / "image.zarr"]


def write_ome_zarr2(folder, volume):
    group = zarr.create_group(folder / "image.zarr", zarr_format=2)
    group.create_array("0", shape=volume.shape, dtype=volume.dtype)[:] = volume
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    return [folder / "image.zarr"]


WRITERS = {
    writer.__name__.removeprefix("write_"): writer
    for writer in (
        write_plain,
        write_deflate,
        write_tiled_big,
        write_big_endian,
        write_one_page_for_all,
        write_ome,
        write_slices,
        write_npy,
        write_npy_fortran,
        write_npy_big_endian,
        write_zarr,
        write_zarr2,
        write_ome_zarr,
        write_ome_zarr2,
    )
}


@st.composite
def volumes(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.uint64, np.bool_]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return (rng.random(shape) * (2 if dtype is np.bool_ else np.iinfo(dtype).max)).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(volume=volumes(), depth=st.integers(1, 20), origin=st.integers(0, 40))
def test_for_any_volume_a_stack_gives_back_what_was_written(tmp_path, write, volume, depth, origin):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        stack = open_stack(write(Path(folder), volume))
        assert stack.shape == volume.shape
        assert stack.dtype == volume.dtype
        starts, pieces = zip(*stack.slabs(depth, origin), strict=True)
        assert np.array_equal(np.concatenate(pieces), volume)
        assert all(piece.dtype == volume.dtype and len(piece) <= depth for piece in pieces)
        assert all((start + origin) % depth == 0 for start in starts[1:])


def test_numbers_in_names_order_the_slices():
    names = ["a_10.tif", "a_9.tif", "a_08.tif"]
    assert [path.name for path in natural_order([Path(name) for name in names])] == ["a_08.tif", "a_9.tif", "a_10.tif"]


def test_slices_may_count_in_steps_and_sessions():
    assert natural_order([Path("s20.tif"), Path("s0.tif"), Path("s10.tif")])[0].name == "s0.tif"
    two_numbers = [Path(f"ribbon{r}_{z}.tif") for r, z in itertools.product((2, 1), (0, 1))]
    assert natural_order(two_numbers)[0].name == "ribbon1_0.tif"


@given(
    first=st.integers(-20, 20),
    step=st.integers(1, 30),
    count=st.integers(2, 12),
    digits=st.integers(0, 2),
    prefix=st.sampled_from(["z", "img_z", "s", "PSD95-", "stack.", "sec_", "ribbon1_"]),
    suffix=st.sampled_from([".tif", ".TIF", "_c0.tif", ".ome.tiff"]),
    seed=st.randoms(use_true_random=False),
)
def test_for_any_positions_in_names_the_slices_are_in_their_order_or_refused(
    first, step, count, digits, prefix, suffix, seed
):
    positions = [first + step * number for number in range(count)]
    names = [Path(f"{prefix}{position / 10**digits:.{digits}f}{suffix}") for position in positions]
    shuffled = seed.sample(names, count)
    try:
        ordered = natural_order(shuffled)
    except UsageError:
        # -3, -2, -1 may be 3, 2, 1 behind a hyphen; two decimals may be two numbers; between two, others may be missing
        assert (count == 2 and step > 1) or any(sign in name.stem for name in names for sign in "-.")
        ordered = natural_order(shuffled, f"{prefix}{{z}}{suffix}")
    hyphens = all("-" in name.stem.removeprefix("PSD95-") for name in names)
    assert ordered == names or (hyphens and ordered == names[::-1])


@pytest.mark.parametrize("order", list(itertools.permutations("zyx")), ids="".join)
@pytest.mark.parametrize("form", ["names", "ome"])
def test_for_any_order_of_named_axes_the_stack_is_z_y_x(tmp_path, order, form):
    voxels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    turned = voxels.transpose(["zyx".index(axis) for axis in order])
    sizes = {"z": 70, "y": 101, "x": 102}
    if form == "names":
        attributes: dict[str, Any] = {"voxel_size": [sizes[axis] for axis in order], "units": ["nm"] * 3}
        zarr.create_array(tmp_path / "a.zarr", data=turned, dimension_names=order, attributes=attributes)
    else:
        group = zarr.create_group(tmp_path / "a.zarr")
        group.create_array("0", data=turned)
        scale = [{"type": "scale", "scale": [sizes[axis] / 1000 for axis in order]}]
        axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in order]
        scales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    stack = open_stack([tmp_path / "a.zarr"])
    assert np.array_equal(stack.read(0, 2), voxels)
    assert np.array_equal(stack.read(1, 2), voxels[1:])
    assert stack.voxel_size_nm == pytest.approx((70, 101, 102))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["PSD95_1.tif", "GABA_2.tif"], "differ in more than the slice number"),
        (["s1.tif", "s01.tif"], "the same slice number"),
        (["s1.tif", "s2.tif", "s4.tif"], "slices are missing"),
        (["s1.tif", "s1.tif"], "the same slice number"),
    ],
    ids=["two channels", "a number twice", "a gap", "a file twice"],
)
def test_names_that_form_no_sequence_are_refused(names, words):
    with pytest.raises(UsageError, match=words):
        natural_order([Path(name) for name in names])


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
                page.tags[tag].overwrite(1_000_000)  # type: ignore[union-attr]
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
    data[last : last + 4] = first.to_bytes(4, "little")  # type: ignore[operator]
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


LIMITED = """
import resource, sys
from pathlib import Path
from nd_synapse.files.stacks import open_stack
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
used = int(status["VmData"].split()[0]) * 1024
stack = open_stack([Path(sys.argv[1])])
allowed = int(sys.argv[2])
assert stack.slice_bytes * stack.shape[0] > 4 * allowed
resource.setrlimit(resource.RLIMIT_DATA, (used + allowed, used + allowed))
print(sum(int(slab[0, 0, 0]) for _, slab in stack.slabs(16)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_a_stack_larger_than_memory_is_read(tmp_path, kind):
    """What the reading process may allocate is limited to less than a quarter of the volume."""
    shape, chunk = (640, 1024, 1024), (16, 1024, 1024)
    path = tmp_path / f"large.{kind}"
    if kind == "zarr":
        zarr.create_array(path, shape=shape, chunks=chunk, dtype="u1", fill_value=1)
    else:
        one = np.ones(shape[1:], np.uint8)
        with tifffile.TiffWriter(path) as writer:
            for _ in range(shape[0]):
                writer.write(one, contiguous=False, compression="zlib", compressionargs={"level": 1}, **GREY)
    command = [sys.executable, "-c", LIMITED, str(path), str(150 * 2**20)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 40


def test_an_npy_file_is_mapped_not_loaded(tmp_path):
    path = tmp_path / "sparse.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(4096, 4096, 4096)).flush()  # 64 GiB, sparse
    stack = open_stack([path])
    start, slab = next(stack.slabs(16))
    assert (start, slab.shape, stack.shape) == (0, (16, 4096, 4096), (4096, 4096, 4096))


@pytest.mark.parametrize("shape", [(5, 6), (1, 1, 2, 5, 6), (2, 1, 5, 6), (1, 5, 6)])
def test_a_slice_and_axes_of_length_one_are_a_stack(tmp_path, shape):
    voxels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    stack = open_stack(write_npy(tmp_path, voxels))
    assert np.array_equal(stack.read(0, stack.shape[0]), voxels.reshape(-1, 5, 6))


def test_an_array_in_memory_is_a_stack():
    volume = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    volume.flags.writeable = False
    stack = stack_of_array(volume, "an array")
    assert np.array_equal(stack.read(1, 2), volume[1:2])
    with pytest.raises(UsageError):
        next(stack.slabs(0))


def test_volumes_of_other_formats_beside_tiff_files_are_named_in_the_log(tmp_path, caplog):
    voxels = np.ones((3, 4, 5), np.uint8)
    tifffile.imwrite(tmp_path / "PSD95.tif", voxels, **GREY)
    zarr.create_array(tmp_path / "GABA.zarr", data=voxels)
    np.save(tmp_path / "Synapsin.npy", voxels)
    (tmp_path / "figures").mkdir()
    with caplog.at_level(logging.INFO):
        assert list(open_channels(tmp_path)) == ["PSD95"]
    assert caplog.messages == [f"{tmp_path}: its TIFF files are read, and not GABA.zarr, Synapsin.npy"]


def test_a_folder_of_slices_that_no_number_orders_is_to_be_renamed(tmp_path):
    """Commands that take folders have no --pattern."""
    for name in ("PSD95_1.tif", "PSD95_5.tif"):
        tifffile.imwrite(tmp_path / name, np.ones((4, 5), np.uint8), **GREY)
    with pytest.raises(UsageError, match=r"4 apart.*Rename the files"):
        open_channels(tmp_path)["PSD95"]()
