"""A link that shows the images of a run in any neuroglancer: they have to be on a server that everybody may read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import zarr

from nd_synapse.boss.address import address_of, is_loopback
from nd_synapse.errors import UsageError
from nd_synapse.job.job import label_names
from nd_synapse.job.label_files import LABELS
from nd_synapse.job.places import Target
from nd_synapse.job.results import POINTS
from nd_synapse.sources.contents import openers_of
from nd_synapse.sources.remote import open_remote
from nd_synapse.sources.source import FileSource
from nd_synapse.view.run import OpenRun
from nd_synapse.view.scene import POINT_SHADER, PUBLIC, ImageLayer, link

__all__ = ["shared_link"]

_BOSSDB = "https://neuroglancer.bossdb.io/"
"""A neuroglancer that reads BOSS."""


def shared_link(opened: OpenRun, at: int | None = None) -> str:
    """Return the link, with points near the place in it; no token is part of it."""
    run, source = opened.run, opened.source
    if isinstance(source, FileSource):
        remote = all(source.location.of(uri).is_remote for _, uri in source.location.channels)
        if not (remote if source.location.channels else source.location.is_remote):
            raise _only_here(source.location.uri)
        layers, centre = _of_server(source, opened.scene.voxel_size_nm)
        state = opened.scene.state(layers, None, at, centre)
        *shown, points = state["layers"]
        if results := _results(opened, centre):
            shown, points = [*shown, results[0]], results[1]
        # points first: neuroglancer 2.41 may lose the first layer while one of points is not restored
        state["layers"] = [points, *shown]
        return link(PUBLIC, state)
    host = address_of(run.host)
    if is_loopback(host):
        raise _only_here(host.url)
    volume = f"boss://{host.url}/{quote(run.collection)}/{quote(run.experiment)}"
    images = [ImageLayer(name, f"{volume}/{quote(name)}") for name in opened.images]
    return link(_BOSSDB, opened.scene.state(images, None, at))


def _only_here(place: str) -> UsageError:
    found = "it is on this machine, where no other can read it"
    return UsageError(f"a link to {place}", found, "Leave --print out: nd-synapse view serves it here")


def _of_server(source: FileSource, voxel_size_nm: Sequence[float]) -> tuple[list[ImageLayer], tuple[float, ...]]:
    """Return the channels of a volume on a server as neuroglancer reads them, and where the centre of voxel 0 is."""
    openers, _ = openers_of(source.location)
    layers, centres = [], dict[str, tuple[float, ...]]()
    for channel in source.image_channels:
        image, place = openers[channel]()
        centres[channel] = tuple(start + 0.5 for start in image.start)
        if source.location.format or image.name.startswith(("precomputed://", "n5://")):
            layers.append(ImageLayer(channel, image.name))
            continue
        address: dict[str, Any] = {"url": f"zarr://{image.name}/"}
        if isinstance(open_remote(image.name), zarr.Group):
            centres[channel] = image.start  # OME-Zarr places centres of voxels, and neuroglancer follows it
        else:
            # an array may lack names and sizes of axes
            sizes = {axis: [nm / 1e9, "m"] for axis, nm in zip("zyx", voxel_size_nm, strict=True)}
            address["transform"] = {"outputDimensions": {_axis(a): sizes.get(a, [1, ""]) for a in image.axes}}
        local = [axis for axis in image.axes if axis not in "zyx"]
        more = {
            "localDimensions": {_axis(axis): [1, ""] for axis in local},
            "localPosition": [place or 0 if axis == "c" else 0 for axis in local],
        }
        layers.append(ImageLayer(channel, address, more if local else {}))
    if len(set(centres.values())) > 1:
        found = "their metadata place its channels apart, and neuroglancer follows them"
        raise UsageError(f"a link to {source.location.uri}", found, "Leave --print out: nd-synapse view serves it here")
    return layers, next(iter(centres.values()))


def _results(opened: OpenRun, centre: Sequence[float]) -> list[dict[str, Any]]:
    """Return the labels and the points that ``--out`` put on a server, moved to where its images are; or nothing."""
    target = None if opened.run.out is None else Target.of(opened.run.out)
    if target is None or not target.is_remote:
        return []
    label = next(iter(label_names(list(opened.run.masks)).values()))
    zarr_url, precomputed = f"zarr://{target.where}/{LABELS}/labels/{label}/", f"precomputed://{target.where}"
    # OME-Zarr has the centre of voxel 0 at 0, and precomputed volumes at 0.5
    where = (precomputed, "xyz", 0.5) if target.is_precomputed else (zarr_url, "zyx", 0.0)
    return [
        {"type": "segmentation", "name": "synapses", "source": _moved(opened, *where, centre), "selectedAlpha": 0.4},
        {
            "type": "annotation",
            "name": "points",
            "source": _moved(opened, f"{precomputed}/{POINTS}", "xyz", 0.5, centre),
            "shader": POINT_SHADER,
        },
    ]


def _moved(opened: OpenRun, url: str, axes: str, centre: float, wanted: Sequence[float]) -> dict[str, Any]:
    """Return a data source whose centre of voxel 0 is moved from one place to another, in voxels."""
    sizes = dict(zip("zyx", opened.scene.voxel_size_nm, strict=True))
    there = dict(zip("zyx", wanted, strict=True))
    matrix = [[float(row == column) for column in range(3)] + [there[axis] - centre] for row, axis in enumerate(axes)]
    space = {axis: [sizes[axis] / 1e9, "m"] for axis in axes}
    return {"url": url, "transform": {"outputDimensions": space, "matrix": matrix}}


def _axis(axis: str) -> str:
    """Return the name of an axis in neuroglancer; one that is not space is of its layer alone."""
    return axis if axis in "zyx" else f"{axis}'"
