"""Write volumes as others do: ``.venv/peers/bin/python write.py VOXELS.npz FOLDER``; nothing of ours is imported."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from cloudvolume import CloudVolume
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.io import parse_url
from ome_zarr.writer import write_image

SIZE_NM = (70, 100, 100)


def cloud_volume(folder, channels, **how):
    """Write each channel with cloud-volume, which packs chunks into files NAME.gz."""
    for name, voxels in channels.items():
        info = CloudVolume.create_new_info(
            num_channels=1,
            layer_type="segmentation" if voxels.dtype == np.uint64 else "image",
            data_type=str(voxels.dtype),
            encoding=how.get("encoding", "raw"),
            resolution=SIZE_NM[::-1],
            voxel_offset=(5, 6, 7),
            chunk_size=(32, 32, 2),
            volume_size=voxels.shape[::-1],
        )
        more = {"progress": False, "compress": how.get("compress", "gzip"), "non_aligned_writes": True}
        there = CloudVolume(f"file://{folder}/{name}", info=info, **more)
        if how.get("shards"):
            there.scale["sharding"] = {
                "@type": "neuroglancer_uint64_sharded_v1",
                "preshift_bits": 9,
                "hash": "identity",
                "minishard_bits": 0,
                "shard_bits": 0,
                "minishard_index_encoding": "gzip",
                "data_encoding": "gzip",
            }
        there.commit_info()
        there[:] = voxels.T[..., None]


def ome_zarr(folder, channels, form):
    """Write one image with two levels with ome-zarr-py."""
    group = zarr.group(parse_url(str(folder), mode="w", fmt=form).store)
    write_image(
        np.stack(list(channels.values())),
        group,
        fmt=form,
        axes="czyx",
        scale={"c": 1, **dict(zip("zyx", SIZE_NM, strict=True))},
        axes_units=dict.fromkeys("zyx", "nanometer"),
        scale_factors=[2],
    )
    omero = {"channels": [{"label": name, "color": "FFFFFF"} for name in channels]}
    attributes: dict[str, Any] = dict(group.attrs)
    group.attrs.update({"ome": attributes["ome"] | {"omero": omero}} if form.version == "0.5" else {"omero": omero})


def main(voxels, folder):
    """Write all forms."""
    channels = dict(np.load(voxels))
    folder = Path(folder)
    cloud_volume(folder / "cloud-volume-gzip", channels)
    cloud_volume(folder / "cloud-volume-plain", channels, compress=None)
    cloud_volume(folder / "cloud-volume-shards", channels, shards=True, compress=None)
    cloud_volume(folder / "cloud-volume-packed-shards", channels, shards=True)
    labels = {name: one.astype(np.uint64) << 33 for name, one in channels.items()}
    cloud_volume(folder / "cloud-volume-labels", labels, encoding="compressed_segmentation")
    ome_zarr(folder / "ome-zarr-0.4.zarr", channels, FormatV04())
    ome_zarr(folder / "ome-zarr-0.5.zarr", channels, FormatV05())


if __name__ == "__main__":
    main(*sys.argv[1:])
