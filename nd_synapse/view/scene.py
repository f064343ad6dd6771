"""What the viewer shows of a run: layers, colours, place and scale, as a state of neuroglancer; it reads no voxel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.outcome import Brightness
from nd_synapse.errors import UnknownNameError
from nd_synapse.geometry import Box

__all__ = ["POINT_SHADER", "PUBLIC", "ImageLayer", "Places", "Scene", "link"]

PUBLIC = "https://neuroglancer-demo.appspot.com/"
"""A neuroglancer that anybody may use; a state stays in the browser, behind the # of the address."""

_COLOURS = ("#ff40ff", "#30ff30", "#ffb000", "#40a0ff")
"""Of the searched channels: of two, magenta and green, which are white where both are bright."""
_OTHER = "#c0c0c0"
_OUTLINE = "#ffe040"

_SHADER = (
    "#uicontrol invlerp normalized\n#uicontrol vec3 colour color\nvoid main() { emitRGB(colour * normalized()); }\n"
)
POINT_SHADER = (
    "void main() { setColor(vec3(1.0, 0.88, 0.25)); setPointMarkerSize(4.0); setPointMarkerBorderWidth(0.0); }\n"
)

_BRIGHT_SD = 6.0
"""Standard deviations above the mean of a channel that are drawn in full colour: puncta are that bright."""

_FIELD_NM, _CLOSE_NM = 16_000, 5_000
"""Width of what is shown at first, and of what is shown round one synapse."""
_PIXELS = 800
_TILE_NM = 4_000
"""Side of the tiles of which the one with most synapses is shown."""

_MOST_NAMED = 200
"""Points that a link carries in itself."""


@dataclass(frozen=True, slots=True)
class Places:
    """The synapses of a table, by row."""

    ids: NDArray[np.int64]
    """Shape (n,)."""
    centroids: NDArray[np.float64]
    """Voxels (z, y, x), shape (n, 3)."""

    def row_of(self, number: int) -> int:
        """Return the row of an id."""
        rows = np.flatnonzero(self.ids == number)
        if not len(rows):
            found = f"the table has the ids 1 to {len(self.ids):,}" if len(self.ids) else "the table has no row"
            raise UnknownNameError(f"synapse {number}", found, "Correct --at")
        return int(rows[0])

    def densest(self, voxel_size_nm: Sequence[float]) -> int | None:
        """Return the row of the synapse in the middle of the densest tile; None without any."""
        if not len(self.ids):
            return None
        sides = np.maximum(_TILE_NM / np.asarray(voxel_size_nm), 1)
        tiles, tile_of, counts = np.unique(
            np.floor(self.centroids / sides), axis=0, return_inverse=True, return_counts=True
        )
        best = int(np.argmax(counts))
        rows = np.flatnonzero(tile_of.ravel() == best)
        away = (self.centroids[rows] - (tiles[best] + 0.5) * sides) * voxel_size_nm
        return int(rows[np.argmin((away**2).sum(axis=1))])


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A channel, and where neuroglancer reads it."""

    channel: str
    source: Any
    """A URL, or a data source of a state."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the layer needs beside, such as which channel of an array it is."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known of a run where it is shown."""

    title: str
    box: Box
    voxel_size_nm: tuple[float, float, float]
    roles: Mapping[str, str]
    """Role to channel."""
    brightness: Mapping[str, Brightness]
    places: Places

    def state(
        self,
        images: Sequence[ImageLayer],
        base: str | None,
        at: int | None = None,
        centre: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> dict[str, Any]:
        """Return the state for some channels, and the labels and points of a server at the URL `base`.

        Without one, points near the place are in the state itself. `at` is the id of the synapse to show, `centre` is
        where neuroglancer has the centre of voxel 0 of these channels, in voxels (z, y, x).
        """
        row = self.places.densest(self.voxel_size_nm) if at is None else self.places.row_of(at)
        middle = [(start + stop - 1) / 2 for start, stop in self.box.ranges]
        place = (np.array(middle) if row is None else self.places.centroids[row]) + centre
        smallest = min(self.voxel_size_nm)
        width_nm = max(extent * nm for extent, nm in zip(self.box.shape, self.voxel_size_nm, strict=True))
        seen_nm = min(_FIELD_NM if at is None else _CLOSE_NM, width_nm)
        found = [self._near(place, centre)] if base is None else _results(base)
        chosen = {} if at is None or base is None else {"selection": _selection(at)}
        return {
            "title": self.title,
            "dimensions": self._dimensions(),
            "position": place[::-1].tolist(),
            "crossSectionScale": seen_nm / _PIXELS / smallest,
            "projectionScale": 1.5 * width_nm / smallest,
            "layers": [*map(self._image, self._ordered(images)), *found],
            "layout": "xy-3d",
            "showSlices": False,
            "showAxisLines": False,
            "crossSectionBackgroundColor": "#000000",
            **chosen,
        }

    def _dimensions(self) -> dict[str, Any]:
        return {axis: [nm / 1e9, "m"] for axis, nm in zip("xyz", self.voxel_size_nm[::-1], strict=True)}

    def _ordered(self, images: Sequence[ImageLayer]) -> list[ImageLayer]:
        """Return the searched channels, in the order of their roles, then the others."""
        searched = list(self.roles.values())
        return sorted(
            images,
            key=lambda image: searched.index(image.channel) if image.channel in searched else len(searched),
        )

    def _image(self, image: ImageLayer) -> dict[str, Any]:
        """Describe a channel: in colour if it was searched, else grey and hidden."""
        searched = list(dict.fromkeys(self.roles.values()))
        shown = image.channel in searched
        colour = _COLOURS[searched.index(image.channel) % len(_COLOURS)] if shown else _OTHER
        controls: dict[str, Any] = {"colour": colour}
        if image.channel in self.brightness:
            mean, sd = self.brightness[image.channel].mean, self.brightness[image.channel].sd
            controls["normalized"] = {"range": [round(mean), max(round(mean + _BRIGHT_SD * sd), round(mean) + 1)]}
        return {
            "type": "image",
            "name": image.channel,
            "source": image.source,
            "shader": _SHADER,
            "shaderControls": controls,
            "blend": "additive",
            "opacity": 1,
            "visible": shown,
            **image.more,
        }

    def _near(self, place: NDArray[np.float64], centre: Sequence[float]) -> dict[str, Any]:
        """Return the points that are nearest to a place, as a layer."""
        away = (((self.places.centroids + centre - place) * self.voxel_size_nm) ** 2).sum(axis=1)
        points = [
            {
                "type": "point",
                "id": str(self.places.ids[row]),
                "point": (self.places.centroids[row] + centre)[::-1].round(2).tolist(),
            }
            for row in np.argsort(away, kind="stable")[:_MOST_NAMED]
        ]
        source = {"url": "local://annotations", "transform": {"outputDimensions": self._dimensions()}}
        return {
            "type": "annotation",
            "name": "synapses",
            "source": source,
            "annotations": points,
            "annotationColor": _OUTLINE,
        }


def _results(base: str) -> list[dict[str, Any]]:
    """Return the layers of labels, outlines and points at the URL of a server."""
    return [
        {"type": "segmentation", "name": "synapses", "source": f"precomputed://{base}/labels", "selectedAlpha": 0.15},
        {
            "type": "segmentation",
            "name": "outlines",
            "source": f"precomputed://{base}/outlines",
            "segmentDefaultColor": _OUTLINE,
            "selectedAlpha": 0.9,
            "pick": False,
        },
        {"type": "annotation", "name": "points", "source": f"precomputed://{base}/points", "shader": POINT_SHADER},
    ]


def _selection(number: int) -> dict[str, Any]:
    """Select a point, so that its properties are shown."""
    of_point = {"annotationId": str(number), "annotationSource": 0, "annotationSubsource": "default"}
    return {"layers": {"points": of_point}}


def link(client: str, state: Mapping[str, Any]) -> str:
    """Return the address that opens a state in the neuroglancer at a URL."""
    return f"{client}#!{quote(json.dumps(state, separators=(',', ':')), safe='')}"
