"""Replies of BOSS: descriptions and voxels, over HTTP from a server that answers whatever was drawn."""

from __future__ import annotations

import http.server
import json
import pickle
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.local_boss import codec
from NeuroDataResource import NeuroDataResource
from tests.fuzz.cases import (
    ABSENT,
    TOKEN,
    json_values,
    mutated_bytes,
    names,
    numbers,
    one_wrong,
    plain,
    result_or_error,
    words,
)

Reply = tuple[int, dict[str, str], bytes]
Fields = Mapping[str, st.SearchStrategy[Any]]

EXPERIMENT: Fields = {
    "name": st.just("exp"),
    "collection": st.just("col"),
    "coord_frame": st.just("frame"),
    "channels": st.just(["a"]),
    "description": words.filter(lambda text: "\ud800" not in text),
}
odd = json_values | plain
WRONG_EXPERIMENT: Fields = {name: odd | st.just(ABSENT) for name in EXPERIMENT}
FRAME: Fields = {
    "name": st.just("frame"),
    **{f"{axis}_start": st.integers(-9, 0) for axis in "xyz"},
    **{f"{axis}_stop": st.integers(10, 2**31) for axis in "xyz"},
    **{f"{axis}_voxel_size": st.floats(0.001, 1e6) | st.integers(1, 999) for axis in "xyz"},
    "voxel_unit": st.sampled_from(["nanometers", "micrometers", "millimeters", "centimeters"]),
}
bad_numbers = numbers | numbers.map(str) | st.integers(-99, 99) | st.sampled_from([1e-320, 1e308, "4.5"]) | odd
WRONG_FRAME: Fields = {name: bad_numbers | st.just(ABSENT) for name in FRAME}
CHANNEL: Fields = {
    "name": st.just("a"),
    "type": st.just("image"),
    "datatype": st.just("uint8"),
    "base_resolution": st.just(0),
    "description": names,
    "sources": st.lists(names, max_size=2),
    "related": st.lists(names, max_size=2),
    "downsample_status": st.just("NOT_DOWNSAMPLED"),
}
WRONG_CHANNEL: Fields = {
    name: odd | st.just(ABSENT) | st.sampled_from(["annotation", "uint64", "float32"]) for name in CHANNEL
}
RESOURCES = {
    "experiment": (EXPERIMENT, WRONG_EXPERIMENT),
    "frame": (FRAME, WRONG_FRAME),
    "channel": (CHANNEL, WRONG_CHANNEL),
}
# 429 and 5xx are tried again, which takes time; they are in the fault table of the tests of BOSS
STATUSES = [201, 204, 301, 400, 401, 403, 404, 409, 413, 418]
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "Location", "Retry-After", "Content-Digest"]),
    st.sampled_from(["text/html", "http://x/", "1", "sha-256=:eA==:", "-1", "Fri, 1 Jan"]),
    min_size=1,
    max_size=2,
)
pages = mutated_bytes([b"<html>502</html>", b"", b"\x1f\x8b\x08", b"[" * 2000])
SHAPE = (2, 3, 4)


def packed(start: int, shape: tuple[int, ...] = SHAPE, dtype: Any = np.uint8) -> bytes:
    return codec.pack((np.arange(start, start + int(np.prod(shape))) % 256).astype(dtype).reshape(shape))


buffers = st.integers(0, 255).map(packed)
bad_buffers = (
    buffers.flatmap(lambda body: mutated_bytes([body]))
    | st.builds(packed, st.just(0), st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    | st.builds(packed, st.just(0), st.just(SHAPE), st.sampled_from([np.uint16, np.uint64]))
    | st.just(pickle.dumps(np.zeros(SHAPE)))
    | st.binary(max_size=40)
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Reply]:
    """Replies to all requests, of which one is odd: a field, the status, the headers or the body."""
    replies: dict[str, Reply] = {
        name: (200, {}, as_json(draw(one_wrong(right, {})))) for name, (right, _) in RESOURCES.items()
    }
    replies["cutout"] = (200, {}, draw(buffers))
    place = draw(st.sampled_from([*RESOURCES, "cutout"]))
    status, given, body = replies[place]
    match draw(st.sampled_from(["", "field", "field", "status", "headers", "body"])):
        case "field" if place == "cutout":
            body = draw(bad_buffers)
        case "field":
            body = as_json(draw(one_wrong(*RESOURCES[place])))
        case "status":
            status = draw(st.sampled_from(STATUSES))
            body = as_json({"status": status, "code": draw(odd), "message": draw(odd)})
        case "headers":
            given = draw(headers)
        case "body":
            body = draw(pages | mutated_bytes([body]) | json_values.map(as_json))
    replies[place] = status, given, body
    return replies


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = {"/cutout/": "cutout", "/channel/": "channel", "/coord/": "frame", "/experiment/": "experiment"}
        name = next((name for part, name in parts.items() if part in self.path), "")
        status, headers, body = self.server.replies.get(name, (404, {}, b"{}"))  # type: ignore[attr-defined]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def read_volume(server: http.server.ThreadingHTTPServer, replies: dict[str, Reply]) -> None:
    """Open the volume that the server describes, and read its voxels."""
    server.replies = replies  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{server.server_address[1]}"
    volume = NeuroDataResource(url, TOKEN, "col", "exp", [], (0, 4), (0, 3), (0, 2))
    json.dumps(volume.describe(), allow_nan=False)
    voxels = volume.get_cutout("a", (0, 2), (0, 3), (0, 4))
    assert voxels.shape == SHAPE
    assert voxels.dtype == np.uint8


@pytest.mark.slow
@given(start=st.integers(0, 255))
def test_valid_replies_are_voxels(server: http.server.ThreadingHTTPServer, start: int) -> None:
    fields = {"voxel_unit": "nanometers", **{f"{axis}_voxel_size": 4.5 for axis in "xyz"}}
    fields |= {f"{axis}_{end}": n for axis in "xyz" for end, n in (("start", 0), ("stop", 99))}
    replies = {
        "experiment": {"name": "exp", "collection": "col", "coord_frame": "frame", "channels": ["a"]},
        "frame": {"name": "frame", **fields},
        "channel": {
            "name": "a",
            "type": "image",
            "datatype": "uint8",
            "base_resolution": 0,
            "description": "",
            "sources": [],
            "related": [],
            "downsample_status": "NOT_DOWNSAMPLED",
        },
    }
    drawn: dict[str, Reply] = {name: (200, {}, as_json(value)) for name, value in replies.items()}
    read_volume(server, {**drawn, "cutout": (200, {}, packed(start))})


@pytest.mark.slow
@given(replies=answers())
def test_any_reply_is_voxels_or_an_error(server: http.server.ThreadingHTTPServer, replies: dict[str, Reply]) -> None:
    with result_or_error():
        read_volume(server, replies)
