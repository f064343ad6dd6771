"""Which path leads to which handler.

Paths of BOSS have doubled slashes, and regular expressions that stop before the end: a table here, not the framework's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.responses import Response

from nd_synapse.local_boss import routes_data
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES, Kind
from nd_synapse.local_boss.requests import CUTOUT_MEDIA, JSON, Call
from nd_synapse.local_boss.routes_resources import answer, list_names

__all__ = ["Route", "find", "routes"]

Handler = Callable[[Call, Mapping[str, str]], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """A path and its handlers."""

    path: re.Pattern[str]
    """Its named groups are the handler's arguments."""
    methods: Mapping[str, Handler]
    media: tuple[str, ...] = (JSON,)
    """What the real server answers in, the default first."""
    voxels: bool = False
    """Whether it may read or write many voxels."""


def routes(strict: bool) -> list[Route]:
    """Return the table of all paths."""
    name, end = (r"[\w-]+", "") if strict else ("[^/]+", "/?$")
    collection = f"(?P<collection>{name})"
    experiment = f"{collection}/experiment/(?P<experiment>{name})"
    channel = f"{experiment}/channel/(?P<channel>{name})"
    data = r"(?P<collection>[\w-]+)/(?P<experiment>[\w-]+)/(?P<channel>[\w-]+)"
    ranges = r"(?P<resolution>[0-9])/(?P<x>[0-9]+:[0-9]+)/(?P<y>[0-9]+:[0-9]+)/(?P<z>[0-9]+:[0-9]+)"
    ranges += "(?:/(?P<t>[0-9]+:[0-9]+))?"
    meta = f"(?P<collection>{name})(?:/(?P<experiment>{name})(?:/(?P<channel>{name}))?)?"

    def route(
        path: str, methods: Mapping[str, Handler], media: tuple[str, ...] = (JSON,), voxels: bool = False
    ) -> Route:
        return Route(re.compile(f"^/(?:v1|latest)/{path}"), methods, media, voxels)

    def every_method(path: str, handler: Handler) -> Route:
        return route(f"{path}{end}", dict.fromkeys(("GET", "POST", "PUT", "DELETE"), handler))

    def names(path: str, kind: Kind[Any]) -> Route:
        return route(path, {"GET": partial(list_names, kind)})

    return [
        names("collection/{0,2}$", COLLECTIONS),
        names(f"collection/{collection}/experiment/?$", EXPERIMENTS),
        names(f"collection/{experiment}/channel/?$", CHANNELS),
        every_method(f"collection/{channel}", partial(answer, CHANNELS)),
        every_method(f"collection/{experiment}", partial(answer, EXPERIMENTS)),
        every_method(f"collection/{collection}", partial(answer, COLLECTIONS)),
        names("coord/{0,2}$", FRAMES),
        every_method(f"coord/(?P<frame>{name})", partial(answer, FRAMES)),
        route(f"cutout/to_black/{data}/{ranges}/?$", {"PUT": routes_data.to_black}, voxels=True),
        route(
            f"cutout/{data}/{ranges}/?$",
            {"GET": routes_data.get_cutout, "POST": routes_data.post_cutout},
            CUTOUT_MEDIA,
            voxels=True,
        ),
        every_method(f"meta/{meta}", routes_data.metadata),
        route(f"reserve/{data}/(?P<count>[0-9]+)/?$", {"GET": routes_data.reserve}),
        route(
            f"boundingbox/{data}/(?P<resolution>[0-9])/(?P<id>[0-9]+)/?$",
            {"GET": routes_data.bounding_box},
            voxels=True,
        ),
        route(f"ids/{data}/{ranges}/?$", {"GET": routes_data.ids}, voxels=True),
        route(f"downsample/{data}/?$", {"GET": routes_data.downsample}),
    ]


def find(table: list[Route], path: str) -> tuple[Route, dict[str, str]] | None:
    """Return the route of a path and the parts that the path names, or None."""
    for route in table:
        match = route.path.match(path)
        if match:
            return route, {name: part for name, part in match.groupdict().items() if part is not None}
    return None
