"""Read results as others do: ``.venv/peers/bin/python read.py RESULTS SEGMENTATION OUT.npz``, with nothing of ours."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import tensorstore
import tifffile
import zarr
from cloudvolume import CloudVolume
from napari_ome_zarr import napari_get_reader
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr


def ome_zarr_py(image):
    """Return the levels of the image and of its labels, with their names, as ome-zarr-py finds them."""
    found = {}
    for node in Reader(parse_url(image))():
        name = Path(str(node.zarr).removesuffix(" [zgroup]")).name
        for level, data in enumerate(node.data):
            found[f"ome-zarr-py {name} {level}"] = np.asarray(data)
    return found


def napari(image):
    """Return the levels of the layers that napari makes of the image, and their voxel sizes, without its window."""
    found = {}
    with redirect_stdout(sys.stderr):  # it prints what it finds
        layers = napari_get_reader(str(image))(str(image))
    for levels, how, kind in layers:
        found[f"napari {kind} size"] = np.array(how["scale"])
        for level, data in enumerate(levels):
            found[f"napari {kind} {level}"] = np.asarray(data)
    return found


def tensorstores(image, segmentation, levels):
    """Return the levels of the labels as TensorStore reads them in either form, and where a segmentation begins."""
    found = {}
    for level in range(levels):
        spec: Any = {"driver": "zarr3", "kvstore": f"file://{image}/labels/synapses/{level}/"}
        found[f"tensorstore zarr {level}"] = tensorstore.open(spec).result().read().result()
        spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{segmentation}/", "scale_index": level}
        there = tensorstore.open(spec).result()
        found[f"tensorstore precomputed {level}"] = there.read().result()[..., 0].T
        found[f"tensorstore start {level}"] = np.array(there.domain.origin[2::-1])
    return found


def cloud_volume(segmentation, levels):
    """Return the levels of a segmentation as cloud-volume reads them, and its voxel size and start."""
    found = {}
    for level in range(levels):
        there = CloudVolume(f"file://{segmentation}", mip=level, progress=False)
        found[f"cloud-volume {level}"] = np.asarray(there[:])[..., 0].T
        found[f"cloud-volume start {level}"] = np.array(there.voxel_offset[::-1])
        found[f"cloud-volume size {level}"] = np.array(there.resolution[::-1])
    return found


if __name__ == "__main__":
    results, segmentation, out = map(Path, sys.argv[1:])
    image = results / "synapses.ome.zarr"
    # each raises where the metadata break the specification
    for group in (image, image / "labels", image / "labels" / "synapses"):
        print(type(open_ome_zarr(zarr.open_group(group, mode="r"), version="0.5")).__name__)
    levels = len(list(zarr.open_group(image, mode="r").arrays()))
    found = ome_zarr_py(image) | napari(image)
    found |= tensorstores(image, segmentation, levels) | cloud_volume(segmentation, levels)
    with tifffile.TiffFile(results / "nomads-unsupervised-predictions.ome.tiff") as tiff:
        for level, one in enumerate(tiff.series[0].levels):
            found[f"tifffile {level}"] = one.asarray()
    table = pandas.read_csv(results / "synapses.csv")
    for name in ("id", "voxels", "start_z", "centroid_x_um"):
        found[f"pandas {name}"] = table[name].to_numpy()
    np.savez(out, **found)
