"""Volumes that other programs wrote are read voxel for voxel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile
import zarr

from nd_synapse.sources.location import Location
from nd_synapse.sources.source import FileSource, open_source
from tests.fixtures_boss import REPOSITORY
from tests.volumes_on_disk import SIZE_NM, write

PYTHON = REPOSITORY / ".venv" / "peers" / "bin" / "python"
PART = ((3, 9), (7, 41), (33, 65))
RNG = np.random.default_rng(0)
CHANNELS = {name: RNG.poisson(12, (13, 45, 70)).astype(np.uint8) for name in ("PSD95", "SYNAPSIN")}


def check(source: FileSource, size_nm: tuple[float, float, float] = SIZE_NM, shift: int = 0) -> None:
    """Compare a volume with what was written, all of it and a part."""
    assert source.frame.voxel_size_nm == size_nm
    assert source.channels == sorted(CHANNELS)
    for name, voxels in CHANNELS.items():
        written = voxels.astype(source.dtype(name)) << shift
        assert np.array_equal(source.get_cutout(name, *source.box.ranges), written)
        assert np.array_equal(source.get_cutout(name, *PART), written[tuple(slice(*ends) for ends in PART)])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the programs in the environment of `make peers` write."""
    if not PYTHON.exists():
        assert "CI" not in os.environ, "the environment of `make peers` is not there"
        pytest.skip("the environment of `make peers` is not there")
    folder = tmp_path_factory.mktemp("peers")
    voxels: dict[str, Any] = dict(CHANNELS)
    np.savez(folder / "voxels.npz", **voxels)
    command = [PYTHON, REPOSITORY / "tests" / "peers" / "write.py", folder / "voxels.npz", folder]
    subprocess.run(command, check=True, timeout=250, capture_output=True)
    return folder


@pytest.mark.slow
class TestOthers:
    @pytest.mark.parametrize("form", ["gzip", "plain", "shards", "packed-shards"])
    def test_precomputed_volumes_of_cloud_volume(self, written: Path, form: str) -> None:
        check(open_source(Location(f"precomputed://{written}/cloud-volume-{form}")))

    def test_labels_of_cloud_volume_are_no_images_and_read_beside_one(self, written: Path) -> None:
        uris = {"labels": f"precomputed://{written}/cloud-volume-labels/PSD95", "image": f"{written}/ome-zarr-0.4.zarr"}
        source = open_source(Location(channels=(("labels", uris["labels"]), ("PSD95", uris["image"]))))
        assert source.image_channels == ["PSD95"]
        labels = source.get_cutout("labels", *source.box.ranges)
        assert np.array_equal(labels, CHANNELS["PSD95"].astype(np.uint64) << 33)

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_images_of_ome_zarr_py(self, written: Path, version: str) -> None:
        check(open_source(Location(f"{written}/ome-zarr-{version}.zarr")))


def _zarr_of_tensorstore(path: Path, driver: str, dtype: str) -> None:
    for name, voxels in CHANNELS.items():
        spec: dict[str, Any] = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/{name}"}}
        spec["schema"] = {"dtype": dtype, "domain": {"shape": voxels.shape, "labels": ["z", "y", "x"]}}
        tensorstore.open(spec, create=True).result().write(voxels).result()
    zarr.create_group(path, zarr_format=2 if driver == "zarr" else 3)


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_zarr_of_tensorstore(tmp_path: Path, driver: str, dtype: str) -> None:
    _zarr_of_tensorstore(tmp_path / "a.zarr", driver, dtype)
    check(open_source(Location(str(tmp_path / "a.zarr"), voxel_size_nm=SIZE_NM)))


@pytest.mark.parametrize("packing", ["raw", "gzip", "bzip2", "xz", "blosc", "zstd"])
def test_n5_of_tensorstore_in_every_compression(tmp_path: Path, packing: str) -> None:
    for name, voxels in CHANNELS.items():
        compression: dict[str, Any] = {"type": packing}
        if packing == "blosc":
            compression |= {"cname": "lz4", "clevel": 5, "shuffle": 1}
        metadata: dict[str, Any] = {
            "dimensions": (70, 45, 13),
            "blockSize": (32, 16, 5),
            "dataType": "uint16",
            "axes": ["x", "y", "z"],
        }
        metadata |= {"compression": compression, "resolution": (0.1, 0.1, 70), "units": ["um", "um", "nm"]}
        spec = {"driver": "n5", "metadata": metadata, "kvstore": {"driver": "file", "path": f"{tmp_path}/{name}"}}
        tensorstore.open(spec, create=True).result().write(voxels.T.astype(np.uint16)).result()
    check(open_source(Location(f"n5://{tmp_path}")))


@pytest.mark.parametrize("hashing", [None, "identity", "murmurhash3_x86_128"])
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_precomputed_volumes_of_tensorstore_with_channels_in_one(
    tmp_path: Path, encoding: str, hashing: str | None
) -> None:
    voxels = np.stack([*CHANNELS.values(), CHANNELS["PSD95"]])
    scale: dict[str, Any] = {"size": (70, 45, 13), "encoding": encoding, "chunk_size": (32, 16, 5)}
    scale |= {"resolution": (100, 100, 70), "voxel_offset": (-5, 6, 7)}
    if hashing:
        scale["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 1,
            "hash": hashing,
            "minishard_bits": 2,
            "shard_bits": 5,
            "minishard_index_encoding": "gzip",
            "data_encoding": "raw",
        }
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/a"},
        "multiscale_metadata": {"data_type": "uint8", "num_channels": 3, "type": "image"},
        "scale_metadata": scale,
    }
    store = tensorstore.open(spec, create=True).result()
    store.write(voxels.T).result()
    source = open_source(Location(f"precomputed://{tmp_path}/a"))
    assert source.channels == ["0", "1", "2"]
    assert source.frame.voxel_size_nm == SIZE_NM
    expected = store.read().result().T  # jpeg loses something
    for place, name in enumerate(source.channels):
        assert np.array_equal(source.get_cutout(name, *source.box.ranges), expected[place])
        assert np.array_equal(source.get_cutout(name, *PART), expected[place][tuple(slice(*ends) for ends in PART)])


def test_the_layout_of_bioformats2raw(tmp_path: Path) -> None:
    write("ome04.zarr", tmp_path / "a.zarr" / "0", CHANNELS)
    group = zarr.open_group(tmp_path / "a.zarr", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    group.create_group("OME").attrs["series"] = ["0"]
    check(open_source(Location(str(tmp_path / "a.zarr"))))


@pytest.mark.parametrize("form", ["ome", "imagej"])
def test_hyperstacks_of_tifffile(tmp_path: Path, form: str) -> None:
    voxels = np.stack(list(CHANNELS.values()), axis=1 if form == "imagej" else 0)
    if form == "imagej":
        metadata: dict[str, Any] = {"axes": "ZCYX", "spacing": 0.07, "unit": "um"}
        tifffile.imwrite(tmp_path / "a.tif", voxels, imagej=True, resolution=(10, 10), metadata=metadata)
        source = open_source(Location(str(tmp_path / "a.tif")))
        named = dict(zip(source.channels, CHANNELS, strict=True))
    else:
        write("one.ome.tif", tmp_path / "a.ome.tif", CHANNELS)
        source = open_source(Location(str(tmp_path / "a.ome.tif")))
        named = {name: name for name in CHANNELS}
    assert source.frame.voxel_size_nm == SIZE_NM
    for name, written_as in named.items():
        assert np.array_equal(source.get_cutout(name, *source.box.ranges), CHANNELS[written_as])
