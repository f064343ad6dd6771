"""Links to a mask in BOSS, for people to open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from intern.remote.boss import BossRemote

from nd_synapse.boss.connection import url_for
from nd_synapse.boss.destination import Destination
from nd_synapse.geometry import Box

__all__ = ["historical_link", "neuroglancer_link"]

_NEUROGLANCER = "https://neuroglancer.bossdb.io/#!"

# The mask is an image of 0 and 255; only what was found is drawn.
_SHADER = (
    "void main() { if (toNormalized(getDataValue()) > 0.0) emitRGB(vec3(1.0, 0.2, 0.2)); else emitTransparent(); }"
)

_IMAGE = {"type": "image", "blend": "additive"}


def historical_link(destination: Destination) -> str:
    """Return the link of a channel as the historical program wrote it."""
    return f"http://ndwt.neurodata.io/channel_detail/{destination}/"


def neuroglancer_link(
    remote: BossRemote,
    images: Sequence[tuple[str, str, str]],
    destination: Destination,
    box: Box,
    voxel_size_nm: Sequence[float],
    *,
    image_url: str | None = None,
) -> str:
    """Return a link that shows a mask, or labels, over the channels that they are of; the token is not part of it.

    Parameters
    ----------
    remote : BossRemote
        The connection to the BOSS that has the mask.
    images : sequence of tuple of str
        Collection, experiment and channel of each image.
    destination : Destination
        The mask's channel.
    box : Box
        The mask's box; the view opens at its centre.
    voxel_size_nm : sequence of float
        Along z, y, x.
    image_url : str, optional
        URL of the BOSS that has the images, if it is another one.

    Returns
    -------
    str
        The link.
    """
    metres = {axis: [size * 1e-9, "m"] for axis, size in zip("zyx", voxel_size_nm, strict=True)}
    layers = [_layer(name, f"{image_url or url_for(remote)}/{col}/{exp}/{name}", _IMAGE) for col, exp, name in images]
    look = {"type": "image", "shader": _SHADER} if destination.kind == "image" else {"type": "segmentation"}
    layers.append(_layer(destination.channel, f"{url_for(remote)}/{destination}", look))
    state = {
        "dimensions": {axis: metres[axis] for axis in "xyz"},
        "position": [(start + stop) / 2 for start, stop in reversed(box.ranges)],
        "layers": layers,
        "layout": "4panel",
    }
    return _NEUROGLANCER + quote(json.dumps(state, separators=(",", ":")), safe="")


def _layer(name: str, source: str, look: dict[str, str]) -> dict[str, Any]:
    """Describe one layer."""
    return {"name": name, "source": f"boss://{source}", **look}
