"""Answers of BOSS, as our client meets them: descriptions and voxels."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import urllib3
from hypothesis import strategies as st
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

import nd_boss
from nd_synapse.boss import catalog, connection, destination
from nd_synapse.boss.cutouts import read_cutout
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box, Frame
from nd_synapse.local_boss import codec
from NeuroDataResource import NeuroDataResource
from tests.fuzz.cases import ABSENT, TOKEN, half, json_values, mutated_bytes, names, numbers, one_wrong, plain, words
from tests.fuzz.judge import Target

# --- what BOSS says of its resources ------------------------------------------------------------------------------

EXPERIMENT: dict[str, st.SearchStrategy[Any]] = {
    "name": st.just("exp"),
    "collection": st.just("col"),
    "coord_frame": names,
    "channels": st.lists(names, max_size=3).map(lambda more: ["a", *more]),
    "description": words.filter(lambda text: "\ud800" not in text),
}
odd = json_values | plain
WRONG_EXPERIMENT: dict[str, st.SearchStrategy[Any]] = {
    "name": odd | st.just(ABSENT),
    "coord_frame": odd | st.just(ABSENT),
    "channels": odd | st.lists(odd, max_size=3) | st.just(ABSENT),
    "description": odd | st.just(ABSENT),
}
FRAME: dict[str, st.SearchStrategy[Any]] = {
    "name": st.just("frame"),
    **{f"{axis}_start": st.integers(-9, 0) for axis in "xyz"},
    **{f"{axis}_stop": st.integers(10, 2**31) for axis in "xyz"},
    **{f"{axis}_voxel_size": st.floats(0.001, 1e6) | st.integers(1, 999) for axis in "xyz"},
    "voxel_unit": st.sampled_from(["nanometers", "micrometers", "millimeters", "centimeters"]),
}
bad_ends = numbers | numbers.map(str) | st.integers(-99, 99) | odd | st.just(ABSENT)
WRONG_FRAME: dict[str, st.SearchStrategy[Any]] = {
    "name": odd | st.just(ABSENT),
    **{f"{axis}_start": bad_ends for axis in "xyz"},
    **{f"{axis}_stop": bad_ends for axis in "xyz"},
    **{f"{axis}_voxel_size": numbers | odd | st.sampled_from([0, -1, 1e-320, 1e308, "4.5"]) for axis in "xyz"},
    "voxel_unit": odd | st.just(ABSENT),
}
CHANNEL: dict[str, st.SearchStrategy[Any]] = {
    "name": st.just("a"),
    "type": st.just("image"),
    "datatype": st.sampled_from(["uint8", "uint16"]),
    "base_resolution": st.just(0),
    "description": names,
    "sources": st.lists(names, max_size=2),
    "related": st.lists(names, max_size=2),
    "downsample_status": st.just("NOT_DOWNSAMPLED"),
}
WRONG_CHANNEL: dict[str, st.SearchStrategy[Any]] = {
    name: odd | st.just(ABSENT) | st.sampled_from(["annotation", "uint64", "float32"]) for name in CHANNEL
}
DATES = ["Fri, 1 Jan", "Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"]
Reply = tuple[int, dict[str, str], bytes]

headers = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Location", "Retry-After", "Content-Digest"]),
    st.sampled_from(["gzip", "deflate", "text/html", "http://x/", "1", "sha-256=:eA==:", "-1", *DATES]),
    min_size=1,
    max_size=2,
)
STATUSES = [201, 204, 301, 400, 401, 403, 404, 409, 413, 418, 429, 500, 503]
refusals = one_wrong(
    {"status": st.sampled_from(STATUSES), "code": st.sampled_from([3001, 4000, 4004, 5000]), "message": words},
    {"status": odd, "code": odd, "message": odd | st.just(ABSENT)},
)
pages = mutated_bytes([b"<html>502</html>", b"", b"\x1f\x8b\x08", b"[" * 2000])


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def replies(
    draw: st.DrawFn, right: Mapping[str, st.SearchStrategy[Any]], wrong: Mapping[str, st.SearchStrategy[Any]]
) -> Reply:
    """Status, headers and body of an answer; most describe something."""
    body = draw(one_wrong(right, wrong).map(_json))
    match draw(st.sampled_from(["", "", "", "", "", "", "status", "headers", "page", "json"])):
        case "status":
            return draw(st.sampled_from(STATUSES)), {}, draw(refusals.map(_json) | pages)
        case "headers":
            return 200, draw(headers), body
        case "page":
            return 200, {}, draw(pages | mutated_bytes([body]))
        case "json":
            return 200, {}, draw(json_values.map(_json))
    return 200, {}, body


class Answered(urllib3.HTTPResponse):
    """What was drawn, in place of what came over a network."""


@contextmanager
def answering(answer: Callable[[str], Reply]) -> Iterator[None]:
    """Answer requests below the part of the client that is ours."""

    def send(self: HTTPAdapter, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        status, given, body = answer(str(request.url))
        raw = Answered(io.BytesIO(body), headers=given, status=status, preload_content=False)
        response: Response = self.build_response(request, raw)  # type: ignore[no-untyped-call]
        return response

    with mock.patch.object(HTTPAdapter, "send", send):
        yield


IMPATIENT = connection.Patience(connect_s=1, read_s=1, attempts=1)


def asking(ask: Callable[[Any], object], *parts: str) -> Callable[[Any, Path], None]:
    """Return a target that asks a BOSS that answers with a case: one reply, or one for each part of addresses."""

    def run(case: Any, folder: Path) -> None:
        given: Mapping[str, Reply] = dict(zip(parts, case, strict=True)) if parts else {"": case}

        def answer(url: str) -> Reply:
            return next(reply for part, reply in given.items() if part in url)

        remote = connection.connect("boss.example", TOKEN, patience=IMPATIENT)
        try:
            with answering(answer):
                ask(remote)
        except NDSynapseError as error:
            hidden = [str(error), repr(error.__cause__)]
            if any(TOKEN in text for text in hidden):
                raise AssertionError("the token shows") from error
            raise

    return run


def ask_experiment(remote: Any) -> None:
    assert catalog.find_experiment(remote, "col", "exp")["coord_frame"] is not None


def ask_volume(remote: Any) -> None:
    ranges = [(0, 2), (0, 3), (0, 4)]
    volume = NeuroDataResource("boss.example", TOKEN, "col", "exp", [], *ranges, patience=IMPATIENT)
    json.dumps(volume.describe(), allow_nan=False)
    assert set(volume.image_channels) <= set(volume.channels)


def ask_channel(remote: Any) -> None:
    channel = catalog.find_channel(remote, "col", "exp", "a")
    assert channel.datatype in ("uint8", "uint16", "uint64")


SMALL = Box((0, 2), (0, 3), (0, 4))
SOURCE = Frame("frame", Box((-9, 10), (-9, 10), (-9, 10)), (4.5, 4.5, 4.5))
MAKER = "me"


def ask_destination(remote: Any) -> None:
    nd_boss.check_destination(remote, destination.Destination("col", "exp", "a", MAKER), SMALL, SOURCE)


def ensure_destination(remote: Any) -> None:
    channel, _ = destination.ensure_channel(remote, destination.Destination("col", "exp", "a", MAKER), SMALL, SOURCE)
    assert channel.datatype == "uint8"


# --- destinations: experiment, frame and channel suit each other, but for one field -------------------------------

OWN_FRAME = {**FRAME, **{f"{axis}_voxel_size": st.just(4.5) for axis in "xyz"}, "voxel_unit": st.just("nanometers")}
OWN_EXPERIMENT = {**EXPERIMENT, "coord_frame": st.just("frame")}
OWN_CHANNEL = {
    **CHANNEL,
    "datatype": st.just("uint8"),
    "description": st.just(destination.Destination("col", "exp", "a", MAKER).description),
}


@st.composite
def destinations(draw: st.DrawFn) -> tuple[Reply, Reply, Reply]:
    """What BOSS says of a channel, a frame and an experiment; one of them is odd, or missing."""
    drawn = [
        (200, {}, _json(draw(one_wrong(right, {"name": right["name"]}))))
        for right in (OWN_CHANNEL, OWN_FRAME, OWN_EXPERIMENT)
    ]
    place = draw(st.integers(0, 2))
    right, wrong = [(OWN_CHANNEL, WRONG_CHANNEL), (OWN_FRAME, WRONG_FRAME), (OWN_EXPERIMENT, WRONG_EXPERIMENT)][place]
    match draw(st.sampled_from(["", "reply", "reply", "other", "missing"])):
        case "reply":
            drawn[place] = draw(replies(right, wrong))
        case "other":
            others = [{**OWN_CHANNEL, "description": words.map(lambda text: text.replace("\ud800", ""))}, FRAME]
            place = draw(st.integers(0, 1))
            drawn[place] = (200, {}, _json(draw(one_wrong(others[place], {"name": st.just("b")}))))
        case "missing":
            drawn[place] = (404, {}, _json({"status": 404, "code": 4000, "message": "nope"}))
    return drawn[0], drawn[1], drawn[2]


# --- voxels -------------------------------------------------------------------------------------------------------


def ask_voxels(remote: Any) -> None:
    channel = nd_boss.ChannelResource("a", "col", "exp", type="image", datatype="uint8")
    voxels = read_cutout(remote, channel, SMALL)
    assert (voxels.shape, voxels.dtype) == (SMALL.shape, np.uint8)


def packed(start: int, shape: tuple[int, ...] = SMALL.shape, dtype: Any = np.uint8) -> bytes:
    return codec.pack((np.arange(start, start + int(np.prod(shape))) % 256).astype(dtype).reshape(shape))


buffers = st.integers(0, 2**31).map(packed)


@st.composite
def mutated_header(draw: st.DrawFn) -> bytes:
    """A Blosc buffer of which one field of the header says something else."""
    body = bytearray(draw(buffers))
    place, form = draw(st.sampled_from([*[(n, "<B") for n in range(4)], (4, "<I"), (8, "<I"), (12, "<I")]))
    value = draw(st.integers(0, 255) | st.integers(0, 2**31 - 1))
    struct.pack_into(form, body, place, value % 256 if form == "<B" else value)
    return bytes(body)


bad_buffers = (
    mutated_header()
    | buffers.flatmap(lambda body: mutated_bytes([body]))
    | st.builds(packed, st.just(0), st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    | st.builds(packed, st.just(0), st.just(SMALL.shape), st.sampled_from([np.uint16, np.uint64]))
    | st.just(pickle.dumps(np.zeros(SMALL.shape)))
    | st.binary(max_size=40)
)
cutouts = half(
    buffers.map(lambda body: (200, {}, body)),
    st.one_of(
        bad_buffers.map(lambda body: (200, {}, body)),
        st.tuples(st.just(200), headers, buffers),
        st.tuples(st.sampled_from(STATUSES), headers, refusals.map(_json) | pages | buffers),
    ),
)


def ready(right: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Reply]:
    """Draw an answer that is as it should be."""
    return st.fixed_dictionaries(dict(right)).map(lambda value: (200, {}, _json(value)))


experiments = replies(EXPERIMENT, WRONG_EXPERIMENT)
frames = replies({**FRAME}, WRONG_FRAME)
channels = replies(CHANNEL, WRONG_CHANNEL)
any_frame = ready({**FRAME, "name": st.just("frame")})
OF_FRAME = {**EXPERIMENT, "coord_frame": st.just("frame")}
OF_DESTINATION = ("/channel/", "/coord/", "/collection/")

TARGETS = [
    Target(
        "replies: experiment",
        experiments,
        asking(lambda r: catalog.find_experiment(r, "col", "exp")),
        3,
        results=0.4,
        places=5,
    ),
    Target("replies: frame", frames, asking(lambda r: catalog.read_frame(r, "frame")), 3, results=0.3, places=6),
    Target("replies: channel", channels, asking(ask_channel), 3, results=0.4, places=6),
    Target(
        "replies: volume",
        st.tuples(ready(CHANNEL), any_frame, replies(OF_FRAME, WRONG_EXPERIMENT)),
        asking(ask_volume, *OF_DESTINATION),
        3,
        results=0.25,
        places=5,
    ),
    Target(
        "replies: its frame",
        st.tuples(ready(CHANNEL), frames, ready(OF_FRAME)),
        asking(ask_volume, *OF_DESTINATION),
        3,
        results=0.2,
        places=6,
    ),
    Target("replies: destination", destinations(), asking(ask_destination, *OF_DESTINATION), 4, results=0.4, places=7),
    Target(
        "replies: what is created",
        destinations(),
        asking(ensure_destination, *OF_DESTINATION),
        3,
        results=0.5,
        places=7,
    ),
    Target("replies: voxels", cutouts, asking(ask_voxels), 4, results=0.35, places=4),
]
