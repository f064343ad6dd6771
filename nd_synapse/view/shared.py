"""A link that shows the images of a run in any neuroglancer: they have to be on a server that everybody may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nd_synapse.boss.address import address_of, is_loopback
from nd_synapse.errors import UsageError
from nd_synapse.sources.source import FileSource
from nd_synapse.view.run import OpenRun
from nd_synapse.view.scene import PUBLIC, ImageLayer, link

__all__ = ["shared_link"]

_BOSSDB = "https://neuroglancer.bossdb.io/"
"""A neuroglancer that reads BOSS."""


def shared_link(opened: OpenRun, at: int | None = None) -> str:
    """Return the link, with points near the place in it; no token is part of it."""
    run, source = opened.run, opened.source
    if isinstance(source, FileSource):
        if not source.location.is_remote:
            raise _only_here(source.location.uri)
        return link(PUBLIC, opened.scene.state(_in_zarr(source, opened.scene.voxel_size_nm), None, at))
    host = address_of(run.host)
    if is_loopback(host):
        raise _only_here(host.url)
    volume = f"boss://{host.url}/{quote(run.collection)}/{quote(run.experiment)}"
    images = [ImageLayer(name, f"{volume}/{quote(name)}") for name in opened.images]
    return link(_BOSSDB, opened.scene.state(images, None, at))


def _only_here(place: str) -> UsageError:
    found = "it is on this machine, where no other can read it"
    return UsageError(f"a link to {place}", found, "Leave --print out: nd-synapse view serves it here")


def _in_zarr(source: FileSource, voxel_size_nm: tuple[float, float, float]) -> list[ImageLayer]:
    """Return the channels of a Zarr on a server as neuroglancer reads them."""
    from nd_synapse.files.zarr_arrays import array_names
    from nd_synapse.sources.remote import open_remote

    uri, channels = source.location.uri, source.image_channels
    node = open_remote(uri)
    sizes: Mapping[str, Any] = {axis: [nm * 1e-9, "m"] for axis, nm in zip("zyx", voxel_size_nm, strict=True)}
    plain = {"transform": {"outputDimensions": sizes}}
    if array_names(node):
        return [ImageLayer(name, {"url": f"zarr://{uri}/{quote(name)}/", **plain}) for name in channels]
    return []
