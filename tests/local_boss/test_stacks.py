"""Every format of stacks gives back the voxels that were written."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nd_synapse.errors import UsageError
from nd_synapse.files.stacks import open_channels, open_stack, stack_of_array
from tests.local_boss.stack_writers import GREY, WRITERS, write_npy

REPOSITORY = Path(__file__).parents[2]


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
